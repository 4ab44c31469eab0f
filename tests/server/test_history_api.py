"""The API of reading over a real socket: lists, one call, its files, figures and exports, and what bad requests are told."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import anyio
import pytest
from aiohttp import web
from jsonschema import Draft202012Validator

from patter.clock import Clock
from patter.models import Memory
from patter.server.answers import sentences
from patter.server.api.analytics_api import AnalyticsApi
from patter.server.api.export_api import COLUMNS, ExportApi
from patter.server.api.history_api import HistoryApi
from patter.server.endpoint import Endpoint, mount
from patter.store.analytics import Analytics
from patter.store.database import Database
from patter.store.history import History
from tests.store.test_history import row_of
from tests.support.seeding import seed
from tests.support.stored_calls import Stored, stored_calls

pytestmark = pytest.mark.anyio

DOCUMENTED = (
    "call_id caller callee direction started_at ended_at duration_s cost_total cost_stt cost_tts cost_llm".split()
)


@dataclass
class Held:
    calls: list[tuple[dict[str, Any], Sequence[str]]] = field(default_factory=list)

    def unwritten(self) -> list[tuple[dict[str, Any], Sequence[str]]]:
        return self.calls

    def live(self) -> list[dict[str, Any]]:
        return [row for row, _ in self.calls]

    def detail(self, call_id: str) -> dict[str, Any] | None:
        return next((row | {"transcript": []} for row, _ in self.calls if row["call_id"] == call_id), None)


@dataclass
class Desk:
    client: aiohttp.ClientSession
    base: str
    database: Database
    held: Held
    table: dict[str, Endpoint]

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        async with self.client.get(f"{self.base}/{path}", headers=headers) as answer:
            body = await answer.read()
            return answer.status, json.loads(body) if answer.content_type == "application/json" else body


@asynccontextmanager
async def desk(home: Path, made: list[Stored]) -> AsyncIterator[Desk]:
    database, held = Database(Memory(), home), Held()
    await database.open()
    await seed("", home, made)
    history = History(database, held, home, Clock())
    entries = [
        *HistoryApi(history, home).endpoints(),
        *AnalyticsApi(Analytics(database), history.live).endpoints(),
        *ExportApi(history).endpoints(),
    ]
    app = web.Application(middlewares=[sentences])
    mount(app, entries)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}/api/v1"
        async with aiohttp.ClientSession() as client:
            yield Desk(client, base, database, held, {entry.path: entry for entry in entries})
    finally:
        await runner.cleanup()
        await database.aclose()


async def test_every_answer_is_as_its_entry_says(tmp_path: Path) -> None:
    made = list(stored_calls(60, seed=4))
    call_id = max(made, key=lambda one: len(one.tools)).call["call_id"]
    async with desk(tmp_path, made) as room:
        room.held.calls.append((row_of(made[0]) | {"call_id": "CAlive", "state": "live", "muted": True}, ["hello"]))
        for path, asked in (
            ("/api/v1/calls", "calls?limit=100&q=you"),
            ("/api/v1/calls/active", "calls/active"),
            ("/api/v1/calls/{id}", f"calls/{call_id}"),
            ("/api/v1/agents/{name}/versions", "agents/reception/versions"),
            ("/api/v1/analytics/overview", "analytics/overview?agent=reception"),
            ("/api/v1/analytics/costs", "analytics/costs?from=2024-09-01&to=2024-10-04"),
            ("/api/v1/analytics/latency", "analytics/latency"),
            ("/api/v1/export/json", "export/json?state=ended"),
        ):
            status, answer = await room.get(asked)
            assert status == 200, asked
            assert answer["data"], asked
            Draft202012Validator(dict(room.table[path].answer or {})).validate(answer)
        _, page = await room.get("calls?limit=7&offset=3")
        assert page["pagination"] == {"limit": 7, "offset": 3, "count": 7, "total": 61}
        _, live = await room.get("calls?state=live&q=hel")
        assert [row["call_id"] for row in live["data"]] == ["CAlive"]
        _, one = await room.get("calls/CAlive")
        assert one["data"]["state"] == "live"
        _, overview = await room.get("analytics/overview")
        assert (overview["data"]["active"], overview["data"]["calls"]) == (1, 60)


BAD = (
    ("calls?q=you&offset=1000", 400, "A search shows its first 1,000 calls: narrow it"),
    ("calls?number=555&offset=2000", 400, "A search shows its first 1,000 calls"),
    ("calls?limit=101", 400, "limit must be a whole number from 0 to 100."),
    ("calls?order=price", 400, "order must be"),
    ("calls?from=yesterday", 400, "from must be a date such as"),
    ("analytics/costs?to=2026-13-01", 400, "to must be a date such as"),
    ("analytics/overview?from=2026-02-02&to=2026-01-01", 400, "to lies before from"),
    ("calls/CAnobody", 404, "There is no such call."),
    ("calls/CAnobody/journal", 404, "There is no such call."),
    ("calls/CAnobody/recording", 404, "There is no such call."),
    ("calls/..%2F..%2Fetc/journal", 404, "There is no such call."),
    ("calls/%2e%2e/recording", 404, "There is n"),
)


async def test_a_bad_request_is_told_what_is_wrong(tmp_path: Path) -> None:
    async with desk(tmp_path, []) as room:
        for asked, status, sentence in BAD:
            got, answer = await room.get(asked)
            assert got == status, asked
            assert answer["error"].startswith(sentence), asked


async def test_journals_and_recordings_are_files_with_ranges_and_never_lie_outside_the_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = list(stored_calls(3, seed=4))
    good, outside, none = (one.call for one in made)
    folder = home / "calls" / good["call_id"]
    folder.mkdir(parents=True)
    line = '{"type":"CallEnded","call_id":"x","seq":1,"at":1.0,"reason":"agent_ended","detail":"","duration_s":1.0}\n'
    (folder / "events.jsonl").write_text(line * 3 + '{"type":"Call')
    (folder / "recording.wav").write_bytes(bytes(range(200)))
    (tmp_path / "secret.wav").write_bytes(b"secret")
    good["recording"], outside["recording"] = f"calls/{good['call_id']}/recording.wav", "../secret.wav"
    async with desk(home, made) as room:
        one = f"calls/{good['call_id']}"
        assert await room.get(f"{one}/journal") == (200, (folder / "events.jsonl").read_bytes())
        _, events = await room.get(f"{one}/events")
        assert [event["type"] for event in events["data"]] == ["CallEnded"] * 3
        assert await room.get(f"{one}/recording") == (200, bytes(range(200)))
        assert await room.get(f"{one}/recording", Range="bytes=10-19") == (206, bytes(range(10, 20)))
        assert (await room.get(f"{one}/recording", Range="bytes=900-"))[0] == 416
        for other in (outside, none):
            status, answer = await room.get(f"calls/{other['call_id']}/recording")
            assert (status, answer["error"][:26]) == (404, "This call has no recording")


async def test_a_reader_who_leaves_in_the_middle_of_an_answer_is_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (one,) = stored_calls(1, seed=4)
    folder = tmp_path / "calls" / one.call["call_id"]
    folder.mkdir(parents=True)
    line = '{"type":"CallEnded","call_id":"x","seq":1,"at":1.0,"reason":"agent_ended","detail":"","duration_s":1.0}\n'
    (folder / "events.jsonl").write_text(line * 100_000)  # more than the buffers of a connection take
    async with desk(tmp_path, [one]) as room:
        host, port = room.base.split("/")[2].split(":")
        async with await anyio.connect_tcp(host, int(port)) as reader:
            await reader.send(f"GET /api/v1/calls/{folder.name}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert b"200 OK" in await reader.receive()
        assert (await room.get("calls"))[0] == 200
    assert caplog.records == []


async def test_a_table_holds_no_formula_and_all_calls(tmp_path: Path) -> None:
    made = list(stored_calls(230, seed=4))
    cells = {
        "=1+1": "'=1+1",
        "+15551234567": "'+15551234567",
        "-1.5": "-1.5",
        "@cmd": "'@cmd",
        "\tx": "'\tx",
        "-2+3": "'-2+3",
        " =x": "' =x",
    }
    for one, cell in zip(made, cells, strict=False):
        one.call["caller"] = cell
    async with desk(tmp_path, made) as room:
        status, body = await room.get("export/csv?order=started_at")
        assert status == 200
        rows = list(csv.DictReader(io.StringIO(body.decode(), newline="")))
        assert list(rows[0]) == list(COLUMNS)
        assert list(COLUMNS)[: len(DOCUMENTED)] == DOCUMENTED
        assert [row["call_id"] for row in rows] == [one.call["call_id"] for one in made]
        assert [row["caller"] for row in rows[: len(cells)]] == list(cells.values())
        assert float(rows[9]["cost_total"]) == made[9].call["cost_total"]
        _, few = await room.get(f"export/csv?number={quote('+1555010')}&agent=billing&direction=inbound")
        assert len(few.decode().splitlines()) - 1 == sum(
            one.call["agent"] == "billing" and one.call["direction"] == "inbound" for one in made
        )
        _, nothing = await room.get("export/json?agent=nobody")
        assert nothing == {"data": []}


async def test_without_its_database_the_api_says_so_and_still_tells_of_live_calls(tmp_path: Path) -> None:
    async with desk(tmp_path, list(stored_calls(2))) as room:
        room.held.calls.append((row_of(next(stored_calls(1))) | {"call_id": "CAlive", "state": "live"}, []))
        await room.database.aclose()
        for asked in ("calls", "calls/CAother", "analytics/overview", "analytics/costs", "export/csv", "export/json"):
            status, answer = await room.get(asked)
            assert status == 503, asked
            assert "database" in answer["error"]
        assert (await room.get("calls/active"))[1]["count"] == 1
        assert (await room.get("calls/CAlive"))[0] == 200
