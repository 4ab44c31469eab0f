"""The pipeline's ears: caller audio → voice activity → transcript → "the caller is done".

They own one caller's listening and its timing; they refuse to know what is answered or what sounds in the caller's ear.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from anyio.abc import TaskGroup

from patter.audio.convert import Converter
from patter.audio.format import PCM_16K, AudioChunk, AudioFormat
from patter.audio.vad import VoiceEvent, VoiceGate, VoiceGateConfig, VoicePaused, VoiceResumed
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.models import TurnTaking
from patter.ports import Transcriber, TurnModel, VoiceDetector
from patter.signals import (
    CallerPartial,
    ConversationSignal,
    Faulted,
    SpeechStarted,
    SpeechStopped,
    Transcribed,
    TranscriberSignal,
    Used,
    UtteranceEnded,
)
from patter.turns.endpointing import silence_needed_ms

Tell = Callable[[ConversationSignal], None]

TRANSCRIPT_LIMIT_S = 6.0  # a recogniser that has not answered by then is not going to: the turn ends without its words
UTTERANCE_MEMORY_S = 8  # what a turn model listens to


class Ears:
    """Listens to one caller. `tell` receives the signals; all its work is synchronous except the transcriber's task.

    `failed(error)`: the transcriber can go on no more; that has been told by then. `lost()`: an utterance ended without its
    words, for nobody wrote them down."""

    def __init__(
        self,
        transcriber: Transcriber,
        detector: VoiceDetector,
        turn_model: TurnModel | None,
        settings: TurnTaking,
        clock: Clock,
        tell: Tell,
        *,
        failed: Callable[[ProviderError], None] | None = None,
        lost: Callable[[], None] | None = None,
    ) -> None:
        self._transcriber = transcriber
        self._detector = detector
        self._turn_model = turn_model
        self._settings = settings
        self._clock = clock
        self._tell = tell
        self._failed = failed
        self._lost = lost
        self._gate = VoiceGate(
            VoiceGateConfig(
                min_speech_ms=settings.min_speech_ms,
                pause_ms=settings.pause_ms,
                lag_ms=detector.lag_ms,
                tail_ms=detector.tail_ms,
            )
        )
        self._converter: Converter | None = None
        self._tasks: TaskGroup | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended_at = 0.0
        self._paused = False
        self._transcript: Transcribed | None = None
        self._likelihood: float | None = None
        self._recent = bytearray()

    async def start(self, hears: AudioFormat, tasks: TaskGroup) -> None:
        """Open the transcriber; from then on `hear` takes audio of format `hears`."""
        self._tasks = tasks
        await self._transcriber.start(tasks)
        self._converter = Converter(hears, PCM_16K)
        tasks.start_soon(self._read)

    def hear(self, chunk: AudioChunk) -> None:
        """One frame: convert, transcribe, detect voice."""
        if self._converter is None:
            return
        pcm = self._converter.convert(chunk.data)
        self._transcriber.hear(pcm)
        if self._turn_model is not None:
            self._recent += pcm
            del self._recent[: -UTTERANCE_MEMORY_S * 32_000]
        for probability in self._detector.probabilities(pcm):
            change = self._gate.push(probability, self._detector.window_ms)
            if change is not None:
                self._changed(change)

    def settle(self, settings: TurnTaking) -> None:
        """Use these settings from the next utterance on."""
        self._settings = settings

    async def aclose(self) -> None:
        """Stop listening."""
        self._cancel_timer()
        self._converter = None
        await self._transcriber.aclose()

    def _changed(self, change: VoiceEvent) -> None:
        now = self._clock.now()
        if isinstance(change, VoicePaused):
            self._paused, self._transcript, self._likelihood = True, None, None
            self._ended_at = now - change.ended_ms_ago / 1000
            self._tell(SpeechStopped(self._ended_at, now))
            self._arm(self._ended_at + TRANSCRIPT_LIMIT_S)
            self._transcriber.pause()
            if self._turn_model is not None and self._tasks is not None:
                self._tasks.start_soon(self._ask_turn_model, self._turn_model, self._ended_at, bytes(self._recent))
            return
        self._cancel_timer()
        if isinstance(change, VoiceResumed):
            self._transcriber.resume()
        else:
            self._transcriber.begin()
        self._paused = False
        self._tell(SpeechStarted(now - change.began_ms_ago / 1000, now))

    async def _ask_turn_model(self, model: TurnModel, ended_at: float, pcm: bytes) -> None:
        try:
            likelihood = await model.complete(pcm)
        except ProviderError as error:
            self._turn_model = None  # the words alone decide from here on
            self._tell(Faulted(error.stage or "vad", error.provider, error.problem, error.fix))
            return
        if self._paused and self._ended_at == ended_at:
            self._likelihood = likelihood
            if self._transcript is not None:
                self._schedule()

    async def _read(self) -> None:
        try:
            async for words in self._transcriber.signals():
                self._heard(words)
        except ProviderError as error:
            self._tell(Faulted(error.stage or "stt", error.provider, error.problem, error.fix))
            self._finish_without()
            if self._failed is not None:
                self._failed(error)

    def _heard(self, words: TranscriberSignal) -> None:
        if not isinstance(words, Transcribed):
            self._tell(words)  # money, connections, faults
            return
        if words.audio_seconds:
            amounts = {"audio_seconds": words.audio_seconds}
            self._tell(Used("stt", self._transcriber.name, self._transcriber.model, amounts))
        if not words.final:
            if words.text:
                self._tell(CallerPartial(words.text, words.ready_at))
            return
        if not self._paused:
            return  # the caller has gone on: the next pause brings the whole utterance
        self._transcript = words
        if words.text:
            self._tell(CallerPartial(words.text, words.ready_at))
            self._schedule()
        else:
            self._finish(words)

    def _schedule(self) -> None:
        assert self._transcript is not None
        needed = silence_needed_ms(self._transcript.text, self._settings, self._likelihood)
        moment = self._ended_at + needed / 1000
        if moment <= self._clock.now():
            self._finish(self._transcript)
        else:
            self._arm(moment)

    def _arm(self, moment: float) -> None:
        self._cancel_timer()
        self._timer = self._clock.call_later(moment - self._clock.now(), self._timed_out)

    def _timed_out(self) -> None:
        if self._transcript is not None:
            self._finish(self._transcript)
        else:
            self._finish_without()

    def _finish_without(self) -> None:
        unheard, now = self._paused, self._clock.now()
        self._finish(Transcribed("", True, self._ended_at if unheard else now, now))
        if unheard and self._lost is not None:
            self._lost()

    def _finish(self, words: Transcribed) -> None:
        self._cancel_timer()
        self._paused, self._transcript = False, None
        self._gate.end()
        self._recent.clear()
        self._transcriber.commit()
        now = self._clock.now()
        ended_at = min(self._ended_at or now, words.requested_at)
        self._tell(UtteranceEnded(words.text, ended_at, words.requested_at, words.ready_at, now))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
