"""One ordered stream of facts. Sinks get every event at once and in order; subscriptions have a bounded queue.

It owns order, numbers and overflow; it refuses to know what an event means or who listens.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import anyio

from patter.clock import Clock
from patter.events import DROPPABLE, Event

log = logging.getLogger(__name__)

Sink = Callable[[Event], None]
BACKLOG = 20_000  # about an hour of four busy calls; a reader that is further behind must start afresh


class Subscription:
    """A reader with a bounded queue: when it is full, droppable facts go first; if none are left it is marked `lost`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._queue: deque[Event] = deque()
        self._ready = anyio.Event()
        self._closed = False
        self.lost = False
        """True once the reader was too slow to keep every closed fact: it must resume from its last `seq`."""

    def push(self, event: Event) -> None:
        """Queue an event under the overflow rule."""
        if self.lost or self._closed:
            return
        if len(self._queue) >= self._size:
            if isinstance(event, DROPPABLE):
                return
            kept = [item for item in self._queue if not isinstance(item, DROPPABLE)]
            if len(kept) >= self._size:
                self.lost = True
            self._queue = deque(kept)
        if not self.lost:
            self._queue.append(event)
        self._ready.set()

    def close(self) -> None:
        """Let the reader finish what is queued, then stop."""
        self._closed = True
        self._ready.set()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._read()

    async def _read(self) -> AsyncIterator[Event]:
        while True:
            while self._queue:
                yield self._queue.popleft()
            if self._closed or self.lost:
                return
            self._ready = anyio.Event()
            await self._ready.wait()


def _stamped(event: Event, seq: int, at: float) -> Event:
    """The event with its number and time. One that was never published is its publisher's no more: a copy of each would cost
    more than handing it out. One that was, here or on another bus, stays as it is."""
    if event.seq:
        return replace(event, seq=seq, at=at)
    object.__setattr__(event, "seq", seq)
    object.__setattr__(event, "at", at)
    return event


class Bus:
    """Publishes events of all calls of one engine. Not thread-safe: publish on the event loop."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seq = 0
        self._backlog: deque[Event] = deque(maxlen=BACKLOG)
        self._sinks: list[Sink] = []
        self._subscriptions: list[Subscription] = []
        self._pending: deque[Event] = deque()
        self._draining = False
        self.written: Callable[[Event], Awaitable[None]] | None = None
        """Waits until a fact is written, for readers outside of this process: what they were told outlives a kill."""

    def publish(self, event: Event) -> None:
        """Number, stamp and hand out. A sink may publish in turn: that event follows this one everywhere."""
        self._pending.append(event)
        if self._draining:
            return
        self._draining = True
        try:
            while self._pending:
                self._hand_out(self._pending.popleft())
        finally:
            self._draining = False

    def _hand_out(self, event: Event) -> None:
        self.seq += 1
        event = _stamped(event, self.seq, event.at or self.clock.now())
        self._backlog.append(event)
        for sink in tuple(self._sinks):
            try:
                sink(event)
            except Exception:
                log.exception("a sink failed", extra={"event": type(event).__name__})
        for subscription in tuple(self._subscriptions):
            subscription.push(event)

    def add_sink(self, sink: Sink) -> Callable[[], None]:
        """Give every event to `sink` from now on; returns the function that removes it."""
        self._sinks.append(sink)
        return lambda: self._sinks.remove(sink) if sink in self._sinks else None

    def subscribe(self, size: int = 2_000) -> Subscription:
        """A bounded reader of what is published from now on; `unsubscribe` it when done."""
        subscription = Subscription(size)
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Close and forget a reader."""
        subscription.close()
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def since(self, seq: int) -> list[Event] | None:
        """Everything after number `seq`, or None if that is longer ago than the backlog reaches."""
        if seq > self.seq:
            return None
        oldest = self._backlog[0].seq if self._backlog else self.seq + 1
        if seq + 1 < oldest and seq < self.seq:
            return None
        return [event for event in self._backlog if event.seq > seq]
