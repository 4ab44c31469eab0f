"""Several voices in order: when one fails, the next one speaks, and stays in charge for a while.

It owns who is in charge and where a broken sentence goes on; it refuses to know any vendor.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import anyio

from patter.audio.format import AudioChunk
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.ports import Synthesizer
from patter.providers.delivery import speakable
from patter.signals import Faulted, Spent, SynthesizerPiece

OUT_S = (
    30.0  # long enough not to hammer a dead provider with every sentence, short enough that the usual voice comes back
)
LEFT_S = 3.0  # a caller who speaks up after so much silence has waited in vain
START_S = 3.0  # longer than a voice needs to load or connect
REFUSED_S = 300.0  # a wrong key or a missing voice does not mend itself
MS_PER_CHARACTER = 65.0  # of an unhurried voice, until its own pace is known
_CLAUSE = re.compile(r"[,;:.!?—…]\s+")
_WORD = re.compile(r"\s+")
_NEAR = 15  # characters: so far off the estimate may be to meet the border of a clause
_NEARLY_ALL = 0.95


@dataclass(slots=True, eq=False)
class _Seat:
    """One voice: until when it is out (clock seconds), and its pace."""

    voice: Synthesizer
    out_until: float = float("-inf")
    pace: float = MS_PER_CHARACTER

    def learn(self, text: str, ms: float) -> None:
        if len(text) >= 20 and ms > 0:
            self.pace += (ms / len(text) - self.pace) / 4


@dataclass(slots=True)
class _Turn:
    """What one voice did for one text."""

    ms: float = 0.0
    counted: bool = False
    failure: ProviderError | None = None


class FallbackVoice:
    """A Synthesizer of several ones. `name`, `model` and `voice` are those of the one in charge.

    Each failure that another voice makes up for is a `Faulted` piece; the last one's is raised."""

    def __init__(self, voices: Sequence[Synthesizer], clock: Clock | None = None) -> None:
        if not voices:
            raise ValueError("a fallback voice needs at least one voice")
        self._seats = [_Seat(voice) for voice in voices]
        self._clock = clock or Clock()
        self._untold: list[Faulted] = []

    @property
    def in_charge(self) -> Synthesizer:
        """Who would say a sentence that came now."""
        return self._order()[0].voice

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.in_charge.name

    @property
    def model(self) -> str:
        """Its model."""
        return self.in_charge.model

    @property
    def voice(self) -> str:
        """Its voice."""
        return self.in_charge.voice

    async def start(self) -> None:
        """Load or connect all of them, so that each can take over. Raises ProviderError when none can speak."""
        failures: list[tuple[_Seat, ProviderError]] = []
        unready = list(self._seats)

        async def begin(seat: _Seat) -> None:
            try:
                await seat.voice.start()
            except ProviderError as error:
                failures.append((seat, error))
            else:  # one can speak: the caller does not wait for the others for long
                scope = tasks.cancel_scope
                scope.deadline = min(scope.deadline, anyio.current_time() + START_S)
            unready.remove(seat)

        async with anyio.create_task_group() as tasks:
            for seat in self._seats:
                tasks.start_soon(begin, seat)
        if len(failures) == len(self._seats):
            raise failures[0][1]
        for seat, failure in failures:
            self._out(seat, failure)
            self._untold.append(Faulted("tts", seat.voice.name, failure.problem, failure.fix))
        for seat in unready:
            self._late(seat, "it was not ready in time")

    async def synthesize(self, text: str) -> AsyncGenerator[SynthesizerPiece, None]:
        """The sound of `text`; when a voice breaks off, the next one says the rest, from a word's beginning on.

        Raises ProviderError when the last one fails."""
        if not speakable(text):
            return
        while self._untold:
            yield self._untold.pop(0)
        order = self._order()
        for seat, following in zip(order, [*order[1:], None], strict=True):
            turn = _Turn()
            async with aclosing(self._said(seat, text, turn)) as pieces:
                async for piece in pieces:
                    yield piece
            if not turn.counted and (turn.failure is None or turn.ms):
                yield Spent({"characters": float(len(text))}, seat.voice.name, seat.voice.model)
            if turn.failure is None:
                seat.learn(text, turn.ms)
                return
            self._out(seat, turn.failure)
            if following is None:
                turn.failure.tries = max(turn.failure.tries, len(order))
                raise turn.failure
            yield Faulted("tts", seat.voice.name, turn.failure.problem, f"{following.voice.name} speaks instead")
            text = rest_of(text, turn.ms / seat.pace)
            if not speakable(text):
                return

    async def aclose(self) -> None:
        """Close them all."""
        for seat in self._seats:
            await seat.voice.aclose()

    async def _said(self, seat: _Seat, text: str, turn: _Turn) -> AsyncGenerator[SynthesizerPiece, None]:
        voice, asked_at = seat.voice, self._clock.now()
        try:
            async with aclosing(voice.synthesize(text)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    if isinstance(piece, AudioChunk):
                        turn.ms += piece.ms
                    elif isinstance(piece, Spent):
                        turn.counted = True
                        piece = replace(piece, provider=piece.provider or voice.name, model=piece.model or voice.model)
                    yield piece
        except ProviderError as error:
            turn.failure = error
        except BaseException:  # nobody wants this text any more
            waited_s = self._clock.now() - asked_at
            if not turn.ms and waited_s > LEFT_S:
                self._late(seat, f"it said nothing for {waited_s:.1f} s")
            raise

    def _order(self) -> list[_Seat]:
        """Those who can speak, in their order; behind them those who are out, the soonest back first."""
        now = self._clock.now()
        return sorted(self._seats, key=lambda seat: max(0.0, seat.out_until - now))

    def _late(self, seat: _Seat, problem: str) -> None:
        self._out(seat, ProviderError(problem, provider=seat.voice.name, stage="tts", retryable=True, code="timeout"))
        self._untold.append(Faulted("tts", seat.voice.name, problem, "it is left out for a while"))

    def _out(self, seat: _Seat, error: ProviderError) -> None:
        wait = max(OUT_S, error.retry_after_s or 0.0) if error.retryable else REFUSED_S
        seat.out_until = self._clock.now() + wait


def rest_of(text: str, said: float) -> str:
    """What is left of `text` after about `said` characters of it: from a clause's beginning if one is near, else from that
    of the word that was being said, so that it is rather heard twice than never. "" when nearly all has been said."""
    if said <= 0:
        return text
    if said >= len(text) * _NEARLY_ALL:
        return ""
    clauses = [match.end() for match in _CLAUSE.finditer(text) if abs(match.end() - said) <= _NEAR]
    words = [match.end() for match in _WORD.finditer(text) if match.end() <= said]
    cut = min(clauses, key=lambda at: abs(at - said)) if clauses else max(words, default=0)
    return text[cut:].strip()
