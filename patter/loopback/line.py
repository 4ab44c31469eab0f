"""The sound of one telephone line: who is at it, what a stream, an announcement and a joined line bring, and a recording.

It owns 20 ms frames in the line's own codec, on an absolute clock; it refuses to know sockets, webhooks and commands.
"""

from __future__ import annotations

import io
import wave
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import numpy as np

from patter.audio.convert import Converter
from patter.audio.format import AudioFormat
from patter.audio.pacing import Pacer
from patter.clock import Clock
from patter.loopback.person import Handset
from patter.loopback.playout import FRAME_MS
from patter.loopback.tones import as_line

READY_FRAMES = 2  # of a joined line, before it is heard: the two lines' clocks stand anywhere between two ticks
LATE_FRAMES = 10  # of a joined line at most, before the oldest are thrown away


def mixed(sounds: list[bytes], line: AudioFormat) -> bytes:
    """Frames of one length, heard at once."""
    if len(sounds) == 1:
        return sounds[0]
    pcm_format = AudioFormat("pcm_s16le", line.rate)
    pcms = [np.frombuffer(Converter(line, pcm_format).convert(sound), np.int16).astype(np.int32) for sound in sounds]
    total = np.clip(np.sum(pcms, axis=0), -32768, 32767).astype("<i2")
    return Converter(pcm_format, line).convert(total.tobytes())


class Recording:
    """Both sides of a line from one moment on, the person's left and what they hear right."""

    def __init__(self, line: AudioFormat, channels: str, began_at: float) -> None:
        self.channels = channels
        """ "single" or "dual"."""
        self.began_at = began_at
        self.ended_at = 0.0
        self._line = line
        self._said, self._heard = bytearray(), bytearray()

    def take(self, said: bytes, heard: bytes) -> None:
        """The next 20 ms."""
        self._said += said
        self._heard += heard

    @property
    def seconds(self) -> float:
        """How much has been recorded."""
        return self._line.ms_of(len(self._said)) / 1000

    def wav(self) -> bytes:
        """The file: 16-bit PCM, at the line's rate."""
        pcm = AudioFormat("pcm_s16le", self._line.rate)
        sides = [
            np.frombuffer(Converter(self._line, pcm).convert(bytes(side)), "<i2") for side in (self._said, self._heard)
        ]
        size = min(len(side) for side in sides)
        both = np.stack([side[:size] for side in sides], axis=1)
        samples = both if self.channels == "dual" else (both.astype(np.int32).sum(axis=1) // 2).astype("<i2")
        target = io.BytesIO()
        with wave.open(target, "wb") as file:
            file.setnchannels(2 if self.channels == "dual" else 1)
            file.setsampwidth(2)
            file.setframerate(pcm.rate)
            file.writeframes(samples.tobytes())
        return target.getvalue()


class Line:
    """An open line. It keeps its own time, except while a stream drives it: then the stream pulls `said` and pushes `hear`."""

    def __init__(self, handset: Handset, clock: Clock) -> None:
        self.format = handset.speaks
        self.handset = handset
        self.recordings: list[Recording] = []
        self._clock = clock
        self._silence = self.format.quiet(FRAME_MS)
        self._last_heard = self._silence
        self._announcements: deque[tuple[deque[bytes], Callable[[], None]]] = deque()
        self._joined: Line | None = None
        self._converter: Converter | None = None
        self._incoming: deque[bytes] = deque(maxlen=LATE_FRAMES)
        self._flowing = False
        self._free = anyio.Event()  # nobody drives
        self._free.set()

    async def run(self) -> None:
        """Let time pass on this line; cancel to close it."""
        while True:
            await self._free.wait()
            pacer = Pacer(self._clock.now() + FRAME_MS / 1000)
            while self._free.is_set():
                await anyio.sleep(pacer.wait(self._clock.now()))
                if self._free.is_set():
                    self.hear(b"")
                    self.said()
                    pacer.sent(self._clock.now())

    @contextmanager
    def driven(self) -> Iterator[None]:
        """While a stream keeps this line's time."""
        self._free = anyio.Event()
        try:
            yield
        finally:
            self._free.set()

    # ----------------------------------------------------------------- every 20 ms

    def said(self) -> bytes:
        """The next 20 ms of the person."""
        words = self.handset.mouth()
        if self._joined is not None:
            self._joined._arrive(words if self._converter is None else self._converter.convert(words))
        for recording in self.recordings:
            recording.take(words, self._last_heard)
        return words

    def hear(self, stream: bytes) -> None:
        """The next 20 ms for the person: what a stream plays (b"" = nothing) with everything else on this line."""
        sounds = [stream] if stream else []
        if self._announcements:
            frames, ended = self._announcements[0]
            sounds.append(frames.popleft())
            if not frames:
                self._announcements.popleft()
                ended()
        if self._incoming and (self._flowing or len(self._incoming) >= READY_FRAMES):
            self._flowing = True
            sounds.append(self._incoming.popleft())
        else:
            self._flowing = False
        frame = mixed(sounds, self.format) if sounds else self._silence
        self._last_heard = frame
        self.handset.ear(frame)

    def _arrive(self, words: bytes) -> None:
        self._incoming.append(words)

    # ----------------------------------------------------------------- what is on the line

    def announce(self, pcm_8k: bytes, ended: Callable[[], None]) -> None:
        """Play this to the person, behind announcements that wait already; `ended()` when it has been heard."""
        sound, size = as_line(pcm_8k, self.format), len(self._silence)
        padded = sound + self.format.silence * (-len(sound) % size // self.format.sample_bytes)
        self._announcements.append((deque(padded[at : at + size] for at in range(0, len(padded), size)), ended))

    def stop_announcements(self, current_only: bool = False) -> None:
        """Fall silent; their `ended` is called for those that are cut off too."""
        stopped = [self._announcements.popleft()] if current_only and self._announcements else list(self._announcements)
        if not current_only:
            self._announcements.clear()
        for _, ended in stopped:
            ended()

    def join(self, other: Line) -> None:
        """From now on the two people hear each other."""
        for one, two in ((self, other), (other, self)):
            one._joined = two
            one._converter = None if one.format == two.format else Converter(one.format, two.format)
            one._incoming.clear()
            one._flowing = False

    def part(self) -> None:
        """The joined line is gone."""
        if self._joined is not None:
            other, self._joined = self._joined, None
            other.part()
        self._incoming.clear()
