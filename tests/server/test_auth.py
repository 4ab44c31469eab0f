"""Nobody unknown gets in: token, Host and Origin, on every route, and no slow or oversized request head."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import anyio
import pytest

from patter.server.tokens import own_token
from tests.support.serving import TOKEN, serving

pytestmark = pytest.mark.anyio

PATHS = ["/api/v1/engine", "/api/v1/agents", "/api/v1/calls", "/api/v1/events/ws", "/api/v1/nothing", "/", "/healthy"]
WRONG = [
    "",
    "Bearer",
    "Bearer ",
    "Bearer wrong",
    f"Basic {TOKEN}",
    f"Bearer {TOKEN}x",
    f"Bearer {TOKEN[:-1]}",
    TOKEN,
    "Bearer é",
]


@pytest.mark.parametrize("path", PATHS)
async def test_every_route_needs_the_token(path: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, aiohttp.ClientSession() as stranger:
        for value in WRONG:
            async with stranger.get(rig.server.url + path, headers={"Authorization": value}) as answer:
                assert answer.status == 401, value
                assert TOKEN not in await answer.text()


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example", "http://127.0.0.1:1", "", "http://["]
)
async def test_pages_of_other_sites_are_refused_even_with_the_token(origin: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        for path in ("/health", "/api/v1/engine", "/webhooks/twilio/voice", "/ws/twilio/x"):
            async with rig.client.get(rig.server.url + path, headers={"Origin": origin}) as answer:
                assert answer.status == 403, path
        own = {"Origin": rig.server.url}
        async with rig.client.get(rig.server.url + "/api/v1/engine", headers=own) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:{port}", "127.0.0.1:{port}.x"]
)
async def test_a_foreign_host_is_refused(host: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        given = {"Host": host.format(port=rig.server.port)}
        for path in ("/health", "/api/v1/engine"):
            async with rig.client.get(rig.server.url + path, headers=given) as answer:
                assert answer.status == 403
        for good in ("localhost", "127.0.0.1", "LOCALHOST"):
            given = {"Host": f"{good}:{rig.server.port}"}
            async with rig.client.get(rig.server.url + "/api/v1/engine", headers=given) as answer:
                assert answer.status == 200


async def _raw(port: int, request: bytes) -> bytes:
    stream = await anyio.connect_tcp("127.0.0.1", port)
    async with stream:
        await stream.send(request)
        answer = b""
        with anyio.fail_after(10):
            try:
                while b"\r\n\r\n" not in answer:
                    answer += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
        return answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X%d: 1\r\n" % n for n in range(200)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n",
    ],
    ids=["no host", "two hosts", "long header", "long line", "many headers", "tls", "version"],
)
async def test_heads_that_are_wrong_or_too_large_are_refused(head: bytes, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        answer = await _raw(rig.server.port, head)
        assert answer.split(b" ")[1][:1] == b"4", answer[:100]
        assert (await rig.get("/health"))[0] == 200


def test_a_server_without_a_token_is_not_built() -> None:
    with pytest.raises(ValueError, match="token"):
        own_token("", "engine")
