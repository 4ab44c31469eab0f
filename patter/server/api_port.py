"""What a port needs so that the API and its page can be on it: the gate, the audit, who follows the events, what browsers are
told.

It owns how these are fitted to an application; it refuses to know which entries there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self
from weakref import WeakKeyDictionary

import anyio.to_thread
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from aiohttp.web_protocol import RequestHandler

from patter.bus import Bus
from patter.clock import Clock
from patter.exceptions import ended_context
from patter.server.answers import Handler, Refused
from patter.server.audit import Audit
from patter.server.auth import NOBODY, Door, Gate, Visitor, visitor_of
from patter.server.crowd import CROWD
from patter.server.endpoint import Endpoint, endpoint_of, mount
from patter.server.event_readers import EventReaders
from patter.server.limits import STRANGERS_LINES, Buckets
from patter.server.sessions import Sessions
from patter.server.tokens import Token, Tokens

PROTOCOL = 1
MIN_PROTOCOL = 1
"""The oldest protocol that is still served."""
SPOKEN = "Patter-Protocol"
"""The header by which a client says which protocol it speaks."""

TOLD = web.RequestKey("told", bool)
"""Set on a request that is told in the audit although its entry only reads."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-store",
}


class ApiPort:
    """`async with ApiPort(…) as port:` around the application that it is fitted to."""

    def __init__(self, home: Path, door: Door, own: Token | None, bus: Bus, clock: Clock, engine_id: str) -> None:
        self.engine_id = engine_id
        self.clock = clock
        self.tokens = Tokens(home, own)
        self.sessions = Sessions(clock)
        self.gate = Gate(door, self.tokens, self.sessions, clock)
        self.audit = Audit(home)
        self._strangers = Buckets(STRANGERS_LINES, clock)
        self._untold = 0
        self.readers = EventReaders(bus, engine_id)
        self._staying: WeakKeyDictionary[web.StreamResponse, tuple[Visitor, RequestHandler]] = WeakKeyDictionary()
        self.tokens.removed = self._turn_out
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await anyio.to_thread.run_sync(self.tokens.load)
            await stack.enter_async_context(self.audit)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        with ended_context():
            return await self._stack.__aexit__(*error)

    def fit(self, app: web.Application, endpoints: Iterable[Endpoint]) -> None:
        """Put the entries into the application, behind the gate. `app` has the middleware `sentences` already."""
        app.middlewares.extend([_handshake, self.gate.middleware()])
        app.on_response_prepare.append(self._prepare)
        mount(app, endpoints)

    def _turn_out(self, token: str) -> None:
        """Whoever came in with the token of this name is out: signed off, and cut off from what they follow."""
        self.sessions.close_all_of(token)
        self._cut_off(lambda visitor: visitor.token == token)

    def sign_out(self, name: str) -> None:
        """End the sign-in of this id, and cut off what its browser follows."""
        if (session := self.sessions.find(name)) is not None:
            self.sessions.close(name)
            self._cut_off(lambda visitor: visitor.session is session)

    def _cut_off(self, meant: Callable[[Visitor], bool]) -> None:
        for visitor, connection in list(self._staying.values()):
            if meant(visitor) and connection.transport is not None:
                connection.transport.abort()

    async def _prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """What is done with every answer before its first byte."""
        passing = request.path.startswith((*self.gate.door.passing, *self.gate.door.carriers))
        if passing and endpoint_of(request) is None:
            return
        if visitor_of(request) != NOBODY and CROWD in request.app:
            request.app[CROWD].spare(request)
        if response.status == 101 or response.headers.get(hdrs.CONTENT_TYPE) == "text/event-stream":
            self._staying[response] = visitor_of(request), request.protocol
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        self._note(request, response.status)

    def _note(self, request: web.Request, status: int) -> None:
        """The line in the audit, for what is worth one."""
        endpoint = endpoint_of(request)
        if endpoint is None or status == 429 or not (endpoint.writes or endpoint.audited or request.get(TOLD)):
            return
        visitor = visitor_of(request)
        if visitor == NOBODY and self._strangers.take(""):
            self._untold += 1
            return
        line = {
            "at": round(self.clock.now(), 3),
            "who": visitor.name,
            "role": visitor.role,
            "from": request.remote or "",
            "method": request.method,
            "path": endpoint.path,
            "status": status,
        }
        if subject := next((request.match_info[key] for key in ("id", "name") if key in request.match_info), ""):
            line["of"] = subject[:256]
        if passed_on := request.headers.get("X-Forwarded-For", ""):
            line["forwarded_for"] = passed_on[:100]
        if self._untold:
            line["left_out"], self._untold = self._untold, 0
        self.audit.note(line)


def _middleware(check: Any) -> Middleware:
    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        check(request)
        return await handler(request)

    return checked


def _check_protocol(request: web.Request) -> None:
    spoken = request.headers.get(SPOKEN)
    if spoken is None:
        return
    if not (spoken.isascii() and spoken.isdigit() and MIN_PROTOCOL <= int(spoken[:9]) <= PROTOCOL):
        older = spoken.isascii() and spoken.isdigit() and int(spoken[:9]) < MIN_PROTOCOL
        fix = "update the client" if older else "update the engine, or take an older client"
        served = f"{MIN_PROTOCOL} to {PROTOCOL}" if MIN_PROTOCOL < PROTOCOL else str(PROTOCOL)
        raise Refused(
            426,
            f"This engine speaks protocol {served}, not {spoken[:20]}: {fix}.",
            {hdrs.UPGRADE: f"patter/{PROTOCOL}", SPOKEN: str(PROTOCOL)},
        )


_handshake = _middleware(_check_protocol)
