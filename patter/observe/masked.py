"""Between the bus and those who write: they get facts as masked, in the same order, and no pattern can hold up a call.

It owns the thread in which patterns are looked for; it refuses to know what is masked and who writes. Whoever works on a live
call reads the bus itself, where nothing is masked.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading

import anyio.lowlevel
import anyio.to_thread

from patter.bus import Sink
from patter.events import Event
from patter.observe.masking import Masking

log = logging.getLogger(__name__)


class Masked:
    """A bus sink that hands masked events to the sinks of `add`. Digits are masked at once; with patterns a thread does it,
    and events come back to the loop a little later. A fact that cannot be masked is not written."""

    def __init__(self, masking: Masking) -> None:
        self._masking = masking
        self._sinks: list[Sink] = []
        self._waiting: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __call__(self, event: Event) -> None:
        """Take in the next event."""
        if not self._masking.slow:
            self._give([self._masking(event)])
            return
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, name="masking", daemon=True)
            self._thread.start()
        self._waiting.put(event)

    def add(self, sink: Sink) -> None:
        """Give everything to this sink too."""
        self._sinks.append(sink)

    async def aclose(self) -> None:
        """Return when all that was taken has been given on."""
        if self._thread is not None:
            self._waiting.put(None)
            await anyio.to_thread.run_sync(self._thread.join)
            await anyio.lowlevel.checkpoint()

    def _give(self, events: list[Event]) -> None:
        for event in events:
            for sink in self._sinks:
                try:
                    sink(event)
                except Exception:
                    log.exception("a sink failed", extra={"event": type(event).__name__})

    def _work(self) -> None:
        over = False
        while not over:
            events = []
            item = self._waiting.get()
            while item is not None:
                try:
                    events.append(self._masking(item))
                except Exception:
                    log.exception("an event could not be masked", extra={"event": type(item).__name__})
                if self._waiting.empty():
                    break
                item = self._waiting.get()
            over = item is None
            if events and self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._give, events)
