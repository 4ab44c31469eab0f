"""A stage on loopback for vendors that are played: one server, several vendors' routes, strict scripts, and faults.

It owns the listening port, whose turn it is, and that nothing unexpected goes unseen; it refuses to know any vendor.

A vendor is played in one of two ways. *Scripted*: `stage.script(path, Script(...), ...)` takes one script for every socket,
`stage.exchanges(method, path, Exchange(...), ...)` one exchange for every request; anything else breaks the script.
*Living*: `stage.socket(path, actor)` and `stage.route(method, path, handler)` run code that answers as the vendor would.
Both meet the faults that wait for them in `stage.faults`. Leaving the stage raises ScriptBroken unless everything was as
written and used up.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Self

import anyio
from aiohttp import web

from patter.loopback.stage_faults import CutAfter, Fault, Faults, Garbled, HalfOpen, Hangup, Late, Refuse, Silent
from patter.loopback.stage_http import Answer, Exchange, Visit, wrong
from patter.loopback.stage_peer import ClientLeft, Peer
from patter.loopback.stage_script import Script, ScriptBroken, play

GRACE_S = 2.0  # for scripts whose client has just said its last word
BODY_LIMIT = 64 << 20
SOCKET = "SOCKET"  # stands where other routes have their method

Actor = Callable[[Peer], Awaitable[None]]
"""Plays one socket: returns when it is over (the socket is closed then). ClientLeft may pass through it."""
Handler = Callable[[Visit], Awaitable[web.StreamResponse]]
"""Answers one request."""
Door = Callable[[web.Request], Refuse | None]
"""Looks at an upgrade before it is granted: a refusal, or None to let it in."""
When = Callable[[web.Request], bool]
"""Whether a route is for this request."""


@dataclass(slots=True)
class _Route:
    path: str
    pattern: re.Pattern[str]
    actor: Actor | None = None
    handler: Handler | None = None
    protocols: Sequence[str] = ()
    door: Door | None = None
    when: When | None = None


class Stage:
    """The server; use it as an async context manager. Routes may be added before and after it is up.

    A path may have placeholders (`/v1/voices/{voice_id}`, given to the vendor as `match`). `tls` makes the stage speak https
    and wss with that server-side context. `record=False` keeps nothing of what came, for long runs."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, record: bool = True) -> None:
        self.faults = Faults()
        self.peers: list[Peer] = []
        """Every socket that reached a vendor, in order."""
        self.visits: list[Visit] = []
        """Every request that reached a vendor, in order."""
        self.port = 0
        self._tls, self._record = tls, record
        self._problems: list[str] = []
        self._routes: dict[str, list[_Route]] = {}
        self._scripts: dict[str, list[Script]] = {}
        self._exchanges: dict[tuple[str, str], list[Exchange]] = {}
        self._expected: list[Callable[[], str]] = []
        self._when: When | None = None
        self._watchers: list[Callable[[web.Request], None]] = []
        self._playing: set[Peer] = set()
        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_route("*", "/{path:.*}", self._until_gone)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.2)
        self._site: web.TCPSite | None = None

    @property
    def http(self) -> str:
        """The root for requests, without a closing slash."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        """The root for sockets, without a closing slash."""
        return f"ws{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    @property
    def open_sockets(self) -> int:
        """How many sockets are open at this moment."""
        return len(self._playing)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await self.open_door()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with anyio.move_on_after(GRACE_S):
                while any(peer.unplayed for peer in self._playing):  # noqa: ASYNC110 -- each ends in its own way
                    await anyio.sleep(0.005)
        for peer in self._playing:
            peer.dismissed = True
        self.cut_all()
        await self._runner.cleanup()
        self._problems += [*self.faults.unused(), *filter(None, (left() for left in self._expected))]
        for path, scripts in self._scripts.items():
            if scripts:
                self._problems.append(f"{path}: {len(scripts)} expected sockets were never opened")
        for (method, path), exchanges in self._exchanges.items():
            if exchanges:
                self._problems.append(f"{method} {path}: {len(exchanges)} expected requests never came")
        if self._problems and kind is None:
            raise ScriptBroken("; ".join(self._problems))

    # ------------------------------------------------------------------------------------------------- the programme

    def script(self, path: str, *scripts: Script, protocols: Sequence[str] = ()) -> None:
        """The next sockets at `path` are played by these scripts, one each; more sockets break the script."""
        queue = self._scripts.setdefault(path, [])
        if not self._has(SOCKET, path):

            async def actor(peer: Peer) -> None:
                if not queue:
                    self.problem(f"{path}: a socket was opened that no script is for")
                    return await peer.close(1008, "not in the script")
                return await play(queue.pop(0), peer, self.problem)

            self.socket(path, actor, protocols=protocols)
        queue.extend(scripts)

    def exchanges(self, method: str, path: str, *exchanges: Exchange) -> None:
        """The next requests of `path` are these; more requests break the script."""
        queue = self._exchanges.setdefault((method, path), [])
        if not self._has(method, path):

            async def handler(visit: Visit) -> web.StreamResponse:
                exchange = queue.pop(0) if queue else None
                off = "no exchange is left for this request" if exchange is None else wrong(exchange, visit)
                if exchange is None or off:
                    self.problem(f"{method} {path}: {off}")
                    return web.Response(status=418, text=off)
                return await visit.answer(exchange.answer)

            self.route(method, path, handler)
        queue.extend(exchanges)

    def socket(self, path: str, actor: Actor, *, protocols: Sequence[str] = (), door: Door | None = None) -> None:
        """Every socket at `path` that `door` lets in is played by `actor`. `protocols`: those the vendor chooses from."""
        route = _Route(path, _pattern(path), actor=actor, protocols=protocols, door=door, when=self._when)
        self._routes.setdefault(SOCKET, []).append(route)

    def route(self, method: str, path: str, handler: Handler) -> None:
        """Every request of `path` is answered by `handler`."""
        route = _Route(path, _pattern(path), handler=handler, when=self._when)
        self._routes.setdefault(method, []).append(route)

    @contextmanager
    def only(self, when: When) -> Iterator[None]:
        """Routes that are added inside serve only requests that `when` says yes to: for vendors that share a path."""
        before, self._when = self._when, when
        try:
            yield
        finally:
            self._when = before

    def expects(self, left: Callable[[], str]) -> None:
        """Ask `left`, when the stage is left, what was expected and did not come ("" = nothing)."""
        self._expected.append(left)

    def watch(self, look: Callable[[web.Request], None]) -> None:
        """Let `look` see every request and upgrade that comes, before anything is done with it."""
        self._watchers.append(look)

    def problem(self, text: str) -> None:
        """Something is not as it should be: leaving the stage will say so."""
        self._problems.append(text)

    # ------------------------------------------------------------------------------------------- the building's faults

    async def close_door(self) -> None:
        """Refuse new connections (TCP); open ones go on."""
        if self._site is not None:
            await self._site.stop()
            self._site = None

    async def open_door(self) -> None:
        """Take connections, on the same port as before."""
        if self._site is None:
            self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls, reuse_address=True)
            await self._site.start()
            self.port = self._runner.addresses[0][1]

    def cut_all(self) -> None:
        """Break every connection at once."""
        for connection in self._runner.server.connections if self._runner.server is not None else ():
            if connection.transport is not None:
                connection.transport.abort()

    # ---------------------------------------------------------------------------------------------------- one visitor

    def _has(self, method: str, path: str) -> bool:
        return any(route.path == path for route in self._routes.get(method, ()))

    async def _arrive(self, request: web.Request) -> web.StreamResponse:
        for look in self._watchers:
            look(request)
        upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
        method = SOCKET if upgrade else request.method
        for route in self._routes.get(method, ()):
            found = route.pattern.fullmatch(request.path)
            if found and (route.when is None or route.when(request)):
                break
        else:
            self.problem(f"{method} {request.path} is no route of this stage")
            return web.Response(status=418, text="no such route")
        fault = self.faults.take(route.path)
        if isinstance(fault, Late):
            await anyio.sleep(fault.by_s)
        elif fault is not None and not isinstance(fault, CutAfter):
            return await self._fail(request, fault, route)
        refusal = route.door(request) if route.door is not None else None
        if refusal is not None:
            return await self._fail(request, refusal, route)
        cut = fault if isinstance(fault, CutAfter) else None
        match = found.groupdict()
        return await (self._play(request, route, cut, match) if upgrade else self._serve(request, route, cut, match))

    async def _until_gone(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._arrive(request)
        except ConnectionError:  # cut on purpose: the server cancels this as soon as the connection is gone
            await anyio.sleep_forever()
            raise

    async def _serve(
        self, request: web.Request, route: _Route, cut: CutAfter | None, match: dict[str, str]
    ) -> web.StreamResponse:
        assert route.handler is not None
        visit = Visit(request, match, cut.bytes if cut else None)
        await visit.read()
        if self._record:
            self.visits.append(visit)
        try:
            return await visit.whole(await route.handler(visit))
        except (ConnectionError, web.HTTPException):
            raise
        except Exception as error:
            self.problem(f"{request.method} {request.path}: {error!r}")
            return web.Response(status=418, text=repr(error))

    async def _play(
        self, request: web.Request, route: _Route, cut: CutAfter | None, match: dict[str, str]
    ) -> web.StreamResponse:
        assert route.actor is not None
        ws = web.WebSocketResponse(protocols=route.protocols, max_msg_size=BODY_LIMIT, compress=False)
        await ws.prepare(request)
        peer = Peer(request, ws, match, record=self._record)
        if cut is not None:
            peer.cut_after_sent, peer.cut_after_received = cut.sent, cut.received
        self._playing.add(peer)
        if self._record:
            self.peers.append(peer)
        try:
            await route.actor(peer)
        except (ClientLeft, ConnectionError):
            pass
        except Exception as error:
            self.problem(f"{request.path}: {error!r}")
        finally:
            self._playing.discard(peer)
        await peer.close()
        return ws

    async def _fail(self, request: web.Request, fault: Fault, route: _Route) -> web.StreamResponse:
        if isinstance(fault, Refuse):
            headers = dict(fault.headers) | ({"Retry-After": fault.retry_after} if fault.retry_after else {})
            return await Visit(request).answer(Answer(fault.status, headers, fault.body))
        if isinstance(fault, Silent):
            await anyio.sleep_forever()
        if isinstance(fault, Hangup):
            cut = Visit(request)
            cut.hang_up()
        if route.actor is None:
            return await Visit(request).fail(fault)
        ws = web.WebSocketResponse(protocols=route.protocols, autoping=False)
        await ws.prepare(request)
        peer = Peer(request, ws)
        if isinstance(fault, HalfOpen):
            peer.freeze()
            await anyio.sleep_forever()
        if isinstance(fault, Garbled):
            await peer.garbage(frame=fault.frame)
            async for _ in peer:
                pass
        return ws


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", path)
    return re.compile(
        "".join(re.escape(part) if at % 2 == 0 else f"(?P<{part}>[^/]+)" for at, part in enumerate(parts))
    )


class LoopbackVendor:
    """A played vendor that stands on a stage of its own (`async with vendor:`), or with others on one (`mount`).

    A vendor's class overrides `program`, which adds its routes to `self.stage`."""

    def __init__(self) -> None:
        self.stage = Stage()

    def mount(self, stage: Stage) -> Self:
        """Stand on this stage, before or after it is up."""
        self.stage = stage
        self.program()
        return self

    def program(self) -> None:
        """Add the routes."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self.program()
        await self.stage.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        await self.stage.__aexit__(kind, *rest)


def closed_port() -> int:
    """A port of this machine where nothing listens: connections are refused."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
        return port


@asynccontextmanager
async def deaf_port() -> AsyncIterator[int]:
    """A port that takes connections (TCP) and never says a byte, neither HTTP nor TLS."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(64)  # the system shakes hands; nobody ever accepts
        yield made.getsockname()[1]
