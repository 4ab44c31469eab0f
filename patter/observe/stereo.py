"""Two voices in one file: where every frame belongs in the call, and what of it can be written by now.

It owns alignment, placing and the file; it refuses to know threads, tasks and any clock but the times it is given.
"""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path

import numpy as np

from patter.audio.convert import Converter
from patter.audio.format import AudioChunk, AudioFormat
from patter.audio.wav import WavWriter

log = logging.getLogger(__name__)

JOIN_S = 0.005  # chunks that meet within this belong together: a gap or overlap of some samples would click
CLOSE_S = 0.004  # a caller's frame this near to its place stays there
HOLE = 0.75  # of its length later than its place, and every one after it as well: frames before it never came
EDGE_S = 0.01  # if those after it are so much later still, the hole is behind it, and it was only late itself
EXCESS_S = 0.5  # so much earlier: what is in its place is not the call's sound
LOOK_S = 0.8  # frames are placed when it is known what came so much later: what was only held up has caught up by then
GENTLE, FIRM = 100, 33  # a frame is made longer or shorter by one part in so many: nobody hears it, FIRM from FAR_S on
FAR_S = 0.05
UNWRITTEN = 4 * 1024 * 1024  # bytes held while the disk refuses: two minutes of a telephone call; then silence is left


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


class Alignment:
    """Where a caller's frames belong that come with jitter, from a clock of their own, and not all of them. Pure.

    A frame cannot come before it was spoken, so the promptest frames of a moment say where the sound is. Frames stand seam to
    seam; a sender's clock that runs fast or slow is followed by single samples, frames that never came leave their silence."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._frames: deque[tuple[bytes, int]] = deque()
        self._end: int | None = None

    def add(self, pcm: bytes, came: int) -> None:
        """The next frame (16-bit PCM), whole at sample `came` of the call."""
        if pcm:
            self._frames.append((pcm, came))

    def settle(self, until: int | None = None) -> list[tuple[bytes, int]]:
        """Sound and its place, in order, of all frames that had come at sample `until` (None: of all)."""
        ready = sum(1 for _, came in self._frames if until is None or came <= until)
        if not ready:
            return []
        sizes = np.array([len(pcm) // 2 for pcm, _ in self._frames])
        came = np.array([came for _, came in self._frames])
        late = came - np.cumsum(sizes) - (self._end or 0)
        least = np.minimum.accumulate(late[::-1])[::-1].tolist()
        placed: list[tuple[bytes, int]] = []
        moved = 0
        for number in range(ready):
            pcm, _ = self._frames.popleft()
            slack = least[number] - moved
            hole = slack > HOLE * len(pcm) // 2
            if hole and number + 1 < len(least) and least[number + 1] - least[number] > EDGE_S * self._rate:
                hole, slack = False, 0
            if self._end is None:
                self._end = max(0, slack)
                moved += self._end
            elif hole or slack < -EXCESS_S * self._rate:
                self._end = max(0, self._end + slack)
                moved += slack
            elif abs(slack) > CLOSE_S * self._rate:
                by = min(abs(slack), max(1, len(pcm) // 2 // (FIRM if abs(slack) > FAR_S * self._rate else GENTLE)))
                by = by if slack > 0 else -by
                pcm = _stretched(pcm, by)
                moved += by
            placed.append((pcm, self._end))
            self._end += len(pcm) // 2
        return placed


def _stretched(pcm: bytes, by: int) -> bytes:
    """The same sound with so many samples more or fewer."""
    sound = np.frombuffer(pcm, np.int16)
    places = np.linspace(0, len(sound) - 1, max(1, len(sound) + by))
    return np.interp(places, np.arange(len(sound)), sound).round().astype(np.int16).tobytes()


class Stereo:
    """The file (left: caller, right: agent) at `rate` Hz of a call that began at `start` (all times in seconds).

    A disk that refuses raises nothing: what waits is written with the next `write`; `problem` says what is wrong now."""

    def __init__(self, path: Path, rate: int, start: float) -> None:
        self._path, self._rate, self._start = path, rate, start
        self._file: WavWriter | None = None
        self._left, self._right = Track(rate), Track(rate)
        self._frames = Alignment(rate)
        self._converters: dict[str, Converter] = {}
        self._taken = 0
        self._unwritten = bytearray()
        self.problem: OSError | None = None

    @property
    def seconds(self) -> float:
        """How much is in the file."""
        return self._file.seconds if self._file is not None else 0.0

    def caller(self, chunk: AudioChunk, at: float) -> None:
        """A frame of the caller's, whole at `at`."""
        self._frames.add(self._pcm("caller", chunk), self._place(at))

    def agent(self, chunk: AudioChunk, starts_at: float) -> None:
        """Sound is placed where it will be heard; what continues the sound before it is joined without a seam."""
        pcm = self._pcm("agent", chunk)
        at = max(0, self._place(starts_at))
        joins = abs(at - self._right.end) <= JOIN_S * self._rate
        self._right.place(pcm, self._right.end if joins else at)

    def cut(self, at: float) -> None:
        """Forget what the agent would have said after `at`."""
        self._right.cut(self._place(at))

    def write(self, until: float, known: float | None = None) -> None:
        """Put everything before `until` into the file. `known`: the moment until when it is known what came (None: all)."""
        for pcm, at in self._frames.settle(None if known is None else self._place(known - LOOK_S)):
            self._left.place(pcm, at)
        end = self._place(until)
        if end > self._taken:
            both = (np.frombuffer(track.take(end), np.int16) for track in (self._left, self._right))
            self._unwritten += np.column_stack(tuple(both)).tobytes()
            self._taken = end
        if not self._unwritten:
            return
        try:
            self._flush()
            self.problem = None
        except OSError as error:
            self.problem = error

    def close(self) -> None:
        """Make the file whole. Raises OSError."""
        if self._file is not None:
            self._file.close()

    def _flush(self) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = WavWriter(self._path, self._rate, channels=2)
        try:
            self._file.write(bytes(self._unwritten))
            self._unwritten.clear()
        finally:
            if (excess := len(self._unwritten) - UNWRITTEN) > 0:
                excess -= excess % 4
                self._file.skip(excess)
                del self._unwritten[:excess]

    def _place(self, at: float) -> int:
        return round((at - self._start) * self._rate)

    def _pcm(self, side: str, chunk: AudioChunk) -> bytes:
        converter = self._converters.get(side)
        if converter is None or converter.src != chunk.format:
            converter = self._converters[side] = Converter(chunk.format, AudioFormat("pcm_s16le", self._rate))
        return converter.convert(chunk.data)
