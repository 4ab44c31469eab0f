"""A media stream with a loopback carrier's leg at its other end, in virtual time, on a good or a bad day.

It owns the joint and notes what arrived when; it refuses to judge what came of it.
"""

from __future__ import annotations

from patter.audio.format import AudioChunk
from patter.loopback.media_leg import MediaLeg
from patter.loopback.misbehaviour import Misbehaviour
from patter.transports.media_stream import StreamTransport
from tests.support.lines import LineKind
from tests.support.virtual_time import virtual_clock


class Line:
    """A transport and a carrier's leg that plays in real time, joined without latency but for what the day brings."""

    def __init__(self, kind: LineKind, day: Misbehaviour) -> None:
        self.clock, self.kind = virtual_clock(), kind
        self.transport = StreamTransport("call-1", kind.wire(), self, self.clock)
        self.leg = MediaLeg(
            kind.chair(),
            kind.hears,
            self.clock,
            self.mouth,
            self.ear,
            read=kind.read,
            plays=kind.plays,
            misbehaviour=day,
        )
        self.loud = b"\x21" * kind.plays.sample_bytes
        self.spoken = 0
        self.played_ms = 0.0
        self.frames: list[AudioChunk] = []
        self.arrivals: list[tuple[float, str]] = []
        self.doubles = 0
        """Every so many messages one comes twice; 0 = none does."""
        self.transport.listen(self.frames.append)

    def mouth(self) -> bytes:
        self.spoken += 1
        return bytes([1 + self.spoken % 200]) * self.kind.hears.bytes_for(20)

    def ear(self, frame: bytes) -> None:
        self.played_ms += self.kind.plays.ms_of(frame.count(self.loud[:1]))

    async def to_server(self, text: str) -> None:
        self.arrivals.append((self.clock.now(), text))
        self.transport.feed(text)
        if self.doubles and not len(self.arrivals) % self.doubles:
            self.arrivals.append((self.clock.now(), text))
            self.transport.feed(text)

    def send(self, text: str) -> None:
        self.leg.receive(text)

    def close(self) -> None:
        self.leg.server_gone()

    def play(self, ms: float, reply_id: int, at_ms: float = 0.0) -> None:
        sound = self.loud * (self.kind.plays.bytes_for(ms) // self.kind.plays.sample_bytes)
        self.transport.play(AudioChunk(sound, self.kind.plays), reply_id, at_ms)
