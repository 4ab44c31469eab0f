"""The way into the dashboard without a token in any address: a code that works once and not for long."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import anyio.to_thread
import pytest

from patter.clock import Clock
from patter.server.sessions import INVITED_S, Sessions
from patter.server.tokens import own_token
from patter_tui.headless import dashboard
from tests.support.engine_process import FAKE, engine
from tests.support.serving import AGENT, TOKEN, serving

pytestmark = pytest.mark.anyio


async def test_a_code_signs_one_browser_in_and_is_worth_nothing_afterwards(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        status, answer = await rig.post("/api/v1/invitations")
        assert (status, answer["data"]["valid_s"]) == (200, INVITED_S)
        path = answer["data"]["path"]
        assert TOKEN not in path
        browser = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=browser) as page:
            async with page.get(rig.server.url + path, allow_redirects=False) as shown:
                assert (shown.status, shown.headers["Location"]) == (303, "/dashboard")
                cookie = shown.headers["Set-Cookie"]
                assert "HttpOnly" in cookie
                assert "SameSite=Strict" in cookie
            async with page.get(rig.server.url + "/api/v1/calls") as calls:
                assert calls.status == 200
        async with (
            aiohttp.ClientSession() as another,
            another.get(rig.server.url + path, allow_redirects=False) as shown,
        ):
            assert shown.status == 401
            assert "Set-Cookie" not in shown.headers
            async with another.post(rig.server.url + "/api/v1/invitations") as refused:
                assert refused.status == 401


def test_a_code_is_worth_nothing_when_it_is_old_or_its_token_is_gone() -> None:
    ticks = [0.0]
    sessions = Sessions(Clock(ticks=lambda: ticks[0]))
    token = own_token("secret", "engine")
    code = sessions.invite(token)
    assert sessions.accept(code) is token
    assert sessions.accept(code) is None
    late = sessions.invite(token)
    ticks[0] += INVITED_S + 1
    assert sessions.accept(late) is None
    orphan = sessions.invite(token)
    sessions.close_all_of("engine")
    assert sessions.accept(orphan) is None


async def test_the_command_starts_from_a_running_engine_and_shows_no_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    agents = home / "agents"
    agents.mkdir(parents=True)
    (agents / "desk.toml").write_text(AGENT)
    shown: list[str] = []
    with engine(FAKE, str(agents), str(home), home=home) as it:
        port = it.info["port"]

        def command(*words: str) -> int:
            return dashboard.main([*words, "--home", str(home)], lambda url: not shown.append(url))

        assert await anyio.to_thread.run_sync(command) == 0
        (url,) = shown
        said = capsys.readouterr().out
        assert f"{port}/dashboard" in said
        assert "code=" not in said
        assert it.info["token"] not in said + url
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            async with browser.get(url) as page:
                assert page.status == 200
                assert page.content_type == "text/html"
            async with browser.get(f"http://127.0.0.1:{port}/api/v1/calls") as calls:
                assert calls.status == 200
        assert await anyio.to_thread.run_sync(command, "--no-open") == 0
        assert "it works once" in capsys.readouterr().out
