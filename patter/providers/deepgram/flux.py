"""Speech-to-text of one call by Deepgram's second protocol: a model that hears when a turn begins, may end, and ends.

It owns the words of the present turn, also across a break; it refuses to know sockets and what is prepared for a turn that
may be over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable

from anyio.abc import TaskGroup

from patter.audio.format import AudioChunk, AudioFormat
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.models import TurnTaking
from patter.providers.deepgram.account import DEEPGRAM
from patter.providers.deepgram.stream import AudioStream
from patter.providers.dialer import Dialer, Target
from patter.signals import (
    CallerPartial,
    Endpointed,
    Faulted,
    ListenerSignal,
    SpeechStarted,
    TurnLikely,
    TurnUnlikely,
)
from patter.wire.deepgram import Other, Refusal
from patter.wire.deepgram_flux import Fatal, Turn, bounded_timeout, configure, fatal_may_pass, read_server

PATIENCE_S = 3.0  # there is an update for every quarter of a second of audio
SILENCE_AFTER_S = 0.5  # a turn ends only while audio flows: silence stands in for a line that gives none
BEFORE_TURN_S = 1.0  # audio kept while nobody speaks: the beginning of a word that is not heard as one yet
WORD_S = 0.25  # roughly, where the vendor does not place words


class FluxTranscriber:
    """A `ports.StreamingTranscriber` whose ends of turns are sure. `timeout_ms`: the longest silence within a turn, kept
    up to date with the settings; None leaves it to the connection's own parameters."""

    name = DEEPGRAM.name
    patience_s = PATIENCE_S

    def __init__(
        self,
        dialer: Dialer,
        clock: Clock,
        target_for: Callable[[AudioFormat], Target],
        *,
        model: str,
        timeout_ms: int | None = None,
    ) -> None:
        self.model = self.price_model = model
        self._stream = AudioStream(dialer, clock, self)
        self._clock = clock
        self._target_for = target_for
        self._first_timeout = self._agreed_timeout = self._wanted_timeout = timeout_ms
        self._configuring = False  # the vendor takes one change at a time
        self._text = ""  # of the present turn
        self._before = ""  # what of it was heard by earlier sockets and is not replayed
        self._marks: deque[tuple[float, str]] = deque()  # (place, words of the turn up to there)
        self._changed = 0.0  # the place up to which the newest word was heard
        self._voice = False
        self._likely = False

    async def start(self, hears: AudioFormat, tasks: TaskGroup) -> None:
        """Connect. Raises ProviderError."""
        await self._stream.open(self._target_for(hears), hears, tasks)

    def hear(self, chunk: AudioChunk) -> None:
        """One frame, passed on as it is."""
        self._stream.hear(chunk)

    def settle(self, settings: TurnTaking) -> None:
        """Change the longest silence of a turn."""
        if self._wanted_timeout is not None:
            self._wanted_timeout = bounded_timeout(settings.max_silence_ms)
            self._configure()

    def signals(self) -> AsyncIterator[ListenerSignal]:
        """See `ports.StreamingTranscriber`."""
        return self._stream.signals()

    async def aclose(self) -> None:
        """End the stream."""
        await self._stream.aclose()

    # ------------------------------------------------------------------ the stream's client

    def connected(self) -> None:
        """The audio of the turn comes again; words whose audio is not kept any more stay as they were."""
        for place, text in self._marks:
            if place <= self._stream.kept_from:
                self._before = text
        self._marks.clear()
        self._unlikely()
        self._agreed_timeout, self._configuring = self._first_timeout, False
        self._configure()

    def idle(self, quiet_s: float, now: float) -> None:
        """The line gives no audio."""
        if quiet_s >= SILENCE_AFTER_S:
            self._stream.silence(quiet_s * 1000)

    def read(self, message: str) -> None:
        """One message. Raises WireError, or ProviderError for a fatal one."""
        match read_server(message):
            case Turn() as turn:
                self._turn(turn)
            case Fatal(code, description) as fatal:
                raise ProviderError(
                    f"it failed ({code}: {description[:200]})",
                    provider=self.name,
                    stage="stt",
                    retryable=fatal_may_pass(fatal),
                    fix="try again",
                    code=code,
                )
            case Refusal(code, description):
                self._configuring = False
                said = f"it warns of {code}: {description[:200]}"
                self._stream.tell(Faulted("stt", self.name, said, "the stream goes on"))
            case Other("ConfigureSuccess"):
                self._configuring = False
                self._configure()

    def _configure(self) -> None:
        wanted = self._wanted_timeout
        if wanted is not None and wanted != self._agreed_timeout and not self._configuring:
            self._agreed_timeout, self._configuring = wanted, True
            self._stream.send(configure(wanted))

    # ------------------------------------------------------------------ turns

    def _turn(self, turn: Turn) -> None:
        now = self._clock.now()
        text = f"{self._before} {turn.text}".strip() if self._before else turn.text
        place = self._stream.place(turn.window_end)
        self._begun(turn, place, text, now)
        if text != self._text:
            self._text, self._changed = text, place
            if text:
                self._stream.tell(CallerPartial(text, now))
        match turn.event:
            case "EagerEndOfTurn":
                self._likely = True
                self._stream.tell(TurnLikely(text, now))
            case "TurnResumed":
                self._unlikely()
            case "EndOfTurn":
                self._ended(turn, place, text, now)
                return
        if text:
            self._marks.append((place, text))
        else:
            self._stream.certain(place - BEFORE_TURN_S)

    def _begun(self, turn: Turn, place: float, text: str, now: float) -> None:
        if self._voice or (turn.event != "StartOfTurn" and not text):
            return
        self._voice = True
        guessed = max(turn.window_start, turn.window_end - WORD_S * max(1, len(turn.text.split())))
        first = turn.words[0].start if turn.words else guessed
        self._stream.tell(SpeechStarted(self._stream.at(self._stream.place(first)), now))

    def _ended(self, turn: Turn, place: float, text: str, now: float) -> None:
        last = self._stream.place(turn.words[-1].end) if turn.words else self._changed
        asked_at = self._stream.at(place)
        ended_at = min(self._stream.at(last), asked_at)
        if self._voice:
            self._stream.tell(Endpointed(text, ended_at, asked_at, now, sure=True))
        self._stream.certain(place)
        self._stream.bill()
        self._text = self._before = ""
        self._marks.clear()
        self._voice = self._likely = False

    def _unlikely(self) -> None:
        if self._likely:
            self._likely = False
            self._stream.tell(TurnUnlikely(self._clock.now()))
