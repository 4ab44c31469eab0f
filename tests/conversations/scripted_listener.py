"""A streaming recogniser that hears what a test says; it keeps how much sound it was given."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
from anyio.abc import TaskGroup

from patter.audio.format import AudioChunk, AudioFormat
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.mailbox import Mailbox
from patter.models import TurnTaking
from patter.signals import CallerPartial, Endpointed, ListenerSignal, SpeechStarted, TurnLikely, TurnUnlikely


class ScriptedListener:
    """Takes `opening_s` to open, and fails to if there is a `refusal`."""

    name = "listener"
    model = "test"

    def __init__(self, clock: Clock, *, opening_s: float = 0.0, refusal: ProviderError | None = None) -> None:
        self._clock, self._opening_s, self._refusal = clock, opening_s, refusal
        self._said: Mailbox[ListenerSignal | ProviderError] = Mailbox()
        self.heard_ms = 0.0
        self.settings: TurnTaking | None = None
        self.closed = False

    async def start(self, hears: AudioFormat, tasks: TaskGroup) -> None:
        await anyio.sleep(self._opening_s)
        if self._refusal is not None:
            raise self._refusal

    def hear(self, chunk: AudioChunk) -> None:
        self.heard_ms += chunk.ms

    def settle(self, settings: TurnTaking) -> None:
        self.settings = settings

    async def signals(self) -> AsyncIterator[ListenerSignal]:
        async for signal in self._said:
            if isinstance(signal, ProviderError):
                raise signal
            yield signal

    async def aclose(self) -> None:
        self.closed = True
        self._said.close()

    # ------------------------------------------------------------------ what a test makes it hear

    def fails(self, error: ProviderError) -> None:
        """It can go on no more."""
        self._said.put(error)

    def speech(self) -> None:
        """The caller begins to speak."""
        self._said.put(SpeechStarted(self._clock.now(), self._clock.now()))

    def words(self, text: str) -> None:
        """The words so far."""
        self._said.put(CallerPartial(text, self._clock.now()))

    def likely(self, text: str) -> None:
        """The caller is probably done."""
        self._said.put(TurnLikely(text, self._clock.now()))

    def unlikely(self) -> None:
        """The caller goes on."""
        self._said.put(TurnUnlikely(self._clock.now()))

    def ends(self, text: str) -> None:
        """The caller is done."""
        now = self._clock.now()
        self._said.put(Endpointed(text, now, now, now, sure=True))
