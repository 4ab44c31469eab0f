"""The database fails while calls go on: calls notice nothing, it is told once, and everything is written later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import text

from patter.events import CallEnded
from patter.models import Memory
from patter.store import schema
from patter.store.database import Database
from tests.store.office import Office, a_call, office, rings
from tests.support.databases import Postgres

pytestmark = pytest.mark.anyio

LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


async def until_told(made: Office, state: str) -> None:
    with anyio.fail_after(40):
        while not made.told or made.told[-1].state != state:
            await anyio.sleep(0.02)


async def test_a_locked_file_disturbs_no_call_and_is_written_when_it_is_free(tmp_path: Path) -> None:
    async with office(tmp_path, Memory()) as made:
        await made.written()
        with subprocess.Popen(
            [sys.executable, "-c", LOCK, tmp_path / "calls.db"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"locked\n"
            made.call("CA1")
            made.tell(*a_call("CA2")[:8])
            await until_told(made, "behind")
            made.call("CA3")
            (told,) = made.told
            assert (told.keeper, told.call_id, told.waiting > 0) == ("store", "", True)
            assert "is locked by another program" in told.problem
            assert told.fix
            assert [row["call_id"] for row in made.keeper.live()] == ["CA2"]
            assert not await made.keeper.flushed(0.1)
            detail = made.keeper.detail("CA1")
            assert detail is not None
            assert detail["state"] == "ended"
            assert {row["call_id"] for row, _ in made.keeper.unwritten()} == {"CA1", "CA2", "CA3"}
            other.communicate()
        await until_told(made, "current")
        await made.written()
        assert [told.state for told in made.told] == ["behind", "current"]
        assert {row["call_id"]: row["state"] for row in await made.rows(schema.calls)} == {
            "CA1": "ended", "CA2": "live", "CA3": "ended"}  # fmt: skip
        assert (await made.sums())["days"][0]["calls"] == 2


async def test_a_file_that_is_locked_at_the_start_is_opened_later(tmp_path: Path) -> None:
    async with Database(Memory(), tmp_path):
        pass
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, tmp_path / "calls.db"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        async with office(tmp_path, Memory()) as made:
            made.call("CA1")
            await until_told(made, "behind")
            other.communicate()
            await until_told(made, "current")
            assert [row["call_id"] for row in await made.rows(schema.calls)] == ["CA1"]


async def test_a_server_that_stops_in_the_middle_is_written_to_when_it_is_back(tmp_path: Path) -> None:
    with Postgres() as server:
        async with office(tmp_path, Memory(database=server.url())) as made:
            made.call("CA1")
            await made.written()
            await anyio.to_thread.run_sync(server.stop)
            made.call("CA2")
            made.tell(rings("CA3"))
            await until_told(made, "behind")
            assert "secret" not in made.told[-1].problem + made.told[-1].fix
            made.tell(CallEnded(call_id="CA3", reason="busy"))
            await anyio.to_thread.run_sync(server.start)
            await until_told(made, "current")
            await made.written()
            assert {row["call_id"]: row["reason"] for row in await made.rows(schema.calls)} == {
                "CA1": "agent_ended", "CA2": "agent_ended", "CA3": "busy"}  # fmt: skip
            assert sum(row["calls"] for row in (await made.sums())["days"]) == 3
        await anyio.to_thread.run_sync(server.stop)
        async with office(tmp_path, Memory(database=f"postgresql://patter@127.0.0.1:{server.port}/calls_1")) as down:
            down.call("CA4")
            await until_told(down, "behind")
        await anyio.to_thread.run_sync(server.start)
        async with office(tmp_path, Memory(database=f"postgresql://patter@127.0.0.1:{server.port}/calls_1")) as up:
            await up.written()
            assert len(await up.rows(schema.calls)) == 4


async def test_a_full_disk_disturbs_no_call_and_memory_stays_bounded(tmp_path: Path) -> None:
    async with office(tmp_path, Memory(), held=5) as made:
        await made.written()
        async with made.database.write() as connection:
            pages = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
            await connection.execute(text(f"PRAGMA max_page_count = {pages + 5}"))
        for number in range(60):
            made.call(f"CA{number}")
            if number % 10 == 9:
                await anyio.sleep(0.15)
        made.tell(*a_call("live")[:6])
        await until_told(made, "behind")
        assert "the disk is full" in made.told[0].problem
        for number in range(60, 90):
            made.call(f"CA{number}")
        assert len(made.keeper.unwritten()) < 70  # one batch is being tried, five more are held
        assert made.keeper.waiting >= 30
        assert [row["call_id"] for row in made.keeper.live()] == ["live"]
        async with made.database.read() as connection:  # reading goes on
            await connection.execute(schema.calls.select())
        async with made.database.write() as connection:  # somebody makes room
            await connection.execute(text("PRAGMA max_page_count = 1000000"))
        await until_told(made, "current")
        await made.written()
        assert len(await made.rows(schema.calls)) == 91
        assert (await made.sums())["days"][0]["calls"] == 90
        assert [told.state for told in made.told] == ["behind", "current"]


async def test_a_deleted_database_is_made_again_from_the_journals(tmp_path: Path) -> None:
    async with office(tmp_path, Memory()) as made:
        for number in range(45):
            made.call(f"CA{number}", turns=1)
        await made.written()
        before, calls = await made.sums(), await made.rows(schema.calls)
    (tmp_path / "calls.db").unlink()
    async with office(tmp_path, Memory()) as again:
        again.call("CB1", agent="bob")  # a new call waits for nothing
        assert await again.keeper.flushed(20)
        assert "CB1" in {row["call_id"] for row in await again.rows(schema.calls)}
        await again.written()
        sums = await again.sums()
        assert {name: [row for row in rows if row["agent"] == "amy"] for name, rows in sums.items()} == before
        made_again = [row for row in await again.rows(schema.calls) if row["agent"] == "amy"]
        assert [_known(row) for row in made_again] == [_known(row) for row in calls]


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """A row without how much of its journal was on the disk when it was made."""
    return {name: value for name, value in row.items() if name != "journal_bytes"}


async def test_a_call_that_ends_in_a_torn_journal_keeps_what_stands_before_the_tear(tmp_path: Path) -> None:
    async with office(tmp_path, Memory()) as made:
        made.call("CA1")
        await made.written()
    path = tmp_path / "calls/CA1/events.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"type": "RecordingSaved", "call_id": "CA1", "seq": 99, "pa')
    (tmp_path / "calls.db").unlink()
    async with office(tmp_path, Memory()) as again:
        await again.written()
        (row,) = await again.rows(schema.calls)
        assert (row["reason"], row["recording"], row["turns"]) == ("agent_ended", "", 2)
