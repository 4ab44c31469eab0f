"""The pipeline's ears where the recogniser itself hears voice and pauses: its signals → "the caller is done".

They own when an utterance is complete and that every voice comes to an end; they refuse to know vendors and what is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import anyio
from anyio.abc import TaskGroup

from patter.audio.format import AudioChunk, AudioFormat
from patter.audio.level import dbfs_of
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.models import TurnTaking
from patter.ports import StreamingTranscriber
from patter.signals import (
    CallerPartial,
    ConversationSignal,
    Endpointed,
    Faulted,
    ListenerSignal,
    SpeechStarted,
    SpeechStopped,
    TurnLikely,
    TurnUnlikely,
    Used,
    UtteranceEnded,
)
from patter.turns.endpointing import silence_needed_ms

Tell = Callable[[ConversationSignal], None]

WORDLESS_S = 3.0  # voice for which no word comes within this time was no speech: what is held may go on
LATE_WORDS_S = 1.0  # words come at most so long after the voice has fallen silent
STALLED_S = (
    8.0  # words that neither go on nor end for so long are all there is; a recogniser finds its own breaks sooner
)
LAST_WORDS_S = 1.0  # what a recogniser still has to say when the call ends is waited for so long


class StreamingEars:
    """Listens to one caller through a `StreamingTranscriber`. `tell` receives the signals.

    `prepare(text)`: the caller is probably done with these words; `discard()`: not so after all. `failed(error)`: the
    recogniser can go on no more; the words so far have been told by then."""

    def __init__(
        self,
        listener: StreamingTranscriber,
        settings: TurnTaking,
        clock: Clock,
        tell: Tell,
        *,
        prepare: Callable[[str], None] | None = None,
        discard: Callable[[], None] | None = None,
        failed: Callable[[ProviderError], None] | None = None,
    ) -> None:
        self._listener = listener
        self._settings = settings
        self._clock = clock
        self._tell = tell
        self._prepare = prepare
        self._discard = discard
        self._failed = failed
        self._hush: _Hush | None = None  # while voice without words is on: the only time when frames are looked at
        self._hears: AudioFormat | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._speaking = False  # told SpeechStarted, not yet SpeechStopped
        self._voiced = False  # the open utterance has been announced by a SpeechStarted
        self._words: list[str] = []  # of the open utterance, up to each of its pauses
        self._partial = ""  # what came since the last pause
        self._ended: Endpointed | None = None
        self._silent = anyio.Event()

    async def start(self, hears: AudioFormat, tasks: TaskGroup) -> None:
        """Connect the recogniser; from then on `hear` takes audio of format `hears`. Raises ProviderError."""
        self._hears = hears
        tasks.start_soon(self._read)  # what fails while it opens is told as it happens
        try:
            await self._listener.start(hears, tasks)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.aclose()
            raise

    def hear(self, chunk: AudioChunk) -> None:
        """One frame: straight to the recogniser."""
        self._listener.hear(chunk)
        if self._hush is not None and (quiet_ms := self._hush.quiet_ms(chunk)) >= self._settings.pause_ms:
            self._hush = None
            now = self._clock.now()
            self._stopped(now - quiet_ms / 1000)
            self._arm(now + LATE_WORDS_S)

    def settle(self, settings: TurnTaking) -> None:
        """Use these settings from the next utterance on."""
        self._settings = settings
        self._listener.settle(settings)

    async def aclose(self) -> None:
        """Stop listening; the rest of the recogniser's bill is still told, also when its reader was cancelled before."""
        unread = self._silent.is_set()
        self._cancel_timer()
        self._hush = None
        await self._listener.aclose()
        if self._hears is None:
            return
        with anyio.move_on_after(LAST_WORDS_S):
            await self._silent.wait()
            if unread:
                await self._read_bill()
        self._cancel_timer()

    async def _read_bill(self) -> None:
        with suppress(ProviderError):
            async for signal in self._listener.signals():
                if isinstance(signal, Used):
                    self._tell(signal)

    async def _read(self) -> None:
        try:
            async for signal in self._listener.signals():
                self._heard(signal)
        except ProviderError as error:
            self._tell(Faulted(error.stage or "stt", error.provider, error.problem, error.fix))
            if self._open:
                self._finish()
            if self._failed is not None:
                self._failed(error)
        finally:
            self._silent.set()

    def _heard(self, signal: ListenerSignal) -> None:
        match signal:
            case SpeechStarted():
                self._started(signal)
            case SpeechStopped():
                self._stopped(signal.ended_at)
            case CallerPartial():
                self._partly(signal)
            case Endpointed():
                self._paused(signal)
            case TurnLikely(text):
                if self._prepare is not None:
                    self._prepare(" ".join([*self._words, text]))
            case TurnUnlikely():
                if self._discard is not None:
                    self._discard()
            case _:  # money, connections, faults
                self._tell(signal)
                if isinstance(signal, Faulted) and self._partial:
                    self._arm(self._clock.now() + STALLED_S)  # a new connection takes the words up again

    # ------------------------------------------------------------------ one utterance

    @property
    def _open(self) -> bool:
        return self._voiced or bool(self._words or self._partial)

    def _started(self, signal: SpeechStarted) -> None:
        if self._speaking:
            return  # noise may be told again and again: that makes it no speech
        self._speaking = self._voiced = True
        self._tell(signal)
        if not self._partial:
            self._hush = _Hush(self._hears) if self._hears is not None else None
            self._arm(signal.at + WORDLESS_S)

    def _stopped(self, ended_at: float) -> None:
        if self._speaking:
            self._speaking = False
            now = self._clock.now()
            self._tell(SpeechStopped(min(ended_at, now), now))

    def _partly(self, signal: CallerPartial) -> None:
        if not signal.text or signal.text == self._partial:
            return
        if not self._voiced:
            self._started(SpeechStarted(signal.at, signal.at))
        self._hush, self._partial = None, signal.text
        self._tell(CallerPartial(" ".join([*self._words, signal.text]), signal.at))
        self._arm(self._clock.now() + STALLED_S)

    def _paused(self, signal: Endpointed) -> None:
        self._hush, partial, self._partial = None, self._partial, ""
        self._stopped(signal.speech_ended_at)
        if signal.text:
            known = " ".join([*self._words, partial])
            self._words.append(signal.text)
            if (text := " ".join(self._words)) != known:
                self._tell(CallerPartial(text, signal.transcript_at))
            self._ended = signal
        if not self._open:
            return
        if signal.sure or self._ended is None:
            self._ended = self._ended or signal
            self._finish()
            return
        needed = silence_needed_ms(" ".join(self._words), self._settings)
        self._arm(self._ended.speech_ended_at + needed / 1000)

    def _finish(self) -> None:
        """The utterance is over with whatever words there are."""
        self._cancel_timer()
        now = self._clock.now()
        text = " ".join([*self._words, self._partial] if self._partial else self._words)
        ended = self._ended if self._ended is not None and not self._partial else Endpointed(text, now, now, now)
        self._stopped(ended.speech_ended_at)
        self._hush, self._ended, self._partial, self._voiced = None, None, "", False
        self._words.clear()
        self._tell(UtteranceEnded(text, ended.speech_ended_at, ended.recognition_at, ended.transcript_at, now))

    def _arm(self, moment: float) -> None:
        self._cancel_timer()
        if moment <= self._clock.now():
            self._finish()
        else:
            self._timer = self._clock.call_later(moment - self._clock.now(), self._finish)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Hush:
    """Notices that a voice without words has fallen silent, which recognisers tell late or never.

    A cough would otherwise count as going on until it cuts the agent short."""

    QUIET_DBFS = -45.0  # below any voice on a telephone
    FALL_DB = 18.0  # what is so much weaker than the loudest frame is the room, not the voice

    def __init__(self, hears: AudioFormat) -> None:
        self._dbfs = dbfs_of(hears)
        self._loudest = self.QUIET_DBFS
        self._quiet_ms = 0.0

    def quiet_ms(self, chunk: AudioChunk) -> float:
        """How long it has been quiet at the end of this frame."""
        level = self._dbfs(chunk.data)
        self._loudest = max(self._loudest, level)
        quiet = level < max(self.QUIET_DBFS, self._loudest - self.FALL_DB)
        self._quiet_ms = self._quiet_ms + chunk.ms if quiet else 0.0
        return self._quiet_ms
