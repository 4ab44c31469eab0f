"""The calls that Telnyx carries for us: does what the table of their lives says on each webhook, and places new ones.

It owns the commands and the endings of calls without a session; it refuses to know signatures, sockets and what is said.
"""

from __future__ import annotations

import logging

import anyio

from patter.builders import Carrier
from patter.bus import Bus
from patter.clock import Clock
from patter.events import CarrierRecordingSaved, EndReason, FaultOccurred
from patter.exceptions import CarrierError, PatterConnectionError, PatterError
from patter.ports import CallInfo
from patter.providers.telnyx_rest import GONE, TelnyxRest
from patter.server.arrivals import Arrival, Arrivals
from patter.server.desk import Desk
from patter.server.orders import Order
from patter.server.phone_line import Lines, Ringing
from patter.server.telnyx_control import Handovers, TelnyxControl, state_for, token_in
from patter.server.telnyx_gate import Gate
from patter.server.telnyx_legs import SOUNDS, Leg, Legs
from patter.server.telnyx_life import FACTS, Deed, Fact, Life, Stage, verdict_of, why_over, why_untaken
from patter.server.twilio_routes import Files
from patter.wire.telnyx_webhook import Webhook

log = logging.getLogger(__name__)

TELEPHONY = "telnyx"
RECORDING_SAVED = "call.recording.saved"
STREAMS_ALREADY = "90045"
LATE_S = 30.0  # after the last ring: the carrier's word on an unanswered call was lost
LEAVING_S = 3.0  # for the goodbyes to the carrier when the desk closes
_LIMITS = {  # how long a stage may take, in seconds
    Stage.ANSWERING: 20.0,  # the carrier answers within a second; a caller does not wait longer for the first sound
    Stage.OPENING: 20.0,
    Stage.CLOSING: 2.0,  # its webhook on a call that its caller has ended is on the way
}
_PENDING = (Stage.DIALLED, Stage.OPENING, Stage.UP)
_LATE: dict[Stage, str] = {
    Stage.ANSWERING: "Telnyx did not say that the call was answered: check that its webhooks reach this machine.",
    Stage.OPENING: "Telnyx did not open the media stream: check that the public address can be reached over wss://.",
}
_UNHEARD: tuple[EndReason, str] = ("caller_hung_up", "The call ended before its media stream was open.")
_CANCELED: tuple[EndReason, str] = ("canceled", "The call was given up before anybody answered.")
_UNTOLD: tuple[EndReason, str] = ("no_answer", "Nobody answered, and the carrier did not say what became of the call.")


class TelnyxCalls:
    """Answers calls, places calls and keeps their legs. The desk's task group runs what a webhook may not wait for."""

    def __init__(
        self, desk: Desk, files: Files, clock: Clock, carrier: Carrier, gate: Gate, bus: Bus, rest: TelnyxRest
    ) -> None:
        if carrier.codec not in SOUNDS:
            raise ValueError(f"Telnyx' codec must be one of {', '.join(SOUNDS)}, not {carrier.codec!r}.")
        self.arrivals = Arrivals(clock)
        self.lines = Lines()
        self.legs = Legs(clock)
        self.ringing = Ringing(bus, TELEPHONY)
        self.connection_id = carrier.account
        self._desk = desk
        self._files = files
        self._codec = carrier.codec
        self._gate = gate
        self._bus = bus
        self._rest = rest
        self._handovers = Handovers()

    @property
    def webhook_url(self) -> str:
        """Where webhooks of the legs we dial come to."""
        return self._gate.webhook_url

    # ------------------------------------------------------------------ placing

    async def dial(self, order: Order) -> str:
        """Place a call; returns its id once the carrier has accepted it.

        Raises PatterConnectionError when no call may be taken now, CarrierError when the carrier refuses, and ValueError
        for numbers that are not E.164."""
        if sentence := self._desk.refusal(len(self.ringing)):
            raise PatterConnectionError(sentence)
        placed = self.ringing.place(order)
        call = CallInfo(
            "",
            order.caller,
            order.to,
            direction="outbound",
            telephony=TELEPHONY,
            custom_params=dict(order.custom_params),
        )
        leg = Leg(Life(Stage.DIALLED), call, order.file, placed=placed)
        self.legs.expect(placed.token, leg)
        try:
            made = await self._rest.dial(
                connection_id=self.connection_id,
                to=order.to,
                caller=order.caller,
                client_state=state_for(placed.token),
                webhook_url=self.webhook_url,
                ring_timeout_s=order.ring_timeout_s,
                detect_machine=order.detects,
                command_id=placed.token,
            )
        except BaseException as problem:
            if leg.call_id and isinstance(problem, CarrierError):
                return leg.call_id  # the carrier's answer was lost, but the call is on its way all the same
            if not leg.call_id:
                self.legs.give_up(placed.token)
                self.ringing.refused(placed)
            raise
        if not self._is_of(leg, made.call_leg_id, made.call_control_id):
            if not leg.call_id:
                self.legs.give_up(placed.token)
                self.ringing.refused(placed)
                raise CarrierError("its answer names no call", provider=TELEPHONY, fix="try again")
            self._desk.spawn(
                self._drop, made.call_control_id
            )  # the order was sent twice, and the other call showed first
        return leg.call_id

    async def cancel(self, call_id: str) -> None:
        """Give up a call that is not up yet; nothing if there is no such call. Raises CarrierError."""
        leg = self.legs.find(call_id)
        if leg is not None and self._move(leg, Fact.CANCELED):
            self._ended(leg, _CANCELED)
            await self._hang_up(leg)

    def _is_of(self, leg: Leg, leg_id: str, handle: str) -> bool:
        """Whether the carrier's leg is this call; the first one that comes with our token is, and gets its name by it."""
        if leg.call_id:
            return leg.call_id == leg_id
        if not self.legs.name(leg, leg_id, handle):
            return False
        number = leg.call.caller if leg.placed else leg.call.callee
        language = leg.file.agent.language
        leg.control = TelnyxControl(self._rest, self, self._handovers, leg_id, handle, number, language)
        if leg.placed:
            self.ringing.known(leg.placed, leg_id)
        self._desk.spawn(self._watch, leg)
        return True

    # ------------------------------------------------------------------ what the carrier tells

    def told(self, webhook: Webhook) -> None:
        """One event, for the first time. Returns at once: the carrier waits for the answer to its webhook."""
        if webhook.kind == RECORDING_SAVED:
            self._recording(webhook)
            return
        if not webhook.handle:
            return
        token = token_in(webhook.client_state)
        handover = self._handovers.by_token(token)
        if handover is not None and handover.is_leg(webhook.handle):
            handover.leg_told(webhook)
            return
        leg = self.legs.find(webhook.leg) or self.legs.by_token(token)
        if leg is not None and self._is_of(leg, webhook.leg, webhook.handle):
            self._told_leg(leg, webhook)
        else:
            self._stranger(webhook, ours=bool(token))

    def _told_leg(self, leg: Leg, webhook: Webhook) -> None:
        verdict = verdict_of(webhook.kind, webhook.result)
        if verdict is not None and leg.stage in _PENDING and leg.verdicts.told(verdict):
            self.lines.machine_detected(leg.call_id, verdict.answered_by, verdict.ready)
        fact = FACTS.get(webhook.kind)
        handover = self._handovers.of_call(leg.call_id)
        if handover is not None and fact is not None:
            handover.caller_told(fact)
        if fact is Fact.HUNG_UP and leg.control:
            leg.control.left = True
        match self._move(leg, fact) if fact else None:
            case Deed.ANSWER:
                self._desk.spawn(self._answer, leg)
            case Deed.STREAM:
                self._desk.spawn(self._stream, leg)
            case Deed.END_SESSION:
                self._desk.spawn(self._end_session, leg, why_over(webhook.cause))
            case Deed.UNTAKEN:
                self._ended(leg, why_untaken(webhook.cause, webhook.sip_cause))
            case Deed.UNHEARD:
                self._ended(leg, _UNHEARD)
            case Deed.FAIL:
                why = f" ({webhook.problem})" if webhook.problem else ""
                self._desk.spawn(self._fail, leg, PatterError(_LATE[Stage.OPENING].replace(":", f"{why}:", 1)))

    def _stranger(self, webhook: Webhook, ours: bool) -> None:
        """A leg we do not know: a new call for us, one that nobody wants any more, or somebody else's."""
        fact = FACTS.get(webhook.kind)
        key = webhook.leg or webhook.handle
        if fact is Fact.HUNG_UP:
            self.legs.strange(key)  # its first webhook may still come, and is not to be answered then
        elif fact is Fact.INITIATED and webhook.incoming:
            self._offered(webhook, key)
        elif ours and fact in (Fact.INITIATED, Fact.ANSWERED) and self.legs.strange(key):
            self._desk.spawn(self._drop, webhook.handle)

    def _offered(self, webhook: Webhook, key: str) -> None:
        """A call comes in: answer it, or tell the carrier why not."""
        cause = "CALL_REJECTED"
        route = self._desk.route_of(webhook.callee)
        file = self._files.current(route) if route else None
        if file is not None:
            if not self._desk.refusal(file=file) and not self.arrivals.full:
                call = CallInfo("", webhook.caller, webhook.callee, direction="inbound", telephony=TELEPHONY)
                leg = Leg(Life(Stage.OFFERED), call, file)
                if self._is_of(leg, webhook.leg, webhook.handle):
                    self._desk.foresee(leg.call_id, file.agent, SOUNDS[self._codec])
                    self._told_leg(leg, webhook)
                    return
            else:
                cause = "USER_BUSY"
        if self.legs.strange(key):
            log.warning("a call was rejected", extra={"call_id": key[:64], "callee": webhook.callee, "cause": cause})
            self._desk.spawn(self._reject, webhook.handle, cause)

    def _recording(self, webhook: Webhook) -> None:
        leg = self.legs.find(webhook.leg)
        name = webhook.recording_id or webhook.recording
        if leg is None or not webhook.recording or name in leg.recordings:
            return
        leg.recordings.add(name)
        self._bus.publish(
            CarrierRecordingSaved(
                call_id=leg.call_id,
                url=webhook.recording,
                recording_id=webhook.recording_id,
                duration_s=webhook.recording_s,
            )
        )

    # ------------------------------------------------------------------ what is done

    def _move(self, leg: Leg, fact: Fact) -> Deed | None:
        """Let something happen to a leg; what it leaves behind is put away. Returns what is to be done."""
        deed = leg.told(fact)
        if deed is not None and leg.life.over:
            self.arrivals.forget(leg.call_id)
            self.lines.down(leg.call_id)
        if leg.life.over:
            self.legs.over(leg)
        return deed

    def _ended(self, leg: Leg, why: tuple[EndReason, str]) -> None:
        """A call ended without a session, unless it has had one."""
        if leg.placed:
            self.ringing.ended(leg.placed, leg.call_id, *why)
        elif not leg.told_of:
            leg.told_of = True
            self._desk.missed(leg.call, leg.file, *why)

    async def _answer(self, leg: Leg) -> None:
        await self._tell_carrier(leg, Stage.ANSWERING, "answer")

    async def _stream(self, leg: Leg) -> None:
        voicemail = leg.placed.order.voicemail if leg.placed else ""
        token = self.arrivals.expect(Arrival(leg.call, leg.file, leg.handle, leg.control, voicemail))
        await self._tell_carrier(
            leg,
            Stage.OPENING,
            "streaming_start",
            stream_url=self._gate.stream_url(token),
            stream_track="inbound_track",
            stream_codec=self._codec,
            stream_bidirectional_mode="rtp",
            stream_bidirectional_codec=self._codec,
            stream_bidirectional_sampling_rate=SOUNDS[self._codec].rate,
            stream_auth_token=leg.stream_secret,
        )

    async def _tell_carrier(self, leg: Leg, stage: Stage, action: str, **fields: str | int) -> None:
        """The command that gets a leg out of its `stage`. If the carrier refuses, the call is over."""
        try:
            await self._rest.command(leg.handle, action, **fields)
        except CarrierError as problem:
            if leg.stage is not stage or problem.code == STREAMS_ALREADY:
                return  # it was done, and only the answer to our first request was lost
            gone = problem.code in GONE
            match self._move(leg, Fact.HUNG_UP if gone else Fact.FAILED):
                case Deed.UNHEARD:
                    self._ended(leg, _UNHEARD)
                case Deed.FAIL:
                    await self._fail(leg, problem)

    async def _fail(self, leg: Leg, problem: PatterError) -> None:
        """The call cannot be opened: it is told as one that failed, and hung up."""
        log.warning("a call could not be opened", extra={"call_id": leg.call_id, "why": str(problem)})
        leg.told_of = True
        if leg.placed:
            self.ringing.came_up(leg.placed)
        self._desk.failed(leg.call, leg.file, problem)
        await self._hang_up(leg)

    async def _end_session(self, leg: Leg, detail: str) -> None:
        live = self._desk.find(leg.call_id)
        if live is not None:
            await live.session.hang_up("caller_hung_up", detail)

    async def _reject(self, handle: str, cause: str) -> None:
        try:
            await self._rest.command(handle, "reject", cause=cause)
        except CarrierError as problem:
            if problem.code not in GONE:
                log.warning("a call could not be rejected", extra={"why": str(problem)})

    async def _drop(self, handle: str) -> None:
        """Hang up a leg that nobody wants."""
        try:
            await self._rest.command(handle, "hangup")
        except CarrierError as problem:
            if problem.code not in GONE:
                log.warning("a leg could not be hung up", extra={"why": str(problem)})

    async def _hang_up(self, leg: Leg) -> None:
        if leg.control:
            await leg.control.hang_up()

    async def record(self, leg: Leg) -> None:
        """Let the carrier record a call that is up; a call goes on without."""
        try:
            if leg.control:
                await leg.control.record()
        except CarrierError as problem:
            if problem.code not in GONE:
                fault = FaultOccurred(
                    call_id=leg.call_id, stage="recording", provider=TELEPHONY, problem=problem.problem, fix=problem.fix
                )
                self._bus.publish(fault)

    # ------------------------------------------------------------------ the media socket, as the leg sees it

    def came_up(self, leg: Leg) -> bool:
        """The call's stream is here: from now on its session answers for its end. False if it is over meanwhile."""
        self._move(leg, Fact.SOCKET)
        up = leg.stage is Stage.UP
        leg.told_of = leg.told_of or up
        if up and leg.placed:
            self.ringing.came_up(leg.placed)
        return up

    def refused(self, leg: Leg, problem: PatterError) -> None:
        """The stream that came is not one that the call can have."""
        if self._move(leg, Fact.FAILED):
            self._desk.spawn(self._fail, leg, problem)

    def went_down(self, leg: Leg) -> None:
        """The call's stream is over, and its session with it."""
        self.lines.down(leg.call_id)
        self._move(leg, Fact.CLOSED)

    # ------------------------------------------------------------------ time

    async def _watch(self, leg: Leg) -> None:
        """One task a call: a stage that takes too long is ended, and so is a call whose desk is closed."""
        try:
            while not leg.life.over:
                with anyio.move_on_after(_limit(leg)) as waiting:
                    await leg.moved.wait()
                if waiting.cancelled_caught:
                    await self._overdue(leg)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True), anyio.move_on_after(LEAVING_S):
                await self._leave(leg)
            raise

    async def _overdue(self, leg: Leg) -> None:
        stage = leg.stage
        match self._move(leg, Fact.OVERDUE):
            case Deed.FAIL:
                await self._fail(leg, PatterError(_LATE[stage]))
            case Deed.CANCEL:
                self._ended(leg, _UNTOLD)
                await self._hang_up(leg)
            case Deed.HANG_UP:
                await self._hang_up(leg)

    async def _leave(self, leg: Leg) -> None:
        """The desk closes: the carrier may not be left with a call that nobody answers for."""
        self._move(leg, Fact.CANCELED)
        self._ended(leg, ("engine_stopped", "The engine was stopped."))
        try:
            await self._hang_up(leg)
        except (PatterError, RuntimeError) as problem:  # RuntimeError: the HTTP client was closed before
            log.warning("a call could not be hung up", extra={"call_id": leg.call_id, "why": str(problem)})


def _limit(leg: Leg) -> float:
    """How long the leg may stay where it is, in seconds."""
    if leg.stage is Stage.DIALLED and leg.placed:
        return leg.placed.order.ring_timeout_s + LATE_S
    return _LIMITS.get(leg.stage, float("inf"))
