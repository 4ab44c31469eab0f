"""A call's sound in one stereo WAV file as the two ears heard it: caller left, agent right, on the call's own clock.

It owns the thread that makes the file; it refuses to cost the call anything: its methods only note what came, and a thread of
its own does the rest twice a second.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from patter.audio.format import AudioChunk
from patter.clock import Clock
from patter.observe.stereo import Stereo

log = logging.getLogger(__name__)

Saved = Callable[[str, float], None]
"""Told the path and the duration in seconds of a finished recording, on the event loop that closed it."""

WRITE_EVERY_S = 0.5
SETTLED_S = 2.0  # sound younger than this may still be cut or come late; older sound goes to the disk
PENDING = 30_000  # notes a dead disk may pile up: five minutes of both sides, then sound is left out
AHEAD_S = 300.0  # sound queued further into the future than this is left out: no reply is that long


class Recorder:
    """An AudioTap that writes `path`. Made when the call begins; `close` ends it and never waits.

    `rate` in Hz is the line's; default: that of the first chunk. `saved` is called once the file is whole, `over` in any case
    once nothing more will happen. Memory is bounded by what the agent has queued; the file on disk is valid at any moment, at
    most a few seconds behind. A disk that refuses is waited for; what it did not take for minutes is silence."""

    def __init__(
        self,
        path: str | Path,
        clock: Clock,
        *,
        rate: int | None = None,
        started_at: float | None = None,
        saved: Saved | None = None,
        over: Callable[[], None] | None = None,
    ) -> None:
        self.path = Path(path)
        self._clock = clock
        self._start = clock.now() if started_at is None else started_at
        self._rate = rate
        self._saved, self._gone = saved, over
        self._notes: deque[tuple[str, AudioChunk | None, float]] = deque()
        self._ended_at: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = threading.Event()
        self._full = False
        self._desk: Stereo | None = None
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ the tap: called for every frame

    def caller(self, chunk: AudioChunk, at: float) -> None:
        """A frame of the caller's, received at `at`."""
        self._note("caller", chunk, at)

    def agent(self, chunk: AudioChunk, starts_at: float) -> None:
        """Sound for the caller whose first sample reaches the ear at `starts_at`."""
        self._note("agent", chunk, starts_at)

    def cut(self, at: float) -> None:
        """Whatever would have been heard from the agent after `at` was dropped."""
        self._note("cut", None, at)

    def close(self, at: float) -> None:
        """The call is over: finish the file in the background. More than once is fine."""
        if self._ended_at is None:
            self._ended_at = at
            try:
                self._loop = asyncio.get_running_loop()
            except RuntimeError:
                self._loop = None  # closed outside of a loop: `saved` is called in the thread
            self._over.set()

    def join(self) -> None:
        """Wait until the file is whole. Blocks: for the end of a process, after `close`."""
        self._thread.join()

    def _note(self, what: str, chunk: AudioChunk | None, at: float) -> None:
        if self._ended_at is None and len(self._notes) < PENDING:
            self._notes.append((what, chunk, at))
        else:
            self._full = self._ended_at is None

    # ------------------------------------------------------------------ the thread

    def _write(self) -> None:
        try:
            while not self._over.wait(WRITE_EVERY_S):
                self._sort()
                if self._desk is not None:
                    now = self._clock.now()
                    self._put(self._desk, now - SETTLED_S, now)
            self._sort()
            self._finish()
        except Exception:
            log.exception("the recording could not be written", extra={"path": str(self.path)})
        finally:
            if self._gone is not None:
                self._tell(self._gone)

    def _put(self, desk: Stereo, until: float, known: float | None = None) -> None:
        before = desk.problem
        desk.write(until, known)
        if desk.problem is not None and before is None:
            extra = {"path": str(self.path), "error": desk.problem.strerror}
            log.error("the recording could not be written now: it is tried again", extra=extra)

    def _sort(self) -> None:
        """Place everything that was noted."""
        if self._full:
            self._full = False
            log.warning("a recording lost sound: the disk is too slow", extra={"path": str(self.path)})
        while self._notes:
            what, chunk, at = self._notes.popleft()
            if self._desk is None:
                rate = self._rate or (chunk.format.rate if chunk is not None else None)
                if rate is None:
                    continue  # a cut before any sound
                self._desk = Stereo(self.path, rate, self._start)
            if chunk is None:
                self._desk.cut(at)
            elif what == "caller":
                self._desk.caller(chunk, at)
            elif at < self._clock.now() + AHEAD_S:
                self._desk.agent(chunk, at)

    def _finish(self) -> None:
        if self._desk is None:
            return  # a call without sound has no recording
        assert self._ended_at is not None
        try:
            self._put(self._desk, self._ended_at)
            if self._desk.problem is not None:
                raise self._desk.problem
        finally:
            self._desk.close()
        if self._saved is not None:
            self._tell(self._saved, str(self.path), self._desk.seconds)

    def _tell(self, whom: Callable[..., None], *what: object) -> None:
        """On the loop that closed this; in this thread if there was none."""
        if self._loop is None:
            whom(*what)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(whom, *what)
