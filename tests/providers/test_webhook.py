"""Webhooks reach what they may, by every spelling of an address, and nothing else; their bodies are signed."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from patter.address import Reach
from patter.exceptions import ProviderError
from patter.providers.webhook import Webhooks

pytestmark = pytest.mark.anyio

HERE = Reach(loopback=True)
PAYLOAD = {"tool": "find", "arguments": {"who": "Zoë", "half": "\ud83d"}}


@asynccontextmanager
async def server(answer: Callable[[web.Request], web.StreamResponse]) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A webhook on loopback: its port, and the bodies that came."""
    came: list[bytes] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        came.append(await request.read())
        return answer(request)

    app = web.Application()
    app.router.add_post("/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1], came
    finally:
        await runner.cleanup()


def yes(_: web.Request) -> web.Response:
    return web.json_response("yes")


class Names(AbstractResolver):
    """A name server that answers each question with the next of its answers."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        return [
            ResolveResult(
                hostname=host, host=address, port=port, proto=0, flags=socket.AI_NUMERICHOST,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
            )
            for address in self.answers.pop(0)
        ]  # fmt: skip

    async def close(self) -> None: ...


async def refused(webhooks: Webhooks, url: str) -> str:
    with pytest.raises(ProviderError) as caught:
        await webhooks.post(url, PAYLOAD, timeout_s=5.0)
    assert not caught.value.retryable
    return str(caught.value)


async def test_the_signature_is_that_of_the_very_bytes() -> None:
    seen: list[str] = []

    def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("X-Patter-Signature", ""))
        return yes(request)

    async with server(answer) as (port, came):
        async with Webhooks(HERE, secret="s3cret") as webhooks:
            assert await webhooks.post(f"http://127.0.0.1:{port}/", PAYLOAD) == "yes"
        async with Webhooks(HERE) as webhooks:
            await webhooks.post(f"http://127.0.0.1:{port}/", PAYLOAD)
    assert seen == [hmac.new(b"s3cret", came[0], hashlib.sha256).hexdigest(), ""]
    assert json.loads(came[0]) == PAYLOAD


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1",
     "017700000001", "127.0.0.1.", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "0", "0.0.0.0",
     "１２７.０.０.１", "127。0。0。1", "example.com@127.0.0.1", "user:pass@127.0.0.1"],
)  # fmt: skip
async def test_no_spelling_of_this_machine_gets_through(host: str) -> None:
    async with server(yes) as (port, came), Webhooks() as webhooks:
        await refused(webhooks, f"http://{host}:{port}/")
    assert came == []


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:{port}#@example.com/", "http://127.0.0.1:{port}?@example.com/", "http://example.com\\@127.0.0.1:{port}/",
     "http:/127.0.0.1:{port}/", "http:127.0.0.1:{port}/", "//127.0.0.1:{port}/", "http://[::1", "http://127.0.0.1:99999/",
     " http://127.0.0.1:{port}/", "gopher://127.0.0.1:{port}/"],
)  # fmt: skip
async def test_no_trick_with_the_address_gets_through(url: str) -> None:
    async with server(yes) as (port, came), Webhooks() as webhooks:
        await refused(webhooks, url.replace("{port}", str(port)))
    assert came == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.5", "192.168.0.1", "172.31.0.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "::1", "fd00::1",
     "fe80::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "100.100.100.200", "168.63.129.16"],
)  # fmt: skip
async def test_a_name_that_stands_for_an_internal_address_is_not_called(address: str) -> None:
    names = Names([address])
    async with Webhooks(resolver=names) as webhooks:
        assert "tools.example.com is a private or internal address" in await refused(
            webhooks, "http://tools.example.com/"
        )
    assert names.asked == ["tools.example.com"]


async def test_a_name_that_changes_its_mind_is_asked_once_and_the_connection_goes_to_that_answer() -> None:
    """DNS rebinding: a harmless answer for the check and an internal one for the connection."""
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    async with server(yes) as (port, came), Webhooks(HERE, resolver=names) as webhooks:
        await webhooks.post(f"http://tools.example.com:{port}/", PAYLOAD)
    assert (len(came), names.asked) == (1, ["tools.example.com"])


async def test_of_several_addresses_only_the_allowed_are_tried() -> None:
    names = Names(["169.254.169.254", "10.1.2.3", "127.0.0.1"])
    async with server(yes) as (port, came), Webhooks(HERE, resolver=names) as webhooks:
        assert await webhooks.post(f"http://tools.example.com:{port}/", PAYLOAD, timeout_s=5.0) == "yes"
    assert len(came) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    def moved(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "http://169.254.169.254/latest/meta-data/"})

    async with server(moved) as (port, came), Webhooks(HERE) as webhooks:
        with pytest.raises(ProviderError, match=f"status {status}"):
            await webhooks.post(f"http://127.0.0.1:{port}/", PAYLOAD)
    assert len(came) == 1


async def test_an_answer_is_not_unpacked() -> None:
    bomb = gzip.compress(b'"' + b" " * 20_000_000 + b'"')
    assert len(bomb) < 100_000

    def answer(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async with server(answer) as (port, _), Webhooks(HERE) as webhooks:
        with pytest.raises(ProviderError, match="not JSON"):
            await webhooks.post(f"http://127.0.0.1:{port}/", PAYLOAD)


async def test_no_cookie_is_kept() -> None:
    seen: list[Any] = []

    def answer(request: web.Request) -> web.Response:
        seen.append(dict(request.cookies))
        response = web.json_response(1)
        response.set_cookie("session", "abc")
        return response

    async with server(answer) as (port, _), Webhooks(HERE, resolver=Names(["127.0.0.1"])) as webhooks:
        for _ in range(2):
            await webhooks.post(f"http://tools.example.com:{port}/", PAYLOAD)
    assert seen == [{}, {}]


# --------------------------------------------------------------------------- the setting


@pytest.mark.parametrize(
    ("setting", "host", "allowed"),
    [
        ("public", "93.184.216.34", True),
        ("public", "127.0.0.1", False),
        ("loopback", "127.0.0.1", True),
        ("loopback", "10.0.0.1", False),
        ("private", "127.0.0.1", True),
        ("private", "192.168.1.1", True),
        ("private", "169.254.169.254", False),
        ("private", "fd00:ec2::254", False),
        ("10.1.0.0/16", "10.1.2.3", True),
        ("10.1.0.0/16", "10.2.0.1", False),
        ("10.1.0.0/16", "127.0.0.1", False),
        ("loopback, fd12::/16", "fd12::7", True),
        ("0.0.0.0/0", "169.254.169.254", False),
        ("0.0.0.0/0", "168.63.129.16", False),
        ("", "10.0.0.1", False),
    ],
)
def test_the_setting_opens_what_it_names(setting: str, host: str, allowed: bool) -> None:
    assert Reach.of(setting).allows(host) is allowed


@pytest.mark.parametrize("setting", ["everything", "10.0.0.0/33", "loopback;private", "10.0.0.1/8"])
def test_another_setting_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="webhook_reach must be"):
        Reach.of(setting)
