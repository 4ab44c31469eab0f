"""The engine as a command sees it: started or adopted, its events in a row, the line opened and waited for. It prints nothing."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio

from patter.events import Event, LineChanged, from_json
from patter.exceptions import PatterError
from patter_tui import engine as engines
from patter_tui.carrier import Missing
from patter_tui.engine import Engine, EngineUnavailable
from patter_tui.headless.orders import WrongUse
from patter_tui.line import PhoneLine, line_after, line_from_json
from patter_tui.link import Link, Refused
from patter_tui.paths import Paths

OPENING_SECONDS = 90.0
"""A tunnel's new name takes half a minute to be known everywhere; a line that is not open by then never will be."""


class Lost(PatterError):
    """The engine is gone."""


class Events:
    """What an engine tells, one after the other."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._kept: list[Event] = []
        self._seq = 0
        self._greeted = asyncio.Event()

    async def run(self, link: Link) -> None:
        """Follow the engine until it is gone."""
        try:
            await link.follow(lambda: self._seq or None, self._greet, self._take)
        finally:
            self._greeted.set()
            self._queue.put_nowait(None)

    async def begun(self) -> None:
        """Wait until nothing can be missed any more."""
        await self._greeted.wait()

    def _greet(self, hello: dict[str, Any]) -> None:
        self._seq = max(self._seq, int(hello.get("seq") or 0))
        self._greeted.set()

    def _take(self, data: dict[str, Any]) -> None:
        event = from_json(data)
        if event is not None:
            self._seq = max(self._seq, event.seq)
            self._queue.put_nowait(event)

    async def next(self) -> Event:
        """The next event. Raises Lost when the engine is gone."""
        if self._kept:
            return self._kept.pop(0)
        event = await self._queue.get()
        if event is None:
            raise Lost("The engine has stopped. What was said up to then is kept.")
        return event

    async def next_line(self) -> LineChanged:
        """The next change of the line; what else happens is kept for later. Raises Lost."""
        kept: list[Event] = []
        while True:
            event = await self.next()
            if isinstance(event, LineChanged):
                self._kept[:0] = kept
                return event
            kept.append(event)


@asynccontextmanager
async def following(link: Link) -> AsyncIterator[Events]:
    """The engine's events from now on. Exceptions of the block come out as they are."""
    events = Events()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(events.run, link)
            await events.begun()
            yield events
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


async def find(paths: Paths) -> Engine | None:
    """The running engine. Raises EngineUnavailable for one of another version."""
    return await asyncio.to_thread(engines.find, paths)


async def start(paths: Paths) -> Engine:
    """Adopt the running engine, or start one. Raises EngineUnavailable."""
    given_up = threading.Event()
    try:
        return await asyncio.to_thread(engines.ensure, paths, given_up=given_up.is_set)
    except asyncio.CancelledError:
        given_up.set()
        raise


async def line_of(link: Link) -> PhoneLine:
    """The line as it is. Raises Refused."""
    return line_from_json((await link.get("/line")).get("data") or {})


async def opened(link: Link, events: Events, line: PhoneLine, told: Callable[[PhoneLine], None]) -> PhoneLine:
    """Wait until an opening line is open or has a problem; `told` gets every state on the way. Raises Refused, Lost."""
    try:
        async with asyncio.timeout(OPENING_SECONDS):
            while line.state in ("starting", "closing"):
                told(line)
                line = line_after(line, await events.next_line())
    except TimeoutError:
        raise Refused(
            f"The line did not open within {OPENING_SECONDS:.0f} seconds. `patter-tui serve --stop` gives up."
        ) from None
    if line.state == "open":
        line = await line_of(link)  # the event tells only a part of it
    told(line)
    return line


def run(main: Callable[[], Awaitable[int]], left: Callable[[], Awaitable[int]], complain: Callable[[str], None]) -> int:
    """Run a command until it ends, or until somebody presses Ctrl+C or ends us: then `left` says what goes on.

    Returns the exit code: what cannot be done as asked (2) or has failed (1) is told to `complain`."""

    async def guarded() -> int:
        task = asyncio.current_task()
        assert task is not None
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            with suppress(AttributeError, NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(getattr(signal, name), task.cancel)
        try:
            return await main()
        except asyncio.CancelledError:
            task.uncancel()
            with suppress(OSError):  # the terminal itself may be what went
                return await left()
            return 1

    try:
        return asyncio.run(guarded())
    except (WrongUse, Missing) as problem:
        complain(str(problem))
        return 2
    except (EngineUnavailable, Refused, Lost) as problem:
        complain(str(problem))
        return 1
