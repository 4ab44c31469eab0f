"""What a line says of itself is what the carrier and the network did to it, frame by frame, on every carrier's line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.exceptions import PatterError
from patter.loopback.misbehaviour import GOOD_DAY, Misbehaviour
from patter.ports import LineStats
from patter.transports.line_meter import LineMeter, joined
from patter.transports.reorder import FAR, Reorderer
from patter.transports.returning import ReturningLine
from tests.support.lines import LINES, LineKind
from tests.support.loopback_line import Line
from tests.support.stream_call import Call, Rest
from tests.support.virtual_time import VIRTUAL_BACKEND

pytestmark = pytest.mark.anyio

DAYS = [
    pytest.param(GOOD_DAY, id="good day"),
    pytest.param(Misbehaviour(jitter_ms=60, seed=4), id="frames late"),
    pytest.param(Misbehaviour(loss=0.05, seed=5), id="frames lost"),
    pytest.param(Misbehaviour(jitter_ms=40, loss=0.04, reorder=0.15, seed=9), id="late, lost and swapped"),
]


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


async def spend(line: Line, seconds: float, also: Callable[[], Awaitable[None]] | None = None) -> LineStats:
    """The day goes by for so long; what the line says of it afterwards."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.leg.run, line.to_server)
        if also is not None:
            await also()
        await anyio.sleep(seconds)
        line.leg.hang_up()
        await anyio.sleep(0.3)
        await line.transport.aclose()
    return line.transport.quality()


def arrived(line: Line) -> list[tuple[float, int, float]]:
    """The caller's frames as the test saw them: (arrived at, number, spoken at in ms)."""
    messages = [(at, json.loads(text)) for at, text in line.arrivals]
    return [
        (at, int(message["media"]["chunk"]), float(message["media"]["timestamp"]))
        for at, message in messages
        if message["event"] == "media"
    ]


def jitter_of(frames: list[tuple[float, int, float]]) -> float:
    """RFC 3550, 6.4.1, written down once more: the mean of J over the frames, in ms."""
    jitter, sums = 0.0, list[float]()
    for (then, _, spoken_then), (now, _, spoken_now) in pairwise(frames):
        difference = (now - then) * 1000 - (spoken_now - spoken_then)
        jitter += (abs(difference) - jitter) / 16
        sums.append(jitter)
    return sum(sums) / len(sums)


@pytest.mark.parametrize("day", DAYS)
@pytest.mark.parametrize("kind", LINES, ids=str)
async def test_frames_losses_and_jitter_are_those_of_the_day(kind: LineKind, day: Misbehaviour) -> None:
    line = Line(kind, day)
    told = await spend(line, 8.0)
    frames = arrived(line)
    numbers = [number for _, number, _ in frames]
    assert told.frames == len(frames) > 300
    assert told.lost == max(numbers) - len(numbers)
    assert told.dropped == 0  # a frame that one other overtook is in time
    assert told.jitter_ms == pytest.approx(jitter_of(frames), abs=0.01)
    assert (told.lost > 5) == bool(day.loss)
    assert (told.jitter_ms > 5) == bool(day.jitter_ms)


async def test_a_frame_that_comes_twice_is_dropped_once() -> None:
    line = Line(LINES[0], Misbehaviour(reorder=0.1, seed=3))
    line.doubles = 10
    told = await spend(line, 6.0)
    frames = arrived(line)
    twice = sum(count - 1 for count in Counter(number for _, number, _ in frames).values())
    assert twice > 20
    assert (told.frames, told.lost, told.dropped) == (len(frames), 0, twice)


async def test_a_frame_that_was_given_up_and_comes_after_all_is_dropped_and_not_lost() -> None:
    call = Call()
    frames = [call.chair.media(bytes([number]) * 160, 20 * number) for number in range(1, 12)]
    late = frames.pop(3)
    for frame in frames:
        call.transport.feed(frame)
    assert call.transport.quality() == LineStats(10, 1, 0, call.transport.quality().jitter_ms)
    call.transport.feed(late)
    assert (call.transport.quality().lost, call.transport.quality().dropped) == (0, 1)
    await call.transport.aclose()


async def test_a_carrier_that_gives_neither_number_nor_time_is_measured_as_far_as_it_tells() -> None:
    call = Call()
    for _ in range(5):
        call.transport.feed('{"event":"media","media":{"payload":"' + "A" * 160 + '"}}')
    assert call.transport.quality() == LineStats(frames=5)
    await call.transport.aclose()


@pytest.mark.parametrize("kind", LINES, ids=str)
async def test_sound_that_runs_dry_in_the_middle_of_a_reply_is_an_underrun(kind: LineKind) -> None:
    line = Line(kind, GOOD_DAY)

    async def talk() -> None:
        line.play(400, 1)
        await anyio.sleep(0.6)  # 200 ms of silence
        line.play(400, 1, 400)
        line.play(400, 1, 800)
        await anyio.sleep(1.2)  # and 400 ms
        line.play(200, 1, 1_200)
        line.transport.finish(1)

    assert (await spend(line, 2.0, talk)).underruns == 2
    assert line.leg.stats.underruns >= 1  # the carrier's player heard it too


@pytest.mark.parametrize("kind", LINES, ids=str)
async def test_silence_that_nobody_made_is_no_underrun(kind: LineKind) -> None:
    """Sound in time, between replies, after an interruption and behind a reply's end."""
    line = Line(kind, GOOD_DAY)

    async def talk() -> None:
        for piece in range(20):
            line.play(100, 1, piece * 100)
            await anyio.sleep(0.09)
        line.transport.finish(1)
        await anyio.sleep(2.0)
        line.play(300, 2)
        line.transport.finish(2)
        await anyio.sleep(1.0)
        line.play(2_000, 3)
        await anyio.sleep(0.5)
        heard = line.transport.clear()
        await anyio.sleep(1.0)
        line.play(2_000 - heard, 3, heard)
        line.transport.finish(3)

    assert (await spend(line, 4.0, talk)).underruns == 0


async def test_a_call_whose_stream_began_anew_tells_of_both() -> None:
    first, second = Call(rest=Rest("Nobody answered.", takes_s=1.0)), Call()
    line = ReturningLine(first.transport, first.clock)

    async def hand_over() -> None:
        with pytest.raises(PatterError, match="Nobody"):
            await line.transfer("+15550003333")

    feed(first, 1, 2, 4, 5, 6, 7)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hand_over)
        await anyio.sleep(0.5)
        line.comes_back()
        assert line.back(second.transport)
    feed(second, 1, 2, 3)
    assert (line.quality().frames, line.quality().lost) == (9, 1)
    await line.aclose()


def feed(call: Call, *numbers: int) -> None:
    """The caller's frames with these numbers arrive."""
    frames = [call.chair.media(b"\x7f" * 160, 20 * number) for number in range(1, 8)]
    for number in numbers:
        call.transport.feed(frames[number - 1])


def test_figures_of_two_streams_weigh_by_their_frames() -> None:
    both = joined(LineStats(300, 3, 1, 2.0, 1), LineStats(100, 0, 2, 6.0, 0))
    assert both == LineStats(400, 3, 3, 3.0, 1)
    assert joined(LineStats(), LineStats()) == LineStats()


def test_a_leap_in_the_carriers_count_is_no_jitter() -> None:
    meter = LineMeter()
    for number in range(100):
        meter.arrived(str(20 * number if number < 50 else 20 * (number - 50)), 1_700_000_000 + 0.02 * number)
    assert (meter.frames, meter.jitter_ms) == (100, 0.0)


@given(st.lists(st.tuples(st.sampled_from(["", "nan", "inf", "7", "x", "9" * 500]) | st.integers().map(str),
                          st.floats(0, 2e9)), max_size=40))  # fmt: skip
def test_no_timestamp_whatever_spoils_the_figure(frames: list[tuple[str, float]]) -> None:
    meter = LineMeter()
    for timestamp, now in frames:
        meter.arrived(timestamp, now)
    assert meter.frames == len(frames)
    assert 0.0 <= meter.jitter_ms < 1_000


@given(st.lists(st.integers(0, 400) | st.integers(0, 10**15), max_size=200))
def test_no_numbers_whatever_make_a_negative_count(numbers: list[int]) -> None:
    order = Reorderer()
    for number in numbers:
        if number == order.due:
            order.due += 1
        else:
            order.take(number, b"")
        assert order.lost >= 0
        assert 0 <= order.dropped <= len(numbers)
        assert len(order._given_up) <= 2 * FAR
    order.rest()
    assert 0 <= order.lost <= len(numbers) * (FAR + 1)
