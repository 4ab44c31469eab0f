"""What is up while a `Patter` is on the phone: the line, its calls, the user's callbacks, journals and recordings.

It owns the order in which these start and end; it refuses to know carriers and how a call is put together.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, Unpack

import aiohttp
import anyio

from patter.agentfile import AgentFile
from patter.assembly import Workshop
from patter.builders import Keys
from patter.bus import Bus
from patter.callbacks import CallbackRunner, Callbacks
from patter.clock import Clock
from patter.events import CallEnded, CallPlaced, CallStarted, Event
from patter.exceptions import PatterConnectionError, PatterError, ended_context
from patter.exchange import join
from patter.models import Agent, Budget, Callback, Memory, OnMessage
from patter.observe.cost import Prices
from patter.ports import CallInfo, Transport
from patter.records import Records
from patter.server.dashboard import Dashboard
from patter.server.desk import CallSession, Casting, Desk, Route
from patter.server.front_door import FrontDoor, LineSettings
from patter.server.listener import PortInUse, listen
from patter.server.orders import Order
from patter.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a station is told. `home` is where journals and recordings go; `agents` are looked at before anybody is told
    that the line is open. `dashboard`: with the API and its page on the line's port, for who has the `dashboard_token`."""

    settings: LineSettings
    home: Path
    keys: Keys
    prices: Prices
    callbacks: Callbacks = field(default_factory=Callbacks)
    agents: tuple[Agent, ...] = ()
    budget: Budget = field(default=Budget())
    memory: Memory = field(default=Memory())
    dashboard: bool = False
    dashboard_token: str = field(default="", repr=False)


class Station:
    """`async with Station(plan) as station:` opens the line; leaving it ends every call and closes everything.

    Entering raises PatterConnectionError for a port that is taken and for a carrier that refuses, ValueError for settings
    and agents that cannot work, ProviderError for an agent whose provider refuses its key, model or voice."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._clock = Clock()
        self._bus = Bus(self._clock)
        self._files: dict[Route, AgentFile] = {}
        self._over: dict[str, anyio.Event] = {}
        self._callbacks: CallbackRunner
        self._workshop: Workshop
        self._records: Records
        self._door: FrontDoor
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        plan = self._plan
        plan.settings.check()
        async with AsyncExitStack() as stack:
            try:
                listener = listen(plan.settings.port)
            except PortInUse as error:
                raise PatterConnectionError(str(error)) from None
            stack.callback(listener.close)
            records = Records(
                plan.home, self._bus, self._clock, plan.prices, Settings(memory=plan.memory, budget=plan.budget),
                recording=plan.settings.recording,
            )  # fmt: skip
            self._records = await stack.enter_async_context(records)
            stack.callback(self._bus.add_sink(self._note))
            self._workshop = await stack.enter_async_context(Workshop(self._bus, self._clock, keys=plan.keys))
            for agent in plan.agents:
                self._workshop.check(agent)
                await self._workshop.vouch(agent)
            runner = CallbackRunner(self._bus, plan.callbacks, prices=plan.prices, keys=plan.keys)
            self._callbacks = await stack.enter_async_context(runner)
            http = await stack.enter_async_context(aiohttp.ClientSession())
            desk = Desk(self._bus, self._open_call, foresight=self._workshop, purse=records.purse)
            await stack.enter_async_context(desk)
            joined = join(plan.settings, desk, self, self._clock, self._bus, http)
            shown = None
            if plan.dashboard:
                shown = Dashboard(records.kept(), self._bus, self._clock, desk, plan.dashboard_token)
            door = FrontDoor(plan.settings, listener, joined, desk, shown)
            self._door = await stack.enter_async_context(door)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(tasks.cancel_scope.cancel)
            tasks.start_soon(self._warm)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        with ended_context():
            return await self._stack.__aexit__(*error)

    async def _warm(self) -> None:
        try:
            await self._workshop.warm()
        except Exception:
            log.exception("loading the engines failed: calls will try again")

    # ------------------------------------------------------------------ agents

    def answer(self, number: str, agent: Agent, on_message: OnMessage | None = None) -> None:
        """Let `agent` answer calls to `number`. Raises ValueError for a number that is not E.164."""
        self._workshop.check(agent)
        route = Route(Path(f"{agent.name or 'agent'}@{number}"), "phone")
        self._files[route] = AgentFile(route.agent, agent.name, agent, on_message, (), "", "")
        self._door.answer(number, route)

    def current(self, route: Route) -> AgentFile | None:
        """The agent of a route."""
        return self._files.get(route)

    # ------------------------------------------------------------------ calls

    def _open_call(self, call: CallInfo, agent: Agent, transport: Transport, **cast: Unpack[Casting]) -> CallSession:
        self._workshop.check(agent)
        taps = self._records.taps(call, transport)
        welcome = self._callbacks.welcome
        session = self._workshop.open_call(call, agent, transport, welcome=welcome, taps=taps, **cast)
        self._records.watch(session)
        return session

    async def place(self, order: Order, on_machine: Callback | None = None) -> str:
        """Place a call; returns its id once the carrier has accepted it. Raises PatterError."""
        self._workshop.check(order.file.agent)
        call_id = await self._door.dial(order)
        if on_machine is not None:
            self._callbacks.expect(call_id, on_machine)
        return call_id

    async def wait_over(self, call_id: str) -> None:
        """Return when a call that was placed here is over."""
        if call_id in self._over:
            await self._over[call_id].wait()

    def _note(self, event: Event) -> None:
        if isinstance(event, CallEnded):
            self._over.pop(event.call_id, anyio.Event()).set()
        elif isinstance(event, (CallPlaced, CallStarted)):
            self._over.setdefault(event.call_id, anyio.Event())

    async def close(self, hurry: anyio.Event) -> None:
        """Let no new call in, and let those that are up finish; see `FrontDoor.close`. `hurry` cuts the waiting short."""
        async with anyio.create_task_group() as tasks:

            async def until(done: Callable[[], Awaitable[object]]) -> None:
                await done()
                tasks.cancel_scope.cancel()

            tasks.start_soon(until, hurry.wait)
            tasks.start_soon(until, self._door.close)


@dataclass(eq=False)
class SharedLine:
    """One life of the phone line: `serve()`'s, or an `own` one that the first `call()` has opened for itself and others."""

    voicemail: str = ""
    own: bool = False
    station: Station | None = None
    stop: anyio.Event = field(default_factory=anyio.Event)
    hurry: anyio.Event = field(default_factory=anyio.Event)
    over: anyio.Event = field(default_factory=anyio.Event)
    _decided: anyio.Event = field(default_factory=anyio.Event)
    _users: int = 0
    _left: anyio.Event = field(default_factory=anyio.Event)

    def ask_to_stop(self) -> None:
        """Stop in order; asked again, stop at once."""
        (self.hurry if self.stop.is_set() else self.stop).set()

    def opened(self, station: Station) -> None:
        """The line is open."""
        self.station = station
        self._decided.set()

    def closed(self) -> None:
        """It is over, or it never opened."""
        self.station = None
        self._decided.set()
        self.over.set()

    async def carry(self, order: Order, on_machine: Callback | None, *, wait: bool) -> None:
        """Place a call over the line once it is open; with `wait`, return when it is over.

        Raises PatterConnectionError if the line could not be opened or is closing."""
        self._users += 1
        try:
            await self._decided.wait()
            if self.station is None or self.stop.is_set():
                raise PatterConnectionError("the phone line is closed: serve() has ended, or it could not be opened")
            call_id = await self.station.place(replace(order, voicemail=order.voicemail or self.voicemail), on_machine)
            if wait:
                await self.station.wait_over(call_id)
        finally:
            self._users -= 1
            self._left.set()

    async def carry_first(self, order: Order, on_machine: Callback | None) -> None:
        """Place the call that the line was opened for, and return (or raise what became of it) when nobody uses the line."""
        refused: Exception | None = None
        try:
            await self.carry(order, on_machine, wait=True)
        except (PatterError, ValueError) as error:
            refused = error
        while self._users:
            self._left = anyio.Event()
            await self._left.wait()
        self.stop.set()
        if refused is not None:
            raise refused
