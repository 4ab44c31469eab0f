"""Telnyx' way in and out: one signed webhook for everything, the media socket with its one-time token, calls we place.

It owns what comes over HTTP and when it is believed; it refuses to know what a webhook means and what a call is about.
"""

from __future__ import annotations

import hmac
import logging
from dataclasses import replace

from aiohttp import web

from patter.audio.format import AudioFormat
from patter.builders import Carrier
from patter.bus import Bus
from patter.clock import Clock
from patter.exceptions import PatterError, WireError
from patter.providers.telnyx_rest import TelnyxRest
from patter.server.answers import Refused
from patter.server.arrivals import Arrival
from patter.server.desk import Desk
from patter.server.media_socket import MediaSocket, accept, carry, check_upgrade, first, refuse
from patter.server.orders import Order
from patter.server.straight_socket import StraightSocket
from patter.server.telnyx_calls import TelnyxCalls
from patter.server.telnyx_gate import MEDIA as MEDIA
from patter.server.telnyx_gate import VOICE as VOICE
from patter.server.telnyx_gate import Gate
from patter.server.telnyx_legs import SOUNDS, Leg
from patter.server.twilio_routes import Files
from patter.transports.media_stream import StreamTransport
from patter.wire.stream import Connected, Unknown
from patter.wire.telnyx import AUTH_TOKEN, CarrierMessage, Start, TelnyxStream, read

log = logging.getLogger(__name__)


class TelnyxRoutes:
    """The carrier's routes. `public` is the address the carrier knows us by, e.g. "https://voice.example.com".

    Raises ValueError for a carrier without its public key, or with a codec that is not one of PCMU, PCMA and L16."""

    def __init__(
        self,
        desk: Desk,
        files: Files,
        clock: Clock,
        carrier: Carrier,
        public: str,
        *,
        bus: Bus,
        rest: TelnyxRest,
        record: bool = False,
    ) -> None:
        self._gate = Gate(carrier.public_key, public, clock)
        self._calls = TelnyxCalls(desk, files, clock, carrier, self._gate, bus, rest)
        self._desk = desk
        self._clock = clock
        self._plays = SOUNDS[carrier.codec]
        self._record = record

    @property
    def public(self) -> str:
        """The address the carrier knows us by; may change, once a tunnel has opened."""
        return self._gate.public

    @public.setter
    def public(self, address: str) -> None:
        self._gate.public = address

    @property
    def sound(self) -> AudioFormat:
        """What Telnyx is asked to speak."""
        return self._plays

    def routes(self) -> list[web.RouteDef]:
        """The routes, for the application."""
        return [web.post(VOICE, self.voice), web.get(MEDIA, self.media)]

    # ------------------------------------------------------------------ calls we place

    @property
    def ringing(self) -> int:
        """How many calls we placed are on their way."""
        return len(self._calls.ringing)

    @property
    def on_their_way(self) -> list[str]:
        """The ids of the calls that we placed and that are neither up nor over."""
        return self._calls.ringing.ids

    def rings(self, call_id: str) -> bool:
        """Whether a call that we placed is on its way."""
        return self._calls.ringing.find(call_id) is not None

    async def dial(self, order: Order) -> str:
        """Place a call; see `TelnyxCalls.dial`."""
        return await self._calls.dial(order)

    async def cancel(self, call_id: str) -> None:
        """Give up a call that is not up yet; see `TelnyxCalls.cancel`."""
        await self._calls.cancel(call_id)

    # ------------------------------------------------------------------ webhooks

    async def voice(self, request: web.Request) -> web.Response:
        """Something happened to a call. Whatever it is, the carrier gets its 200 before anything is done about it."""
        webhook = await self._gate.webhook(request)
        if webhook is not None:
            self._calls.told(webhook)
        return web.Response()

    # ------------------------------------------------------------------ the media socket

    async def media(self, request: web.Request) -> web.StreamResponse:
        """The carrier opens the call's sound."""
        check_upgrade(request)
        arrival = self._calls.arrivals.take(request.match_info["token"])
        leg = self._calls.legs.find(arrival.call.call_id)
        if leg is None or not _proves(request.headers.get(AUTH_TOKEN, ""), leg):
            raise Refused(403, f"{AUTH_TOKEN} does not match: the media stream is not from Telnyx.")
        socket = await accept(request)
        try:
            start = await first(socket, lambda text: _checked(read(text), leg), Start, (Connected, Unknown))
            if not self._calls.came_up(leg):
                raise WireError("the call is over")
        except WireError as problem:
            log.warning("a media stream was refused", extra={"call_id": leg.call_id, "why": str(problem)})
            self._calls.refused(leg, problem)
            await refuse(socket, str(problem))
            return socket
        try:
            await self._carry(socket, request, arrival, leg, start)
        finally:
            self._calls.went_down(leg)
        return socket

    async def _carry(
        self, socket: StraightSocket, request: web.Request, arrival: Arrival, leg: Leg, start: Start
    ) -> None:
        wire = MediaSocket(socket, request)
        transport = StreamTransport(leg.call_id, TelnyxStream(start, self._plays), wire, self._clock, arrival.control)
        if not self._begin(arrival, start, transport):
            await transport.hang_up()
            await refuse(socket, "the call could not be put together", 1011)
            return
        self._calls.lines.up(leg.call_id, transport)
        if self._record:
            self._desk.spawn(self._calls.record, leg)
        await carry(socket, wire, transport)

    def _begin(self, arrival: Arrival, start: Start, transport: StreamTransport) -> bool:
        """Start the call. False, with a call in history that says why, if it cannot be put together."""
        call = replace(arrival.call, custom_params=arrival.call.custom_params | start.parameters)
        try:
            self._desk.start(call, arrival.file, transport, voicemail=arrival.voicemail)
        except (PatterError, ValueError, TypeError, Refused) as problem:
            log.warning(
                "a call could not be put together", extra={"call_id": call.call_id, "why": type(problem).__name__}
            )
            self._desk.failed(call, arrival.file, problem)
            return False
        return True


def _proves(given: str, leg: Leg) -> bool:
    """Whether the stream was asked for by us, as far as it says so: the token in its path proves it already."""
    return not given or hmac.compare_digest(given.encode(errors="replace"), leg.stream_secret.encode())


def _checked(said: CarrierMessage, leg: Leg) -> CarrierMessage:
    """What the stream said first. Raises WireError if it is not the stream of this call."""
    if isinstance(said, Connected) and not _proves(said.auth_token, leg):
        raise WireError("the stream's token is not the one it was asked for with")
    if isinstance(said, Start) and said.call_control_id != leg.handle:
        raise WireError("the stream is not the call that this token was made for")
    return said
