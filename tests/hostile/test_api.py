"""The API against people who mean harm: odd paths, bodies, hosts and cookies, and crowds of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from urllib.parse import quote

import aiohttp
import anyio
import pytest

from tests.hostile.words import NASTY
from tests.support.serving import TOKEN, Rig, serving

pytestmark = pytest.mark.anyio

CLIMBING = [
    "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "..%252f..%252fetc", "....//....//etc",
    "%00", "a%00b", "CA1%0d%0aX: 1", "/etc/passwd", "%2fetc%2fpasswd", "CA1/../../tokens.json", "\\..\\..\\x", "é", "%ff",
]  # fmt: skip


async def raw(rig: Rig, request: str) -> bytes:
    stream = await anyio.connect_tcp("127.0.0.1", rig.server.port)
    async with stream:
        await stream.send(request.encode())
        answer = b""
        with anyio.fail_after(10):
            try:
                while b"\r\n\r\n" not in answer:
                    answer += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
        return answer


async def test_no_path_leads_out_of_the_home(tmp_path: Path) -> None:
    (tmp_path / "secret.toml").write_text('system_prompt = "the secret"\n')
    async with serving(tmp_path) as rig:
        outside = quote(str(tmp_path / "secret.toml"), safe="")
        for word in (*CLIMBING, outside):
            for path in (
                "calls/{}",
                "calls/{}/events",
                "calls/{}/journal",
                "calls/{}/recording",
                "agents/{}",
                "tokens/{}",
            ):
                head = f"GET /api/v1/{path.format(word)} HTTP/1.1\r\nHost: 127.0.0.1:{rig.server.port}\r\n"
                answer = await raw(rig, f"{head}Authorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n")
                status = answer.split(b" ")[1][:3]
                assert status in (b"400", b"404", b"405"), (path, word, answer[:200])
                assert b"secret" not in answer.split(b"\r\n\r\n")[-1].replace(b"secret.toml", b"")
            for path in ("/dashboard/{}", "/dashboard/../{}", "//dashboard//{}"):
                head = f"GET {path.format(word)} HTTP/1.1\r\nHost: 127.0.0.1:{rig.server.port}\r\nConnection: close\r\n\r\n"
                assert (await raw(rig, head)).split(b" ")[1][:3] in (b"400", b"401", b"404"), (path, word)


async def test_who_only_operates_makes_no_file_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap.toml"
    trap.write_text('system_prompt = "x"\n')
    async with serving(tmp_path) as rig:
        _, made = await rig.post("/api/v1/tokens", {"name": "hand", "role": "operate"})
        hand = {"Authorization": f"Bearer {made['data']['token']}"}
        for method, path, body in (
            ("POST", "/api/v1/rehearsals", {"agent": str(trap), "line": "text"}),
            ("POST", "/api/v1/calls", {"agent": str(trap), "to": "+15551234567"}),
            ("POST", "/api/v1/agents/open", {"path": str(trap)}),
            ("POST", "/api/v1/agents/validate", {"path": str(trap), "text": "x"}),
            ("PUT", "/api/v1/agents/trap", {"text": "x"}),
        ):
            async with rig.client.request(method, rig.server.url + path, json=body, headers=hand) as answer:
                assert answer.status in (403, 404), path
        assert [row["name"] for row in rig.server.agents.rows()] == ["desk"]


async def test_bodies_that_are_odd_get_a_sentence_and_hurt_nobody(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        call = f"{rig.server.url}/api/v1/calls/{await rig.text_call()}"
        for raw_body, status in (
            (b"{", 400), (b"[]", 400), (b"\xff\xfe", 400), (b'{"text":' * 5_000, 400), (b'{"text": NaN}', 400),
            (b'{"text": "' + b"x" * 2_000_000, 413), (b'{"text": 1e999}', 422), (b'{"text": ["' * 3 + b'"', 400),
            (b'{"text": "\\ud800"}', 422), (b'{"text": "a\\u0000b"}', 422), (b'{"muted": "yes"}', 422), (b"null", 400),
        ):  # fmt: skip
            for verb in ("say", "guide"):
                async with rig.client.post(f"{call}/{verb}", data=io.BytesIO(raw_body)) as answer:
                    assert answer.status == status, raw_body[:40]
                    assert list(await answer.json()) == ["error"]
        for word in NASTY:
            async with rig.client.post(f"{call}/say", json={"text": word}) as answer:
                assert answer.status in (200, 422)
            for query in (f"q={quote(word)}", f"number={quote(word)}", f"agent={quote(word)}", f"order={quote(word)}"):
                assert (await rig.get(f"/api/v1/calls?{query}"))[0] in (200, 400), query
        assert (await rig.get("/health"))[0] == 200


async def test_cookies_of_others_are_nobodys(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as browser:
        url, name = rig.server.url, f"patter_{rig.server.port}"
        async with browser.post(url + "/dashboard/login", json={"token": TOKEN}) as answer:
            good = answer.cookies[name].value
        for cookie, status in (
            (f"{name}={good}", 200), (f"{name}={good}x", 401), (f"{name}={good[:-1]}", 401), (f"{name}=", 401),
            (f"{name}={TOKEN}", 401), (f"patter={good}", 401), (f"{name}={good}; {name}=x", 401),
        ):  # fmt: skip
            async with browser.get(url + "/api/v1/calls", headers={"Cookie": cookie}) as answer:
                assert answer.status == status, cookie
        async with browser.get(
            url + "/api/v1/calls", headers={"Cookie": f"{name}={good}", "Authorization": "Bearer wrong"}
        ) as answer:
            assert answer.status == 401  # what is said aloud counts


async def test_a_form_of_another_site_signs_nobody_in(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, aiohttp.ClientSession() as browser:
        for origin in ("https://evil.example", "null", f"https://127.0.0.1:{rig.server.port}"):
            headers = {"Origin": origin, "Content-Type": "text/plain"}
            body = json.dumps({"token": TOKEN})
            async with browser.post(rig.server.url + "/dashboard/login", data=body, headers=headers) as answer:
                assert (answer.status, "Set-Cookie" in answer.headers) == (403, False)


async def test_a_crowd_that_asks_again_and_again_keeps_nobody_else_out(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, aiohttp.ClientSession() as crowd:
        statuses = set()
        for _ in range(150):
            async with crowd.get(rig.server.url + "/dashboard/login.js") as answer:
                statuses.add(answer.status)
        assert statuses == {200, 429}
        assert (await rig.get("/api/v1/calls"))[0] == 200
        assert (await rig.get("/health"))[0] == 200


async def test_nothing_that_a_stranger_sends_hides_a_line_of_the_audit_or_washes_it_out(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, aiohttp.ClientSession() as crowd:
        for end in ("\u2028", "\x85", "\u2029{}\u2028"):
            async with rig.client.post(
                rig.server.url + "/api/v1/calls/CAnone/hangup", headers={"X-Forwarded-For": f"9.9.9.9{end}x"}
            ) as answer:
                assert answer.status == 404
        for number in range(150):  # each from another address, as a proxy would tell it
            headers = {"X-Forwarded-For": f"10.0.{number // 100}.{number % 100}"}
            async with crowd.post(rig.server.url + "/api/v1/calls/CAnone/say", headers=headers) as answer:
                assert answer.status == 401
        await rig.post("/api/v1/calls/CAnone/hangup")
        _, told = await rig.get("/api/v1/audit?limit=1000")
        rows = told["data"]
        assert [row["path"] for row in rows if row["role"] == "admin"] == ["/api/v1/calls/{id}/hangup"] * 4
        assert 40 <= rows[0]["left_out"] <= 50
        assert len(rows) < 112


async def test_a_filter_that_is_mistyped_lets_nothing_through(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        for path, named in (
            ("calls?agnet=amy", "agent"), ("export/csv?form=2026-01-01", "from"), ("calls/active?limit=3", "none here"),
            ("calls?agent=a&agent=b", "more than once"),
        ):  # fmt: skip
            status, answer = await rig.get(f"/api/v1/{path}")
            assert (status, named in answer["error"]) == (400, True), answer
        assert (await rig.get("/ready?x=1"))[0] == 200


async def test_who_signs_out_follows_nothing_any_more(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        page = {"X-Patter": "page", "Origin": rig.server.url}
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as one:
            async with one.post(rig.server.url + "/dashboard/login", json={"token": TOKEN}) as signed:
                assert signed.status == 200
            async with one.get(rig.server.url + "/api/v1/events") as stream:
                await stream.content.readline()
                async with one.post(rig.server.url + "/dashboard/logout", headers=page) as out:
                    assert out.status == 200
                with pytest.raises(aiohttp.ClientError), anyio.fail_after(10):
                    await stream.read()


async def test_the_files_of_a_page_use_up_nothing_that_strangers_have(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as one:
        async with one.post(rig.server.url + "/dashboard/login", json={"token": TOKEN}):
            pass
        for number in range(130):  # four browsers that open the page
            async with one.get(rig.server.url + "/dashboard/app.js") as file:
                assert file.status == 200, number
        async with aiohttp.request("GET", rig.server.url + "/dashboard/login.js") as form:
            assert form.status == 200
