"""The API and its page on the port of a phone line: who gets in, what browsers may do there, and what is not there at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from patter.builders import Carrier
from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallEnded, CallStarted
from patter.observe.prices import Prices
from patter.records import Records
from patter.server.dashboard import Dashboard
from patter.server.desk import Desk
from patter.server.front_door import FrontDoor, Joined, LineSettings
from patter.server.listener import listen
from patter.server.number_setup import NumberSetup
from patter.server.twilio_gate import STATUS
from patter.server.twilio_routes import Account, TwilioRoutes
from patter.wire.twilio_signature import sign
from tests.support.fake_calls import FakeCalls
from tests.support.serving import lay_database

pytestmark = pytest.mark.anyio

ACCOUNT = Account("AC" + "1" * 32, "the-auth-token")
PUBLIC = "voice.example.com"
TOKEN = "the-token-of-the-dashboard"
PAGE = {"X-Patter": "page"}


@dataclass
class Port:
    """A line's port with a dashboard on it, and a browser of this machine."""

    bus: Bus
    number: int
    browser: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.number}"

    async def ask(self, method: str, path: str, **headers: str) -> tuple[int, Any]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.browser.request(method, self.url + path, headers=given, allow_redirects=False) as answer:
            return answer.status, await answer.text()

    async def status(self, method: str, path: str, **headers: str) -> int:
        return (await self.ask(method, path, **headers))[0]

    async def call(self) -> None:
        """One call that is over."""
        self.bus.publish(CallStarted(call_id="CA1", agent="amy", direction="inbound"))
        self.bus.publish(CallEnded(call_id="CA1", reason="caller_hung_up", duration_s=1.0))


class NoFiles:
    def current(self, route: object) -> None:
        return None


async def nothing(_: object) -> NumberSetup:
    return NumberSetup()


async def untouched(_: NumberSetup) -> None:
    """The number stays as it is."""


@asynccontextmanager
async def port(home: Path, token: str = "", *, shown: bool = True, host: str = PUBLIC) -> AsyncIterator[Port]:
    await lay_database(home)
    clock = Clock()
    bus = Bus(clock)
    desk = Desk(bus, FakeCalls(bus).open_call)
    routes = TwilioRoutes(desk, NoFiles(), clock, [ACCOUNT], "")
    listener = listen()
    number: int = listener.getsockname()[1]
    settings = LineSettings(Carrier("twilio", ACCOUNT.sid, ACCOUNT.auth_token), "+15551234567", host, take_number=False)
    async with Records(home, bus, clock, Prices.load(), recording=False) as records, desk:
        dashboard = Dashboard(records.kept(), bus, clock, desk, token) if shown else None
        door = FrontDoor(settings, listener, Joined(routes, nothing, untouched), desk, dashboard)
        browser = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        async with door, browser:
            yield Port(bus, number, browser)


async def test_this_machines_user_needs_no_token_and_nobody_else_gets_in_without(tmp_path: Path) -> None:
    async with port(tmp_path) as it:
        await it.call()
        assert (await it.ask("GET", "/dashboard"))[0] == 200
        status, text = await it.ask("GET", "/api/v1/calls")
        assert (status, '"call_id":"CA1"' in text) == (200, True)
        assert await it.status("GET", "/api/v1/calls", Host=f"localhost:{it.number}") == 200
        for sign_of_a_proxy in (
            {"X_Forwarded_For": "9.9.9.9"}, {"Forwarded": "for=9.9.9.9"}, {"Via": "1.1 proxy"}, {"CF_Ray": "1"},
            {"CF_Connecting_IP": "9.9.9.9"}, {"X_Real_IP": "9.9.9.9"}, {"X_Forwarded_Anything": "x"}, {"Host": PUBLIC},
        ):  # fmt: skip
            assert await it.status("GET", "/api/v1/calls", **sign_of_a_proxy) == 401, sign_of_a_proxy
            assert await it.status("GET", "/dashboard", **sign_of_a_proxy) == 401, sign_of_a_proxy
            assert await it.status("GET", "/api/v1/nothing", **sign_of_a_proxy) == 401, sign_of_a_proxy
            assert await it.status("GET", "/health", **sign_of_a_proxy) == 200
        for stranger in (
            {"Host": "evil.example"},
            {"Host": f"127.0.0.1:{it.number + 1}"},
            {"Origin": "http://evil.example"},
        ):
            assert await it.status("GET", "/api/v1/calls", **stranger) == 403, stranger
        stream = await anyio.connect_tcp("127.0.0.1", it.number)
        async with stream:
            await stream.send(f"GET /api/v1/calls HTTP/1.0\r\nHost: 127.0.0.1:{it.number}\r\n\r\n".encode())
            assert b" 401 " in (await stream.receive())[:20]


async def test_without_a_sign_in_only_our_own_page_may_change_anything(tmp_path: Path) -> None:
    async with port(tmp_path) as it:
        hangup = "/api/v1/calls/CAnone/hangup"
        assert await it.status("POST", hangup) == 403
        assert await it.status("POST", hangup, X_Patter="page", Origin="https://evil.example") == 403
        assert await it.status("POST", hangup, X_Patter="page", Origin=it.url) == 404
        assert (
            await it.status("POST", hangup, X_Patter="page") == 404
        )  # no browser: those always say where they are from


async def test_what_belongs_to_the_program_is_not_on_its_lines_port(tmp_path: Path) -> None:
    async with port(tmp_path) as it:
        for method, path in (
            ("GET", "/api/v1/agents"), ("PUT", "/api/v1/agents/amy"), ("POST", "/api/v1/agents/validate"),
            ("GET", "/api/v1/line"), ("POST", "/api/v1/line"), ("POST", "/api/v1/shutdown"), ("POST", "/api/v1/rehearsals"),
        ):  # fmt: skip
            assert await it.status(method, path, X_Patter="page") == 404, path
        assert await it.status("POST", "/api/v1/calls", X_Patter="page") == 405


async def test_without_a_dashboard_nothing_of_it_is_there(tmp_path: Path) -> None:
    async with port(tmp_path, shown=False) as it:
        for path in (
            "/dashboard",
            "/dashboard/app.js",
            "/api/v1/calls",
            "/api/v1/engine",
            "/api/v1/events",
            "/metrics",
        ):
            assert await it.status("GET", path) == 404
        assert await it.status("GET", "/health") == 200


async def test_with_a_token_nobody_gets_in_without_it_from_wherever(tmp_path: Path) -> None:
    async with port(tmp_path, TOKEN) as it:
        for where in ({}, {"Host": PUBLIC}, {"X_Forwarded_For": "9.9.9.9"}):
            for path in ("/api/v1/calls", "/api/v1/engine", "/dashboard", "/api/v1/nothing"):
                assert await it.status("GET", path, **where) == 401
            good = {"Authorization": f"Bearer {TOKEN}"} | where
            assert await it.status("GET", "/api/v1/calls", **good) == 200
            assert await it.status("GET", "/api/v1/nothing", **good) == 404
        _, text = await it.ask("GET", "/api/v1/calls")
        assert "dashboard_token" in text
        assert TOKEN not in text


async def test_a_sign_in_is_a_cookie_that_scripts_other_sites_and_addresses_do_not_have(tmp_path: Path) -> None:
    async with port(tmp_path, TOKEN) as it:
        outside = {"Host": PUBLIC, "Origin": f"https://{PUBLIC}"}
        async with it.browser.post(it.url + "/dashboard/login", json={"token": TOKEN}, headers=outside) as answer:
            assert answer.status == 200
            cookie = answer.headers["Set-Cookie"]
        assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/"))
        assert TOKEN not in cookie
        it.browser.cookie_jar.clear()
        async with it.browser.get(it.url + f"/dashboard?token={TOKEN}", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/dashboard")
            assert (answer.headers["Referrer-Policy"], answer.headers["Cache-Control"]) == ("no-referrer", "no-store")
            assert "Secure" not in answer.headers["Set-Cookie"]  # this machine, by http
        status, page = await it.ask("GET", "/dashboard")
        assert (status, "Sign in" in page) == (200, False)
        async with it.browser.get(it.url + "/dashboard") as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "unsafe-inline" not in policy
            assert "script-src 'self'" in policy
        assert await it.status("GET", "/api/v1/calls") == 200


async def test_a_signed_in_browser_does_nothing_for_other_sites(tmp_path: Path) -> None:
    async with port(tmp_path, TOKEN) as it:
        await it.browser.post(it.url + "/dashboard/login", json={"token": TOKEN})
        hangup, events = "/api/v1/calls/CAnone/hangup", it.url + "/api/v1/events/ws"
        for headers in (
            {}, {"Origin": it.url}, {"X_Patter": "page"}, {"X_Patter": "page", "Origin": "null"},
            {"X_Patter": "page", "Origin": f"https://127.0.0.1:{it.number}"},
            {"X_Patter": "page", "Origin": f"http://{PUBLIC}"},
        ):  # fmt: skip
            assert await it.status("POST", hangup, **headers) == 403, headers
        assert await it.status("POST", hangup, X_Patter="page", Origin=it.url) == 404
        for origin in ({}, {"Origin": "https://evil.example"}):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await it.browser.ws_connect(events, headers=origin)
            assert refused.value.status == 403
        async with it.browser.ws_connect(events, headers={"Origin": it.url}) as socket:
            assert "hello" in await socket.receive_str()
        assert await it.status("POST", "/dashboard/logout", Origin=it.url) == 403
        assert await it.status("POST", "/dashboard/logout", Origin=it.url, X_Patter="page") == 200
        assert await it.status("GET", "/api/v1/calls") == 401


async def test_a_proxy_that_hides_where_requests_are_from_closes_what_needs_no_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    form = {"CallSid": "CA" + "2" * 32, "CallStatus": "completed", "AccountSid": ACCOUNT.sid}
    async with port(tmp_path) as it:
        for token, closed in (("not-the-token", False), (ACCOUNT.auth_token, True)):
            signature = sign(f"https://{PUBLIC}{STATUS}", list(form.items()), token)
            headers = {"X-Twilio-Signature": signature}
            async with it.browser.post(it.url + STATUS, data=form, headers=headers) as answer:
                assert (answer.status < 400) is closed
            assert await it.status("GET", "/api/v1/calls") == (401 if closed else 200)
        assert await it.status("GET", "/dashboard") == 401
    assert "Give serve() a dashboard_token" in caplog.text


async def test_a_proxy_that_leaves_no_trace_closes_what_needs_no_token_too(tmp_path: Path) -> None:
    form = {"CallSid": "CA" + "2" * 32, "CallStatus": "completed", "AccountSid": ACCOUNT.sid}
    signature = sign(f"https://{PUBLIC}{STATUS}", list(form.items()), ACCOUNT.auth_token)
    for marks, closed in (({"X-Forwarded-For": "9.9.9.9"}, False), ({}, True)):
        async with port(tmp_path) as it:
            headers = {"X-Twilio-Signature": signature, "Host": PUBLIC} | marks
            async with it.browser.post(it.url + STATUS, data=form, headers=headers) as answer:
                assert answer.status < 400
            assert await it.status("GET", "/api/v1/calls") == (401 if closed else 200)
