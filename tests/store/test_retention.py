"""Deletion: what is too old or too much goes with all that is kept of it, a crash leaves nothing half, live calls stay."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy import func, select

from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallEnded, CallerSaid, CallStarted, Event, ReplyText
from patter.models import Memory
from patter.observe.journal import call_folder
from patter.observe.prices import Prices
from patter.records import Records
from patter.server.answers import sentences
from patter.server.api.forgetting_api import ForgettingApi
from patter.server.endpoint import mount
from patter.settings import Settings
from patter.store import schema
from patter.store.retention import FORGOTTEN, Retention

pytestmark = pytest.mark.anyio

DAY = 86_400.0
KEEP_ALL = Memory()


@dataclass
class Home:
    """The records of a home, with calls that ended long ago."""

    path: Path
    bus: Bus
    records: Records
    now: float

    @property
    def retention(self) -> Retention:
        found = self.records.kept().retention
        assert found is not None
        return found

    async def call(self, call_id: str, days_ago: float, caller: str = "+15550001", *, over: bool = True) -> None:
        """A call with a recording."""
        at = self.now - days_ago * DAY
        events: list[Event] = [
            CallStarted(call_id=call_id, at=at, caller=caller, callee="+15559999", agent="desk"),
            CallerSaid(call_id=call_id, at=at + 1, turn=1, text="hello"),
            *([CallEnded(call_id=call_id, at=at + 5, reason="caller_hung_up", duration_s=5.0)] if over else []),
        ]
        for event in events:
            self.bus.publish(event)
        await self.settled()
        folder = call_folder(self.path, call_id)
        with anyio.fail_after(10):
            while not folder.is_dir():
                await anyio.sleep(0.005)
        (folder / "recording.wav").write_bytes(b"sound")

    async def settled(self) -> None:
        assert await self.records.keeper.settled()

    async def rows(self) -> list[str]:
        async with self.records.database.read() as connection:
            return sorted((await connection.execute(select(schema.calls.c.call_id))).scalars())

    async def counted(self) -> int:
        async with self.records.database.read() as connection:
            return int((await connection.execute(select(func.coalesce(func.sum(schema.days.c.calls), 0)))).scalar_one())

    def folders(self) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self.path / "calls") if entry.is_dir())

    async def until(self, kept: list[str]) -> None:
        """Return when exactly these calls are left, with their folders, rows and sums."""
        with anyio.fail_after(20):
            while (await self.rows(), self.folders()) != (kept, kept):
                await anyio.sleep(0.01)
            while list((self.path / FORGOTTEN).iterdir()):
                await anyio.sleep(0.01)


@asynccontextmanager
async def home(path: Path, memory: Memory = KEEP_ALL) -> AsyncIterator[Home]:
    bus, clock = Bus(Clock()), Clock()
    async with Records(path, bus, clock, Prices.load(), Settings(memory)) as records:
        house = Home(path, bus, records, clock.now())
        await house.settled()
        yield house


async def test_old_calls_go_at_the_start_with_everything_that_was_kept_of_them(tmp_path: Path, memory: Memory) -> None:
    async with home(tmp_path, memory) as it:
        for days in (40, 20, 1, 0.5):
            await it.call(f"D{days:g}".replace(".", "_"), days)
        assert len(it.folders()) == 4
    keep = Memory(database=memory.database, keep_days=30, keep_calls=2)
    async with home(tmp_path, keep) as it:
        await it.call("now", 0.0)  # younger than what is looked at, and it counts
        await it.until(["D0_5", "D1", "now"])
        assert await it.retention.sweep() == 1
        await it.until(["D0_5", "now"])
        await it.settled()
        assert await it.counted() == 2


async def test_calls_that_go_on_are_never_deleted(tmp_path: Path) -> None:
    async with home(tmp_path, Memory(keep_days=1, keep_calls=0)) as it:
        await it.call("live", 10, over=False)
        await it.call("over", 10)
        assert await it.retention.sweep() == 1
        assert await it.retention.forget_beyond(0) == 0
        assert not await it.retention.forget("live")
        assert await it.rows() == ["live"]
        assert it.folders() == ["live"]


async def test_it_is_looked_again_after_many_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patter.store.retention.EVERY", 3)
    async with home(tmp_path, Memory(keep_calls=1)) as it:
        for number in range(3):
            await it.call(f"C{number}", 3 - number)
        await it.until(["C2"])


@pytest.mark.parametrize("rows_gone", [False, True])
async def test_what_a_crash_left_half_deleted_is_finished_by_the_next_start(tmp_path: Path, rows_gone: bool) -> None:
    async with home(tmp_path) as it:
        await it.call("half", 3)
        await it.call("kept", 3)
    async with home(tmp_path) as it:
        if rows_gone:
            await it.records.keeper.forget(["half"])
        (tmp_path / FORGOTTEN).mkdir(exist_ok=True)
        os.rename(tmp_path / "calls" / "half", tmp_path / FORGOTTEN / "half")
    async with home(tmp_path) as it:
        await it.until(["kept"])
        assert await it.counted() == 1


async def test_nothing_that_comes_late_brings_a_call_back(tmp_path: Path) -> None:
    async with home(tmp_path) as it:
        await it.call("gone", 0)
        assert await it.retention.forget("gone")
        it.bus.publish(ReplyText(call_id="gone", reply_id=1, text="late"))
        await it.call("other", 0)
        assert it.folders() == ["other"]
        assert not await it.retention.forget("gone")
    async with home(tmp_path) as it:
        await it.settled()
        assert await it.rows() == ["other"]


async def test_no_number_is_not_the_number_of_withheld_callers(tmp_path: Path) -> None:
    async with home(tmp_path) as it:
        for none in ("", "+", "anonymous"):
            with pytest.raises(ValueError, match="telephone number"):
                await it.retention.forget_number(none)


@asynccontextmanager
async def api(it: Home, *up: str) -> AsyncIterator[TestClient[Any, Any]]:
    app = web.Application(middlewares=[sentences])
    mount(app, ForgettingApi(it.retention, lambda: [{"call_id": call_id} for call_id in up]).endpoints())
    async with TestClient(TestServer(app)) as client:
        yield client


async def ask(answer: aiohttp.ClientResponse) -> tuple[int, Any]:
    return answer.status, await answer.json()


async def test_the_api_deletes_one_call_and_those_of_a_number(tmp_path: Path) -> None:
    async with home(tmp_path) as it:
        await it.call("A", 3, "+4930123456")
        await it.call("B", 2, "+4930123456")
        await it.call("C", 1, "+15550002")
        await it.call("E", 1, "+15550003")
        await it.call("D", 1, "+4930123456", over=False)
        async with api(it, "D") as client:
            assert await ask(await client.delete("/api/v1/calls/C")) == (200, {"data": {"forgotten": 1}})
            assert (await client.delete("/api/v1/calls/C")).status == 404
            assert (await client.delete("/api/v1/calls/D")).status == 409
            forget = "/api/v1/calls/forget"
            for wrong in ({}, {"number": "nobody"}, {"older_than_days": -1}, {"beyond": 1, "number": "+4930123456"}):
                assert (await client.post(forget, json=wrong)).status in (400, 422), wrong
            assert await ask(await client.post(forget, json={"number": "+49 30 123456"})) == (
                200,
                {"data": {"forgotten": 2}},
            )
            assert it.folders() == ["D", "E"]
            assert await ask(await client.post(forget, json={"older_than_days": 0.5})) == (
                200,
                {"data": {"forgotten": 1}},
            )
            assert await ask(await client.post(forget, json={"beyond": 0})) == (200, {"data": {"forgotten": 0}})
            assert await it.rows() == ["D"]
