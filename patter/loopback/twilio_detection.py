"""Answering machine detection in the carrier's chair: when it knows who answered, and how it says so.

It owns the verdict and its timing; it refuses to listen: people say what they are taken for.
"""

from __future__ import annotations

from dataclasses import dataclass

import anyio

from patter.loopback.twilio_leg import Exchange, Leg

DEFAULT_TIMEOUT_S = 30.0
DEFAULT_QUIET_MS = 1200  # of silence after a greeting, before it counts as its end


@dataclass(frozen=True, slots=True)
class Detection:
    """What was asked for. `waits`: for the end of a machine's greeting. `async_url`: told later, while the call goes on."""

    waits: bool
    background: bool
    async_url: str = ""
    async_method: str = "POST"
    timeout_s: float = DEFAULT_TIMEOUT_S
    quiet_ms: int = DEFAULT_QUIET_MS


async def detect(leg: Leg, exchange: Exchange, wanted: Detection) -> dict[str, str]:
    """Wait for the verdict, and write it into the books: the fields that say it."""
    began = exchange.clock.now()
    verdict = "unknown"
    with anyio.move_on_after(wanted.timeout_s):
        verdict = await _judge(leg, wanted)
    leg.record.answered_by = verdict
    duration = round((exchange.clock.now() - began) * 1000)
    return {"AnsweredBy": verdict, "MachineDetectionDuration": str(duration)}


async def _judge(leg: Leg, wanted: Detection) -> str:
    person = leg.person
    await anyio.sleep(person.judged_after_s)
    if person.taken_for != "machine":
        return person.taken_for
    if not wanted.waits:
        return "machine_start"
    await leg.greeted.wait()
    if person.beep:
        return "machine_end_beep"
    await anyio.sleep(wanted.quiet_ms / 1000)
    return "machine_end_silence"


async def detect_and_tell(leg: Leg, exchange: Exchange, wanted: Detection) -> None:
    """In the background of a call."""
    verdict = await detect(leg, exchange, wanted)
    if not wanted.async_url:
        exchange.note("AsyncAmd without AsyncAmdStatusCallback: nobody is told who answered")
        return
    form = {"CallSid": leg.call_id, "AccountSid": exchange.account_sid, **verdict}
    leg.outbox.put(wanted.async_url, form, wanted.async_method)
