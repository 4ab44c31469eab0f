"""Further tokens: told once, kept as digests, each with its role, out at once when they are taken away."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from patter.server.endpoint import ENDPOINTS, ROLES, Role
from tests.support.serving import Rig, serving

pytestmark = pytest.mark.anyio


async def made(rig: Rig, name: str, role: str) -> str:
    status, answer = await rig.post("/api/v1/tokens", {"name": name, "role": role})
    assert status == 201, answer
    assert (answer["data"]["name"], answer["data"]["role"]) == (name, role)
    return str(answer["data"]["token"])


@asynccontextmanager
async def holding(token: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


async def status_of(client: aiohttp.ClientSession, method: str, url: str, **options: Any) -> int:
    async with client.request(method, url, **options) as answer:
        return answer.status


async def test_a_token_is_told_once_kept_as_a_digest_and_outlives_the_engine(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        token = await made(rig, "wall screen", "read")
        status, listed = await rig.get("/api/v1/tokens")
        assert (status, listed["count"], [row["name"] for row in listed["data"]]) == (200, 1, ["wall screen"])
        assert set(listed["data"][0]) == {"name", "role", "made_at"}
    file = tmp_path / "tokens.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token not in file.read_text()
    async with serving(tmp_path) as rig, holding(token) as client:
        assert await status_of(client, "GET", rig.server.url + "/api/v1/calls") == 200


async def test_a_token_that_is_taken_away_is_out_at_once_with_its_sign_ins_and_what_it_follows(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        token, other = await made(rig, "gone", "read"), await made(rig, "stays", "read")
        url = rig.server.url
        async with (
            holding(token) as client,
            holding(other) as staying,
            aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser,
        ):
            login = {"json": {"token": token}, "headers": {"Origin": url}}
            assert await status_of(browser, "POST", url + "/dashboard/login", **login) == 200
            assert await status_of(browser, "GET", url + "/api/v1/calls") == 200
            async with client.ws_connect(url + "/api/v1/events/ws") as socket:
                await socket.receive()
                assert (await rig.delete("/api/v1/tokens/gone"))[0] == 200
                with anyio.fail_after(10):
                    assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
            assert await status_of(client, "GET", url + "/api/v1/calls") == 401
            assert await status_of(browser, "GET", url + "/api/v1/calls") == 401
            assert await status_of(staying, "GET", url + "/api/v1/calls") == 200
        assert (await rig.delete("/api/v1/tokens/gone"))[0] == 404


async def test_names_are_used_once_and_roles_are_known(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        await made(rig, "one", "operate")
        for body, status, words in (
            ({"name": "one", "role": "read"}, 409, "already"),
            ({"name": "engine", "role": "read"}, 409, "already"),
            ({"name": "two", "role": "root"}, 422, '"role" must be "read", "operate" or "admin"'),
            ({"name": "two", "role": "open"}, 422, '"role" must be'),
            ({"name": "", "role": "read"}, 422, '"name" must begin'),
            ({"name": "x" * 65, "role": "read"}, 422, '"name" must begin'),
            ({"name": "../x", "role": "read"}, 422, '"name" must begin'),
            ({"name": "two\n", "role": "read"}, 422, '"name" must begin'),
            ({"role": "read"}, 422, '"name" is missing'),
        ):
            assert (got := await rig.post("/api/v1/tokens", body))[0] == status, body
            assert words in got[1]["error"]


async def test_a_file_that_cannot_be_read_lets_nobody_in_and_is_kept(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text('{"tokens": [{"name": "x"')
    async with serving(tmp_path) as rig:
        assert (await rig.get("/api/v1/tokens"))[1]["count"] == 0
        await made(rig, "new", "read")
    assert (tmp_path / "tokens.unreadable").read_text().startswith('{"tokens"')
    assert [row["name"] for row in json.loads((tmp_path / "tokens.json").read_text())["tokens"]] == ["new"]


async def test_every_entry_asks_for_its_role_and_says_which(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        tokens: dict[Role, str] = {role: await made(rig, role, role) for role in ROLES[1:]}
        table = rig.server.app[ENDPOINTS].values()
        assert len(table) > 25
        for endpoint in table:
            url = rig.server.url + endpoint.path.replace("{id}", "CAnone").replace("{name}", "nobody")
            for role, token in tokens.items():
                if ROLES.index(role) >= ROLES.index(endpoint.role):
                    continue
                async with holding(token) as client, client.request(endpoint.method, url) as answer:
                    assert answer.status == 403, (endpoint.path, role)
                    assert f'needs the role "{endpoint.role}"' in (await answer.json())["error"]
            async with aiohttp.ClientSession() as stranger, stranger.request(endpoint.method, url) as answer:
                if endpoint.role != "open":
                    assert answer.status == 401, endpoint.path
                    assert f'needs the role "{endpoint.role}"' in (await answer.json())["error"]


async def test_who_may_operate_steers_calls_and_who_may_read_looks_at_them(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        call = f"{rig.server.url}/api/v1/calls/{await rig.text_call()}"
        async with holding(await made(rig, "eye", "read")) as eye, holding(await made(rig, "hand", "operate")) as hand:
            assert await status_of(eye, "GET", call) == 200
            assert await status_of(eye, "POST", call + "/hangup") == 403
            assert await status_of(hand, "POST", call + "/say", json={"text": "Hello"}) == 200
            assert await status_of(hand, "POST", call + "/hangup") == 200
            assert await status_of(hand, "POST", rig.server.url + "/api/v1/shutdown") == 403


async def test_wrong_tokens_soon_have_to_wait_and_known_ones_do_not(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        token = await made(rig, "known", "read")
        url = rig.server.url + "/api/v1/calls"
        async with aiohttp.ClientSession() as guesser:
            seen = []
            for number in range(40):
                headers = {"Authorization": f"Bearer guess-{number}"}
                async with guesser.get(url, headers=headers) as answer:
                    seen.append(answer.status)
            assert seen[:10] == [401] * 10
            assert seen[-1] == 429
            assert int(answer.headers["Retry-After"]) >= 1
            async with guesser.post(rig.server.url + "/dashboard/login", json={"token": "guess"}) as answer:
                assert answer.status == 429
            async with guesser.get(rig.server.url + "/health") as answer:
                assert answer.status == 200
        async with holding(token) as client:
            assert await status_of(client, "GET", url) == 200
        assert (await rig.get("/api/v1/calls"))[0] == 200


async def test_a_token_may_ask_only_so_often_and_the_engines_own_as_often_as_it_likes(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, holding(await made(rig, "eager", "read")) as client:
        url = rig.server.url + "/api/v1/line"
        statuses = {await status_of(client, "GET", url) for _ in range(700)}
        assert statuses == {200, 429}

        for _ in range(50):
            assert (await rig.get("/api/v1/line"))[0] == 200
