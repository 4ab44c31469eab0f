"""The calls that Twilio carries for us beyond their stream: placed, given up, ended, recorded, and answered by machines.

It owns what a status, a verdict or a recording means for a call; it refuses to know signatures, sockets and TwiML.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping

import anyio

from patter.bus import Bus
from patter.events import CarrierRecordingSaved, EndReason, FaultOccurred
from patter.exceptions import CarrierError, PatterConnectionError
from patter.ports import AnsweredBy
from patter.providers.twilio_rest import GONE, TwilioRest
from patter.server.desk import Desk
from patter.server.orders import Order
from patter.server.phone_line import Lines, Placed, Ringing
from patter.server.twilio_cold import ColdTransfers
from patter.server.twilio_control import Consultations, TwilioControl, end_call
from patter.server.twilio_gate import AMD, STATUS, VOICE, Gate

log = logging.getLogger(__name__)

TELEPHONY = "twilio"
LATE_S = 20.0  # after the last ring: a status callback that has not come by then is asked for
LEAVING_S = 3.0  # for giving up what still rings when the desk closes
ASK_EVERY_S = 30.0  # an account places one call a second, so an order may wait in its queue for minutes
ASK_TIMES = 60
RECORDINGS = 10_000  # recordings that were told, so that a repeated callback is none
URL_LIMIT = 2_000

_ENDS: dict[str, tuple[EndReason, str]] = {
    "busy": ("busy", "The number was busy."),
    "no-answer": ("no_answer", "Nobody answered."),
    "failed": ("failed", "The carrier could not put the call through."),
    "canceled": ("canceled", "The call was given up before anybody answered."),
    "completed": ("caller_hung_up", "The call ended before its media stream was open."),
}
_MACHINES = {"machine_end_beep", "machine_end_silence", "machine_end_other"}


class TwilioCalls:
    """Places calls and keeps the books of those on their way. The desk's task group runs what nobody waits for."""

    def __init__(self, desk: Desk, bus: Bus, rest: TwilioRest, gate: Gate, lines: Lines) -> None:
        self.ringing = Ringing(bus, TELEPHONY)
        self.consultations = Consultations(gate)
        self.cold = ColdTransfers()
        self._desk = desk
        self._bus = bus
        self._rest = rest
        self._gate = gate
        self._lines = lines
        self._recorded: OrderedDict[str, None] = OrderedDict()

    def control(self, call_sid: str, number: str) -> TwilioControl:
        """The carrier's power over one call; `number` is ours."""
        return TwilioControl(self._rest, call_sid, number, self._gate, self.consultations, self.cold)

    # ------------------------------------------------------------------ placing

    async def dial(self, order: Order) -> str:
        """Place a call; returns its CallSid once the carrier has accepted it.

        Raises PatterConnectionError when no call may be taken now, CarrierError when the carrier refuses, and ValueError
        for numbers that are not E.164."""
        if sentence := self._desk.refusal(len(self.ringing)):
            raise PatterConnectionError(sentence)
        placed = self.ringing.place(order)
        try:
            call_sid = await self._rest.create_call(
                to=order.to,
                caller=order.caller,
                url=self._gate.webhook(VOICE, call=placed.token),
                status_url=self._gate.webhook(STATUS, call=placed.token),
                ring_timeout_s=order.ring_timeout_s,
                detect_machine=order.detects,
                machine_url=self._gate.webhook(AMD, call=placed.token) if order.detects else "",
            )
        except BaseException as problem:
            if placed.call_id and isinstance(problem, CarrierError):
                return placed.call_id  # the carrier's answer was lost, but somebody took the call all the same
            self.ringing.refused(placed)
            raise
        if not self.ringing.known(placed, call_sid):
            self._desk.spawn(
                end_call, self._rest, call_sid
            )  # the order was sent twice, and the other call was answered first
        self._desk.spawn(self._watch, placed)
        return placed.call_id

    async def cancel(self, call_id: str) -> None:
        """Give up a call that nobody has answered; nothing if there is no such call. Raises CarrierError."""
        placed = self.ringing.find(call_id)
        if placed is None:
            return
        await end_call(self._rest, call_id)
        self.ringing.ended(placed, call_id, *_ENDS["canceled"])
        self._lines.down(call_id)

    async def _watch(self, placed: Placed) -> None:
        """A status callback may be lost: ask how the call ended, rather than let it ring for ever in our books."""
        try:
            await self._ask(placed)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True), anyio.move_on_after(LEAVING_S):
                await self._leave(placed)
            raise

    async def _ask(self, placed: Placed) -> None:
        wait = placed.order.ring_timeout_s + LATE_S
        for _ in range(ASK_TIMES):
            with anyio.move_on_after(wait):
                await placed.closed.wait()
                return
            try:
                record = await self._rest.fetch_call(placed.call_id)
            except CarrierError as problem:
                record = {"status": "failed"} if problem.code in GONE else {}
            self._over(placed, placed.call_id, str(record.get("status")), {})
            wait = ASK_EVERY_S
        self._over(placed, placed.call_id, "failed", {})

    async def _leave(self, placed: Placed) -> None:
        """The desk closes: nobody's telephone may ring for a call that nobody would answer for."""
        if placed.closed.is_set():
            return
        self.ringing.ended(placed, placed.call_id, "engine_stopped", "The engine was stopped.")
        try:
            await end_call(self._rest, placed.call_id)
        except (CarrierError, RuntimeError) as problem:  # RuntimeError: the HTTP client was closed before
            log.warning("a ringing call was not given up", extra={"call_id": placed.call_id, "why": str(problem)})

    # ------------------------------------------------------------------ what the carrier tells

    def answered(self, token: str, call_sid: str) -> Placed | None:
        """The call of our token has been answered. None if it is not (any more) a call on its way."""
        placed = self.ringing.by_token(token)
        return placed if placed is not None and self.ringing.known(placed, call_sid) else None

    def came_up(self, call_sid: str) -> None:
        """The call's stream is here."""
        if placed := self.ringing.find(call_sid):
            self.ringing.came_up(placed)

    def status(self, token: str, call_sid: str, form: Mapping[str, str]) -> None:
        """How a placed call goes on. Only its end means anything, so callbacks may come in any order, and twice."""
        placed = self.ringing.by_token(token)
        if placed is not None:
            self._over(placed, call_sid, form.get("CallStatus", ""), form)

    def rings(self, token: str, call_sid: str) -> None:
        """A call with our token is on its way. One that is not ours is ended: its order was sent twice, or given up."""
        placed = self.ringing.by_token(token)
        if placed is None or placed.call_id not in ("", call_sid):
            self._desk.spawn(end_call, self._rest, call_sid)

    def _over(self, placed: Placed, call_sid: str, status: str, form: Mapping[str, str]) -> None:
        if status not in _ENDS:
            return
        reason, detail = _ENDS[status]
        response = form.get("SipResponseCode", "")
        if reason == "failed" and response.isascii() and response.isdigit() and len(response) == 3:
            detail = f"{detail} Its network answered {response}."
        self.ringing.ended(placed, call_sid, reason, detail)

    def verdict(self, token: str, call_sid: str, answered_by: str) -> None:
        """Who answered, as the carrier's machine detection found."""
        if self.ringing.by_token(token) is None and self._lines.find(call_sid) is None:
            return
        known: dict[str, AnsweredBy] = {
            "human": "human",
            "fax": "fax",
            "unknown": "unknown",
            "machine_start": "machine",
        }
        if answered_by in _MACHINES:
            self._lines.machine_detected(call_sid, "machine", ready=True)
        elif answered_by in known:
            self._lines.machine_detected(call_sid, known[answered_by], ready=answered_by != "machine_start")

    def recording(self, call_sid: str, form: Mapping[str, str]) -> None:
        """A recording's state: one that is complete is told once."""
        recording, status, url = (
            form.get("RecordingSid", ""),
            form.get("RecordingStatus", ""),
            form.get("RecordingUrl", ""),
        )
        if status == "absent":
            log.warning("the carrier has no recording of a call", extra={"call_id": call_sid})
        if status != "completed" or not url.startswith(("https://", "http://")) or len(url) > URL_LIMIT:
            return
        if recording in self._recorded:
            return
        self._recorded[recording] = None
        while len(self._recorded) > RECORDINGS:
            self._recorded.popitem(last=False)
        seconds = form.get("RecordingDuration", "")
        known = seconds.isascii() and seconds.isdigit() and len(seconds) < 7
        self._bus.publish(
            CarrierRecordingSaved(
                call_id=call_sid,
                url=url,
                recording_id=recording[:64],
                duration_s=float(seconds) if known else 0.0,
            )
        )

    async def record(self, call_sid: str, control: TwilioControl) -> None:
        """Let the carrier record a call that is up; a call goes on without."""
        try:
            await control.record()
        except CarrierError as problem:
            if problem.code in GONE:
                return
            self._bus.publish(
                FaultOccurred(
                    call_id=call_sid, stage="carrier", provider=TELEPHONY, problem=problem.problem, fix=problem.fix
                )
            )
