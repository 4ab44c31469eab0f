"""Speech-to-text of one call by Deepgram's first protocol: final pieces joined from one pause of the caller to the next.

It owns when words are complete; it refuses to know sockets, and whether a pause is the end of a turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from anyio.abc import TaskGroup

from patter.audio.format import AudioChunk, AudioFormat
from patter.clock import Clock
from patter.models import TurnTaking
from patter.providers.deepgram.account import DEEPGRAM
from patter.providers.deepgram.stream import AudioStream
from patter.providers.dialer import Dialer, Target
from patter.signals import CallerPartial, Endpointed, Faulted, ListenerSignal, SpeechStarted
from patter.wire.deepgram import FINALIZE, KEEP_ALIVE, Refusal, Results, UtteranceEnd, VoiceHeard, read_server

PATIENCE_S = 5.0  # results come about every second while there is audio, empty ones too
KEEP_ALIVE_S = 4.0  # the vendor closes after ten seconds without anything
FINALIZE_AFTER_S = 0.75  # a line that gives nothing for so long will not give the silence that would end the words
OVERLAP_S = 0.02  # words are placed to the hundredth of a second


class NovaTranscriber:
    """A `ports.StreamingTranscriber`. Its pauses are short: how long a turn may pause is for the ears to say."""

    name = DEEPGRAM.name

    def __init__(
        self,
        dialer: Dialer,
        clock: Clock,
        target_for: Callable[[AudioFormat], Target],
        *,
        model: str,
        price_model: str = "",
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self.model, self.price_model = model, price_model or model
        self.patience_s = PATIENCE_S
        self._stream = AudioStream(dialer, clock, self)
        self._clock = clock
        self._target_for = target_for
        self._keep_alive_s = keep_alive_s
        self._kept_alive_at = 0.0
        self._finalizing = False
        self._finals: list[str] = []  # since the last pause
        self._interim = ""
        self._interim_end = 0.0
        self._voice = False  # heard since the last pause
        self._last_word_end = 0.0  # place of the last word since the last pause
        self._covered = 0.0  # words up to this place have been given away although they might still be revised

    async def start(self, hears: AudioFormat, tasks: TaskGroup) -> None:
        """Connect. Raises ProviderError."""
        await self._stream.open(self._target_for(hears), hears, tasks)

    def hear(self, chunk: AudioChunk) -> None:
        """One frame, passed on as it is."""
        self._stream.hear(chunk)

    def settle(self, settings: TurnTaking) -> None:
        """The vendor cannot change its pauses on an open stream; the ears apply the rest."""

    def signals(self) -> AsyncIterator[ListenerSignal]:
        """See `ports.StreamingTranscriber`."""
        return self._stream.signals()

    async def aclose(self) -> None:
        """End the stream."""
        await self._stream.aclose()

    # ------------------------------------------------------------------ the stream's client

    def connected(self) -> None:
        """What was not final comes again."""
        self._interim, self._finalizing = "", False

    def idle(self, quiet_s: float, now: float) -> None:
        """The line gives no audio: get the words that are open, and keep the socket."""
        if quiet_s >= FINALIZE_AFTER_S and (self._interim or self._finals) and not self._finalizing:
            self._finalizing = True
            self._stream.send(FINALIZE)
        elif quiet_s >= self._keep_alive_s and now - self._kept_alive_at >= self._keep_alive_s:
            self._kept_alive_at = now
            if self._stream.sent_s:
                self._stream.send(KEEP_ALIVE)
            else:
                self._stream.silence(20)  # a stream without any audio is not kept by messages alone

    def read(self, message: str) -> None:
        """One message. Raises WireError."""
        match read_server(message):
            case Results() as results:
                self._results(results)
            case VoiceHeard(timestamp):
                self._begun(self._stream.place(timestamp))
            case UtteranceEnd(last_word_end):
                self._no_more_words(last_word_end)
            case Refusal(code, description):
                said = f"it did not take a message of ours ({code}: {description[:200]})"
                self._stream.tell(Faulted("stt", self.name, said, "the stream goes on"))

    # ------------------------------------------------------------------ words

    def _begun(self, place: float) -> None:
        self._voice = True
        self._stream.tell(SpeechStarted(self._stream.at(place), self._clock.now()))

    def _results(self, results: Results) -> None:
        end = self._stream.place(results.end)
        text = self._new(results)
        if text:
            if not self._voice:
                self._begun(self._stream.place(results.words[0].start if results.words else results.start))
            self._last_word_end = self._stream.place(results.words[-1].end) if results.words else end
        if results.is_final:
            self._interim = ""
            if text:
                self._finals.append(text)
            self._stream.certain(end)
        else:
            self._interim, self._interim_end = text, end
        if text:
            self._stream.tell(CallerPartial(self._text, self._clock.now()))
        if results.speech_final or results.from_finalize:
            self._paused(end)

    def _new(self, results: Results) -> str:
        """The text without the words that have been given away."""
        if not results.text or self._stream.place(results.start) >= self._covered - OVERLAP_S:
            return results.text
        limit = self._covered - OVERLAP_S
        return " ".join(word.text for word in results.words if self._stream.place(word.start) >= limit)

    def _no_more_words(self, last_word_end: float) -> None:
        """The second trigger: noise can hold up the first one for ever."""
        if self._finals or self._interim:
            if last_word_end >= 0:
                self._last_word_end = min(self._last_word_end, self._stream.place(last_word_end))
            self._paused(max(self._last_word_end, self._interim_end if self._interim else 0.0))

    @property
    def _text(self) -> str:
        return " ".join([*self._finals, self._interim] if self._interim else self._finals)

    def _paused(self, place: float) -> None:
        """The caller paused at `place`: all words until then are complete."""
        text, now = self._text, self._clock.now()
        if self._interim:
            self._covered = place
            self._stream.certain(place)
        if text or self._voice:
            asked_at = self._stream.at(place)
            ended_at = min(self._stream.at(self._last_word_end), asked_at) if text else asked_at
            self._stream.tell(Endpointed(text, ended_at, asked_at, now))
            self._stream.bill()
        self._finals.clear()
        self._interim, self._voice, self._finalizing = "", False, False
