"""The call desk by itself: jobs beside the calls, and its limit."""

from __future__ import annotations

import anyio
import pytest

from patter.bus import Bus
from patter.clock import Clock
from patter.server.desk import Desk
from tests.support.fake_calls import FakeCalls

pytestmark = pytest.mark.anyio


def desk(capacity: int = 2) -> Desk:
    bus = Bus(Clock())
    return Desk(bus, FakeCalls(bus).open_call, capacity)


async def test_a_job_that_fails_is_logged_and_hurts_no_other(caplog: pytest.LogCaptureFixture) -> None:
    done = anyio.Event()

    async def fail(why: str) -> None:
        raise RuntimeError(why)

    async def work() -> None:
        done.set()

    async with desk() as built:
        built.spawn(fail, "on purpose")
        built.spawn(work)
        with anyio.fail_after(10):
            await done.wait()
    assert [record.getMessage() for record in caplog.records] == ["a job beside the calls failed"]


async def test_a_job_ends_with_the_desk() -> None:
    ended = anyio.Event()

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    with anyio.fail_after(10):
        async with desk() as built:
            built.spawn(wait)
            await anyio.lowlevel.checkpoint()
    assert ended.is_set()


async def test_calls_that_are_coming_count_against_the_limit() -> None:
    async with desk(capacity=2) as built:
        assert built.refusal() == built.refusal(1) == ""
        assert "2 calls are up" in built.refusal(2)
