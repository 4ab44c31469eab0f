"""A base for recognisers that turn one utterance at a time into words: they write `words`, everything else is here.

It owns the utterance's sound, which answer still counts, the bill by seconds, and that a failure loses one utterance and not
the call; it refuses to know how words are made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
from anyio.abc import TaskGroup

from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.mailbox import Mailbox
from patter.providers.utterance import BYTES_PER_S, UtteranceSound
from patter.signals import Transcribed, TranscriberSignal, Used

LEAST_BYTES = int(0.1 * BYTES_PER_S)  # shorter sound holds no word


class EachUtterance:
    """A `ports.Transcriber`. Set `name` and `model`, and write `words`; `clock` is that of the maker's bench."""

    name: str
    model: str

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sound = UtteranceSound()
        self._said: Mailbox[TranscriberSignal | ProviderError] = Mailbox()
        self._asking = anyio.CancelScope()
        self._tasks: TaskGroup

    async def words(self, pcm_16k: bytes) -> str:
        """The words of an utterance (PCM 16 kHz), "" for none. May raise ProviderError; is cancelled if the caller goes on."""
        raise NotImplementedError

    async def start(self, tasks: TaskGroup) -> None:
        """Ready at once."""
        self._tasks = tasks

    def hear(self, pcm_16k: bytes) -> None:
        """Keep it for the utterance."""
        self._sound.hear(pcm_16k)

    def begin(self) -> None:
        """The utterance includes up to half a second before this moment."""
        self._sound.begin()

    def pause(self) -> None:
        """Ask for the words of everything since `begin`."""
        self._asking.cancel()
        self._sound.pause()
        now, begun = self._clock.now(), self._sound.begun
        pcm = self._sound.since(begun) if begun is not None else b""
        if len(pcm) < LEAST_BYTES:
            self._said.put(Transcribed("", True, now, now))
            return
        self._asking = anyio.CancelScope()
        self._tasks.start_soon(self._ask, pcm[: len(pcm) & ~1], now, self._asking)

    def resume(self) -> None:
        """The answer to the last `pause` will not come any more if it has not come yet."""
        self._asking.cancel()

    def commit(self) -> None:
        """Forget the utterance."""
        self._asking.cancel()
        self._sound.take()

    async def _ask(self, pcm: bytes, asked_at: float, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                text = await self.words(pcm)
            except ProviderError as error:
                self._said.put(error)
            except Exception as error:
                problem = f"it failed ({type(error).__name__}: {error})"
                self._said.put(ProviderError(problem, provider=self.name, stage="stt", retryable=True))
            else:
                self._said.put(Used("stt", self.name, self.model, {"audio_seconds": len(pcm) / BYTES_PER_S}))
                self._said.put(Transcribed(text.strip(), True, asked_at, self._clock.now()))

    async def signals(self) -> AsyncIterator[TranscriberSignal]:
        """Finals and what they cost, until `aclose`. Raises ProviderError when an utterance was lost; may be read on."""
        async for said in self._said:
            if isinstance(said, ProviderError):
                raise said
            yield said

    async def aclose(self) -> None:
        """End `signals`."""
        self._asking.cancel()
        self._said.close()
