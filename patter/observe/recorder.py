"""A call's sound in one stereo WAV file as the two ears heard it: caller left, agent right, on the call's own clock.

It owns placing, cutting and the file; it refuses to cost the call anything: its methods only note what came, and a thread of
its own does the rest twice a second.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

from patter.audio.convert import Converter
from patter.audio.format import AudioChunk, AudioFormat
from patter.audio.wav import WavWriter
from patter.clock import Clock

log = logging.getLogger(__name__)

Saved = Callable[[str, float], None]
"""Told the path and the duration in seconds of a finished recording, on the event loop that closed it."""

WRITE_EVERY_S = 0.5
SETTLED_S = 2.0  # sound younger than this may still be cut or come late; older sound goes to the disk
PENDING = 30_000  # notes a dead disk may pile up: five minutes of both sides, then sound is left out
AHEAD_S = 300.0  # sound queued further into the future than this is left out: no reply is that long
JOIN_S = 0.005  # chunks that meet within this belong together: a gap or overlap of some samples would click
STRAY_S = 0.5  # a caller's frame this far from where the last one ended was no jitter


class Track:
    """One side's samples (16-bit PCM) that are not on disk yet, by their place in the call. Pure."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._origin = 0
        self._pcm = bytearray()
        self.end = 0
        """Where the last placed sound ends, in samples of the call."""

    def place(self, pcm: bytes, at: int) -> None:
        """Put sound at sample `at`; what is there already is replaced, what is on disk already stays."""
        self.end = at + len(pcm) // 2
        if at < self._origin:
            pcm, at = pcm[2 * (self._origin - at) :], self._origin
        start = 2 * (at - self._origin)
        if start > len(self._pcm):
            self._pcm.extend(bytes(start - len(self._pcm)))
        self._pcm[start : start + len(pcm)] = pcm

    def cut(self, at: int) -> None:
        """Forget everything from sample `at` on."""
        del self._pcm[2 * max(0, at - self._origin) :]
        self.end = min(self.end, at)

    def take(self, until: int) -> bytes:
        """The sound up to sample `until`, silence where there was none; it is forgotten here."""
        size = 2 * max(0, until - self._origin)
        taken = bytes(self._pcm[:size])
        del self._pcm[:size]
        self._origin = max(self._origin, until)
        return taken + bytes(size - len(taken))


class Recorder:
    """An AudioTap that writes `path`. Made when the call begins; `close` ends it and never waits.

    `rate` in Hz is the line's; default: that of the first chunk. `saved` is called once the file is whole. Memory is bounded
    by what the agent has queued; the file on disk is valid at any moment, at most a few seconds behind."""

    def __init__(
        self,
        path: str | Path,
        clock: Clock,
        *,
        rate: int | None = None,
        started_at: float | None = None,
        saved: Saved | None = None,
    ) -> None:
        self.path = Path(path)
        self._clock = clock
        self._start = clock.now() if started_at is None else started_at
        self._rate = rate
        self._saved = saved
        self._notes: deque[tuple[str, AudioChunk | None, float]] = deque()
        self._ended_at: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = threading.Event()
        self._full = False
        self._desk: _Desk | None = None
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
                    self._desk.write(self._clock.now() - SETTLED_S)
            self._sort()
            self._finish()
        except Exception:
            log.exception("the recording could not be written", extra={"path": str(self.path)})
        finally:
            if self._desk is not None:
                self._desk.close()

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
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._desk = _Desk(self.path, rate, self._start)
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
        self._desk.write(self._ended_at)
        duration_s = self._desk.seconds
        self._desk.close()
        if self._saved is None:
            return
        if self._loop is None:
            self._saved(str(self.path), duration_s)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._saved, str(self.path), duration_s)


class _Desk:
    """Where the thread works: two tracks, their converters, the file."""

    def __init__(self, path: Path, rate: int, start: float) -> None:
        self._rate, self._start = rate, start
        self._file = WavWriter(path, rate, channels=2)
        self._left, self._right = Track(rate), Track(rate)
        self._converters: dict[str, Converter] = {}
        self._written = 0

    @property
    def seconds(self) -> float:
        return self._file.seconds

    def caller(self, chunk: AudioChunk, at: float) -> None:
        """Frames follow each other; only a real hole or a real excess moves them to when they came."""
        pcm = self._pcm("caller", chunk)
        came = self._place(at - chunk.ms / 1000)
        stray = abs(came - self._left.end) > STRAY_S * self._rate
        self._left.place(pcm, max(0, came) if stray or not self._left.end else self._left.end)

    def agent(self, chunk: AudioChunk, starts_at: float) -> None:
        """Sound is placed where it will be heard; what continues the sound before it is joined without a seam."""
        pcm = self._pcm("agent", chunk)
        at = max(0, self._place(starts_at))
        joins = abs(at - self._right.end) <= JOIN_S * self._rate
        self._right.place(pcm, self._right.end if joins else at)

    def cut(self, at: float) -> None:
        self._right.cut(self._place(at))

    def write(self, until: float) -> None:
        """Put everything before `until` into the file."""
        end = self._place(until)
        if end > self._written:
            both = (np.frombuffer(track.take(end), np.int16) for track in (self._left, self._right))
            self._file.write(np.column_stack(tuple(both)).tobytes())
            self._written = end

    def close(self) -> None:
        self._file.close()

    def _place(self, at: float) -> int:
        return round((at - self._start) * self._rate)

    def _pcm(self, side: str, chunk: AudioChunk) -> bytes:
        converter = self._converters.get(side)
        if converter is None or converter.src != chunk.format:
            converter = self._converters[side] = Converter(chunk.format, AudioFormat("pcm_s16le", self._rate))
        return converter.convert(chunk.data)
