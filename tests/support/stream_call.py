"""A call on a media stream with the test in the carrier's chair.

It owns the socket and the REST side as fakes at their ports; it refuses to know what is tested.
"""

from __future__ import annotations

import anyio

from patter.audio.format import AudioChunk
from patter.exceptions import PatterError
from patter.signals import TransportSignal
from patter.transports.media_stream import StreamTransport
from patter.wire.stream import Mark, Play, ServerMessage
from tests.support.lines import TWILIO, LineKind
from tests.support.virtual_time import virtual_clock


class Socket:
    """A socket that keeps what was sent."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.closed = 0

    def send(self, text: str) -> None:
        self.texts.append(text)

    def close(self) -> None:
        self.closed += 1


class Rest:
    """The carrier's REST side of a call. `refuses`: what it says instead of doing it. `takes_s`: its answer is slow."""

    def __init__(self, refuses: str = "", takes_s: float = 0.0) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._refuses, self._takes_s = refuses, takes_s

    async def _ask(self, *what: str) -> None:
        self.asked.append(what)
        await anyio.sleep(self._takes_s)
        if self._refuses:
            raise PatterError(self._refuses)

    async def send_digits(self, digits: str) -> None:
        await self._ask("digits", digits)

    async def transfer(self, number: str, summary: str = "") -> None:
        await self._ask("transfer", number, summary)

    async def announce(self, text: str) -> None:
        await self._ask("announce", text)

    async def record(self) -> None:
        await self._ask("record")

    async def hang_up(self) -> None:
        await self._ask("hang up")


class Call:
    """One call on a line, with the test in the carrier's chair."""

    def __init__(self, line: LineKind = TWILIO, rest: Rest | None = None) -> None:
        self.line, self.chair = line, line.chair()
        self.socket, self.clock = Socket(), virtual_clock()
        self.transport = StreamTransport("call-1", line.wire(), self.socket, self.clock, rest)
        self.heard: list[AudioChunk] = []
        self.transport.listen(self.heard.append)

    def take(self) -> list[ServerMessage]:
        """What was sent since the last look, as the carrier reads it; raises if it would refuse any of it."""
        taken = [self.line.read(text) for text in self.socket.texts]
        self.socket.texts.clear()
        return taken

    def play(self, ms: float, reply_id: int = 1, at_ms: float = 0.0) -> float:
        return self.transport.play(AudioChunk(self.line.plays.quiet(ms), self.line.plays), reply_id, at_ms)

    def marks(self) -> list[str]:
        return [message.name for message in self.take() if isinstance(message, Mark)]

    def sizes(self) -> list[float | str]:
        """What was sent since the last look: ms of sound, or the message's name."""
        return [
            self.line.plays.ms_of(len(message.sound)) if isinstance(message, Play) else type(message).__name__.lower()
            for message in self.take()
        ]

    async def said(self) -> list[TransportSignal]:
        """Everything said until the end; the call is closed for it."""
        await self.transport.aclose()
        return [signal async for signal in self.transport.signals()]
