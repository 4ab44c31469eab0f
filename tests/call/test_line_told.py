"""At its end a call tells once how its line did; nothing of a line without sound, and whatever the line says."""

from __future__ import annotations

import anyio
import pytest

from patter.events import CallEnded, Event, LineMeasured
from patter.models import Agent
from patter.ports import LineStats
from patter.transports.text import TextTransport
from tests.support.parts import Cast, FakeLine, perform, set_stage
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


class BrokenGauge(FakeLine):
    """A line that cannot tell how it did."""

    def quality(self) -> LineStats:
        raise ZeroDivisionError


async def told_on(transport: FakeLine | TextTransport | None) -> list[Event]:
    stage = set_stage(Cast(agent=Agent("Be brief.", provider="pipeline", first_message="Hello.")), transport)

    async def scene(_: object) -> None:
        await stage.line.silent(1.0)
        await anyio.sleep(1.0)

    await perform(stage, scene)
    return stage.events


async def test_a_call_with_sound_tells_it_once_before_its_end() -> None:
    events = await told_on(None)
    assert [type(event) for event in events[-2:]] == [LineMeasured, CallEnded]
    assert [event.frames for event in events if isinstance(event, LineMeasured)] == [50]


async def test_a_call_without_sound_tells_nothing() -> None:
    events = await told_on(TextTransport(virtual_clock()))
    assert isinstance(events[-1], CallEnded)
    assert not [event for event in events if isinstance(event, LineMeasured)]


async def test_a_line_that_fails_to_tell_does_not_keep_the_call_from_ending() -> None:
    events = await told_on(BrokenGauge(virtual_clock()))
    assert isinstance(events[-1], CallEnded)
    assert not [event for event in events if isinstance(event, LineMeasured)]
