"""The caller's side of a call whose stream ends while somebody else is asked to take it, and begins anew if nobody does.

It owns which stream is the call's at the moment; it refuses to know carriers, and why nobody took the call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

from patter.audio.format import AudioChunk
from patter.clock import Clock
from patter.exceptions import PatterError
from patter.ports import Abilities, Ear, LineStats
from patter.signals import HungUp, PlayoutEnded, TransportSignal
from patter.transports.line_meter import joined
from patter.transports.media_stream import StreamTransport

BACK_S = 15.0  # the carrier says a sentence to the caller, and opens the new stream then


class ReturningLine:
    """A `Transport` over one stream after the other, for a carrier that takes the caller away to ring somebody else."""

    def __init__(self, stream: StreamTransport, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._ear: Ear | None = None
        self._unheard: set[int] = set()
        self._before = LineStats()  # of the streams that are gone
        self._coming = False
        self._here = anyio.Event()
        self._settled = anyio.Event()
        self._settled.set()

    @property
    def abilities(self) -> Abilities:
        return self._stream.abilities

    # ----------------------------------------------------------------- away and back

    async def transfer(self, number: str, summary: str = "") -> None:
        """See `Transport.transfer`. A caller whom nobody took over is back when this raises, or has hung up."""
        if summary.strip():  # the caller stays on the stream until somebody has taken the call
            await self._stream.transfer(number, summary)
            return
        self._settled, self._coming, self._here = anyio.Event(), False, anyio.Event()
        try:
            await self._stream.transfer(number)
        except PatterError:
            if self._coming:
                with anyio.move_on_after(BACK_S):
                    await self._here.wait()
            raise
        finally:
            self._settled.set()

    def comes_back(self) -> None:
        """Nobody took the call: a new stream is on its way."""
        self._coming = True

    def back(self, stream: StreamTransport) -> bool:
        """The caller is here again, on this stream. False if nobody waits any more."""
        if self._settled.is_set() or self._here.is_set():
            return False
        before, self._stream = self._stream, stream
        if self._ear is not None:
            stream.listen(self._ear)
        before.lost()
        self._before = joined(self._before, before.quality())
        self._here.set()
        return True

    # ----------------------------------------------------------------- from the caller

    def listen(self, ear: Ear) -> None:
        """See `Transport.listen`."""
        self._ear = ear
        self._stream.listen(ear)

    async def signals(self) -> AsyncIterator[TransportSignal]:
        """See `Transport.signals`: a stream that ends while the caller may come back is no hang-up yet."""
        while True:
            stream, ending = self._stream, HungUp()
            async for signal in stream.signals():
                if isinstance(signal, HungUp):
                    ending = signal
                    break
                if isinstance(signal, PlayoutEnded):
                    self._unheard.discard(signal.reply_id)
                yield signal
            await self._settled.wait()
            if self._stream is stream:
                yield ending
                return
            for reply_id in sorted(self._unheard):  # their marks went with the stream
                yield PlayoutEnded(reply_id, self._clock.now())
            self._unheard.clear()

    # ----------------------------------------------------------------- to the caller

    def play(self, chunk: AudioChunk, reply_id: int, at_ms: float) -> float:
        """See `Transport.play`."""
        return self._stream.play(chunk, reply_id, at_ms)

    def finish(self, reply_id: int) -> None:
        """See `Transport.finish`."""
        self._unheard.add(reply_id)
        self._stream.finish(reply_id)

    def show(self, text: str, reply_id: int) -> None:
        """A telephone has no screen."""

    def clear(self) -> float:
        """See `Transport.clear`."""
        self._unheard.clear()
        return self._stream.clear()

    def heard_ms(self, reply_id: int) -> float:
        """See `Transport.heard_ms`."""
        return self._stream.heard_ms(reply_id)

    def quality(self) -> LineStats:
        """See `Transport.quality`: all the call's streams together."""
        return joined(self._before, self._stream.quality())

    # ----------------------------------------------------------------- what else can be done to the call

    async def send_digits(self, digits: str) -> None:
        """See `Transport.send_digits`."""
        await self._stream.send_digits(digits)

    async def announce(self, text: str) -> None:
        """See `Transport.announce`."""
        await self._stream.announce(text)

    async def hang_up(self) -> None:
        """See `Transport.hang_up`."""
        await self._stream.hang_up()

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        await self._stream.aclose()
