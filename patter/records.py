"""All that watches the calls of one process: journal, measurements, recordings, and what is made of them.

It owns the order in which watchers join the bus and leave it; it refuses to know what any of them does. Take it away and
every call goes on as before.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import anyio
import anyio.to_thread

from patter.bus import Bus
from patter.clock import Clock
from patter.events import EndReason
from patter.exceptions import ended_context
from patter.models import Agent
from patter.observe.budget import Purse
from patter.observe.collector import open_telemetry
from patter.observe.journal import Journal
from patter.observe.listening import Listening
from patter.observe.masked import Masked
from patter.observe.masking import Masking
from patter.observe.meter import CostMeter
from patter.observe.prices import Prices
from patter.observe.prometheus import PrometheusReader
from patter.observe.reader import MetricsReader
from patter.observe.recordings import Recordings
from patter.observe.unfinished import close_unfinished
from patter.ports import AudioTap, CallInfo, Transport
from patter.server.home import hold
from patter.server.kept import Kept
from patter.settings import Settings
from patter.store.analytics import Analytics
from patter.store.books import Books
from patter.store.database import Database
from patter.store.history import History
from patter.store.keeper import Keeper
from patter.store.ledger import DayLedger
from patter.store.retention import Retention

log = logging.getLogger(__name__)

DEFAULTS = Settings()
LOCK = "calls.lock"
START_S = 1.0  # how long a start waits for the database to have the last calls of the engine before: most have few
CAUGHT_UP_S = 4.0  # how long a start waits for old journals before a day's budget is reckoned without them


class Watched(Protocol):
    """A call's session, as far as the purse needs it. `agent` is the definition that it uses now."""

    @property
    def call(self) -> CallInfo: ...

    agent: Agent

    async def say_goodbye(self, text: str, reason: EndReason, detail: str = "") -> None: ...


class Records:
    """`async with Records(…) as records:` around everything that makes calls; leaving it waits until all is on disk."""

    def __init__(
        self,
        home: Path,
        bus: Bus,
        clock: Clock,
        prices: Prices,
        settings: Settings = DEFAULTS,
        *,
        recording: bool = True,
    ) -> None:
        self.home = home
        self.settings = settings
        self.prices = prices
        self._bus = bus
        self._clock = clock
        self._recordings = Recordings(home, bus, clock) if recording else None
        self._listening = Listening()
        self._meter = CostMeter(bus, clock, prices)
        self._counted = PrometheusReader()
        self.engine_id = secrets.token_hex(8)
        self.database = Database(settings.memory, home)
        self.keeper = Keeper(self.database, home, prices, bus, clock, engine_id=self.engine_id)
        self.history = History(self.database, self.keeper, home, clock)
        self.analytics = Analytics(self.database)
        ledger = DayLedger(self.database, self.engine_id, clock.now(), partial(self.keeper.settled, CAUGHT_UP_S))
        self.purse = Purse(bus, clock, self._meter, settings.budget, ledger)
        self._retention: Retention | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._close_unfinished(stack)
            await stack.enter_async_context(self.keeper)  # it is left last: all others have told their last by then
            journal = Journal(self.home, told=self._bus.publish)
            stack.push_async_callback(_wholly, anyio.to_thread.run_sync, journal.close)
            written = Masked(Masking(self.settings.memory))
            written.add(journal)
            self._bus.written = journal.written
            written.add(self.keeper)
            telling = await anyio.to_thread.run_sync(open_telemetry, self.settings.telemetry, self._counted.numbers)
            if telling is not None:
                stack.push_async_callback(_wholly, telling.aclose)
                written.add(telling.reader)
            stack.push_async_callback(_wholly, written.aclose)
            stack.callback(self._bus.add_sink(written))
            stack.callback(self._bus.add_sink(MetricsReader(self._bus, self.prices)))
            stack.callback(self._meter.close)
            stack.callback(self._bus.add_sink(self._meter))
            stack.callback(self._bus.add_sink(self._counted))
            if self._recordings is not None:
                stack.push_async_callback(_wholly, self._recordings.aclose)
            self._retention = Retention(
                self.settings.memory, self.home, self.database, self.keeper, journal, self._clock
            )
            await stack.enter_async_context(self._retention)
            stack.callback(self._bus.add_sink(self._retention))
            await stack.enter_async_context(self.purse)
            await self.keeper.settled(START_S)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: Any) -> None:
        with ended_context():
            await self._stack.__aexit__(*error)

    async def _close_unfinished(self, stack: AsyncExitStack) -> None:
        """End the calls of a process that was killed; not those of one that lives, as two lines of a number may."""
        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = hold(self.home / LOCK)
        except OSError as error:
            log.warning("the home cannot be written", extra={"path": str(self.home), "error": error.strerror})
            return
        if lock is None:
            log.warning("another process keeps calls in this home too", extra={"path": str(self.home)})
            return
        stack.callback(os.close, lock)
        for call_id in await anyio.to_thread.run_sync(close_unfinished, self.home, self._clock.now()):
            log.warning("a call of a killed process was closed", extra={"call_id": call_id})

    def taps(self, call: CallInfo, transport: Transport) -> tuple[AudioTap, ...]:
        """Who listens to the sound of a call that begins."""
        kept = self._recordings.taps(call, transport) if self._recordings is not None else ()
        return (*kept, *self._listening.taps(call, transport))

    def watch(self, session: Watched) -> None:
        """Let the purse watch a call that is about to begin."""
        self.purse.guard(session.call.call_id, lambda: session.agent.budget, session.say_goodbye)

    def kept(self) -> Kept:
        """What of all this the API may read and steer."""
        return Kept(
            home=self.home,
            prices=self.prices,
            listening=self._listening,
            purse=self.purse,
            books=Books(self.database),
            keeper=self.keeper,
            history=self.history,
            analytics=self.analytics,
            budget_file=self.settings.file,
            scrape=self._counted.text,
            retention=self._retention,
        )


async def _wholly(finish: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
    """Finish something though we are being cancelled: what was told is written."""
    with anyio.CancelScope(shield=True):
        await finish(*arguments)
