"""Every operation leaves a line: who, from where, what, on which call, and how it went; never what was said or a secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from patter.server import audit
from patter.server.audit import Audit
from tests.support.serving import TOKEN, serving

pytestmark = pytest.mark.anyio


def lines(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "audit.jsonl").read_text().splitlines()]


async def test_operations_are_told_and_reading_is_not(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        call_id = await rig.text_call()
        await rig.get("/api/v1/calls")
        await rig.post(f"/api/v1/calls/{call_id}/say", {"text": "my card is 4111"})
        await rig.post("/api/v1/calls/CAnone/hangup")
        async with aiohttp.ClientSession() as stranger:
            await stranger.post(
                rig.server.url + f"/api/v1/calls/{call_id}/hangup", headers={"X-Forwarded-For": "9.9.9.9"}
            )
            await stranger.post(rig.server.url + "/dashboard/login", json={"token": "wrong-secret"})
            await stranger.post(rig.server.url + "/dashboard/login", json={"token": TOKEN})
            await stranger.get(rig.server.url + "/dashboard?token=another-wrong-secret")
        status, told = await rig.get("/api/v1/audit?limit=3")
        assert (status, told["count"]) == (200, 3)
    found = lines(tmp_path)
    assert told["data"] == found[:-4:-1]
    assert [(line["method"], line["path"], line["status"], line["role"], line.get("of")) for line in found] == [
        ("POST", "/api/v1/rehearsals", 201, "admin", None),
        ("POST", "/api/v1/calls/{id}/say", 200, "admin", call_id),
        ("POST", "/api/v1/calls/{id}/hangup", 404, "admin", "CAnone"),
        ("POST", "/api/v1/calls/{id}/hangup", 401, "open", call_id),
        ("POST", "/dashboard/login", 401, "open", None),
        ("POST", "/dashboard/login", 200, "admin", None),
        ("GET", "/dashboard", 401, "open", None),
    ]
    assert [found[index]["who"] for index in (0, 3, 5)] == [
        'the token "engine"',
        "nobody",
        'the dashboard session of "engine"',
    ]
    assert (found[0]["from"], found[3]["forwarded_for"]) == ("127.0.0.1", "9.9.9.9")
    text = (tmp_path / "audit.jsonl").read_text()
    assert not [secret for secret in (TOKEN, "4111", "wrong-secret") if secret in text]


async def test_old_lines_make_room_and_torn_ones_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "SIZE", 1_000)
    (tmp_path / "audit.jsonl").write_text('{"n": "torn')
    async with Audit(tmp_path) as kept:
        for number in range(400):
            kept.note({"n": number, "word": "x" * 20})
            if number % 20 == 0:
                await kept.last(1)
        newest = await kept.last(30)
    assert [line["n"] for line in newest] == list(range(399, 369, -1))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["audit.1.jsonl", "audit.2.jsonl", "audit.3.jsonl", "audit.4.jsonl", "audit.5.jsonl", "audit.jsonl"]
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 in (0o600, 0o644)


async def test_a_disk_that_takes_nothing_stops_nobody_and_gets_all_of_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "AGAIN_S", 0.01)
    monkeypatch.setattr(audit, "WAITING", 5)
    home = tmp_path / "home"
    async with Audit(home) as kept:
        for number in range(8):
            kept.note({"n": number})
        assert await kept.last(10) == []
        home.mkdir()
        with anyio.fail_after(10):
            while len(await kept.last(10)) < 5:
                await anyio.sleep(0.01)
        kept.note({"n": 8})
    assert [line["n"] for line in lines(home)] == [0, 1, 2, 3, 4, 8]
