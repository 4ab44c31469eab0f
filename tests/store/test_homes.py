"""Several processes in one home, and who may read what is kept there."""

from __future__ import annotations

import stat
from pathlib import Path

import anyio
import pytest

from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallEnded, CallStarted
from patter.observe.journal import read
from patter.observe.prices import Prices
from patter.records import Records

pytestmark = pytest.mark.anyio

PRICES = Prices.load()


async def test_a_call_of_a_living_process_is_not_ended_by_another_one_in_its_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    clock = Clock()
    bus = Bus(clock)
    async with Records(home, bus, clock, PRICES):
        bus.publish(CallStarted(call_id="CA1", agent="amy"))
        journal = home / "calls" / "CA1" / "events.jsonl"
        with anyio.fail_after(20):
            while not journal.exists() or not read(journal):
                await anyio.sleep(0.01)
        async with Records(home, Bus(clock), clock, PRICES):
            pass
        assert not any(isinstance(event, CallEnded) for event in read(journal))
    async with Records(home, Bus(clock), clock, PRICES):
        pass
    assert isinstance(read(journal)[-1], CallEnded)
    for path in (home, journal.parent, journal, home / "calls.db"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
