"""Whole calls at Twilio: one that comes in on a number, and one that a REST request creates.

It owns their course from the first ring to the last callback; it refuses to know HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import anyio

from patter.loopback.person import Person
from patter.loopback.twilio_detection import DEFAULT_QUIET_MS, DEFAULT_TIMEOUT_S, Detection, detect, detect_and_tell
from patter.loopback.twilio_leg import PATIENCE_S, Exchange, Guidance, Leg
from patter.loopback.twilio_outbox import Reports
from patter.loopback.twilio_parameters import Fields
from patter.loopback.twilio_recording import Tape
from patter.loopback.twilio_resources import PhoneNumber
from patter.loopback.twilio_verbs import Performance

RING_S = 60  # what Calls.json rings for by itself


def incoming(exchange: Exchange, caller: str, number: PhoneNumber, person: Person) -> Leg:
    """Somebody calls a number of the account: the leg, whose call runs beside."""
    reports = Reports(number.status_callback, number.status_callback_method)
    leg = Leg(exchange, caller, number.phone_number, "inbound", person, reports)
    exchange.tasks.start_soon(leg.run, partial(_incoming, exchange, number))
    return leg


async def _incoming(exchange: Exchange, number: PhoneNumber, leg: Leg) -> None:
    leg.record.status = "ringing"
    if not number.voice_url:
        exchange.note(f"the number {number.phone_number} has no VoiceUrl: its calls are turned away")
        leg.stop("failed")
        return
    leg.spawn(_lose_patience, leg)
    guidance = Guidance(
        number.voice_url, number.voice_method, "", number.voice_fallback_url, number.voice_fallback_method
    )
    await Performance(leg, exchange).run(guidance)


async def _lose_patience(leg: Leg) -> None:
    with anyio.move_on_after(PATIENCE_S):
        await leg.answered.wait()
        return
    leg.hang_up()


@dataclass(frozen=True, slots=True)
class Order:
    """A call that was ordered by REST."""

    guidance: Guidance
    ring_s: float
    detection: Detection | None
    send_digits: str
    record: Fields | None
    queue_s: float


def outgoing(exchange: Exchange, fields: Fields) -> Leg:
    """A REST request creates a call: the leg, whose call runs beside. `fields` are checked."""
    if "MachineDetection" in fields and "SendDigits" in fields:
        exchange.note("SendDigits turns MachineDetection off")
    if "AsyncAmd" in fields and "MachineDetection" not in fields:
        exchange.note("AsyncAmd has no effect without MachineDetection")
    if "StatusCallbackEvent" in fields and "StatusCallback" not in fields:
        exchange.note("StatusCallbackEvent has no effect without StatusCallback")
    order = Order(
        guidance_of(fields),
        fields.whole("Timeout", RING_S),
        _detection_of(fields),
        fields.get("SendDigits"),
        fields if fields.get("Record") == "true" else None,
        exchange.queue_s(),
    )
    reports = Reports(
        fields.get("StatusCallback"),
        fields.get("StatusCallbackMethod", "POST"),
        fields.lists.get("StatusCallbackEvent", ["completed"]),
    )
    to = fields.get("To")
    leg = Leg(exchange, fields.get("From"), to, "outbound-api", exchange.people.get(to), reports)
    leg.time_limit_s = fields.whole("TimeLimit", int(leg.time_limit_s))
    exchange.legs[leg.call_id] = leg
    exchange.tasks.start_soon(leg.run, partial(_outgoing, exchange, order))
    return leg


async def _outgoing(exchange: Exchange, order: Order, leg: Leg) -> None:
    with anyio.move_on_after(order.queue_s):
        await leg.turn.wait()
    if not await leg.ring(order.ring_s):
        return
    leg.hear_keys(order.send_digits.translate({ord("w"): None, ord("W"): None}))
    if order.record is not None:
        leg.start_tape(tape_of(exchange, leg, order.record, "OutboundAPI"))
    guidance = order.guidance
    wanted = None if order.send_digits else order.detection
    if wanted is not None and wanted.background:
        leg.spawn(detect_and_tell, leg, exchange, wanted)
    elif wanted is not None:
        verdict = await detect(leg, exchange, wanted)
        guidance = replace(guidance, extra={"AnsweredBy": verdict["AnsweredBy"]})
    await Performance(leg, exchange).run(guidance)


def guidance_of(fields: Fields) -> Guidance:
    """Where the TwiML comes from; a Url wins over Twiml."""
    return Guidance(
        fields.get("Url"),
        fields.get("Method", "POST"),
        "" if "Url" in fields else fields.get("Twiml"),
        fields.get("FallbackUrl"),
        fields.get("FallbackMethod", "POST"),
    )


def _detection_of(fields: Fields) -> Detection | None:
    if "MachineDetection" not in fields:
        return None
    return Detection(
        waits=fields.get("MachineDetection") == "DetectMessageEnd",
        background=fields.get("AsyncAmd") == "true",
        async_url=fields.get("AsyncAmdStatusCallback"),
        async_method=fields.get("AsyncAmdStatusCallbackMethod", "POST"),
        timeout_s=fields.whole("MachineDetectionTimeout", int(DEFAULT_TIMEOUT_S)),
        quiet_ms=fields.whole("MachineDetectionSpeechEndThreshold", DEFAULT_QUIET_MS),
    )


def tape_of(exchange: Exchange, leg: Leg, fields: Fields, source: str) -> Tape:
    """A recording as it was ordered, not yet running."""
    return Tape(
        exchange.account_sid,
        leg.call_id,
        exchange.api_base,
        exchange.now,
        source=source,
        channels=fields.get("RecordingChannels", "mono"),
        track=fields.get("RecordingTrack", "both"),
        callback_url=fields.get("RecordingStatusCallback"),
        callback_method=fields.get("RecordingStatusCallbackMethod", "POST"),
        callback_events=fields.lists.get("RecordingStatusCallbackEvent", ()),
    )
