"""Messages and transfers over the media streams of both carriers: what counts is what their far end played."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

from patter.events import AgentSaid, CallEnded, CallerSaid, TransferFailed
from patter.models import Agent
from patter.transports.media_stream import StreamTransport
from patter.wire.stream import Clear, Mark, Play
from tests.support.lines import LINES, TELNYX, TWILIO, LineKind
from tests.support.parts import MS_PER_CHARACTER, Cast, Stage, set_stage
from tests.support.stream_call import Rest
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio
GREETING = "Hello, this is Riverside Dental, I am calling about your appointment."
MESSAGE = "This is Riverside Dental. Please call us back."
MESSAGE_S = (len(MESSAGE) - 1) * MS_PER_CHARACTER / 1000  # the blank between sentences is no sound
TRAVEL_S = 0.04


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


class FarEnd:
    """The carrier's end of a stream: plays in real time, returns marks when they are passed, and all of them on clear."""

    def __init__(self, line: LineKind, rest: Rest) -> None:
        self.line, self.chair, self.clock = line, line.chair(), virtual_clock()
        self.transport = StreamTransport("CA1", line.wire(), self, self.clock, rest)
        self.played: list[tuple[float, float]] = []  # (from, to) of what was heard
        self.closed_at = 0.0
        self._until = 0.0
        self._marks: dict[str, asyncio.TimerHandle] = {}
        self._time_ms = 0

    def send(self, text: str) -> None:
        now = self.clock.now()
        match self.line.read(text):
            case Play(sound):
                begins = max(now, self._until)
                self._until = begins + self.line.plays.ms_of(len(sound)) / 1000
                self.played.append((begins, self._until))
            case Mark(name):
                passed = max(0.0, self._until - now) + TRAVEL_S
                self._marks[name] = self.clock.call_later(passed, lambda: self._return(name))
            case Clear():
                self._until = now
                self.played = [(begins, min(ends, now)) for begins, ends in self.played if begins < now]
                for name, timer in list(self._marks.items()):
                    timer.cancel()
                    self._return(name)

    def _return(self, name: str) -> None:
        self._marks.pop(name, None)
        self.transport.feed(self.chair.mark(name))

    def close(self) -> None:
        self.closed_at = self.clock.now()

    def heard_s(self, since: float) -> float:
        """How much was heard from `since` on, in seconds."""
        return sum(ends - max(begins, since) for begins, ends in self.played if ends > since)

    async def noise(self, seconds: float) -> None:
        """Loud sound from the other side."""
        loud = (b"\x00\x40" if self.line.hears.sample_bytes == 2 else b"\x20") * (self.line.hears.rate // 50)
        for _ in range(round(seconds / 0.02)):
            self._time_ms += 20
            self.transport.feed(self.chair.media(loud, self._time_ms))
            await anyio.sleep(0.02)


def set_up(line: LineKind, rest: Rest | None = None, **changes: object) -> tuple[Stage, FarEnd]:
    far = FarEnd(line, rest or Rest())
    agent = Agent("Be brief.", provider="pipeline", first_message=GREETING)
    values: dict[str, object] = {"agent": agent, "voicemail": MESSAGE, "utterances": ["leave a message", "beep"]}
    return set_stage(Cast(**(values | changes)), far.transport), far  # type: ignore[arg-type]


async def play(stage: Stage, scene: Callable[[], Awaitable[None]]) -> CallEnded:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.session.run)
        await anyio.lowlevel.checkpoint()
        await scene()
    ended = stage.events[-1]
    assert isinstance(ended, CallEnded)
    return ended


@pytest.mark.parametrize("line", LINES, ids=str)
async def test_the_whole_message_is_played_before_the_call_ends(line: LineKind) -> None:
    stage, far = set_up(line)
    ready_at = [0.0]

    async def scene() -> None:
        await anyio.sleep(1.0)
        far.transport.machine_detected("machine", ready=False)
        await far.noise(2.0)
        assert far.heard_s(since=far.clock.now() - 1.9) < 0.1
        ready_at[0] = far.clock.now()
        far.transport.machine_detected("machine")
        await far.noise(1.0)

    ended = await play(stage, scene)
    assert ended.reason == "voicemail_left"
    assert far.heard_s(since=ready_at[0]) == pytest.approx(MESSAGE_S, abs=0.05)
    assert far.closed_at >= far.played[-1][1]
    assert not stage.of(CallerSaid)
    said = stage.of(AgentSaid)[-1]
    assert isinstance(said, AgentSaid)
    assert (said.text, said.interrupted) == (MESSAGE, False)


@pytest.mark.parametrize("line", [TWILIO, TELNYX], ids=str)
async def test_a_voice_that_breaks_off_hands_the_message_to_the_carrier(line: LineKind) -> None:
    rest = Rest(takes_s=1.0)
    stage, far = set_up(line, rest)

    async def scene() -> None:
        await anyio.sleep(1.0)
        stage.synthesizer.breaks_after_ms = 1_000
        far.transport.machine_detected("machine")
        while not rest.asked:
            await anyio.sleep(0.05)
        await anyio.sleep(0.5)
        far.transport.feed(far.chair.stop())

    ended = await play(stage, scene)
    assert ended.reason == "voicemail_left"
    assert [asked for asked in rest.asked if asked[0] == "announce"] == [("announce", MESSAGE)]
    assert ("hang up",) not in rest.asked


@pytest.mark.parametrize("line", [TWILIO, TELNYX], ids=str)
@pytest.mark.parametrize("summary", ["", "Ada has toothache."])
async def test_a_stream_that_stops_because_of_the_transfer_leaves_the_call_to_the_carrier(
    line: LineKind, summary: str
) -> None:
    rest = Rest(takes_s=0.5)
    stage, far = set_up(line, rest)

    async def scene() -> None:
        await anyio.sleep(1.0)
        await stage.session.transfer("+15551234567", summary=summary, failed=lambda: None)
        while not rest.asked:
            await anyio.sleep(0.05)
        await anyio.sleep(0.3)
        far.transport.feed(far.chair.stop())

    ended = await play(stage, scene)
    assert (ended.reason, ended.detail) == ("transferred", "to +15551234567")
    assert rest.asked == [("transfer", "+15551234567", summary)]
    spoken_s = len(GREETING) * MS_PER_CHARACTER / 1000
    assert (ended.duration_s > spoken_s) is (not summary)  # cold: what was being said is heard first


@pytest.mark.parametrize("line", [TWILIO, TELNYX], ids=str)
async def test_a_transfer_that_fails_lets_the_stream_and_the_call_go_on(line: LineKind) -> None:
    rest = Rest(refuses="Nobody answered.", takes_s=0.5)
    stage, far = set_up(line, rest)

    async def scene() -> None:
        await stage.session.transfer("+15551234567", summary="Ada.", failed=lambda: None)
        await anyio.sleep(6.0)
        far.transport.feed(far.chair.stop())

    ended = await play(stage, scene)
    assert ended.reason == "caller_hung_up"
    assert len(stage.of(TransferFailed)) == 1
    assert stage.session.history[0]["text"] == GREETING
