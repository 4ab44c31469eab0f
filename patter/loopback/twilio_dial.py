"""`<Dial>` in the carrier's chair: calls somebody and joins the two, or puts a leg into a conference.

It owns who hears whom; it refuses to know what the call did before, and does after.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from patter.loopback.twilio_leg import Exchange, Leg, Room, first_of, join
from patter.loopback.twilio_outbox import Reports
from patter.loopback.twilio_parameters import E164
from patter.wire.twiml import Verb

RING_S = 30.0  # `<Dial>` lets it ring for this long
GoOn = Callable[[Leg], Awaitable[None]]


async def dial(leg: Leg, exchange: Exchange, verb: Verb, go_on: GoOn) -> dict[str, str]:
    """Until one of the two leaves, or nobody came: the fields that tell the `action` how it went.

    `go_on` is what a called leg does that is ordered away from here."""
    noun = next((inside for inside in verb.inside if inside.name in ("Number", "Conference")), None)
    if noun is not None and noun.name == "Conference":
        return await _conference(leg, exchange, noun)
    if noun is not None and len(verb.inside) > 1:
        exchange.note("this carrier calls the first <Number> of a <Dial> only")
    return await _call(leg, exchange, verb, noun or Verb("Number", {}, verb.text), go_on)


async def _conference(leg: Leg, exchange: Exchange, noun: Verb) -> dict[str, str]:
    says = noun.attributes.get
    room = exchange.rooms.setdefault(noun.text, Room())
    if not room.enter(leg, says("startConferenceOnEnter", "true") == "true"):
        exchange.note(f"the conference {noun.text[:40]!r} has two members already, which is all this carrier can do")
        return {"DialCallStatus": "failed"}
    await first_of(leg.turn, room.over)
    room.leave(leg, says("endConferenceOnExit", "false") == "true")
    if room.over.is_set() and exchange.rooms.get(noun.text) is room:
        del exchange.rooms[noun.text]
    return {"DialCallStatus": "answered"}


async def _call(leg: Leg, exchange: Exchange, verb: Verb, noun: Verb, go_on: GoOn) -> dict[str, str]:
    number = noun.text.replace(" ", "").replace("-", "")
    if not E164.fullmatch(number):
        exchange.note(f"13223: <Dial> of {noun.text[:40]!r}, which is not an E.164 number")
        return {"DialCallStatus": "failed"}
    caller = verb.attributes.get("callerId", leg.caller)
    if caller != leg.caller and caller not in exchange.numbers:
        exchange.note(f"13214: <Dial callerId> {caller[:40]!r} is no number of this account")
        return {"DialCallStatus": "failed"}
    events = noun.attributes.get("statusCallbackEvent", "completed").split()
    reports = Reports(
        noun.attributes.get("statusCallback", ""), noun.attributes.get("statusCallbackMethod", "POST"), events
    )
    other = Leg(exchange, caller, number, "outbound-dial", exchange.people.get(number), reports, parent_sid=leg.call_id)

    async def life(called: Leg) -> None:
        if await called.ring(_seconds(verb, "timeout", RING_S)):
            await called.turn.wait()
            await go_on(called)

    exchange.tasks.start_soon(other.run, life)
    turn = other.turn  # an order may give it another one
    await first_of(other.answered, turn, leg.turn)
    if other.answered.is_set() and not leg.turn.is_set() and not turn.is_set():
        leg.transferred_to = number
        join(leg, other)
        with anyio.move_on_after(_seconds(verb, "timeLimit", leg.time_limit_s)):
            await first_of(leg.turn, turn)
        leg.line.part()
    if other.gone or not turn.is_set():  # else it was ordered away, and lives on by itself
        other.stop("completed" if other.answered.is_set() else "canceled")
        await other.ended.wait()
    outcome = {"DialCallSid": other.call_id, "DialCallStatus": other.status}
    return outcome | {"DialCallDuration": str(other.record.seconds)} if other.record.started_at else outcome


def _seconds(verb: Verb, name: str, default: float) -> float:
    value = verb.attributes.get(name, "")
    return float(value) if value.isdecimal() else default
