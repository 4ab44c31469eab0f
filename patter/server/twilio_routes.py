"""Twilio's way in: the signed voice webhook, the status callback and the media socket with its one-time token.

It owns the proofs that a carrier must give before a call exists; it refuses to know what the call is about. The loopback
carrier of a rehearsal comes through here like any other.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl

import anyio
from aiohttp import WSMsgType, web

from patter.agentfile import AgentFile
from patter.audio.format import MULAW_8K
from patter.clock import Clock
from patter.exceptions import PatterError, WireError
from patter.ports import CallInfo
from patter.server.answers import Refused, raw_body
from patter.server.desk import Desk, Route
from patter.transports.twilio import TwilioTransport
from patter.wire.twilio import Connected, Start, Unknown, read
from patter.wire.twilio_signature import HEADER, verify
from patter.wire.twiml import connect_stream, say_and_hang_up

log = logging.getLogger(__name__)

VOICE = "/webhooks/twilio/voice"
STATUS = "/webhooks/twilio/status"
MEDIA = "/ws/twilio/{token}"

FORM_LIMIT = 64 * 1024  # a voice webhook has about thirty short fields
FIELDS = 200
TOKEN_LIFE_S = 30.0  # the carrier opens the socket within a second or two of the TwiML
WAITING = 1_000  # answered webhooks whose socket has not come yet; more is an attack or a broken carrier
START_SECONDS = 10.0  # `start` follows the opening of the socket at once
FIRST_MESSAGES = 5  # `connected`, `start`, and room for what a newer protocol may put between
MESSAGE_LIMIT = 64 * 1024  # the largest frame a carrier sends is a few hundred bytes
UNREAD_LIMIT = 4 * 1024 * 1024  # bytes a carrier may leave unread: over six minutes of µ-law in base64
HEARTBEAT_S = 20.0

_CALL_SID = re.compile(r"CA[0-9a-f]{32}")
_OVER = ("completed", "busy", "failed", "no-answer", "canceled")


@dataclass(frozen=True, slots=True)
class Account:
    """A carrier account that may call in. `loopback`: the dialler of rehearsals on this machine."""

    sid: str
    auth_token: str = field(repr=False)
    loopback: bool = False


@dataclass(frozen=True, slots=True)
class _Expected:
    """A call whose webhook was answered and whose media socket has not come yet."""

    account: Account
    call: CallInfo
    route: Route
    until: float


class Files(Protocol):
    """Where the desk finds the agent of a route."""

    def current(self, route: Route) -> AgentFile | None:
        """The version in use, or None."""


class TwilioRoutes:
    """The carrier's routes. `public` is the address the carrier knows us by, e.g. "http://127.0.0.1:8000"."""

    def __init__(self, desk: Desk, files: Files, clock: Clock, accounts: list[Account], public: str) -> None:
        self._desk = desk
        self._files = files
        self._clock = clock
        self._accounts = {account.sid: account for account in accounts}
        self._public = public.rstrip("/")
        self._expected: dict[str, _Expected] = {}
        self._seen: dict[str, float] = {}

    def routes(self) -> list[web.RouteDef]:
        """The routes, for the application."""
        return [web.post(VOICE, self.voice), web.post(STATUS, self.status), web.get(MEDIA, self.media)]

    # ------------------------------------------------------------------ webhooks

    async def voice(self, request: web.Request) -> web.Response:
        """A call comes in: answer with the address of its media socket."""
        form, account = await self._signed_form(request)
        call_sid, number = form.get("CallSid", ""), form.get("To", "")
        if not _CALL_SID.fullmatch(call_sid):
            raise Refused(400, "CallSid is missing or malformed.")
        if call_sid in self._seen or self._desk.find(call_sid):
            raise Refused(409, "This call was answered before.")
        route = self._desk.route_of(number)
        if route is None:
            raise Refused(
                404, f"No agent answers {number[:20] or 'a call without To'}: start a rehearsal for its number."
            )
        self._forget_late()
        sentence = self._desk.refusal()
        if sentence or len(self._expected) >= WAITING or self._files.current(route) is None:
            return _twiml(say_and_hang_up(sentence or "This number cannot be answered at the moment."))
        call = CallInfo(
            call_sid,
            caller=form.get("From", ""),
            callee=number,
            direction="test" if account.loopback else "inbound",
            telephony="loopback" if account.loopback else "twilio",
        )
        for token in [token for token, other in self._expected.items() if other.call.call_id == call_sid]:
            del self._expected[token]  # the carrier asks again: its first answer was lost
        token = secrets.token_urlsafe(24)
        self._expected[token] = _Expected(account, call, route, self._clock.now() + TOKEN_LIFE_S)
        stream = "ws" + self._public.removeprefix("http") + MEDIA.format(token=token)
        return _twiml(connect_stream(stream))

    async def status(self, request: web.Request) -> web.Response:
        """The carrier tells how a call goes on: one that is over may not linger here."""
        form, _ = await self._signed_form(request)
        call_sid = form.get("CallSid", "")
        if form.get("CallStatus") in _OVER:
            for token in [token for token, other in self._expected.items() if other.call.call_id == call_sid]:
                del self._expected[token]
            live = self._desk.find(call_sid)
            if live is not None:
                await live.session.hang_up("caller_hung_up", "The carrier reported the end of the call.")
        return web.Response(status=204)

    async def _signed_form(self, request: web.Request) -> tuple[dict[str, str], Account]:
        """The form and the account that signed it. Raises Refused."""
        if request.content_type != "application/x-www-form-urlencoded":
            raise Refused(400, "A webhook is a form (application/x-www-form-urlencoded).")
        raw = await raw_body(request, FORM_LIMIT)
        try:
            fields = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=FIELDS, errors="strict")
        except ValueError:
            raise Refused(400, "The form cannot be read.") from None
        form = dict(fields)
        account = self._accounts.get(form.get("AccountSid", ""))
        signature = request.headers.get(HEADER, "")
        if account is None or not verify(signature, self._public + request.path_qs, fields, account.auth_token):
            log.warning("a webhook was refused", extra={"route": request.path, "known_account": account is not None})
            raise Refused(403, f"{HEADER} does not match: the webhook is not from a known carrier account.")
        return form, account

    # ------------------------------------------------------------------ the media socket

    async def media(self, request: web.Request) -> web.StreamResponse:
        """The carrier opens the call's sound."""
        expected = self._expected.pop(request.match_info["token"], None)
        if expected is None or expected.until < self._clock.now():
            raise Refused(403, "This stream token is unknown, used or too old.")
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MESSAGE_LIMIT, compress=False, timeout=2.0)
        await socket.prepare(request)
        try:
            with anyio.fail_after(START_SECONDS):
                start = await _start(socket)
            _check(start, expected)
        except (TimeoutError, WireError) as problem:
            reason = str(problem) or "no start message came"
            log.warning("a media stream was refused", extra={"call_id": expected.call.call_id, "why": reason})
            await socket.close(code=1008, message=reason.encode()[:120])
            return socket
        await self._carry(socket, request, start, expected)
        return socket

    async def _carry(
        self, socket: web.WebSocketResponse, request: web.Request, start: Start, expected: _Expected
    ) -> None:
        wire = _MediaSocket(socket, request)
        transport = TwilioTransport(start, wire, self._clock)
        call = CallInfo(
            expected.call.call_id,
            caller=expected.call.caller,
            callee=expected.call.callee,
            direction=expected.call.direction,
            telephony=expected.call.telephony,
            custom_params=dict(start.parameters),
        )
        self._seen[call.call_id] = self._clock.now()
        file = self._files.current(expected.route)
        try:
            if file is None:
                raise Refused(409, "The agent is gone.")
            self._desk.start(call, file, transport)
        except (PatterError, ValueError, TypeError, Refused) as problem:
            log.warning(
                "a call could not be put together", extra={"call_id": call.call_id, "why": type(problem).__name__}
            )
            if file is not None:
                self._desk.failed(call, file, problem)
            await transport.aclose()
            await socket.close(code=1011, message=b"the call could not be put together")
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.close_when_asked)
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    transport.feed(message.data)
            transport.lost()
            if not wire.closing:
                tasks.cancel_scope.cancel()

    def _forget_late(self) -> None:
        now = self._clock.now()
        for token in [token for token, expected in self._expected.items() if expected.until < now]:
            del self._expected[token]
        for call_sid in [call_sid for call_sid, at in self._seen.items() if at < now - 86_400]:
            del self._seen[call_sid]


class _MediaSocket:
    """A WebSocket as a transport needs it: writes at once, closes without waiting."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self._socket = socket
        self._request = request
        self._closing = anyio.Event()

    def send(self, text: str) -> None:
        """Write one text frame. A carrier that reads nothing is cut off."""
        pipe = self._request.transport
        if self._socket.closed or pipe is None or pipe.is_closing():
            return
        if pipe.get_write_buffer_size() > UNREAD_LIMIT:
            log.warning("the carrier does not read its stream")
            pipe.abort()
            return
        writing = self._socket.send_str(text)
        try:
            drained = writing.send(None)  # the frame is in the pipe's buffer before the first suspension
        except (StopIteration, ConnectionError):
            return
        writing.close()  # suspended only to wait for the buffer to empty, which a call must not do
        if isinstance(drained, asyncio.Future):
            drained.add_done_callback(_take_outcome)

    @property
    def closing(self) -> bool:
        """Whether the transport has asked to close it."""
        return self._closing.is_set()

    def close(self) -> None:
        """Close the socket soon."""
        self._closing.set()

    async def close_when_asked(self) -> None:
        """Close the socket when the transport wants it."""
        await self._closing.wait()
        await self._socket.close()


async def _start(socket: web.WebSocketResponse) -> Start:
    """The stream's `start`. Raises WireError for anything but the messages that may come before it."""
    for _ in range(FIRST_MESSAGES):
        message = await socket.receive()
        if message.type is not WSMsgType.TEXT:
            raise WireError("the stream ended before its start message")
        said = read(message.data)
        if isinstance(said, Start):
            return said
        if not isinstance(said, (Connected, Unknown)):
            raise WireError(f"{type(said).__name__} came before start")
    raise WireError("no start message came")


def _check(start: Start, expected: _Expected) -> None:
    """Raise WireError unless the stream is the one that was answered."""
    if start.call_sid != expected.call.call_id or start.account_sid != expected.account.sid:
        raise WireError("the stream is not the call that this token was made for")
    if start.format != MULAW_8K and not expected.account.loopback:
        raise WireError("this line carries audio/x-mulaw at 8000 Hz only")


def _take_outcome(waited: asyncio.Future[Any]) -> None:
    """Nobody waits for this any more; a broken pipe is told by the reading side."""
    if not waited.cancelled():
        waited.exception()


def _twiml(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/xml")
