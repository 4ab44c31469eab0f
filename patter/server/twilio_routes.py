"""Twilio's way in: the signed voice webhook, the status callback and the media socket with its one-time token.

It owns the proofs that a carrier must give before a call exists; it refuses to know what the call is about. The loopback
carrier of a rehearsal comes through here like any other.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field, replace
from typing import Protocol
from urllib.parse import parse_qsl

from aiohttp import web

from patter.agentfile import AgentFile
from patter.audio.format import MULAW_8K
from patter.clock import Clock
from patter.exceptions import PatterError, WireError
from patter.ports import CallInfo
from patter.server.answers import Refused, raw_body
from patter.server.arrivals import Arrival, Arrivals
from patter.server.desk import Desk, Route
from patter.server.media_socket import MediaSocket, accept, carry, check_upgrade, first, refuse
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
PARTY_LIMIT = 255  # characters of a caller's address
SEEN = 100_000  # calls whose webhook is known to be used up
SEEN_S = 86_400.0  # a call lasts four hours at most; a replay of yesterday's finds its token void all the same

_CALL_SID = re.compile(r"CA[0-9a-f]{32}")
_OVER = ("completed", "busy", "failed", "no-answer", "canceled")


@dataclass(frozen=True, slots=True)
class Account:
    """A carrier account that may call in. `loopback`: the dialler of rehearsals on this machine."""

    sid: str
    auth_token: str = field(repr=False)
    loopback: bool = False


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
        self._arrivals = Arrivals(clock)
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
        file = self._files.current(route)
        sentence = self._desk.refusal()
        if sentence or self._arrivals.full or file is None:
            return _twiml(say_and_hang_up(sentence or "This number cannot be answered at the moment."))
        call = CallInfo(
            call_sid,
            caller=_party(form.get("From", "")),
            callee=number,
            direction="test" if account.loopback else "inbound",
            telephony="loopback" if account.loopback else "twilio",
        )
        return self._join(Arrival(call, file, _handle(account.sid, call_sid), loopback=account.loopback))

    def _join(self, arrival: Arrival) -> web.Response:
        token = self._arrivals.expect(arrival)
        return _twiml(connect_stream("ws" + self._public.removeprefix("http") + MEDIA.format(token=token)))

    async def status(self, request: web.Request) -> web.Response:
        """The carrier tells how a call goes on: one that is over may not linger here."""
        form, _ = await self._signed_form(request)
        call_sid = form.get("CallSid", "")
        if form.get("CallStatus") in _OVER:
            self._arrivals.forget(call_sid)
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
        check_upgrade(request)
        arrival = self._arrivals.take(request.match_info["token"])
        socket = await accept(request)
        try:
            start = await first(socket, read, Start, (Connected, Unknown))
            _check(start, arrival)
        except WireError as problem:
            log.warning("a media stream was refused", extra={"call_id": arrival.call.call_id, "why": str(problem)})
            await refuse(socket, str(problem))
            return socket
        wire = MediaSocket(socket, request)
        transport = TwilioTransport(start, wire, self._clock, arrival.control)
        if self._begin(arrival, start, transport):
            await carry(socket, wire, transport)
        else:
            await transport.aclose()
            await refuse(socket, "the call could not be put together", 1011)
        return socket

    def _begin(self, arrival: Arrival, start: Start, transport: TwilioTransport) -> bool:
        """Start the call. False, with a call in history that says why, if it cannot be put together."""
        call = replace(arrival.call, custom_params=arrival.call.custom_params | start.parameters)
        self._remember(call.call_id)
        try:
            self._desk.start(call, arrival.file, transport, voicemail=arrival.voicemail)
        except (PatterError, ValueError, TypeError, Refused) as problem:
            log.warning(
                "a call could not be put together", extra={"call_id": call.call_id, "why": type(problem).__name__}
            )
            self._desk.failed(call, arrival.file, problem)
            return False
        return True

    def _remember(self, call_sid: str) -> None:
        """This call has been up: its webhook may not come again."""
        now = self._clock.now()
        while self._seen and (len(self._seen) >= SEEN or next(iter(self._seen.values())) < now - SEEN_S):
            del self._seen[next(iter(self._seen))]
        self._seen[call_sid] = now


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
