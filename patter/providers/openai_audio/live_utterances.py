"""Speech-to-text of one call by OpenAI's models for live sound, which must be told where an utterance begins and ends.

It owns which of the vendor's items make up the utterance; it refuses to find voice, and to know sockets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from anyio.abc import TaskGroup

from patter.audio.format import PCM_16K, AudioChunk
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.mailbox import Mailbox
from patter.providers.dialer import Dialer
from patter.providers.openai_audio.live_session import LiveSession, audio_for
from patter.providers.openai_audio.live_transcription import live_request
from patter.providers.openai_audio.place import Place
from patter.providers.openai_audio.transcription import amounts
from patter.providers.utterance import UtteranceSound
from patter.signals import Faulted, Transcribed, TranscriberSignal, Used
from patter.wire.openai_live_transcription import (
    LEAST_COMMIT_MS,
    Committed,
    Complaint,
    Completed,
    LiveEvent,
    Wordless,
    Words,
)
from patter.wire.openai_transcription import Request, Usage, joined

NOTHING_THERE = "input_audio_buffer_commit_empty"


@dataclass(slots=True)
class _Part:
    """What was committed at one pause of `utterance`: it ends at `end_ms` (a position) and is `item` to the vendor."""

    utterance: int
    end_ms: float
    ms: float
    item: str = ""
    words: str = ""
    done: bool = False


class LiveUtteranceTranscriber:
    """A `ports.Transcriber` over one socket: words come while the caller speaks. Silence between utterances is not sent."""

    def __init__(self, dialer: Dialer, clock: Clock, place: Place, request: Request) -> None:
        self.name, self.model = place.vendor.name, request.model
        self._clock = clock
        self._said: Mailbox[TranscriberSignal | ProviderError] = Mailbox()
        self._session = LiveSession(
            dialer,
            clock,
            place,
            live_request(request, audio_for(PCM_16K), hears_by_itself=False),
            PCM_16K,
            event=self._heard,
            renewed=self._renewed,
            tell=self._said.put,
            failed=self._said.put,
        )
        self._sound = UtteranceSound()
        self._flows = False  # the caller speaks: sound goes out as it comes
        self._sent_to = 0  # how far the sound of this utterance has gone out
        self._open_ms = 0.0  # sent since the last commit
        self._open: dict[str, str] = {}  # words of what has not been committed yet, by item
        self._utterance = 0
        self._parts: list[_Part] = []  # of this utterance, and of older ones as long as their words are missing
        self._asked_at: float | None = None  # somebody waits for the words since then

    async def start(self, tasks: TaskGroup) -> None:
        """Connect. Raises ProviderError."""
        await self._session.start(tasks)

    # ------------------------------------------------------------------ what goes out

    def hear(self, pcm_16k: bytes) -> None:
        """Send it while the caller speaks, else keep a little."""
        self._sound.hear(pcm_16k)
        if self._flows:
            self._send(pcm_16k)

    def begin(self) -> None:
        """The utterance includes up to half a second before this moment."""
        self._flows = True
        self._send(self._sound.since(self._sound.begin()))

    def pause(self) -> None:
        """Let the vendor finish what it has; the answer is a final `Transcribed`, "" when there were no words."""
        self._sound.pause()
        self._sent_to, self._flows = self._sound.heard, False
        self._commit()
        self._asked_at = self._clock.now()
        self._answer()

    def resume(self) -> None:
        """The same utterance goes on: its words will be those up to the pause and the ones to come."""
        self._asked_at = None
        if not self._flows and self._sound.begun is not None:
            self._flows = True
            self._send(self._sound.since(self._sent_to))

    def commit(self) -> None:
        """Forget the utterance: what was heard after its last pause may belong to the next."""
        self._commit()
        self._sound.take()
        self._flows, self._asked_at = False, None
        self._utterance += 1
        self._tidy()

    def _send(self, pcm_16k: bytes) -> None:
        if pcm_16k:
            chunk = AudioChunk(pcm_16k, PCM_16K)
            self._session.append(chunk)
            self._open_ms += chunk.ms

    def _commit(self) -> None:
        if not self._open_ms:
            return
        if self._open_ms < LEAST_COMMIT_MS:
            self._send(PCM_16K.quiet(LEAST_COMMIT_MS - self._open_ms + 1))
        self._session.commit()
        self._parts.append(_Part(self._utterance, self._session.heard_ms, self._open_ms))
        self._open_ms = 0.0

    # ------------------------------------------------------------------ what the vendor says

    def _heard(self, event: LiveEvent) -> None:
        match event:
            case Committed(item):
                self._part(item)
            case Words(item, text):
                part = self._part(item)
                if part is not None:
                    part.words += text
                else:
                    self._open[item] = self._open.get(item, "") + text
                if part is None or part.utterance == self._utterance:
                    self._partly()
            case Completed(item, text, usage):
                self._complete(self._part(item), text, usage)
            case Wordless(item, _, message):
                self._said.put(Faulted("stt", self.name, f"it could not write down what was said ({message})"))
                self._complete(self._part(item), "", None)
            case Complaint(code, message):
                self._said.put(Faulted("stt", self.name, f"it complains: {message}"))
                if code == NOTHING_THERE:
                    self._complete(next((part for part in self._parts if not part.item), None), "", Usage())

    def _part(self, item: str) -> _Part | None:
        """The part that is this item, or else the oldest that the vendor has not named yet, which is this item then.

        None: nothing is committed that could be it."""
        part = next((part for part in self._parts if part.item == item), None)
        if part is None and (part := next((part for part in self._parts if not part.item), None)) is not None:
            part.item, part.words = item, self._open.pop(item, "")
        return part

    def _partly(self) -> None:
        now = self._clock.now()
        parts = [part.words for part in self._parts if part.utterance == self._utterance]
        if words := joined([*parts, *self._open.values()]):
            self._said.put(Transcribed(words, False, now, now))

    def _complete(self, part: _Part | None, text: str, usage: Usage | None) -> None:
        if part is None or part.done:
            return
        part.words, part.done = text, True
        self._bill(part, usage)
        for first in self._parts:  # what a new connection would have to hear begins after these
            if not first.done:
                break
            self._session.forget(first.end_ms)
        self._tidy()
        self._answer()

    def _tidy(self) -> None:
        """Drop what is done and over; in order, for a new connection counts them the same way."""
        while self._parts and self._parts[0].done and self._parts[0].utterance != self._utterance:
            del self._parts[0]

    def _answer(self) -> None:
        """All words of the utterance, once they are there and somebody waits for them."""
        parts = [part for part in self._parts if part.utterance == self._utterance]
        if self._asked_at is not None and all(part.done for part in parts):
            asked_at, self._asked_at = self._asked_at, None
            self._said.put(Transcribed(joined(part.words for part in parts), True, asked_at, self._clock.now()))

    def _bill(self, part: _Part, usage: Usage | None) -> None:
        self._said.put(Used("stt", self.name, self.model, amounts(self.model, usage, part.ms / 1000)))

    def _renewed(self) -> None:
        self._open.clear()  # the new connection hears again what has not been written down, and calls it by other names
        missing = next((at for at, part in enumerate(self._parts) if not part.done), len(self._parts))
        for part in self._parts[missing:]:
            part.item, part.words, part.done = "", "", False

    # ------------------------------------------------------------------ what it says

    async def signals(self) -> AsyncIterator[TranscriberSignal]:
        """Partials, finals, and what they cost, until `aclose`. Raises ProviderError when no connection comes about."""
        async for said in self._said:
            if isinstance(said, ProviderError):
                raise said
            yield said

    async def aclose(self) -> None:
        """End `signals`, with the bill of what is still being written down; more than once is fine."""
        for part in self._parts:
            if not part.done:
                self._bill(part, None)
        self._parts.clear()
        self._said.close()
        await self._session.aclose()
