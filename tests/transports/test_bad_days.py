"""What the caller heard is known to a tenth of a second on every line, also when frames and marks come late or never."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import anyio
import pytest

from patter.loopback.misbehaviour import GOOD_DAY, Misbehaviour
from patter.signals import HungUp, PlayoutEnded, PlayoutStarted, TransportSignal
from tests.support.lines import LINES, LineKind
from tests.support.loopback_line import Line
from tests.support.virtual_time import VIRTUAL_BACKEND

pytestmark = pytest.mark.anyio

DAYS = [  # how far what we know may be behind the ear, in ms: a mark that is lost is made good by the next one
    pytest.param(GOOD_DAY, 100, id="good day"),
    pytest.param(Misbehaviour(jitter_ms=60, loss=0.03, reorder=0.1, seed=4), 100, id="frames late, lost and swapped"),
    pytest.param(Misbehaviour(late_marks_ms=75, seed=2), 100, id="marks late"),
    pytest.param(Misbehaviour(late_marks_ms=40, lost_marks=0.3, seed=2), 1_000, id="marks lost"),
]


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


@pytest.mark.parametrize(("day", "behind_ms"), DAYS)
@pytest.mark.parametrize("kind", LINES, ids=str)
async def test_what_was_heard_is_known_to_a_tenth_of_a_second(
    kind: LineKind, day: Misbehaviour, behind_ms: float
) -> None:
    line = Line(kind, day)
    told: list[TransportSignal] = []

    async def follow() -> None:
        told.extend([signal async for signal in line.transport.signals()])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.leg.run, line.to_server)
        tasks.start_soon(follow)
        await anyio.sleep(0.2)
        line.play(1_500, 1)
        line.play(1_333.25, 1, 1_500)
        line.transport.finish(1)
        for _ in range(40):
            await anyio.sleep(0.05)
            assert line.played_ms - behind_ms <= line.transport.heard_ms(1) <= line.played_ms + 100
        heard = line.transport.clear()
        assert line.played_ms - behind_ms <= heard <= line.played_ms + 100
        was_played = line.played_ms
        await anyio.sleep(3.0)
        assert (line.played_ms, line.transport.heard_ms(1)) == (was_played, heard)
        line.play(710, 2)
        line.transport.finish(2)
        await anyio.sleep(5.0)
        assert line.transport.heard_ms(2) == pytest.approx(710)
        line.leg.hang_up()
        await anyio.sleep(0.2)
        await line.transport.aclose()
    assert line.leg.violations == []
    ends = [(type(signal), signal.reply_id) for signal in told if isinstance(signal, (PlayoutStarted, PlayoutEnded))]
    assert ends == [(PlayoutStarted, 1), (PlayoutStarted, 2), (PlayoutEnded, 2)]
    assert told[-1] == HungUp("caller_hung_up")


@pytest.mark.parametrize("kind", LINES, ids=str)
async def test_the_callers_time_goes_on_whatever_is_lost_or_swapped(kind: LineKind) -> None:
    line = Line(kind, Misbehaviour(jitter_ms=60, loss=0.05, reorder=0.15, seed=9))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(line.leg.run, line.to_server))
        await anyio.sleep(10.0)
        line.leg.hang_up()
        await anyio.sleep(0.2)
    heard = [chunk.data[0] for chunk in line.frames]
    assert line.spoken - len(heard) <= 5
    quiet = line.kind.hears.silence[0]
    steps = [number for number in heard if number != quiet]
    assert len(steps) > 0.9 * line.spoken
    assert all(0 < (after - before) % 200 < 10 for before, after in pairwise(steps))
    await line.transport.aclose()
