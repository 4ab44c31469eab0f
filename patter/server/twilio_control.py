"""What Twilio's REST API does to one call that is up: transfers, announcements, recording, the end.

It owns the consultation before a warm transfer, from the order to the room where the two meet; it refuses to know streams
and sessions.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, field
from enum import IntEnum

import anyio

from patter.builders import is_e164
from patter.exceptions import CarrierError, PatterError
from patter.providers.twilio_rest import GONE, TwilioRest
from patter.server.arrivals import Arrival
from patter.server.twilio_cold import ColdTransfers
from patter.server.twilio_gate import CONSULT, DIALLED, RECORDING, STATUS, Gate
from patter.wire.twiml import (
    INLINE_LIMIT,
    dial,
    hang_up,
    join_conference,
    say_and_hang_up,
    say_and_redirect,
)

log = logging.getLogger(__name__)

ORDER_S = 10.0  # how long placing the call to a colleague may take
RING_S = 30.0  # how long a colleague's telephone rings before the agent has to find other words for the caller
WORD_S = 15.0  # after the last ring: the carrier's word on a cold transfer was lost
CONSULT_S = 120.0  # ringing and hearing the summary, at most: somebody is waiting
DROP_S = 10.0  # how long giving up a leg may take
SUMMARY_LIMIT = 2_000  # characters: about two minutes of speech
HUNG_UP_AGAIN = "I am sorry, the other person has hung up. Please call again. Goodbye."

_WHY = {
    "busy": "the number is busy",
    "no-answer": "nobody answered",
    "failed": "the number cannot be reached",
    "canceled": "the call was given up",
    "completed": "that person hung up before the two were joined",
}


class _Step(IntEnum):
    """How far the leg has come; never back."""

    RINGING = 0
    LISTENING = 1  # that person hears the summary
    READY = 2  # that person is in the room
    OVER = 3


@dataclass(slots=True, eq=False)
class Consultation:
    """A warm transfer on its way: the leg to the person who is to take the call. `token` is ours, in the leg's webhooks."""

    summary: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    room: str = field(default_factory=lambda: "patter-" + secrets.token_hex(12))
    leg: str = ""
    why: str = ""
    step: _Step = _Step.RINGING
    changed: anyio.Event = field(default_factory=anyio.Event)

    def is_leg(self, call_sid: str) -> bool:
        """Whether that call is the leg; the first that comes is (a retried order may have made two)."""
        self.leg = self.leg or call_sid
        return self.leg == call_sid

    def reached(self, step: _Step, why: str = "") -> None:
        """The leg has come so far; a webhook that comes twice or late changes nothing."""
        if step > self.step:
            self.step, self.why = step, why
            self.changed.set()
            self.changed = anyio.Event()


class Consultations:
    """The warm transfers on their way, by token, and what their webhooks are answered."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._open: dict[str, Consultation] = {}

    def begin(self, summary: str) -> Consultation:
        """A new one, known until `end`."""
        consultation = Consultation(summary[:SUMMARY_LIMIT])
        self._open[consultation.token] = consultation
        return consultation

    def end(self, consultation: Consultation) -> None:
        """Forget it: its webhooks are hung up from now on."""
        self._open.pop(consultation.token, None)

    def answer(self, token: str, step: str, call_sid: str) -> str:
        """TwiML for the leg: the summary first, then the room."""
        consultation = self._open.get(token)
        if consultation is None or not consultation.is_leg(call_sid) or consultation.step is _Step.OVER:
            return hang_up()
        if step != "join":
            consultation.reached(_Step.LISTENING)
            return say_and_redirect(
                consultation.summary, self._gate.webhook(CONSULT, leg=consultation.token, step="join")
            )
        consultation.reached(_Step.READY)
        return join_conference(consultation.room)

    def status(self, token: str, status: str, call_sid: str) -> None:
        """The carrier tells how the leg goes on."""
        consultation = self._open.get(token)
        if consultation is not None and status in _WHY and consultation.leg in ("", call_sid):
            consultation.reached(_Step.OVER, _WHY[status])


class TwilioControl:
    """A `CarrierControl`. `number` is our own, which people who are asked to take the call see."""

    def __init__(
        self,
        rest: TwilioRest,
        call_sid: str,
        number: str,
        gate: Gate,
        consultations: Consultations,
        cold: ColdTransfers,
    ) -> None:
        self._rest = rest
        self._call_sid = call_sid
        self._number = number
        self._gate = gate
        self._consultations = consultations
        self._cold = cold
        self.back: Arrival | None = None
        """How the caller comes back from a transfer that nobody takes."""

    async def send_digits(self, digits: str) -> None:
        """Raises PatterError: Twilio presses no keys on a call with a stream; they are played as tones in the stream."""
        raise PatterError("Twilio cannot press keys on a call that streams: the tones go into the stream.")

    async def transfer(self, number: str, summary: str = "") -> None:
        """See `CarrierControl.transfer`."""
        if not is_e164(number):
            raise PatterError(f'A call is transferred to an E.164 number such as "+15551234567", not {number[:40]!r}.')
        if summary.strip():
            await self._consult(number, summary)
        else:
            await self._dial(number)

    async def announce(self, text: str) -> None:
        """See `CarrierControl.announce`. Raises PatterError also for a text that is too long for one order."""
        twiml = say_and_hang_up(text)
        if len(twiml) > INLINE_LIMIT:
            raise PatterError(f"Twilio says at most about {INLINE_LIMIT - 200:,} characters at once: shorten the text.")
        await self._rest.update_call(self._call_sid, twiml=twiml)

    async def record(self) -> None:
        """See `CarrierControl.record`."""
        await self._rest.start_recording(self._call_sid, self._gate.webhook(RECORDING))

    async def hang_up(self) -> None:
        """See `CarrierControl.hang_up`."""
        await end_call(self._rest, self._call_sid)

    # ------------------------------------------------------------------ cold transfer

    async def _dial(self, number: str) -> None:
        """The stream ends, and the carrier rings that person. Raises PatterError if nobody takes the call."""
        cold = self._cold.begin(self._call_sid, self.back)
        ordered = False
        try:
            action = self._gate.webhook(DIALLED, transfer=cold.token)
            told = self._gate.webhook(STATUS, transfer=cold.token)
            await self._rest.update_call(self._call_sid, twiml=dial(number, action=action, told=told, ring_s=RING_S))
            ordered = True
            with anyio.move_on_after(RING_S + WORD_S):  # no word at all: the order was taken, and nobody complained
                await cold.decided.wait()
        except anyio.get_cancelled_exc_class():
            if ordered:  # nobody answers for this caller any more
                await self._drop(self._call_sid)
            raise
        finally:
            self._cold.end(cold)
        if cold.why:
            raise PatterError(f"{number} did not take the call: {cold.why}.")

    # ------------------------------------------------------------------ warm transfer

    async def _consult(self, number: str, summary: str) -> None:
        if not is_e164(self._number):
            raise PatterError("This call has no number of ours to call from: transfer it without a summary.")
        consultation = self._consultations.begin(summary)
        joined = False
        try:
            await self._ring(consultation, number)
            await self._wait_for(consultation)
            await self._rest.update_call(self._call_sid, twiml=join_conference(consultation.room))
            joined = consultation.step is _Step.READY
            if not joined:  # that person left while the caller was on the way into the room
                await self._rest.update_call(self._call_sid, twiml=say_and_hang_up(HUNG_UP_AGAIN))
        finally:
            self._consultations.end(consultation)
            if not joined:
                await self._give_up(consultation)

    async def _ring(self, consultation: Consultation, number: str) -> None:
        with anyio.move_on_after(ORDER_S, shield=True):  # a leg whose id nobody knows could not be given up
            leg = await self._rest.create_call(
                to=number,
                caller=self._number,
                url=self._gate.webhook(CONSULT, leg=consultation.token),
                status_url=self._gate.webhook(STATUS, leg=consultation.token),
                ring_timeout_s=RING_S,
            )
            if not consultation.is_leg(leg):
                await end_call(self._rest, leg)
        if not consultation.leg:
            raise PatterError("Nobody took the call: Twilio did not place it in time.")

    async def _wait_for(self, consultation: Consultation) -> None:
        """Until that person is in the room. Raises PatterError if that never comes."""
        with anyio.move_on_after(CONSULT_S):
            while consultation.step in (_Step.RINGING, _Step.LISTENING):
                await consultation.changed.wait()
        if consultation.step is not _Step.READY:
            raise PatterError(f"Nobody took the call: {consultation.why or 'it took too long'}.")

    async def _give_up(self, consultation: Consultation) -> None:
        if consultation.leg and consultation.step is not _Step.OVER:
            await self._drop(consultation.leg)

    async def _drop(self, call_sid: str) -> None:
        """End a leg that nobody answers for, come what may."""
        with anyio.move_on_after(DROP_S, shield=True):
            try:
                await end_call(self._rest, call_sid)
            except (CarrierError, RuntimeError) as problem:  # RuntimeError: the HTTP client was closed before
                log.warning("a leg could not be ended", extra={"call_id": self._call_sid, "why": str(problem)})


async def end_call(rest: TwilioRest, call_sid: str) -> None:
    """End a call, whether it rings or is up; not an error if it is over. Raises CarrierError."""
    try:
        await rest.update_call(call_sid, status="completed")
    except CarrierError as problem:
        if problem.code not in GONE:
            raise
