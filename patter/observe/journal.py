"""Every fact of every call on disk, one JSON line each, written as it happens and readable after any crash.

It owns the files under HOME/calls and their order; it refuses to know what the facts mean. Replaying a journal into a reader
gives that reader what it saw live.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import queue
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from patter import json_text
from patter.events import CallEnded, CallPlaced, CallStarted, Event, TurnMeasured, from_json, to_json

log = logging.getLogger(__name__)

CALLS = "calls"
EVENTS = "events.jsonl"
TOGETHER_S = 0.02  # one frame: events of a turn stand close together, and are written when its next request is out
OPEN_FILES = 128  # more than the calls that are up at once, far fewer than a process may have
TAIL = 64 * 1024  # bytes in which a call's CallEnded stands, with the measurements after it
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def call_folder(home: str | Path, call_id: str) -> Path:
    """HOME/calls/<call_id>, whatever characters the id has: it can never leave the folder."""
    safe = _UNSAFE.sub("_", call_id)[:120]
    return Path(home) / CALLS / (f"_{safe}" if safe.strip(".") == "" or safe.startswith(".") else safe)


@dataclass(slots=True)
class _Page:
    """What one call said within `TOGETHER_S`."""

    call_id: str
    text: str = ""
    durable: bool = False
    first: bool = False
    last: bool = False


class Journal:
    """A bus sink that writes HOME/calls/<call_id>/events.jsonl. Serialising is done here, files in a thread of its own.

    Lines are handed to the system within `TOGETHER_S`, a call's beginning and end at once: a killed process loses next to
    nothing. Closed turns and ends are also forced to the disk. `close()` writes what is left; it is safe to call twice."""

    def __init__(self, home: str | Path) -> None:
        self.home = Path(home)
        self._fresh: list[Event] = []
        self._turning: asyncio.AbstractEventLoop | None = None  # the loop that has a timer for the fresh ones
        self._pages: queue.SimpleQueue[list[_Page] | None] = queue.SimpleQueue()
        self._files: dict[str, TextIO] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Take one event. Events without a call are not journaled."""
        if not event.call_id or self._closed:
            return
        self._fresh.append(event)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._turn_pages()
            return
        if isinstance(event, CallPlaced | CallStarted | CallEnded):  # readers look for these; nobody waits for a byte
            self._turn_pages()
        elif self._turning is not loop:
            self._turning = loop
            loop.call_later(TOGETHER_S, self._turn_pages)

    def path(self, call_id: str) -> Path:
        """Where this call's events are."""
        return call_folder(self.home, call_id) / EVENTS

    def close(self) -> None:
        """Write everything that was taken, then stop. Waits for the disk."""
        if not self._closed:
            self._closed = True
            self._turn_pages()
            self._pages.put(None)
        self._thread.join()

    def _turn_pages(self) -> None:
        """Give the thread what has come: a wake-up of it for every line would cost more than the lines."""
        self._turning = None
        fresh, self._fresh = self._fresh, []
        pages: dict[str, _Page] = {}
        for event in fresh:
            page = pages.get(event.call_id) or pages.setdefault(event.call_id, _Page(event.call_id))
            try:
                page.text += dump(event) + "\n"
            except Exception:  # one fact that cannot be written takes no other with it
                log.exception("an event could not be journaled", extra={"event": type(event).__name__})
            if isinstance(event, CallEnded):
                page.durable = page.last = True
            elif isinstance(event, (CallPlaced, CallStarted)):
                page.first = True
            elif isinstance(event, TurnMeasured) and event.closed:
                page.durable = True
        if pages:
            self._pages.put(list(pages.values()))

    def _write(self) -> None:
        while (pages := self._pages.get()) is not None:
            for page in pages:
                try:
                    self._append(page)
                except OSError:
                    log.exception("the journal could not be written", extra={"call_id": page.call_id})
        for file in self._files.values():
            file.close()

    def _append(self, page: _Page) -> None:
        file = self._files.get(page.call_id)
        if file is None:
            file = self._open(page.call_id)
            if page.first:
                self._keep(page.call_id, file)
        try:
            file.write(page.text)
            file.flush()
            if page.durable:
                os.fsync(file.fileno())
        finally:
            if page.last:
                self._files.pop(page.call_id, None)
            if page.call_id not in self._files:  # over; a recording or the last measurements may still follow
                file.close()

    def _keep(self, call_id: str, file: TextIO) -> None:
        while len(self._files) >= OPEN_FILES:
            self._files.pop(next(iter(self._files))).close()  # from now on each of its lines opens it anew
        self._files[call_id] = file

    def _open(self, call_id: str) -> TextIO:
        path = self.path(call_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        # half a character pair becomes the escape that JSON has for it
        return path.open("a", encoding="utf-8", errors="backslashreplace")


def dump(event: Event) -> str:
    """The event as one line of JSON, without the line end; half a character pair is written as its escape."""
    return json_text.dumps(to_json(event))


def read(path: str | Path) -> list[Event]:
    """The events of a journal file, in order. A torn or unknown line is left out; OSError if there is no file."""
    return [event for line in Path(path).read_bytes().split(b"\n") if (event := _event(line)) is not None]


def replay(events: Iterable[Event], *readers: Callable[[Event], None]) -> None:
    """Give the events to the readers (the same sinks that a bus feeds), each event to all of them in order."""
    for event in events:
        for reader in readers:
            reader(event)


def close_unfinished(home: str | Path, now: float) -> list[str]:
    """End every journaled call that has no end, with the reason "engine_died"; returns their ids.

    For the start of an engine, before it takes calls. `now` in seconds since the epoch. A call's end is dated to its last
    event: that is as long as it is known to have lived."""
    closed = []
    for path in sorted((Path(home) / CALLS).glob(f"*/{EVENTS}")):
        try:
            if _ends(path):
                continue
            events = read(path)
            if not events or any(isinstance(event, CallEnded) for event in events):
                continue
            start = next((event.at for event in events if isinstance(event, CallStarted)), events[0].at)
            last = max(event.at for event in events)
            ended = CallEnded(
                call_id=events[0].call_id,
                seq=max(event.seq for event in events) + 1,
                at=min(now, last) if last else now,
                reason="engine_died",
                detail="The engine was stopped from outside during this call.",
                duration_s=round(max(0.0, last - start), 3),
            )
            _repair_end(path, dump(ended))
            closed.append(ended.call_id)
        except OSError:
            log.exception("an unfinished call could not be closed", extra={"path": str(path)})
    return closed


def _ends(path: Path) -> bool:
    """Whether the end of a journal says that the call is over: saves reading all of it at every start."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
        return any(isinstance(_event(line), CallEnded) for line in file.read().split(b"\n")[1:] if b"CallEnded" in line)


def _repair_end(path: Path, line: str) -> None:
    """Append a line; if the one before it was torn, it stays a line of its own, which readers leave out."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        torn = False
        if size:
            file.seek(size - 1)
            torn = file.read(1) != b"\n"
        file.seek(0, os.SEEK_END)
        file.write((b"\n" if torn else b"") + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _event(line: bytes) -> Event | None:
    try:
        data = json.loads(line)
        return from_json(data) if isinstance(data, dict) else None
    except (ValueError, TypeError, RecursionError):
        return None
