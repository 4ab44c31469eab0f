"""The public door of one phone line: a carrier's webhooks and media sockets on a port of their own, and the dashboard if it
is given one.

It owns the port, the tunnel, the number's webhook and the graceful end of the line's calls; it refuses to know which carrier
it is and how a call is put together. Without a dashboard there is no API on this port: whoever reaches it from outside meets
only routes whose handlers demand the carrier's proofs.
"""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import anyio
from aiohttp import web

from patter.audio.format import AudioFormat
from patter.builders import Carrier, check_number
from patter.exceptions import PatterConnectionError, PatterError, ended_context
from patter.server.answers import BODY_LIMIT, sentences
from patter.server.api_port import ApiPort
from patter.server.crowd import CROWD, Crowd
from patter.server.dashboard import Dashboard
from patter.server.desk import Desk, LiveCall, Route
from patter.server.listener import guarded
from patter.server.number_setup import NumberSetup
from patter.server.orders import Order
from patter.server.tunnel import Tunnel, open_tunnel

log = logging.getLogger(__name__)

DRAIN_S = 30.0  # how long calls that are up may still take once nobody new is let in
GOODBYE_S = 10.0  # how long the goodbye may take after that
LAST_WORD_S = 1.0  # how long the carrier's last webhooks of a call may take
PUT_BACK_S = 10.0  # how long the carrier may take to point the number back
GOODBYE = "I am sorry, I have to end this call now. Please call again a little later. Goodbye."
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True)
class LineSettings:
    """What one phone line is to be. `host` is this machine's public name, as the carrier dials it; empty with `tunnel`.

    `take_number` points the number's webhook here, `restore` puts the old one back at the end. `port` is ours on loopback
    (0: any free one); `voicemail` is left on machines unless a call has its own."""

    carrier: Carrier
    number: str
    host: str = ""
    tunnel: bool = False
    port: int = 0
    recording: bool = False
    take_number: bool = True
    restore: bool = False
    voicemail: str = ""

    def check(self) -> None:
        """Raise ValueError for what cannot work."""
        check_number(self.number, "number")
        if not self.host and not self.tunnel:
            raise ValueError(
                'the public host is missing: give this machine\'s name, such as "voice.example.com", or a tunnel'
            )


class CarrierRoutes(Protocol):
    """The carrier's side of the door."""

    public: str

    @property
    def sound(self) -> AudioFormat:
        """What a call over this carrier is spoken in."""

    def routes(self) -> list[web.RouteDef]: ...

    async def dial(self, order: Order) -> str:
        """Place a call; returns its id once the carrier has accepted it. Raises PatterError."""

    async def cancel(self, call_id: str) -> None:
        """Give up an outbound call that nobody has answered; nothing if there is no such call."""

    @property
    def on_their_way(self) -> list[str]:
        """The ids of the calls that were placed and are neither up nor over."""

    def rings(self, call_id: str) -> bool:
        """Whether a call that was placed is still on its way."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A carrier, ready for a door: its routes, and how its number is pointed to us and back."""

    routes: CarrierRoutes
    point: Callable[[str], Awaitable[NumberSetup]] = field(repr=False)
    put_back: Callable[[NumberSetup], Awaitable[None]] = field(repr=False)


class FrontDoor:
    """`async with FrontDoor(…) as door:` answers calls on `listener`, which becomes its own, until it is left."""

    def __init__(
        self,
        settings: LineSettings,
        listener: socket.socket,
        joined: Joined,
        desk: Desk,
        dashboard: Dashboard | None = None,
    ) -> None:
        self.settings = settings
        self.public_url = public_address(settings.host) if settings.host else ""
        self.notes: tuple[str, ...] = ()
        self.voice_url_before = ""
        """The host that the number's calls went to before; the rest of that address may be a secret."""
        self.identity = secrets.token_hex(8)
        """Tells from outside whether a public address leads to this very door."""
        self.tunnel: Tunnel | None = None
        self._listener = listener
        self._joined = joined
        self._desk = desk
        self._dashboard = dashboard
        self._numbers: dict[str, Route] = {}
        self._open = False
        self._hurry = anyio.Event()
        self._stack = AsyncExitStack()

    @property
    def port(self) -> int:
        """Where it listens on loopback."""
        port: int = self._listener.getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        settings = self.settings
        async with AsyncExitStack() as stack:
            stack.callback(self._listener.close)
            app = web.Application(middlewares=[sentences], client_max_size=BODY_LIMIT)
            crowd = app[CROWD] = Crowd()
            app.add_routes([web.get("/health", self._health), *self._joined.routes.routes()])
            api = await self._show(app, stack)
            await stack.enter_async_context(crowd.served(guarded(app), self._listener))
            if api is not None:
                stack.callback(api.readers.close)
            if settings.tunnel:
                tunnel = self.tunnel = await stack.enter_async_context(open_tunnel(self.port))
                self.public_url = public_address(tunnel.host)
            self._joined.routes.public = self.public_url
            if self._dashboard is not None:
                self._dashboard.reached_at(self.public_url)
            if settings.take_number:
                await self._take_number(stack)
            stack.callback(self._forget_numbers)
            self._open = True
            self._stack = stack.pop_all()
        log.info("the phone line is open", extra={"public_url": self.public_url})
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._open = False
        for live in self._calls():  # one may have come up while the others said goodbye
            await live.session.hang_up("engine_stopped", "The phone line was closed.")
        with ended_context():
            await self._stack.__aexit__(*error)

    async def _show(self, app: web.Application, stack: AsyncExitStack) -> ApiPort | None:
        """Put the dashboard, if there is to be one, on this port."""
        if self._dashboard is None:
            return None
        shown = self._dashboard.on(app, self.port, self.identity, self.give_up, tunnel=self.settings.tunnel)
        return await stack.enter_async_context(shown)

    async def _take_number(self, stack: AsyncExitStack) -> None:
        setup = await self._joined.point(self.public_url)
        self.notes, self.voice_url_before = setup.notes, setup.previous_host
        for note in setup.notes:
            log.warning(note)
        if self.settings.restore:
            stack.push_async_callback(self._put_back, setup)

    async def _put_back(self, setup: NumberSetup) -> None:
        try:
            with anyio.CancelScope(shield=True), anyio.move_on_after(PUT_BACK_S):
                await self._joined.put_back(setup)
        except PatterError as problem:
            log.error("the number's old webhook could not be put back: %s", problem)

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "door": self.identity})

    # ------------------------------------------------------------------ calls

    def answer(self, number: str, route: Route) -> None:
        """From now on calls to `number` (E.164) go to `route`. Raises ValueError for another form of number."""
        check_number(number, "number")
        self._numbers[number] = route
        self._desk.lead(number, route)

    async def dial(self, order: Order) -> str:
        """Place a call; returns its id once the carrier has accepted it. Raises PatterError."""
        if not self._open:
            raise PatterConnectionError("The phone line is closing and places no more calls.")
        if sentence := self._desk.refusal(file=order.file):
            raise PatterConnectionError(sentence)
        await self._desk.vouch(order.file.agent)
        self._desk.foresee(order, order.file.agent, self._joined.routes.sound)
        call_id = await self._joined.routes.dial(order)
        if not self._open:
            await self._joined.routes.cancel(call_id)
            raise PatterConnectionError("The phone line was closed while the call was placed: it was given up.")
        return call_id

    async def give_up(self, call_id: str) -> bool:
        """Give up a call that rings. False if no call of that id does. Raises PatterError."""
        if not self._joined.routes.rings(call_id):
            return False
        await self._joined.routes.cancel(call_id)
        return True

    def _calls(self) -> list[LiveCall]:
        return self._desk.calls_of(self.settings.carrier.name)

    # ------------------------------------------------------------------ the end

    async def close(self, drain_s: float = DRAIN_S) -> None:
        """Let no new call in and return when those that are up are over.

        They get `drain_s` to finish by themselves, then a goodbye, and are hung up at last."""
        self._open = False
        self._forget_numbers()
        ringing = self._joined.routes.on_their_way
        busy = bool(ringing)
        with anyio.move_on_after(GOODBYE_S):
            async with anyio.create_task_group() as tasks:
                for call_id in ringing:
                    tasks.start_soon(self._cancel, call_id)
        async with anyio.create_task_group() as tasks:
            tasks.cancel_scope.deadline = anyio.current_time() + drain_s
            tasks.start_soon(self._cancel_when_hurried, tasks.cancel_scope)
            await self._all_over()
            tasks.cancel_scope.cancel()
        for live in self._calls():
            try:
                await live.session.say_goodbye(GOODBYE, "engine_stopped", "The phone line was closed.")
            except Exception:  # one call's trouble is not the others'
                log.exception("a goodbye could not be said", extra={"call_id": live.session.call.call_id})
        with anyio.move_on_after(GOODBYE_S):
            await self._all_over()
        for live in self._calls():
            await live.session.hang_up("engine_stopped", "The phone line was closed.")
        with anyio.move_on_after(GOODBYE_S):
            await self._all_over()
        if busy or self._desk.quiet_s(self.settings.carrier.name) < LAST_WORD_S:
            await anyio.sleep(LAST_WORD_S)  # the carrier still tells how they ended

    async def _cancel(self, call_id: str) -> None:
        try:
            await self._joined.routes.cancel(call_id)
        except PatterError as problem:
            log.warning("a ringing call could not be given up: %s", problem, extra={"call_id": call_id})

    def stop_waiting(self) -> None:
        """Let `close` come to its goodbyes at once."""
        self._hurry.set()

    async def _cancel_when_hurried(self, waiting: anyio.CancelScope) -> None:
        await self._hurry.wait()
        waiting.cancel()

    async def way_in_lost(self) -> None:
        """Return when callers can reach the door no more (its tunnel has broken)."""
        if self.tunnel is None:
            await anyio.sleep_forever()
        else:
            await self.tunnel.lost.wait()

    async def _all_over(self) -> None:
        while calls := self._calls():
            await calls[0].over.wait()

    def _forget_numbers(self) -> None:
        for number in self._numbers:
            self._desk.forget(number)


def public_address(host: str) -> str:
    """The address that requests are signed for: TLS ends in front of us, except on this very machine."""
    scheme = "http" if host.rpartition(":")[0] in _LOOPBACK or host in _LOOPBACK else "https"
    return f"{scheme}://{host}"
