"""Live listening: both voices of a call that goes on, put side by side as the caller's ear has them, for whoever listens.

It owns the mixing and the queue of each listener; it refuses to cost a call anything: without a listener a frame of the
caller's costs one comparison, and the agent's sound is only noted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable

import anyio
import numpy as np

from patter.audio.convert import Converter
from patter.audio.format import AudioChunk, AudioFormat
from patter.observe.stereo import Track
from patter.ports import CallInfo, Transport

BLOCK_MS = 100  # what a listener gets at a time: five frames, so that fifty listeners cost little
BEHIND = 100  # blocks a slow listener may be behind (ten seconds): then the oldest are left out
KEPT_S = 120.0  # of the agent's sound that may still be played when somebody begins to listen
JOIN_S = 0.005  # chunks that meet within this belong together


class Listener:
    """One who listens: iterate for blocks of 16-bit PCM, two channels interleaved (caller, agent), until the call is over.

    `rate` in Hz, `left_out` counts the blocks that this listener was too slow for."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.left_out = 0
        self._blocks: deque[bytes] = deque()
        self._ready = anyio.Event()
        self._over = False

    def push(self, block: bytes) -> None:
        """One more block."""
        if len(self._blocks) >= BEHIND:
            self._blocks.popleft()
            self.left_out += 1
        self._blocks.append(block)
        self._ready.set()

    def close(self) -> None:
        """The call is over."""
        self._over = True
        self._ready.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while self._blocks:
                yield self._blocks.popleft()
            if self._over:
                return
            self._ready = anyio.Event()
            await self._ready.wait()


class _Booth:
    """The mixing of one call, made when the first listener comes. The caller's frames are its clock."""

    def __init__(self, rate: int, now: float) -> None:
        self.rate = rate
        self._start = now
        self._agent = Track(rate)
        self._caller = bytearray()
        self._done = 0  # samples of both sides that were given out
        self._converters: dict[str, Converter] = {}

    def caller(self, chunk: AudioChunk) -> bytes | None:
        """A frame of the caller's; a block of both sides when there is enough of it."""
        self._caller += self._pcm("caller", chunk)
        if len(self._caller) < 2 * self.rate * BLOCK_MS // 1000:
            return None
        left, self._caller = np.frombuffer(bytes(self._caller), np.int16), bytearray()
        self._done += len(left)
        right = np.frombuffer(self._agent.take(self._done), np.int16)
        return np.column_stack((left, right)).tobytes()

    def agent(self, chunk: AudioChunk, starts_at: float) -> None:
        """Sound that the ear has from `starts_at` on."""
        pcm, at = self._pcm("agent", chunk), self._place(starts_at)
        joins = abs(at - self._agent.end) <= JOIN_S * self.rate
        at = self._agent.end if joins else at
        if at < 0:
            pcm, at = pcm[-2 * at :], 0
        if pcm:
            self._agent.place(pcm, at)

    def cut(self, at: float) -> None:
        self._agent.cut(max(0, self._place(at)))

    def _place(self, at: float) -> int:
        return round((at - self._start) * self.rate)

    def _pcm(self, side: str, chunk: AudioChunk) -> bytes:
        converter = self._converters.get(side)
        if converter is None or converter.src != chunk.format:
            converter = self._converters[side] = Converter(chunk.format, AudioFormat("pcm_s16le", self.rate))
        return converter.convert(chunk.data)


class _Tap:
    """An AudioTap that hands on to the listeners of one call."""

    def __init__(self, rate: int, over: Callable[[], None]) -> None:
        self._rate = rate
        self._over = over
        self._listeners: list[Listener] = []
        self._booth: _Booth | None = None
        self._coming: deque[tuple[AudioChunk, float]] = deque()  # the agent's sound that is not over yet

    def caller(self, chunk: AudioChunk, at: float) -> None:
        """A frame of the caller's, received at `at`."""
        if not self._listeners:
            return
        if self._booth is None:
            self._booth = _Booth(self._rate, at - chunk.ms / 1000)
            for sound, starts_at in self._coming:
                self._booth.agent(sound, starts_at)
        if block := self._booth.caller(chunk):
            for listener in self._listeners:
                listener.push(block)

    def agent(self, chunk: AudioChunk, starts_at: float) -> None:
        """Sound for the caller whose first sample reaches the ear at `starts_at`."""
        while self._coming and self._coming[0][1] < starts_at - KEPT_S:
            self._coming.popleft()
        self._coming.append((chunk, starts_at))
        if self._booth is not None:
            self._booth.agent(chunk, starts_at)

    def cut(self, at: float) -> None:
        """Whatever would have been heard from the agent after `at` was dropped."""
        while self._coming and self._coming[-1][1] >= at:
            self._coming.pop()
        if self._booth is not None:
            self._booth.cut(at)

    def close(self, at: float) -> None:
        """The call is over."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._over()

    def join(self) -> Listener:
        """One more listens from now on."""
        listener = Listener(self._rate)
        self._listeners.append(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """One less; after the last one nothing is mixed."""
        if listener in self._listeners:
            self._listeners.remove(listener)
        if not self._listeners:
            self._booth = None


class Listening:
    """The calls of one engine that can be listened to."""

    def __init__(self) -> None:
        self._taps: dict[str, _Tap] = {}

    def taps(self, call: CallInfo, transport: Transport) -> tuple[_Tap, ...]:
        """The tap of a call that begins; none for a call without sound."""
        plays = transport.abilities.plays
        if plays is None:
            return ()
        tap = _Tap(plays.rate, lambda: self._forget(call.call_id, tap))
        self._taps[call.call_id] = tap
        return (tap,)

    def join(self, call_id: str) -> Listener | None:
        """Listen to a call from now on; None if there is no such call with sound. `leave` when done."""
        tap = self._taps.get(call_id)
        return tap.join() if tap is not None else None

    def leave(self, call_id: str, listener: Listener) -> None:
        """Listen no more."""
        listener.close()
        if (tap := self._taps.get(call_id)) is not None:
            tap.leave(listener)

    def _forget(self, call_id: str, tap: _Tap) -> None:
        if self._taps.get(call_id) is tap:
            del self._taps[call_id]
