"""Who follows the events: each reader's place in the stream, what was missed, and what becomes of a slow one.

It owns the readers; it refuses to know how events travel to them and what they mean.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio
import anyio.lowlevel

from patter.bus import Bus, Subscription
from patter.events import Event

BATCH = 50  # backlog events between two breaths of the event loop: about a millisecond, unheard by any call
SEND_SECONDS = 10.0  # a reader whose socket takes nothing for this long is gone or stuck
HEARTBEAT_S = 20.0  # finds a reader that vanished without closing


Written = Callable[[Event], Awaitable[None]] | None


class EventReader:
    """One reader: `hello` is what it is told first, then `events()`. `gap`: what it missed is not here any more."""

    def __init__(
        self,
        hello: dict[str, object],
        backlog: list[Event] | None,
        live: Subscription,
        call_id: str,
        written: Written = None,
    ) -> None:
        self.hello = hello
        self.gap = backlog is None
        self._backlog = backlog or []
        self._live = live
        self._call_id = call_id
        self._written = written

    @property
    def lost(self) -> bool:
        """Whether it was too slow to get everything: it must resume after the last event it has."""
        return self._live.lost

    async def events(self) -> AsyncIterator[Event]:
        """What it missed and what comes, in order, each once, until it is closed or lost."""
        for number, event in enumerate(self._backlog):
            if self._wants(event):
                if self._written is not None:
                    await self._written(event)
                yield event
            if number % BATCH == BATCH - 1:
                await anyio.lowlevel.checkpoint()
        self._backlog.clear()
        async for event in self._live:
            if self._wants(event):
                if self._written is not None:
                    await self._written(event)
                yield event

    def _wants(self, event: Event) -> bool:
        return not self._call_id or event.call_id == self._call_id

    def close(self) -> None:
        """Let it have what is queued, then end."""
        self._live.close()


class EventReaders:
    """All readers of one port."""

    def __init__(self, bus: Bus, engine_id: str) -> None:
        self._bus = bus
        self._engine_id = engine_id
        self._readers: set[Subscription] = set()
        self._changed = anyio.Event()

    @property
    def readers(self) -> int:
        """How many are connected."""
        return len(self._readers)

    async def wait_change(self) -> None:
        """Return when one has come or gone."""
        self._changed = anyio.Event()
        await self._changed.wait()

    def close(self) -> None:
        """Let every reader have what is queued, then say goodbye."""
        for subscription in list(self._readers):
            self._bus.unsubscribe(subscription)

    @contextmanager
    def reading(self, after: int | None, engine: str, call_id: str = "") -> Iterator[EventReader]:
        """A reader of what came after number `after` of this `engine` ("": of this one), or (None) of what comes now.

        Nothing is awaited here: an event belongs either to the backlog or to the subscription."""
        subscription = self._bus.subscribe()
        other = engine not in ("", self._engine_id)
        backlog = [] if after is None else None if other else self._bus.since(after)
        hello = {"engine_id": self._engine_id, "seq": self._bus.seq, "gap": backlog is None}
        self._readers.add(subscription)
        self._changed.set()
        try:
            yield EventReader(hello, backlog, subscription, call_id, self._bus.written)
        finally:
            self._bus.unsubscribe(subscription)
            self._readers.discard(subscription)
            self._changed.set()
