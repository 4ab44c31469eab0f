"""What every transport must do, whoever is behind it: text line, faked line and every carrier's media stream pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio
import pytest

from patter.audio.format import AudioChunk
from patter.clock import Clock
from patter.ports import LineStats, Transport
from patter.signals import HungUp, PlayoutEnded, PlayoutStarted, TransportSignal
from patter.transports.media_stream import StreamTransport
from patter.transports.text import TextTransport
from patter.wire.stream import Mark, Play
from tests.support.lines import LINES, LineKind
from tests.support.parts import FakeLine
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


class PlayingCarrier:
    """The far end of a media stream: plays in real time, returns marks after playout, all of them on clear."""

    def __init__(self, line: LineKind, clock: Clock) -> None:
        self._line = line
        self._chair = line.chair()
        self._clock = clock
        self._free_at = 0.0
        self._pending: dict[str, object] = {}
        self.transport = StreamTransport("call-1", line.wire(), self, clock)

    def send(self, text: str) -> None:
        message = self._line.read(text)  # raises for anything the carrier would refuse or misplay
        now = self._clock.now()
        if isinstance(message, Mark):
            wait = max(0.0, self._free_at - now)
            self._pending[message.name] = self._clock.call_later(wait, lambda: self._return(message.name))
        elif isinstance(message, Play):
            self._free_at = max(now, self._free_at) + self._line.plays.ms_of(len(message.sound)) / 1000
        else:
            self._free_at = now
            for name in list(self._pending):
                self._return(name)

    def _return(self, name: str) -> None:
        if self._pending.pop(name, None) is not None:
            self.transport.feed(self._chair.mark(name))

    def close(self) -> None:
        """Hung up."""


def carried(line: LineKind, clock: Clock) -> Transport:
    return PlayingCarrier(line, clock).transport


TRANSPORTS = [
    pytest.param(TextTransport, id="text"),
    pytest.param(FakeLine, id="faked line"),
    *(pytest.param(partial(carried, line), id=line.name) for line in LINES),
]
Make = Callable[[Clock], Transport]


def say(transport: Transport, reply_id: int, ms: float = 600.0, at_ms: float = 0.0) -> None:
    """Give the line a stretch of a reply in whichever way it takes it."""
    plays = transport.abilities.plays
    if plays is None:
        transport.show("Some words.", reply_id)
    else:
        transport.play(AudioChunk(plays.quiet(ms), plays), reply_id, at_ms)


async def collect(transport: Transport, seconds: float) -> list[TransportSignal]:
    """What the caller's side says within `seconds`, and until it is closed after that."""
    said: list[TransportSignal] = []

    async def read() -> None:
        async for signal in transport.signals():
            said.append(signal)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.sleep(seconds)
        await transport.aclose()
    return said


@pytest.mark.parametrize("make", TRANSPORTS)
async def test_a_finished_reply_is_started_and_ended_once_in_that_order(make: Make) -> None:
    transport = make(virtual_clock())
    say(transport, 1)
    transport.finish(1)
    told = [s for s in await collect(transport, 3) if isinstance(s, (PlayoutStarted, PlayoutEnded))]
    assert [type(signal) for signal in told] == [PlayoutStarted, PlayoutEnded]
    assert told[0].at <= told[1].at


@pytest.mark.parametrize("make", TRANSPORTS)
async def test_an_unfinished_reply_never_ends(make: Make) -> None:
    transport = make(virtual_clock())
    say(transport, 1)
    assert not [s for s in await collect(transport, 3) if isinstance(s, PlayoutEnded)]


@pytest.mark.parametrize("make", TRANSPORTS)
async def test_replies_end_in_the_order_they_were_given(make: Make) -> None:
    transport = make(virtual_clock())
    for reply_id in (1, 2):
        say(transport, reply_id)
        transport.finish(reply_id)
    assert [s.reply_id for s in await collect(transport, 4) if isinstance(s, PlayoutEnded)] == [1, 2]


@pytest.mark.parametrize("make", TRANSPORTS)
async def test_what_was_cleared_is_never_told_as_heard(make: Make) -> None:
    clock = virtual_clock()
    transport = make(clock)
    if transport.abilities.plays is None:
        return  # shown is heard: there is nothing to clear
    say(transport, 1, 2000.0)
    transport.finish(1)
    await anyio.sleep(0.5)
    heard = transport.clear()
    assert heard == pytest.approx(500, abs=100)
    assert not [s for s in await collect(transport, 3) if isinstance(s, PlayoutEnded)]
    assert transport.heard_ms(1) == pytest.approx(heard, abs=1)


@pytest.mark.parametrize("make", TRANSPORTS)
async def test_what_was_cleared_can_go_on_from_there(make: Make) -> None:
    transport = make(virtual_clock())
    if transport.abilities.plays is None:
        return
    say(transport, 1, 2000.0)
    await anyio.sleep(0.5)
    heard = transport.clear()
    say(transport, 1, 2000.0 - heard, heard)
    transport.finish(1)
    assert [s.reply_id for s in await collect(transport, 4) if isinstance(s, PlayoutEnded)] == [1]
    assert transport.heard_ms(1) == pytest.approx(2000, abs=1)


@pytest.mark.parametrize("make", TRANSPORTS)
async def test_a_clear_after_the_last_sound_was_given_keeps_the_reply_from_ending(make: Make) -> None:
    clock = virtual_clock()
    transport = make(clock)
    if transport.abilities.plays is None:
        return
    say(transport, 1, 1000.0)
    transport.finish(1)  # synthesis is long over; only the line still plays
    await anyio.sleep(0.8)
    assert transport.clear() == pytest.approx(800, abs=100)
    say(transport, 2, 300.0)
    transport.finish(2)
    told = [s for s in await collect(transport, 3) if isinstance(s, (PlayoutStarted, PlayoutEnded)) and s.reply_id == 2]
    assert [type(signal) for signal in told] == [PlayoutStarted, PlayoutEnded]
    assert told[1].at - told[0].at == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("make", TRANSPORTS)
async def test_sound_given_in_crumbs_is_heard_whole(make: Make) -> None:
    transport = make(virtual_clock())
    if transport.abilities.plays is None:
        return
    for crumb in range(41):
        say(transport, 1, 5.0, crumb * 5.0)
    transport.finish(1)
    assert [s.reply_id for s in await collect(transport, 3) if isinstance(s, PlayoutEnded)] == [1]
    assert transport.heard_ms(1) == pytest.approx(205, abs=1)


@pytest.mark.parametrize("make", TRANSPORTS)
async def test_closing_ends_the_signals_and_closing_again_does_nothing(make: Make) -> None:
    transport = make(virtual_clock())
    said = await collect(transport, 0.1)
    assert [s for s in said if not isinstance(s, HungUp)] == []
    await transport.aclose()
    transport.finish(1)


@pytest.mark.parametrize("make", TRANSPORTS)
async def test_a_line_with_sound_tells_how_it_did_at_any_time_and_one_without_never(make: Make) -> None:
    transport = make(virtual_clock())
    sound = transport.abilities.hears is not None
    assert transport.quality() == (LineStats() if sound else None)
    say(transport, 1)
    transport.finish(1)
    await collect(transport, 3)
    assert transport.quality() == (LineStats() if sound else None)  # it is closed, nothing came and nothing ran dry
