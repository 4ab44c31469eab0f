"""Every fact of every call on disk, one JSON line each, written as it happens and readable after any crash.

It owns the files under HOME/calls and their order; it refuses to know what the facts mean. Replaying a journal into a reader
gives that reader what it saw live.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import anyio

from patter import json_text
from patter.events import CallEnded, CallPlaced, CallStarted, Event, MemoryChanged, TurnMeasured, from_json, to_json
from patter.observe.journal_writer import Forget, Page, Writer

log = logging.getLogger(__name__)

CALLS = "calls"
EVENTS = "events.jsonl"
HANDED_S = 0.25  # how long those who follow the events are kept waiting for a disk: longer means that it is stuck
LOOK_S = 0.002  # a line is with the system in less, if the processor is free
TOGETHER_S = 0.05  # events of a turn stand close together, and are written when its next request is out
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def call_folder(home: str | Path, call_id: str) -> Path:
    """HOME/calls/<call_id>, whatever characters the id has: it can never leave the folder."""
    safe = _UNSAFE.sub("_", call_id)[:120]
    return Path(home) / CALLS / (f"_{safe}" if safe.strip(".") == "" or safe.startswith(".") else safe)


class Journal:
    """A bus sink that writes HOME/calls/<call_id>/events.jsonl. Serialising is done here, files in threads of their own.

    Lines are handed to the system within `TOGETHER_S`, those of a new call, a closed turn or an ended call at once, so a
    killed process loses next to nothing; closed turns and ends are also forced to the disk. A disk that refuses disturbs
    nobody: lines wait in memory and are written later, and `told` hears of it on the event loop. `close()` writes what is
    left and stops; it is safe to call twice."""

    def __init__(self, home: str | Path, told: Callable[[MemoryChanged], None] | None = None) -> None:
        self.home = Path(home)
        self._told = told
        self._loop = _running_loop()
        self._fresh: list[Event] = []
        self._turning: asyncio.AbstractEventLoop | None = None  # the loop that has a timer for the fresh ones
        self._closed = False
        self._slow_since = -1  # what was written when somebody waited in vain: until there is more, nobody waits
        self._writer = Writer(self.path, self._tell)

    def __call__(self, event: Event) -> None:
        """Take one event. Events without a call are not journaled."""
        if not event.call_id or self._closed:
            return
        self._fresh.append(event)
        loop = _running_loop()
        if loop is None or _relied_on(event):
            self._turn_pages()
        elif self._turning is not loop:
            self._turning = self._loop = loop
            loop.call_later(TOGETHER_S, self._turn_pages)

    def path(self, call_id: str) -> Path:
        """Where this call's events are."""
        return call_folder(self.home, call_id) / EVENTS

    async def written(self, event: Event) -> None:
        """Return when the system has this fact, so that a killed process leaves it, or when that takes too long.

        Only for facts that others rely on: the rest is written within `TOGETHER_S` whether anybody was told of it or not."""
        if not event.call_id or not _relied_on(event) or self._closed:
            return
        until = anyio.current_time() + (0.0 if self._slow_since == self._writer.handed else HANDED_S)
        while self._writer.handed < event.seq and anyio.current_time() < until:  # noqa: ASYNC110 - a thread hands it
            await anyio.sleep(LOOK_S)
        self._slow_since = self._writer.handed if self._writer.handed < event.seq else -1

    def forget(self, call_ids: Iterable[str]) -> None:
        """Let go of the files of these calls, which are about to be deleted, and write no more of them.

        Blocks for a moment: not for the event loop."""
        if not self._closed:
            order = Forget(frozenset(call_ids))
            self._writer.put(order)
            while not order.done.wait(1.0) and not self._closed:
                pass

    def close(self) -> None:
        """Write everything that was taken, then stop. Waits for the disk."""
        if not self._closed:
            self._closed = True
            self._turn_pages()
        self._writer.close()

    def _turn_pages(self) -> None:
        """Give the thread what has come: a wake-up of it for every line would cost more than the lines."""
        self._turning = None
        fresh, self._fresh = self._fresh, []
        pages: dict[str, Page] = {}
        for event in fresh:
            page = pages.get(event.call_id) or pages.setdefault(event.call_id, Page(event.call_id))
            try:
                page.lines.append(json_text.encode(to_json(event)) + b"\n")
            except Exception:  # one fact that cannot be written takes no other with it
                log.exception("an event could not be journaled", extra={"event": type(event).__name__})
            page.durable = page.durable or _durable(event)
            page.seq = event.seq
            page.last = page.last or isinstance(event, CallEnded)
            page.first = page.first or isinstance(event, (CallPlaced, CallStarted))
        if pages:
            self._writer.put(list(pages.values()))

    def _tell(self, news: MemoryChanged) -> None:
        """From the writing thread to those on the event loop, if there still is one."""
        if self._told is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._told, news)


def _relied_on(event: Event) -> bool:
    return isinstance(event, (CallPlaced, CallStarted)) or _durable(event)


def _durable(event: Event) -> bool:
    return isinstance(event, CallEnded) or (isinstance(event, TurnMeasured) and event.closed)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def dump(event: Event) -> str:
    """The event as one line of JSON, without the line end; half a character pair is written as its escape."""
    return json_text.dumps(to_json(event))


def read(path: str | Path) -> list[Event]:
    """The events of a journal file, in order. A torn or unknown line is left out; OSError if there is no file."""
    return [event for line in Path(path).read_bytes().split(b"\n") if (event := event_of(line)) is not None]


def replay(events: Iterable[Event], *readers: Callable[[Event], None]) -> None:
    """Give the events to the readers (the same sinks that a bus feeds), each event to all of them in order."""
    for event in events:
        for reader in readers:
            reader(event)


def event_of(line: bytes) -> Event | None:
    """The event of one line of a journal; None for a torn line and for what this version does not know."""
    try:
        data = json.loads(line)
        return from_json(data) if isinstance(data, dict) else None
    except (ValueError, TypeError, RecursionError):
        return None
