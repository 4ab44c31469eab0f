"""A carrier's playout buffer: sound and marks in order, taken out frame by frame at the pace of real playout.

It owns the queue and is safe between one thread that fills it and one that plays; it refuses to know the wire.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from patter.audio.format import AudioFormat

FRAME_MS = 20.0
LIMIT_MS = 600_000.0  # the carrier throws sound away when more than ten minutes are queued
GAP_FRAMES = 15  # silence of up to 300 ms inside speech is a gap somebody hears; longer ones are pauses of the speaker


class _Queue:
    """What is waiting: replaced as a whole by `clear`, so that the player never sees half of it."""

    __slots__ = ("items", "rest")

    def __init__(self) -> None:
        self.items: deque[bytes | str] = deque()  # sound, and marks by name
        self.rest = b""  # of the sound being played; touched by the player only


class Playout:
    """The buffer of one line in `audio` format. `passed(name)` is called when a mark is reached, in the player's thread."""

    def __init__(self, audio: AudioFormat, passed: Callable[[str], None]) -> None:
        self._format = audio
        self._frame_bytes = audio.bytes_for(FRAME_MS)
        self._passed = passed
        self._queue = _Queue()
        self._queued = 0
        self._taken = 0
        self._dry = GAP_FRAMES + 1
        self._at_mark = True
        self.underruns = 0
        """How often sound stopped for up to 300 ms in the middle of speech."""
        self.overflows = 0
        """How many pieces were thrown away because too much was queued."""

    @property
    def queued_ms(self) -> float:
        """How much sound is waiting."""
        return self._format.ms_of(max(0, self._queued - self._taken))

    def put(self, sound: bytes) -> None:
        """Queue sound; thrown away (and counted) beyond the limit."""
        if self.queued_ms > LIMIT_MS:
            self.overflows += 1
            return
        self._queued += len(sound)
        self._queue.items.append(sound)

    def mark(self, name: str) -> None:
        """Queue a mark behind everything queued so far."""
        self._queue.items.append(name)

    def clear(self) -> list[str]:
        """Drop what waits; returns the names of its marks, which the carrier gives back at once."""
        dropped, self._queue = self._queue, _Queue()
        self._queued = self._taken = 0
        names: list[str] = []
        while True:  # the player may still take an item: each mark comes back through one of us, never through both
            try:
                item = dropped.items.popleft()
            except IndexError:
                return names
            if isinstance(item, str):
                names.append(item)

    def next_frame(self) -> bytes:
        """The next 20 ms to be heard, filled up with silence. For the player's thread, once every 20 ms."""
        queue = self._queue
        frame, missing = b"", self._frame_bytes
        while missing:
            if not queue.rest:
                try:
                    item = queue.items.popleft()
                except IndexError:
                    break
                if isinstance(item, str):
                    self._at_mark = True
                    self._passed(item)
                    continue
                queue.rest = item
                self._note_gap()
            part, queue.rest = queue.rest[:missing], queue.rest[missing:]
            frame += part
            missing -= len(part)
        self._taken += len(frame)
        if missing:
            self._dry += 1
            frame += self._format.silence * (missing // self._format.sample_bytes)
        return frame

    def _note_gap(self) -> None:
        if 0 < self._dry <= GAP_FRAMES and not self._at_mark:
            self.underruns += 1
        self._dry, self._at_mark = 0, False
