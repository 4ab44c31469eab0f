"""Ears on a recogniser that says what the test says, when the test says it; and everything the ears told.

It owns plain behaviour at the port; no function of ours is mocked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from patter.audio.format import PCM_16K, AudioChunk, AudioFormat
from patter.clock import Clock
from patter.conversations.streaming_ears import StreamingEars
from patter.exceptions import ProviderError
from patter.mailbox import Mailbox
from patter.models import TurnTaking
from patter.signals import (
    CallerPartial,
    ConversationSignal,
    Endpointed,
    ListenerSignal,
    SpeechStarted,
    SpeechStopped,
    Used,
    UtteranceEnded,
)
from tests.support.virtual_time import virtual_clock

SETTINGS = TurnTaking(min_silence_ms=400, max_silence_ms=1500, pause_ms=200)


class Listener:
    """A recogniser at the port that says what the test says; every delay between sound and message is the test's."""

    name, model = "vendor", "one"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.heard: list[AudioChunk] = []
        self.settled: list[TurnTaking] = []
        self.closed = False
        self._out: Mailbox[ListenerSignal | ProviderError] = Mailbox()

    async def start(self, hears: AudioFormat, tasks: TaskGroup) -> None:
        """Connected at once."""

    def hear(self, chunk: AudioChunk) -> None:
        self.heard.append(chunk)

    def settle(self, settings: TurnTaking) -> None:
        self.settled.append(settings)

    async def signals(self) -> AsyncIterator[ListenerSignal]:
        async for signal in self._out:
            if isinstance(signal, ProviderError):
                raise signal
            yield signal

    async def aclose(self) -> None:
        self.say(Used("stt", self.name, self.model, {"audio_seconds": 7.0}))
        self._out.close()
        self.closed = True

    # what the vendor does in a test

    def say(self, signal: ListenerSignal | ProviderError) -> None:
        self._out.put(signal)

    def voice(self, ago: float = 0.1) -> None:
        now = self.clock.now()
        self.say(SpeechStarted(now - ago, now))

    def partial(self, text: str) -> None:
        self.say(CallerPartial(text, self.clock.now()))

    def pause(self, text: str, ago: float = 0.3, *, sure: bool = False) -> float:
        """An endpoint; gives when the speech ended."""
        now = self.clock.now()
        self.say(Endpointed(text, now - ago, now - 0.05, now, sure))
        return now - ago


class Room:
    """Ears on such a recogniser, and what they told."""

    def __init__(self, settings: TurnTaking = SETTINGS) -> None:
        self.clock = virtual_clock()
        self.listener = Listener(self.clock)
        self.told: list[ConversationSignal] = []
        self.prepared: list[str | None] = []  # None: discarded
        self.failures: list[ProviderError] = []
        self.ears = StreamingEars(
            self.listener,
            settings,
            self.clock,
            self.told.append,
            prepare=self.prepared.append,
            discard=lambda: self.prepared.append(None),
            failed=self.failures.append,
        )

    def kinds(self) -> list[str]:
        return [type(signal).__name__ for signal in self.told]

    @property
    def ended(self) -> list[UtteranceEnded]:
        return [signal for signal in self.told if isinstance(signal, UtteranceEnded)]

    @property
    def stopped(self) -> list[SpeechStopped]:
        return [signal for signal in self.told if isinstance(signal, SpeechStopped)]

    async def line(self, frame: bytes, seconds: float, line: AudioFormat = PCM_16K) -> None:
        for _ in range(round(seconds / 0.02)):
            self.ears.hear(AudioChunk(frame, line))
            await anyio.sleep(0.02)


@asynccontextmanager
async def listening(settings: TurnTaking = SETTINGS, line: AudioFormat = PCM_16K) -> AsyncIterator[Room]:
    room = Room(settings)
    async with anyio.create_task_group() as tasks:
        await room.ears.start(line, tasks)
        yield room
        await room.ears.aclose()
        tasks.cancel_scope.cancel()
