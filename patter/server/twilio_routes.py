"""Twilio's way in and out: its signed webhooks, the media socket with its one-time token, and the calls we place.

It owns what each webhook is answered before and while a call exists; it refuses to know what the call is about. The
loopback carrier of a rehearsal comes through here like any other.
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from dataclasses import replace
from typing import Protocol

import anyio
from aiohttp import web

from patter.agentfile import AgentFile
from patter.audio.format import MULAW_8K, AudioFormat
from patter.bus import Bus
from patter.clock import Clock
from patter.events import EndReason
from patter.exceptions import PatterConnectionError, PatterError, WireError
from patter.ports import CallInfo, Transport
from patter.providers.twilio_rest import TwilioRest
from patter.server.answers import Refused
from patter.server.arrivals import Arrival, Arrivals
from patter.server.desk import Desk, Route
from patter.server.media_socket import MediaSocket, accept, carry, check_upgrade, first, refuse
from patter.server.orders import Order
from patter.server.phone_line import Lines
from patter.server.twilio_calls import TELEPHONY, TwilioCalls
from patter.server.twilio_control import TwilioControl
from patter.server.twilio_gate import AMD, CONSULT, DIALLED, MEDIA, RECORDING, STATUS, Gate, Webhook
from patter.server.twilio_gate import VOICE as VOICE
from patter.server.twilio_gate import Account as Account
from patter.transports.media_stream import StreamTransport
from patter.transports.returning import ReturningLine
from patter.wire.stream import Connected, Unknown
from patter.wire.twilio import Start, TwilioStream, read
from patter.wire.twiml import connect_stream, hang_up, say_and_hang_up

log = logging.getLogger(__name__)

PARTY_LIMIT = 255  # characters of a caller's address
SEEN = 100_000  # calls whose webhook is known to be used up
SEEN_S = 86_400.0  # a call lasts four hours at most; a replay of yesterday's finds its token void all the same
UNHEARD = "The call ended before its media stream was open."
CLOSED = "This number cannot be answered at the moment."
BACK = "Nobody could take your call just now. I am connecting you back."
SORRY = "I am sorry, nobody could take your call. Please call again later. Goodbye."

_CALL_SID = re.compile(r"CA[0-9a-f]{32}")
_COMING = ("queued", "initiated", "ringing")
_UNTAKEN = ("busy", "no-answer", "failed")
_OVER = ("completed", "busy", "failed", "no-answer", "canceled")


class Files(Protocol):
    """Where the desk finds the agent of a route."""

    def current(self, route: Route) -> AgentFile | None:
        """The version in use, or None."""


class TwilioRoutes:
    """The carrier's routes. `public` is the address the carrier knows us by, e.g. "https://voice.example.com".

    With a `bus` and a `rest` client it also places calls, transfers and, with `record`, lets the carrier record."""

    def __init__(
        self,
        desk: Desk,
        files: Files,
        clock: Clock,
        accounts: list[Account],
        public: str,
        *,
        bus: Bus | None = None,
        rest: TwilioRest | None = None,
        record: bool = False,
    ) -> None:
        self._desk = desk
        self._files = files
        self._clock = clock
        self._gate = Gate(accounts, public)
        self._lines = Lines()
        self._calls = TwilioCalls(desk, bus, rest, self._gate, self._lines) if bus and rest else None
        self._record = record
        self._arrivals = Arrivals(clock)
        self._seen: OrderedDict[str, float] = OrderedDict()

    @property
    def public(self) -> str:
        """The address the carrier knows us by; may change, once a tunnel has opened."""
        return self._gate.public

    @public.setter
    def public(self, address: str) -> None:
        self._gate.public = address

    @property
    def sound(self) -> AudioFormat:
        """Twilio speaks nothing else."""
        return MULAW_8K

    def routes(self) -> list[web.RouteDef]:
        """The routes, for the application."""
        return [
            web.post(VOICE, self.voice),
            web.post(STATUS, self.status),
            web.post(RECORDING, self.recording),
            web.post(AMD, self.machine),
            web.post(CONSULT, self.consult),
            web.post(DIALLED, self.dialled),
            web.get(MEDIA, self.media),
        ]

    # ------------------------------------------------------------------ calls we place

    @property
    def ringing(self) -> int:
        """How many calls we placed are on their way."""
        return len(self._calls.ringing) if self._calls else 0

    @property
    def on_their_way(self) -> list[str]:
        """The ids of the calls that we placed and that are neither up nor over."""
        return self._calls.ringing.ids if self._calls else []

    def rings(self, call_id: str) -> bool:
        """Whether a call that we placed is on its way."""
        return self._calls is not None and self._calls.ringing.find(call_id) is not None

    async def dial(self, order: Order) -> str:
        """Place a call; see `TwilioCalls.dial`."""
        if self._calls is None:
            raise PatterConnectionError("This line places no calls: it has no carrier's API behind it.")
        return await self._calls.dial(order)

    async def cancel(self, call_id: str) -> None:
        """Give up a call that nobody has answered; nothing if there is no such call. Raises CarrierError."""
        if self._calls is not None:
            self._arrivals.forget(call_id)
            await self._calls.cancel(call_id)

    # ------------------------------------------------------------------ webhooks

    async def voice(self, request: web.Request) -> web.Response:
        """A call comes in, or one of ours was answered: say where its media socket is."""
        webhook = await self._gate.read(request)
        call_sid = _call_sid(webhook)
        if call_sid in self._seen or self._desk.find(call_sid):
            raise Refused(409, "This call was answered before.")
        placed = webhook.query.get("call")
        arrival = self._inbound(webhook, call_sid) if placed is None else self._outbound(placed, webhook, call_sid)
        if arrival is None:
            return _twiml(hang_up())
        if isinstance(arrival, str):
            return _twiml(say_and_hang_up(arrival))
        token = self._arrivals.token_of(call_sid)  # asked again: the same answer
        if token is None:
            token = self._arrivals.expect(arrival)
            self._desk.foresee(arrival.key or call_sid, arrival.file.agent, self.sound)
            self._desk.spawn(self._await_stream, arrival, token)
        return _twiml(connect_stream(self._gate.stream(token)))

    def _inbound(self, webhook: Webhook, call_sid: str) -> Arrival | str:
        """The call that comes in, or a sentence why it cannot be taken. Raises Refused for a rehearsal's unknown number."""
        account, form = webhook.account, webhook.form
        number = form.get("To", "")
        route = self._desk.route_of(number)
        if route is None and not account.loopback:  # a number of the account that has no agent, or the line is closing
            log.warning("a call came for a number that no agent answers", extra={"call_id": call_sid})
            return CLOSED
        if route is None:
            raise Refused(
                404, f"No agent answers {number[:20] or 'a call without To'}: start a rehearsal for its number."
            )
        file = self._files.current(route)
        sentence = (file is not None and self._desk.farewell(file)) or self._desk.refusal()
        if sentence or file is None or self._arrivals.full:
            return sentence or CLOSED
        call = CallInfo(
            call_sid,
            caller=_party(form.get("From", "")),
            callee=number,
            direction="test" if account.loopback else "inbound",
            telephony="loopback" if account.loopback else TELEPHONY,
        )
        control = None if account.loopback else self._control(call_sid, number)
        return Arrival(call, file, _handle(account.sid, call_sid), control, loopback=account.loopback)

    def _outbound(self, token: str, webhook: Webhook, call_sid: str) -> Arrival | str | None:
        """The call that was answered; None for a token that is used up: the order was sent twice, the other call is ours."""
        placed = self._calls.answered(token, call_sid) if self._calls else None
        if placed is None:
            log.warning("a call that we did not place, or not any more, is hung up", extra={"call_id": call_sid})
            return None
        order = placed.order
        if sentence := self._desk.farewell(order.file) or self._desk.refusal():
            return sentence
        call = CallInfo(
            call_sid,
            caller=order.caller,
            callee=order.to,
            direction="outbound",
            telephony=TELEPHONY,
            custom_params=dict(order.custom_params),
        )
        handle = _handle(webhook.account.sid, call_sid)
        return Arrival(call, order.file, handle, self._control(call_sid, order.caller), order.voicemail, key=order)

    def _control(self, call_sid: str, number: str) -> TwilioControl | None:
        return self._calls.control(call_sid, number) if self._calls else None

    async def status(self, request: web.Request) -> web.Response:
        """The carrier tells how a call goes on: one that is over may not linger here."""
        webhook = await self._gate.read(request)
        call_sid, status = _call_sid(webhook), webhook.form.get("CallStatus", "")
        if self._calls is not None and "leg" in webhook.query:
            self._calls.consultations.status(webhook.query["leg"], status, call_sid)
        elif self._calls is not None and "transfer" in webhook.query:
            self._calls.cold.told(webhook.query["transfer"], webhook.form.get("ParentCallSid", ""), status)
        elif status in _COMING and "call" in webhook.query:
            known = call_sid in self._seen or self._desk.find(call_sid) is not None  # callbacks may come late
            if self._calls is not None and not known:
                self._calls.rings(webhook.query["call"], call_sid)
        elif status in _OVER:
            gone = self._arrivals.forget(call_sid)
            if gone is not None:
                self._missed(gone, "caller_hung_up", UNHEARD)
            if self._calls is not None:
                self._calls.status(webhook.query.get("call", ""), call_sid, webhook.form)
            live = self._desk.find(call_sid)
            if live is not None:
                await live.session.hang_up("caller_hung_up", "The carrier reported the end of the call.")
            else:
                self._lines.down(call_sid)
        return web.Response(status=204)

    async def machine(self, request: web.Request) -> web.Response:
        """The carrier's verdict on who answered a call that we placed."""
        webhook = await self._gate.read(request)
        if self._calls is not None:
            answered_by = webhook.form.get("AnsweredBy", "")
            self._calls.verdict(webhook.query.get("call", ""), _call_sid(webhook), answered_by)
        return web.Response(status=204)

    async def recording(self, request: web.Request) -> web.Response:
        """The carrier tells where its recording of a call is."""
        webhook = await self._gate.read(request)
        if self._calls is not None:
            self._calls.recording(_call_sid(webhook), webhook.form)
        return web.Response(status=204)

    async def consult(self, request: web.Request) -> web.Response:
        """Somebody who is asked to take a call has answered, and then has heard what it is about."""
        webhook = await self._gate.read(request)
        call_sid, query = _call_sid(webhook), webhook.query
        if self._calls is None:
            return _twiml(hang_up())
        return _twiml(self._calls.consultations.answer(query.get("leg", ""), query.get("step", ""), call_sid))

    async def dialled(self, request: web.Request) -> web.Response:
        """A cold transfer is over, or nobody took it: then the caller comes back to the agent, who may still be there."""
        webhook = await self._gate.read(request)
        call_sid, status = _call_sid(webhook), webhook.form.get("DialCallStatus", "")
        cold = self._calls.cold.take(webhook.query.get("transfer", ""), call_sid) if self._calls else None
        if cold is not None and cold.dialled(status) and cold.back is not None:
            token = self._arrivals.expect(cold.back)
            self._desk.spawn(self._await_stream, cold.back, token)
            return _twiml(connect_stream(self._gate.stream(token), sentence=BACK))
        return _twiml(say_and_hang_up(SORRY) if status in _UNTAKEN else hang_up())

    # ------------------------------------------------------------------ the media socket

    async def media(self, request: web.Request) -> web.StreamResponse:
        """The carrier opens the call's sound."""
        check_upgrade(request)
        arrival = self._arrivals.take(request.match_info["token"])
        self._gate.check_socket(request, arrival.handle.partition("/")[0])
        socket = await accept(request)
        try:
            start = await first(socket, read, Start, (Connected, Unknown))
            _check(start, arrival)
        except WireError as problem:
            log.warning("a media stream was refused", extra={"call_id": arrival.call.call_id, "why": str(problem)})
            if socket.closed:
                self._missed(arrival, "caller_hung_up", UNHEARD)
            else:
                self._missed(arrival, "failed", f"The carrier's media stream could not be used: {problem}.")
            await refuse(socket, str(problem))
            return socket
        wire = MediaSocket(socket, request)
        stream = StreamTransport(start.call_sid, TwilioStream(start), wire, self._clock, arrival.control)
        if arrival.line.back(stream) if arrival.line else self._begin(arrival, start, stream):
            self._lines.up(arrival.call.call_id, stream)
            try:
                await carry(socket, wire, stream)
            finally:
                self._lines.down(arrival.call.call_id)
        else:
            await stream.aclose()
            await refuse(socket, "the call could not be put together", 1011)
        return socket

    async def _await_stream(self, arrival: Arrival, token: str) -> None:
        """A call whose stream does not come was ended before: the carrier need not say so, and history must."""
        try:
            if await self._arrivals.lapsed(token):
                self._missed(arrival, "caller_hung_up", UNHEARD)
        except anyio.get_cancelled_exc_class():
            self._missed(arrival, "engine_stopped", UNHEARD)
            raise

    def _missed(self, arrival: Arrival, reason: EndReason, detail: str) -> None:
        """A call that came in is over before it began. Of one that we placed, and one that is up, its end tells."""
        if arrival.call.direction == "inbound" and arrival.line is None:
            self._remember(arrival.call.call_id)
            self._desk.missed(arrival.call, arrival.file, reason, detail)

    def _begin(self, arrival: Arrival, start: Start, stream: StreamTransport) -> bool:
        """Start the call. False, with a call in history that says why, if it cannot be put together."""
        call = replace(arrival.call, custom_params=arrival.call.custom_params | start.parameters)
        self._remember(call.call_id)
        if self._calls is not None:
            self._calls.came_up(call.call_id)
        transport: Transport = stream
        if isinstance(arrival.control, TwilioControl):
            transport = line = ReturningLine(stream, self._clock)
            arrival.control.back = replace(arrival, call=call, line=line)
        try:
            self._desk.start(call, arrival.file, transport, voicemail=arrival.voicemail)
        except (PatterError, ValueError, TypeError, Refused) as problem:
            log.warning(
                "a call could not be put together", extra={"call_id": call.call_id, "why": type(problem).__name__}
            )
            self._desk.failed(call, arrival.file, problem)
            return False
        if self._record and self._calls is not None and isinstance(arrival.control, TwilioControl):
            self._desk.spawn(self._calls.record, call.call_id, arrival.control)
        return True

    def _remember(self, call_sid: str) -> None:
        """This call has been up: its webhook may not come again."""
        now = self._clock.now()
        while self._seen and (len(self._seen) >= SEEN or next(iter(self._seen.values())) < now - SEEN_S):
            self._seen.popitem(last=False)
        self._seen[call_sid] = now


def _call_sid(webhook: Webhook) -> str:
    call_sid = webhook.form.get("CallSid", "")
    if not _CALL_SID.fullmatch(call_sid):
        raise Refused(400, "CallSid is missing or malformed.")
    return call_sid


def _handle(account_sid: str, call_sid: str) -> str:
    """The whole name of a call at the carrier."""
    return f"{account_sid}/{call_sid}"


def _party(spelled: str) -> str:
    """Who is at the other end, as the carrier says: a number, "anonymous", an address; whatever it is, one short line."""
    return "".join(letter for letter in spelled if letter.isprintable())[:PARTY_LIMIT]


def _check(start: Start, arrival: Arrival) -> None:
    """Raise WireError unless the stream is the one that was answered."""
    if _handle(start.account_sid, start.call_sid) != arrival.handle:
        raise WireError("the stream is not the call that this token was made for")
    if start.format != MULAW_8K and not arrival.loopback:
        raise WireError("this line carries audio/x-mulaw at 8000 Hz only")


def _twiml(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/xml")
