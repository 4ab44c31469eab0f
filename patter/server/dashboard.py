"""The API and its page on the port of a phone line: calls, analytics, exports, events, control and listening.

It owns what of the API stands there and who gets in without a token; it refuses to know carriers. Agents' files, the line
itself and the end of the program are the program's own there, and have no entries.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from patter.bus import Bus
from patter.clock import Clock
from patter.server.answers import Handler
from patter.server.api.engine_api import EngineApi, Identity
from patter.server.api.table import CallParts, call_endpoints
from patter.server.api_port import ApiPort
from patter.server.auth import LOOPBACK, Door, Gate, passed_on
from patter.server.desk import Desk
from patter.server.kept import Kept
from patter.server.tokens import own_token
from patter.server.version import installed_version

log = logging.getLogger(__name__)

PASSING = ("/health", "/webhooks/", "/ws/")
"""What no token is for: whether somebody is there, and the carriers' routes, which check their own proofs."""

HINT = "it is the dashboard_token of serve()"
SHORT = 16  # characters: a token below this can be guessed
CLOSED = (
    "the dashboard is closed: calls come in through a proxy that hides where requests are from, so everybody in the world "
    "would get in without a token. Give serve() a dashboard_token"
)


class Dashboard:
    """What `serve(dashboard=True)` adds to its port. Without a `token`, only this machine's user gets in."""

    def __init__(self, kept: Kept, bus: Bus, clock: Clock, desk: Desk, token: str = "") -> None:
        self._kept, self._bus, self._clock, self._desk = kept, bus, clock, desk
        self._token = token
        self._door: Door

    @asynccontextmanager
    async def on(
        self,
        app: web.Application,
        port: int,
        identity: str,
        give_up: Callable[[str], Awaitable[bool]],
        *,
        tunnel: bool,
    ) -> AsyncIterator[ApiPort]:
        """Put the entries into the application of the line."""
        door = self._door = Door(port, passing=PASSING, lenient=not self._token and not tunnel, hint=HINT)
        own = own_token(self._token, "dashboard", chosen=True) if self._token else None
        if own is not None and len(self._token) < SHORT:
            log.warning("the dashboard_token is short: whoever guesses it may end and place calls")
        here = Identity(identity, installed_version(), os.getpid(), self._clock.now(), Path())
        async with ApiPort(self._kept.home, door, own, self._bus, self._clock, identity) as api:
            engine = EngineApi(here, self._desk, dict, lambda: api.readers.readers, {})
            parts = CallParts(self._kept, self._desk, api, give_up, here.version)
            app.middlewares.append(self._watch_for_proxies(api.gate))
            api.fit(app, [engine.handshake(), *call_endpoints(parts)])
            yield api

    def reached_at(self, url: str) -> None:
        """From now on callers' carriers, and browsers, come by this public address."""
        scheme, _, host = url.partition("://")
        self._door.open_to(host, https=scheme == "https")

    def _watch_for_proxies(self, gate: Gate) -> Middleware:
        """A proxy that puts its own Host in place of the public one makes the whole world look like this machine, and one that
        leaves no trace lets whoever wants look so: Host is the visitor's word. The first webhook that has proved to be a
        carrier's shows it."""

        @web.middleware
        async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
            answer = await handler(request)
            door = gate.door
            if (
                door.lenient
                and request.path.startswith("/webhooks/")
                and answer.status < 400
                and _name(door.public) not in ("", *LOOPBACK)
                and (_name(request.headers.get(hdrs.HOST, "")) in LOOPBACK or not passed_on(request))
            ):
                door.lenient = False
                log.error(CLOSED)
            return answer

        return watch


def _name(host: str) -> str:
    """The host without its port."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()
