"""A pipeline's hearing: the ears that listen now, and those that take over when they fail.

It owns the change from one recogniser to the next, with what the caller said meanwhile; it refuses to know what ears do and
who the recognisers are.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import anyio
from anyio.abc import TaskGroup

from patter.audio.format import AudioChunk, AudioFormat
from patter.clock import Clock
from patter.conversations.ears import Ears
from patter.conversations.streaming_ears import StreamingEars
from patter.exceptions import ProviderError
from patter.models import TurnTaking
from patter.ports import StreamingTranscriber, Transcriber, TurnModel, VoiceDetector
from patter.signals import ConversationSignal, Faulted, UtteranceEnded

Tell = Callable[[ConversationSignal], None]
Recogniser = Transcriber | StreamingTranscriber

MISSED_FRAMES = 500  # 10 s of a phone line: more than any recogniser takes to open
PAUSES_S = (0.0, 0.0, 1.0, 2.0)  # before one that has failed so often in a row is tried again: outages take a moment


class Hearing:
    """Hears one caller with the first of `makers` whose recogniser works. `detector` finds utterances for those that need it.

    `prepare(text)` and `discard()` are told what an eager recogniser foresees, `lost()` of an utterance without its words."""

    def __init__(
        self,
        makers: Sequence[Callable[[], Recogniser]],
        detector: VoiceDetector | None,
        turn_model: TurnModel | None,
        clock: Clock,
        tell: Tell,
        *,
        prepare: Callable[[str], None],
        discard: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._all = list(makers)  # all that are of any use
        self._makers = deque(self._all)  # those that are tried next
        self._at = 0  # which of all hears now
        self._failures: list[Callable[[], Recogniser]] = []  # who failed since anything was heard
        self._detector = detector
        self._turn_model = turn_model
        self._clock = clock
        self._tell = tell
        self._prepare = prepare
        self._discard = discard
        self._lost = lost
        self._settings = TurnTaking()
        self._hears: AudioFormat
        self._tasks: TaskGroup
        self._ears: Ears | StreamingEars | None = None
        self._opening = ""
        self._missed: deque[AudioChunk] = deque(maxlen=MISSED_FRAMES)
        self._limit_s = math.inf
        self._closed = False

    def start(self, settings: TurnTaking, hears: AudioFormat, tasks: TaskGroup, limit_s: float = 0.0) -> None:
        """Begin to open the first recogniser that works; frames are kept for it meanwhile. If none does, or the caller is
        heard by nobody for `limit_s` (0.0: no limit), a fatal `Faulted` tells it."""
        self._settings, self._hears, self._tasks = settings, hears, tasks
        self._limit_s = limit_s or math.inf
        tasks.start_soon(self._open_next)

    def hear(self, chunk: AudioChunk) -> None:
        """One frame; kept for the next recogniser while none is open."""
        ears = self._ears
        if ears is not None:
            ears.hear(chunk)
        elif self._makers:
            self._missed.append(chunk)

    def settle(self, settings: TurnTaking) -> None:
        """Use these settings from the next utterance on."""
        self._settings = settings
        if self._ears is not None:
            self._ears.settle(settings)

    async def aclose(self) -> None:
        """Stop listening."""
        self._closed = True
        if self._ears is not None:
            await self._ears.aclose()

    async def _open_next(self) -> None:
        with anyio.move_on_after(self._limit_s) as limit:
            await self._open_some()
        if limit.cancelled_caught and not self._closed:
            self._makers.clear()
            self._deaf(ProviderError("it could not be opened in time", provider=self._opening, fix="try again later"))

    async def _open_some(self) -> None:
        while self._makers and not self._closed:
            make = self._makers[0]  # it stays there while it opens: until then frames are kept
            await anyio.sleep(PAUSES_S[min(self._failures.count(make), len(PAUSES_S) - 1)])
            try:
                recogniser = make()
                self._opening = recogniser.name
                ears = self._ears_of(recogniser)
                with anyio.fail_after(
                    self._limit_s / 2 if len(self._makers) > 1 else None
                ):  # the next one needs time too
                    await ears.start(self._hears, self._tasks)
            except TimeoutError:
                late = ProviderError("it could not be opened in time", provider=self._opening, retryable=True)
                self._drop(make, late)
                self._given_up(late)
            except ProviderError as error:
                self._drop(make, error)
                self._given_up(error)
            else:
                self._makers.popleft()
                self._at = self._all.index(make)
                self._ears = ears
                while self._missed:
                    ears.hear(self._missed.popleft())
                return

    def _ears_of(self, recogniser: Recogniser) -> Ears | StreamingEars:
        clock, tell, failed = self._clock, self._told, self._failed
        if not hasattr(recogniser, "pause"):
            return StreamingEars(
                recogniser, self._settings, clock, tell, prepare=self._prepare, discard=self._discard, failed=failed
            )
        if self._detector is None:
            raise ProviderError("nothing here tells it where an utterance begins and ends", provider=recogniser.name)
        told = cast(Transcriber, recogniser)
        return Ears(told, self._detector, self._turn_model, self._settings, clock, tell, failed=failed, lost=self._lost)

    def _told(self, signal: ConversationSignal) -> None:
        if isinstance(signal, UtteranceEnded) and signal.text:  # it hears: what failed until now is over
            self._makers = deque(self._all[self._at + 1 :])
            self._failures.clear()
        self._tell(signal)

    def _failed(self, error: ProviderError) -> None:
        """The ears that listen can go on no more, and have told so."""
        failed, self._ears = self._ears, None
        make = self._all[self._at]
        self._failures.append(make)
        if not error.retryable:
            self._forget(make)
        if not self._closed:
            self._tasks.start_soon(self._change, failed, error)

    def _drop(self, make: Callable[[], Recogniser], error: ProviderError) -> None:
        """This one is not tried now, and not again either if that would not help."""
        self._makers.popleft()
        self._failures.append(make)
        if not error.retryable:
            self._forget(make)

    def _forget(self, make: Callable[[], Recogniser]) -> None:
        """It would fail again."""
        self._all = [other for other in self._all if other is not make]
        self._makers = deque(other for other in self._makers if other is not make)

    async def _change(self, failed: Ears | StreamingEars | None, error: ProviderError) -> None:
        if failed is not None:
            await failed.aclose()
        if self._makers:
            await self._open_next()
        else:
            self._deaf(error)

    def _given_up(self, error: ProviderError) -> None:
        """One could not be opened."""
        if self._makers:
            self._tell(Faulted(error.stage or "stt", error.provider, error.problem, error.fix))
        else:
            self._deaf(error)

    def _deaf(self, error: ProviderError) -> None:
        problem = f"nobody hears the caller any more: {error.problem}"
        self._tell(Faulted("stt", error.provider, problem, error.fix, fatal=True))
