"""Parts of a call faked at their ports, all in real time of the test's clock: a line, a detector, engines.

They own plain behaviour that a test can read off (loud = voice, 50 ms of sound a character); no function of ours is mocked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from patter.audio.format import PCM_16K, AudioChunk
from patter.bus import Bus
from patter.call.outfit import Outfit, Steered, Wiring
from patter.call.session import CallSession
from patter.call.toolbox import Toolbox
from patter.clock import Clock
from patter.conversations.hearing import Recogniser
from patter.conversations.pipeline import Pipeline
from patter.events import Event
from patter.exceptions import PatterError, ProviderError
from patter.guard import Guards
from patter.mailbox import Mailbox
from patter.models import Agent
from patter.ports import (
    Abilities,
    AnsweredBy,
    Ask,
    AudioTap,
    CallInfo,
    Ear,
    LineStats,
    Responder,
    StreamingTranscriber,
    Transport,
)
from patter.signals import (
    DigitPressed,
    HungUp,
    MachineDetected,
    ResponderPiece,
    TextDelta,
    Transcribed,
    TransportSignal,
    Typed,
)
from patter.turns.playhead import Playhead
from tests.support.virtual_time import virtual_clock

LOUD = b"\x00\x40" * 320  # 20 ms of PCM 16 kHz far above the fake detector's threshold
QUIET = b"\x00\x00" * 320
MS_PER_CHARACTER = 50


class FakeLine:
    """A line that plays in real time: marks come back when the sound before them has been heard, all at once on clear."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._playhead = Playhead()
        self._ear: Ear = lambda chunk: None
        self._said: Mailbox[TransportSignal] = Mailbox()
        self._marks: list[str] = []
        self.played: list[tuple[float, int, float]] = []  # (sent at, reply_id, at_ms)
        self.cleared_at: list[float] = []
        self.hung_up = False
        self.heard_frames = 0
        self.can_announce = False
        self.can_transfer = True
        self.refusal = ""
        """Why the carrier of this line refuses transfers and announcements; "" = it does not."""
        self.answer_s = 0.0
        """How long the carrier takes to answer them."""
        self.leaves_first = False
        """Whether the stream of a call that was handed over ends before the carrier's answer is there."""
        self.transfers: list[tuple[float, str, str]] = []  # (asked at, number, summary)
        self.announced: list[str] = []

    @property
    def abilities(self) -> Abilities:
        return Abilities(PCM_16K, PCM_16K, transfer=self.can_transfer, announce=self.can_announce)

    def listen(self, ear: Ear) -> None:
        self._ear = ear

    def signals(self) -> AsyncIterator[TransportSignal]:
        return self._read()

    async def _read(self) -> AsyncIterator[TransportSignal]:
        async for signal in self._said:
            yield signal

    def play(self, chunk: AudioChunk, reply_id: int, at_ms: float) -> float:
        now = self._clock.now()
        starts = self._playhead.sent(reply_id, at_ms, chunk.ms, now)
        self.played.append((now, reply_id, at_ms))
        self._mark(self._playhead.mark(reply_id))
        return starts

    def finish(self, reply_id: int) -> None:
        self._mark(self._playhead.mark(reply_id, last=True))

    def _mark(self, name: str) -> None:
        self._marks.append(name)
        left = self._playhead.queued_ms(self._clock.now()) / 1000
        self._clock.call_later(left, lambda: self._returned(name))

    def _returned(self, name: str) -> None:
        for said in self._playhead.marked(name, self._clock.now()):
            self._said.put(said)

    def show(self, text: str, reply_id: int) -> None:
        """A phone shows nothing."""

    def clear(self) -> float:
        now = self._clock.now()
        self.cleared_at.append(now)
        _, heard = self._playhead.cleared(now)
        for name in self._marks:
            self._clock.call_later(0.005, lambda name=name: self._returned(name))  # type: ignore[misc]
        return heard

    def heard_ms(self, reply_id: int) -> float:
        return self._playhead.heard_ms(reply_id, self._clock.now())

    def quality(self) -> LineStats:
        return LineStats(self.heard_frames)

    async def send_digits(self, digits: str) -> None:
        """Accepted."""

    async def transfer(self, number: str, summary: str = "") -> None:
        self.transfers.append((self._clock.now(), number, summary))
        await self._answered()

    async def announce(self, text: str) -> None:
        self.announced.append(text)
        await self._answered()

    async def _answered(self) -> None:
        await anyio.sleep(self.answer_s)
        if self.refusal:
            raise PatterError(self.refusal)
        if self.leaves_first:
            self.leaves()
            await anyio.sleep(0.2)

    async def hang_up(self) -> None:
        self.hung_up = True

    async def aclose(self) -> None:
        self._said.close()

    # what the caller does in a test

    async def speaks(self, seconds: float, frame: bytes = LOUD) -> None:
        """The caller makes sound (or, with QUIET, silence) in real time."""
        for _ in range(round(seconds / 0.02)):
            self._ear(AudioChunk(frame, PCM_16K))
            self.heard_frames += 1
            await anyio.sleep(0.02)

    async def silent(self, seconds: float) -> None:
        """The caller is silent."""
        await self.speaks(seconds, QUIET)

    def presses(self, digit: str) -> None:
        """The caller presses a key."""
        self._said.put(DigitPressed(digit))

    def types(self, text: str) -> None:
        """The caller types."""
        self._said.put(Typed(text))

    def answers(self, answered_by: AnsweredBy, *, ready: bool = True) -> None:
        """The carrier says who answered."""
        self._said.put(MachineDetected(answered_by, ready))

    def signal(self, signal: TransportSignal) -> None:
        """The line says something out of turn."""
        self._said.put(signal)

    def leaves(self, reason: str = "caller_hung_up") -> None:
        """The caller hangs up."""
        self._said.put(HungUp(reason))


class LoudnessDetector:
    """Voice is what is loud; windows of 20 ms."""

    window_ms = 20.0
    lag_ms = 0.0
    tail_ms = 0.0

    def probabilities(self, pcm_16k: bytes) -> list[float]:
        return [1.0 if max(pcm_16k[1:640:2], default=0) > 0 else 0.0 for _ in range(len(pcm_16k) // 640)]


class ScriptedTranscriber:
    """Hears the given utterances, one a commit, `delay` seconds after each pause."""

    name = "scripted"
    model = "test"

    def __init__(self, clock: Clock, utterances: list[str], delay: float = 0.3) -> None:
        self._clock, self._utterances, self._delay = clock, utterances, delay
        self._said: Mailbox[Transcribed] = Mailbox()
        self._request = 0
        self.heard_ms = 0.0

    async def start(self, tasks: TaskGroup) -> None:
        """Ready."""

    def hear(self, pcm_16k: bytes) -> None:
        self.heard_ms += len(pcm_16k) / 32

    def begin(self) -> None:
        self._request += 1

    def pause(self) -> None:
        self._request += 1
        asked, request = self._clock.now(), self._request
        self._clock.call_later(self._delay, lambda: self._answer(asked, request))

    def _answer(self, asked: float, request: int) -> None:
        if request == self._request:
            text = self._utterances[0] if self._utterances else ""
            self._said.put(Transcribed(text, True, asked, self._clock.now(), 1.0))

    def resume(self) -> None:
        self._request += 1

    def commit(self) -> None:
        self._request += 1
        if self._utterances:
            self._utterances.pop(0)

    async def signals(self) -> AsyncIterator[Transcribed]:
        async for words in self._said:
            yield words

    async def aclose(self) -> None:
        self._said.close()


Line = str | Sequence[ResponderPiece | ProviderError]


class LinesResponder:
    """Answers with the next of `lines` after `delay` seconds, and keeps what it was asked. Errors among them are raised."""

    name = "lines"
    model = "test"

    def __init__(self, *lines: Line, delay: float = 0.1) -> None:
        self._lines, self._delay = list(lines), delay
        self.asked: list[Ask] = []

    async def respond(self, ask: Ask) -> AsyncIterator[ResponderPiece]:
        self.asked.append(ask)
        await anyio.sleep(self._delay)
        line = self._lines.pop(0) if self._lines else "All right."
        for piece in [TextDelta(line)] if isinstance(line, str) else line:
            if isinstance(piece, ProviderError):
                raise piece
            yield piece

    async def aclose(self) -> None:
        """Nothing to close."""


class ToneSynthesizer:
    """50 ms of sound a character, in pieces of 200 ms, the first after `delay` seconds."""

    name = "tone"
    model = "test"
    voice = "tone"

    def __init__(self, delay: float = 0.06) -> None:
        self.delay = delay
        self.spoken: list[str] = []
        self.breaks_after_ms: int | None = None
        """How much sound it still makes before it fails."""
        self.failures: list[ProviderError] = []
        """What happens to the next sentences before they sound."""

    async def start(self) -> None:
        """Ready."""

    async def synthesize(self, text: str) -> AsyncIterator[AudioChunk]:
        self.spoken.append(text)
        await anyio.sleep(self.delay)
        if self.failures:
            raise self.failures.pop(0)
        left = len(text) * MS_PER_CHARACTER
        while left > 0:
            if self.breaks_after_ms is not None:
                self.breaks_after_ms -= 200
                if self.breaks_after_ms < 0:
                    raise ProviderError("the voice is gone", provider="tone", stage="tts")
            yield AudioChunk(PCM_16K.quiet(min(200, left)), PCM_16K)
            left -= 200

    async def aclose(self) -> None:
        """Nothing to close."""


@dataclass
class Stage:
    """A real session over a fake line and fake engines, with everything it said."""

    clock: Clock
    bus: Bus
    events: list[Event]
    transport: Transport
    session: CallSession
    responder: LinesResponder
    synthesizer: ToneSynthesizer
    line: FakeLine
    transcriber: ScriptedTranscriber

    def of(self, *kinds: type[Event]) -> list[Event]:
        """The events of these kinds, in order."""
        return [event for event in self.events if isinstance(event, kinds)]


@dataclass
class Cast:
    """What `staged` builds a call from."""

    agent: Agent = field(default_factory=lambda: Agent("Be brief.", provider="pipeline"))
    utterances: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    recognition_s: float = 0.3
    thinking_s: float = 0.1
    voicemail: str = ""
    voice: bool = True
    responder: Responder | None = None
    """In place of one that says `lines`."""
    listener: StreamingTranscriber | None = None
    """In place of a transcriber that hears `utterances`."""
    fallback_ears: Sequence[Callable[[], Recogniser]] = ()
    taps: Callable[[CallInfo, Transport, Bus, Clock], Sequence[AudioTap]] = lambda *_: ()


def set_stage(cast: Cast, transport: Transport | None = None) -> Stage:
    """A session ready to run (inside a virtual loop)."""
    clock = virtual_clock()
    bus = Bus(clock)
    seen: list[Event] = []
    bus.add_sink(seen.append)
    line = FakeLine(clock)
    responder = LinesResponder(*cast.lines, delay=cast.thinking_s)
    synthesizer = ToneSynthesizer()
    transcriber = ScriptedTranscriber(clock, cast.utterances, cast.recognition_s)

    def outfit(_: Steered, agent: Agent) -> Outfit:
        conversation = Pipeline(
            responder=cast.responder or responder,
            clock=clock,
            transcriber=transcriber,
            detector=LoudnessDetector(),
            synthesizer=synthesizer if cast.voice else None,
            listener=cast.listener,
            fallback_ears=cast.fallback_ears,
        )
        return Outfit(conversation, *rework(_, agent), tts="tone/test" if cast.voice else "")

    def rework(_: Steered, agent: Agent) -> tuple[Toolbox, Callable[[str, str], tuple[str, str | None]]]:
        return Toolbox(agent.tools or []), Guards(agent.guardrails or []).screen

    carried = transport or line
    call = CallInfo("CA1", "+15550001111", "+15550002222", "outbound", "loopback")
    wiring = Wiring(outfit, rework, taps=cast.taps(call, carried, bus, clock))
    session = CallSession(call, cast.agent, carried, bus, clock, wiring, voicemail=cast.voicemail)
    return Stage(clock, bus, seen, carried, session, responder, synthesizer, line, transcriber)


async def perform(stage: Stage, scene: Callable[[Stage], Awaitable[None]]) -> None:
    """Run the call while `scene` plays the caller; the scene hangs up at its end."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.session.run)
        await anyio.lowlevel.checkpoint()
        await scene(stage)
        await stage.session.hang_up()
