"""Speech-to-text of one call by the embedded Whisper: an utterance is decoded whole at every pause, and now and then before.

It owns the utterance's sound and which decode still counts; it refuses to find voice or to end turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import anyio.to_thread
from anyio.abc import TaskGroup

from patter.audio.level import rms_dbfs
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.mailbox import Mailbox
from patter.providers.embedded.decode_queue import DecodeQueue, DecodeRequest
from patter.providers.embedded.mel import Floats, to_samples
from patter.providers.embedded.whisper_model import NoLongerWanted, Wanted
from patter.providers.utterance import BYTES_PER_S, LONGEST, PRE_ROLL, UtteranceSound
from patter.signals import Transcribed

_FIRST_PARTIAL = int(1.2 * BYTES_PER_S)  # of voice: earlier, Whisper guesses
_PARTIAL_EVERY = int(1.5 * BYTES_PER_S)
_LAST_PARTIAL = 20 * BYTES_PER_S  # longer utterances are decoded in pieces, too slow for a draft
_PARTIAL_SHARE = 4  # drafts may take a quarter of the time at most, so that a final seldom waits for one
_DIP_BYTES = int(0.06 * BYTES_PER_S)
_DIP_DB = 20.0  # sound this far below the utterance may be the pause: its final comes first


class SpeechModel(Protocol):
    """What the calls share: a model that turns a whole utterance into words, and the queue of its thread."""

    @property
    def name(self) -> str: ...

    queue: DecodeQueue

    def load(self) -> None: ...

    def transcribe(self, samples: Floats, language: str, *, draft: bool, wanted: Wanted) -> str: ...


class WhisperTranscriber:
    """The `Transcriber` of one call. `language` is a code such as "en"; what follows a hyphen is ignored.

    `hear`, `begin`, `pause`, `resume` and `commit` belong to one event loop and return at once."""

    name = "embedded"

    def __init__(self, model: SpeechModel, clock: Clock, language: str = "en") -> None:
        self.model = model.name
        self._engine, self._clock = model, clock
        self._language = language.split("-")[0].lower() or "en"
        self._post: Callable[[Callable[[], None]], object] | None = None
        self._answers: Mailbox[Transcribed | ProviderError] = Mailbox()
        self._sound = UtteranceSound()
        self._next_partial = 0
        self._asked = 0  # the newest request: answers to others are moot

    async def start(self, tasks: TaskGroup) -> None:
        """Load the shared model if no call has. Raises ProviderError."""
        self._post = asyncio.get_running_loop().call_soon_threadsafe
        await anyio.to_thread.run_sync(self._engine.load)

    def hear(self, pcm_16k: bytes) -> None:
        """Keep it; between utterances only the pre-roll stays."""
        self._sound.hear(pcm_16k)
        if self._sound.begun is not None and self._sound.heard >= self._next_partial:
            self._ask_partial(self._sound.begun)

    def begin(self) -> None:
        """The utterance includes up to half a second before this moment."""
        self._next_partial = self._sound.begin() + PRE_ROLL + _FIRST_PARTIAL

    def pause(self) -> None:
        """Decode everything since `begin`; the answer is a final `Transcribed`, "" when there were no words."""
        if self._sound.begun is None:
            self.begin()
        self._sound.pause()
        self._next_partial = self._sound.heard + LONGEST  # no drafts while the final is being made
        self._ask(final=True)

    def resume(self) -> None:
        """The answer to the last `pause` will not come any more if it has not come yet."""
        self._withdraw()
        self._next_partial = self._sound.heard + _PARTIAL_EVERY

    def commit(self) -> None:
        """Forget the utterance: what was heard after its last pause may belong to the next."""
        self._withdraw()
        self._sound.take()

    def _withdraw(self) -> None:
        self._asked += 1
        self._engine.queue.withdraw(self)

    def _ask_partial(self, begun: int) -> None:
        heard = self._sound.heard
        if heard - begun > _LAST_PARTIAL:
            self._next_partial = heard + LONGEST
            return
        self._next_partial = heard + _DIP_BYTES  # look again soon, unless a draft is asked for now
        speech = self._sound.since(begun)
        dip = rms_dbfs(speech[-_DIP_BYTES:]) < rms_dbfs(speech) - _DIP_DB
        if not dip and self._engine.queue.idle:
            self._next_partial = heard + _PARTIAL_EVERY
            self._ask(final=False)

    def _ask(self, *, final: bool) -> None:
        post, begun = self._post, self._sound.begun
        if post is None or begun is None:
            raise ProviderError("the transcriber has not been started", provider="whisper", stage="stt")
        self._asked += 1
        number, requested_at = self._asked, self._clock.now()
        pcm = self._sound.since(begun)

        def wanted() -> bool:
            return number == self._asked and (final or not self._engine.queue.final_waits)

        def decode() -> None:
            answer = self._decode(pcm, requested_at, final, wanted)
            if answer is None:
                return
            try:
                post(lambda: self._deliver(number, answer))
            except RuntimeError:
                return  # the loop is gone, and with it the call

        self._engine.queue.put(DecodeRequest(self, decode, final))

    def _decode(
        self, pcm: bytes, requested_at: float, final: bool, wanted: Wanted
    ) -> Transcribed | ProviderError | None:
        samples = to_samples(pcm[: len(pcm) & ~1])
        try:
            text = self._engine.transcribe(samples, self._language, draft=not final, wanted=wanted)
        except NoLongerWanted:
            return None
        except ProviderError as error:
            return error
        except Exception as error:  # the border: nothing of the engine's own may escape into the call
            return ProviderError(f"recognition failed ({error})", provider="whisper", stage="stt")
        return Transcribed(text, final, requested_at, self._clock.now(), len(pcm) / BYTES_PER_S if final else 0.0)

    def _deliver(self, number: int, answer: Transcribed | ProviderError) -> None:
        if isinstance(answer, Transcribed):
            if number != self._asked:
                return
            if not answer.final:
                took = answer.ready_at - answer.requested_at
                pace = max(_PARTIAL_EVERY, int(_PARTIAL_SHARE * took * BYTES_PER_S))
                self._next_partial = max(self._next_partial, self._sound.heard + pace - int(took * BYTES_PER_S))
                if not answer.text:
                    return
        self._answers.put(answer)

    async def signals(self) -> AsyncIterator[Transcribed]:
        """Partials and finals in order, until `aclose`. Raises ProviderError when the engine fails."""
        async for answer in self._answers:
            if isinstance(answer, ProviderError):
                raise answer
            yield answer

    async def aclose(self) -> None:
        """End `signals` and forget what waits; more than once is fine."""
        self._withdraw()
        self._answers.close()
