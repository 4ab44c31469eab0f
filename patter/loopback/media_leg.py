"""The carrier's end of one media stream: speaks on an absolute 20 ms clock, plays in real time, answers marks.

It owns the stream from `connected` to `stop` over any pipe of texts; it refuses to know HTTP, devices and the agent.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

import anyio

from patter.audio.format import AudioFormat
from patter.audio.pacing import Pacer
from patter.clock import Clock
from patter.exceptions import WireError
from patter.loopback.misbehaviour import GOOD_DAY, Misbehaviour, Weather
from patter.loopback.playout import FRAME_MS, Playout
from patter.wire.stream import Clear, Mark, Play, ServerMessage

Mouth = Callable[[], bytes]
"""Gives the caller's next 20 ms in the line's format; fewer bytes are filled up with silence."""

Ear = Callable[[bytes], None]
"""Takes the 20 ms that the caller hears now, in the line's format."""

Send = Callable[[str], Awaitable[None]]


class LegWire(Protocol):
    """Writes one carrier's messages of one stream, with their running numbers."""

    def connected(self) -> str: ...

    def start(self, parameters: Mapping[str, str] | None = None) -> str: ...

    def media(self, sound: bytes, timestamp_ms: int) -> str: ...

    def dtmf(self, digit: str) -> str: ...

    def mark(self, name: str) -> str: ...

    def stop(self) -> str: ...


@dataclass(slots=True)
class LineStats:
    """How well the line does. `jitter_ms`: smoothed lateness of outgoing frames; `slips`: times it gave up catching up."""

    frames_sent: int = 0
    frames_heard: int = 0
    jitter_ms: float = 0.0
    slips: int = 0
    underruns: int = 0
    dropped: int = 0

    def as_dict(self) -> dict[str, float]:
        """The numbers by name."""
        return asdict(self)


class MediaLeg:
    """One stream. With an `ear` it plays at its own pace; without, a device with a clock pulls `next_frame`.

    `wire` writes the carrier's messages, `read` reads the server's (WireError for what the carrier would not take; `refusal`
    makes the carrier's answer to that, if it gives one). `audio` is the caller's sound, `plays` the agent's, if another.
    `ear_delay_s` is how long after `next_frame` a frame has been heard to its end: marks wait for that. It may be set when
    the device has told its latency."""

    def __init__(
        self,
        wire: LegWire,
        audio: AudioFormat,
        clock: Clock,
        mouth: Mouth,
        ear: Ear | None = None,
        ear_delay_s: float = 0.0,
        *,
        read: Callable[[str], ServerMessage],
        plays: AudioFormat | None = None,
        refusal: Callable[[WireError], str] | None = None,
        misbehaviour: Misbehaviour = GOOD_DAY,
    ) -> None:
        self.format = audio
        self.plays = plays or audio
        self.violations: list[str] = []
        """What the server sent that a carrier would refuse, ignore or warn of."""
        self.dropped = False
        """The socket died without a goodbye, as was asked for: its owner breaks the connection."""
        self._wire = wire
        self._read = read
        self._refusal = refusal
        self._clock = clock
        self._mouth = mouth
        self._ear = ear
        self.ear_delay_s = ear_delay_s
        self._frame = audio.bytes_for(FRAME_MS)
        self._playout = Playout(self.plays, self._passed)
        self._reached: deque[tuple[float, str]] = deque()  # marks that were passed, with the moment they are heard
        self._said: deque[Callable[[], str]] = deque()  # written when it is sent: messages are numbered in order
        self._weather = None if misbehaviour == GOOD_DAY else Weather(misbehaviour)
        self._wake = anyio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hung_up = False
        self._gone = False
        self._stats = LineStats()

    @property
    def stats(self) -> LineStats:
        """The numbers so far (a live object)."""
        self._stats.underruns, self._stats.dropped = self._playout.underruns, self._playout.overflows
        return self._stats

    @property
    def queued_ms(self) -> float:
        """How much of the agent's sound waits to be played."""
        return self._playout.queued_ms

    # ----------------------------------------------------------------- the person at the telephone

    def next_frame(self) -> bytes:
        """The next 20 ms for the caller's ear, in the line's format; for one thread, once every 20 ms."""
        self._stats.frames_heard += 1
        return self._playout.next_frame()

    def press(self, digit: str) -> None:
        """Press a key (on the event loop)."""
        self.say(lambda: self._wire.dtmf(digit))

    def say(self, message: Callable[[], str]) -> None:
        """Send one more message of the carrier; it is written when its turn comes (on the event loop)."""
        self._said.append(message)
        self._wake.set()

    def hang_up(self) -> None:
        """Put the receiver down: `stop` is sent and `run` returns (on the event loop)."""
        self._hung_up = True
        self._wake.set()

    # ----------------------------------------------------------------- the server

    def receive(self, text: str) -> None:
        """One text frame from the server."""
        try:
            message = self._read(text)
        except WireError as problem:
            self.violations.append(str(problem))
            if self._refusal is not None:
                answer = self._refusal(problem)
                self.say(lambda: answer)
            return
        match message:
            case Play(sound):
                self._play(sound)
            case Mark(name):
                self._playout.mark(name)
            case Clear():
                now = self._clock.now()
                names = [self._reached.popleft()[1] for _ in range(len(self._reached))]
                self._reached.extend((now, name) for name in names)
                for name in self._playout.clear():
                    self._reach(now, name)
                self._wake.set()

    def _play(self, sound: bytes) -> None:
        if len(sound) % self.plays.sample_bytes:
            self.violations.append("media ends inside a sample")
            return
        if sound.startswith(b"RIFF"):
            self.violations.append("media begins with a WAV header: it would be played as noise")
        thrown_away = self._playout.overflows
        self._playout.put(sound)
        if not thrown_away and self._playout.overflows:
            self.violations.append("more than ten minutes of sound are queued: what comes now is thrown away")

    def receive_binary(self) -> None:
        """The server sent a binary frame."""
        self.violations.append("a binary frame: the stream is text only")

    def server_gone(self) -> None:
        """The server closed the socket: the stream is over without a `stop`."""
        self._gone = True
        self._wake.set()

    def _passed(self, name: str) -> None:
        """A mark was passed, in the player's thread (ours, if we play ourselves)."""
        self._reach(self._clock.now() + self.ear_delay_s, name)
        loop = self._loop
        if self._ear is None and loop is not None:
            loop.call_soon_threadsafe(lambda: self._wake.set())

    def _reach(self, moment: float, name: str) -> None:
        back = moment if self._weather is None else self._weather.mark_at(moment)
        if back is not None:
            self._reached.append((back, name))

    async def run(self, send: Send, parameters: dict[str, str] | None = None, *, connected: str = "") -> None:
        """The stream from `connected` (the wire's own, if it is not given) until somebody hangs up.

        `send` may raise ConnectionError: the server is gone."""
        self._loop = asyncio.get_running_loop()
        try:
            await send(connected or self._wire.connected())
            start = self._wire.start(parameters)
            await send(start if self._weather is None else self._weather.start(start))
            await self._stream(send)
            if self._hung_up and not self._gone:
                await send(self._wire.stop())
        except ConnectionError:
            self._gone = True
        finally:
            self._loop = None

    async def _stream(self, send: Send) -> None:
        began = self._clock.now()
        pacer = Pacer(began + FRAME_MS / 1000)  # a frame is complete when its last sample has been spoken
        if self._weather is not None:
            self._weather.begin(began)
        while not (self._hung_up or self._gone):
            now = self._clock.now()
            self._wake = anyio.Event()
            await self._answer(send, now)
            if pacer.wait(now) <= 0.0:
                late_ms = max(0.0, now - pacer.due) * 1000
                self._stats.jitter_ms += (late_ms - self._stats.jitter_ms) / 16  # the smoothing of RFC 3550
                if self._ear is not None:
                    self._ear(self.next_frame())
                await self._speak(send, now)
                pacer.sent(now)
                self._stats.slips = pacer.slips
                continue
            with anyio.move_on_after(min(pacer.wait(now), max(0.0, self._next_at() - now))):
                await self._wake.wait()

    async def _speak(self, send: Send, now: float) -> None:
        frame = self._wire.media(self._next_words(), int((self._stats.frames_sent + 1) * FRAME_MS))
        if self._weather is None:
            await send(frame)
        else:
            self._weather.frame(frame, now)
            self.dropped = self._weather.dropped(now)
            self._gone |= self.dropped
        self._stats.frames_sent += 1

    def _next_at(self) -> float:
        mark = self._reached[0][0] if self._reached else math.inf
        return mark if self._weather is None else min(mark, self._weather.next_at)

    async def _answer(self, send: Send, now: float) -> None:
        while self._said:
            await send(self._said.popleft()())
        while self._reached and self._reached[0][0] <= now:
            await send(self._wire.mark(self._reached.popleft()[1]))
        if self._weather is not None:
            for frame in self._weather.arrived(now):
                await send(frame)

    def _next_words(self) -> bytes:
        words = self._mouth()
        missing = self._frame - len(words)
        if missing > 0:
            words += self.format.silence * (missing // self.format.sample_bytes)
        return words[: self._frame]
