"""Connections that want nothing good, at both carriers' front doors: too many, too slow, never reading, half closed."""

from __future__ import annotations

import gzip
import socket
import struct
from contextlib import AsyncExitStack, suppress
from typing import Any

import aiohttp
import anyio
import anyio.lowlevel
import pytest
from aiohttp import web

from patter.events import CallEnded, CallStarted
from patter.server import crowd, media_socket
from tests.hostile.doors import BOTH, LONG_S, Place, place

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("name", BOTH)]

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    "GET {} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{}"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def post(here: Place, *lines: str) -> bytes:
    """The head of a webhook."""
    kind = "application/x-www-form-urlencoded" if here.name == "twilio" else "application/json"
    return "\r\n".join([f"POST {here.hook} HTTP/1.1", "Host: x", f"Content-Type: {kind}", *lines, "", ""]).encode()


def status(answer: bytes) -> int:
    """The status of the first answer; 0 for a connection that was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer else 0


@pytest.mark.parametrize("real", [False, True], ids=["fake calls", "real sessions"])
async def test_a_door_that_nobody_attacks_leaves_nothing_behind(name: str, real: bool) -> None:
    async with place(name, real=real) as here:
        await here.serves(1)
        async with here.talking(2):
            pass
        assert here.told


# --------------------------------------------------------------------------- slowly


@pytest.mark.parametrize(
    "start", [b"", b"\r\n\r\n", b"P", b"GET /health HTTP/1.1\r\nHost:", HEALTH[:-2], HEALTH + b"GET /"],
    ids=["silent", "blank lines", "a letter", "half a line", "no end", "a second one"],
)  # fmt: skip
@pytest.mark.usefixtures("impatient")
async def test_a_head_that_never_ends_is_hung_up_on(name: str, start: bytes) -> None:
    async with place(name) as here:
        answer = await here.answer_to(start, *[b"x"] * 20, pause_s=0.03)
        assert status(answer) in (0, 200, 400)
        await here.serves(1)


@pytest.mark.parametrize("head", ["Content-Length: 900", "Transfer-Encoding: chunked"])
@pytest.mark.usefixtures("impatient")
async def test_a_body_that_never_ends_is_refused(name: str, head: str) -> None:
    async with place(name) as here:
        trickle = [b"1\r\na\r\n" if "chunked" in head else b"a"] * 6
        assert status(await here.answer_to(post(here, head), *trickle, pause_s=0.04)) == 400
        await here.serves(1)


@pytest.mark.parametrize("sent", [b"", b"\x81", b"\x81\xfe\xff\xff1234{", b"\x89\x80abcd" * 9], ids=repr)
@pytest.mark.usefixtures("impatient")
async def test_a_stream_that_never_starts_is_closed(name: str, sent: bytes) -> None:
    async with place(name) as here:
        ring = await here.ring(1)
        headers = "".join(f"{key}: {value}\r\n" for key, value in ring.headers.items())
        answer = await here.answer_to(UPGRADE.format(ring.path, headers).encode(), *[sent] * 10, pause_s=0.05)
        assert status(answer) == 101
        assert here.house.calls.sessions == {}
        await here.serves(2)


@pytest.mark.usefixtures("impatient")
async def test_an_upgrade_that_never_ends_uses_no_token_up(name: str) -> None:
    async with place(name) as here:
        ring = await here.ring(1)
        head = UPGRADE.format(ring.path, "").encode()
        assert await here.answer_to(head[:-2], *[b"x"] * 15, pause_s=0.03) == b""
        async with here.up(ring):
            pass


# --------------------------------------------------------------------------- never reading


async def test_a_call_whose_carrier_does_not_read_is_cut_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_socket, "UNREAD_LIMIT", 64 * 1024)
    async with place(name) as here:
        ring = await here.ring(1)
        async with await here.connect() as stream:
            headers = "".join(f"{key}: {value}\r\n" for key, value in ring.headers.items())
            await stream.send(UPGRADE.format(ring.path, headers).encode())
            await stream.send(masked(ring.opening) + masked(ring.writer.start()))
            await here.house.seen(CallStarted, call_id=ring.call_id)
            session = here.house.calls.sessions[ring.call_id]
            with anyio.fail_after(LONG_S):
                while not here.endings(ring.call_id):
                    for _ in range(200):
                        await session.say("on and on")
                    await anyio.lowlevel.checkpoint()
        assert (await here.ended(ring.call_id)).reason == "line_lost"
        await here.serves(2)


async def test_a_hang_up_that_the_carrier_does_not_read_is_a_hang_up(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipes: list[Any] = []
    know = crowd.Crowd.know

    def note(self: crowd.Crowd, request: web.Request) -> None:
        pipes.append(request.transport)
        know(self, request)

    monkeypatch.setattr(crowd.Crowd, "know", note)
    async with place(name) as here:
        ring = await here.ring(1)
        async with await here.connect() as stream:
            headers = "".join(f"{key}: {value}\r\n" for key, value in ring.headers.items())
            await stream.send(UPGRADE.format(ring.path, headers).encode())
            await stream.send(masked(ring.opening) + masked(ring.writer.start()))
            await here.house.seen(CallStarted, call_id=ring.call_id)
            session = here.house.calls.sessions[ring.call_id]
            [pipe] = pipes
            with anyio.fail_after(LONG_S):
                while pipe.get_write_buffer_size() < 100_000:
                    for _ in range(200):
                        await session.say("on and on")
                    await anyio.lowlevel.checkpoint()
            await session.hang_up()
            with anyio.fail_after(LONG_S):
                while not pipe.is_closing() or pipe.get_write_buffer_size():
                    await anyio.sleep(0.01)
        assert here.endings(ring.call_id) == 1
        await here.serves(2)


async def test_requests_whose_answers_are_never_read_do_not_stay(name: str) -> None:
    async with place(name) as here, await here.connect() as stream:
        stream.extra(anyio.abc.SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with anyio.move_on_after(LONG_S) as patience, suppress(anyio.BrokenResourceError):
            while True:
                await stream.send(b"GET /" + b"a" * 7_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")  # its answer is as long
        assert not patience.cancelled_caught
        await here.serves(1)


def masked(text: str) -> bytes:
    """A client's text frame."""
    data = text.encode()
    return b"\x81\xfe" + struct.pack(">H", len(data)) + b"\0\0\0\0" + data


# --------------------------------------------------------------------------- closed by half, or at once


@pytest.mark.usefixtures("impatient")
async def test_whoever_stops_sending_gets_an_answer_or_none_and_is_gone(name: str) -> None:
    async with place(name) as here:
        for said in (
            b"",
            b"GET",
            HEALTH,
            post(here, "Content-Length: 5") + b"ab",
            post(here, "Transfer-Encoding: chunked"),
        ):
            assert status(await here.answer_to(said, eof=True)) in (0, 200, 400)
        await here.serves(1)


@pytest.mark.parametrize("real", [False, True], ids=["fake calls", "real sessions"])
@pytest.mark.parametrize("how", ["half", "reset", "frame cut"])
async def test_a_call_whose_socket_breaks_ends_once(name: str, how: str, real: bool) -> None:
    async with place(name, real=real) as here:
        ring = await here.ring(1)
        async with await here.connect() as stream:
            headers = "".join(f"{key}: {value}\r\n" for key, value in ring.headers.items())
            await stream.send(UPGRADE.format(ring.path, headers).encode())
            await stream.send(masked(ring.opening) + masked(ring.writer.start()))
            await here.house.seen(CallStarted, call_id=ring.call_id)
            if how == "frame cut":
                await stream.send(masked(ring.writer.media(b"\xff" * 160, 0))[:50])
            if how == "reset":
                raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                await stream.send_eof()
                await here.ended(ring.call_id)
        assert (await here.ended(ring.call_id)).reason == "line_lost"
        await here.serves(2)
        assert here.endings(ring.call_id) == 1


# --------------------------------------------------------------------------- many


async def test_two_hundred_idle_connections_keep_nobody_out(name: str) -> None:
    async with place(name) as here, AsyncExitStack() as stack:
        for _ in range(200):
            await stack.enter_async_context(await here.connect())
        await here.serves(1)


async def test_strangers_make_room_and_calls_do_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "STRANGERS", 10)
    async with place(name) as here, AsyncExitStack() as stack:
        await here.house.client.close()  # its idle connections are strangers too
        here.house.client = await stack.enter_async_context(aiohttp.ClientSession())
        async with here.talking(1) as (call, writer):
            idle = [await stack.enter_async_context(await here.connect()) for _ in range(30)]
            with anyio.fail_after(LONG_S):
                for early in idle[:20]:
                    with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                        await early.receive()
            await idle[-1].send(HEALTH)
            with anyio.fail_after(LONG_S):
                assert (await idle[-1].receive()).startswith(b"HTTP/1.1 200 ")
            await here.serves(2)
            await call.send_str(writer.media(b"\xff" * 160, 0))
            await call.send_str(writer.stop())
            with anyio.fail_after(LONG_S):
                while here.house.desk.count:
                    await anyio.sleep(0.01)


async def test_a_door_full_of_calls_lets_nobody_else_in(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(name) as here, AsyncExitStack() as stack:
        for number in (1, 2):
            await stack.enter_async_context(here.talking(number))
        monkeypatch.setattr(crowd, "CONNECTIONS", 2)
        assert await here.answer_to(b"") == b""
        first = await here.connect()  # the carrier's own idle connections made room for the first; nobody is left now
        await first.aclose()
        assert await here.answer_to(HEALTH) == b""
        monkeypatch.setattr(crowd, "CONNECTIONS", 600)
        assert not [event for event in here.house.events if isinstance(event, CallEnded)]
        await here.serves(3)


# --------------------------------------------------------------------------- heads and bodies no client writes

HEADS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "many headers": (HEALTH[:-2] + b"A: b\r\n" * 80 + b"\r\n", (400,)),
    "a long header": (HEALTH[:-2] + b"A: " + b"b" * 9_000 + b"\r\n\r\n", (400,)),
    "a long target": (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (400, 414)),
    "one endless header": (b"GET /health HTTP/1.1\r\nA: " + b"b" * 200_000, (400,)),
    "folded": (HEALTH[:-2] + b"A: b\r\n c\r\n\r\n", (200, 400)),
    "no name": (HEALTH[:-2] + b": b\r\n\r\n", (400,)),
    "bytes in a name": (HEALTH[:-2] + b"A\x00\xff: b\r\n\r\n", (400,)),
    "bytes in a value": (HEALTH[:-2] + b"A: \x00\x1b[2J\r\n\r\n", (200, 400)),
    "two lengths": (HEALTH[:-2] + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", (400,)),
    "a length below zero": (HEALTH[:-2] + b"Content-Length: -1\r\n\r\n", (400,)),
    "length and chunks": (HEALTH[:-2] + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
    "chunks of no size": (HEALTH[:-2] + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", (200, 400)),
    "another protocol": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (0, 400)),
    "an old protocol": (b"GET /health\r\n\r\n", (0, 200, 400)),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100 + b"\r\n\r\n", (400,)),
    "an absolute target": (b"GET http://evil.test/health HTTP/1.1\r\nHost: x\r\n\r\n", (200, 400, 404)),
    "a target without a name": (b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404)),
    "a broken target": (b"GET http://[::1/health HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404)),
    "a port that is none": (b"GET http://a:99999999/health HTTP/1.1\r\nHost: x\r\n\r\n", (200, 400, 404)),
    "a tunnel": (b"CONNECT evil.test:443 HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404, 405)),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404, 405)),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", (200, 400)),
    "a foreign host": (b"GET /health HTTP/1.1\r\nHost: [\r\nX-Forwarded-Host: evil.test\r\n\r\n", (200, 400)),
    "an expectation": (HEALTH[:-2] + b"Expect: miracles\r\n\r\n", (417,)),
    "an upgrade to nothing": (HEALTH[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", (200, 400)),
    "a range": (HEALTH[:-2] + b"Range: bytes=9-1,-\r\nIf-Modified-Since: never\r\nCookie: \"=;=;\r\n\r\n", (200,)),
}  # fmt: skip


@pytest.mark.parametrize("what", HEADS)
async def test_a_head_that_no_client_writes_is_answered_below_500(name: str, what: str) -> None:
    said, statuses = HEADS[what]
    async with place(name) as here:
        assert status(await here.answer_to(said, eof=True)) in statuses
        await here.serves(1)


@pytest.mark.parametrize(
    "upgrade", [b"Sec-WebSocket-Version: 99", b"Sec-WebSocket-Key: short", b"Upgrade: h2c", b"A: b"]
)
async def test_a_broken_upgrade_is_answered_below_500(name: str, upgrade: bytes) -> None:
    async with place(name) as here:
        ring = await here.ring(1)
        headers = "".join(f"{key}: {value}\r\n" for key, value in ring.headers.items())
        wrong = b"Sec-WebSocket-Key" if upgrade == b"A: b" else upgrade.split(b":")[0]
        head = UPGRADE.format(ring.path, headers).encode().split(b"\r\n")[:-2]
        lines = [line for line in head if not line.startswith(wrong)]
        assert 400 <= status(await here.answer_to(b"\r\n".join([*lines, upgrade, b"", b""]), eof=True)) < 500
        async with here.up(ring):  # its token is not used up
            pass


BODIES: dict[str, tuple[tuple[str, ...], bytes]] = {
    "said to be packed": (("Content-Encoding: gzip", "Content-Length: 4"), b"abcd"),
    "packed in half": (("Content-Encoding: gzip", "Content-Length: 12"), gzip.compress(b"x" * 999)[:12]),
    "a packed bomb": (("Content-Encoding: gzip", "Content-Length: {}"), gzip.compress(b"x" * 50_000_000, 9)),
    "packed by nobody knows what": (("Content-Encoding: br", "Content-Length: 4"), b"abcd"),
    "packed strangely": (("Content-Encoding: \x01", "Content-Length: 4"), b"abcd"),
    "deflated": (("Content-Encoding: deflate", "Content-Length: 4"), b"abcd"),
    "broken chunks": (("Transfer-Encoding: chunked",), b"4\r\nabcdX\r\n0\r\n\r\n"),
    "a chunk of many digits": (("Transfer-Encoding: chunked",), b"f" * 40 + b"\r\nabcd\r\n0\r\n\r\n"),
    "trailers without end": (("Transfer-Encoding: chunked",), b"0\r\n" + b"A: b\r\n" * 5_000),
    "chunk extensions": (("Transfer-Encoding: chunked",), b"1;" + b"a" * 9_000 + b"\r\nx\r\n0\r\n\r\n"),
    "of a charset nobody knows": (("Content-Length: 4", "Content-Type: x/y; charset=\x02"), b"abcd"),
}


@pytest.mark.parametrize("what", BODIES)
async def test_a_body_that_no_client_writes_is_answered_below_500(name: str, what: str) -> None:
    lines, body = BODIES[what]
    async with place(name) as here:
        head = post(here, *[line.format(len(body)) for line in lines])
        assert status(await here.answer_to(head + body, eof=True)) in (0, 400, 403, 413)
        await here.serves(1)


@pytest.mark.parametrize("times", [1, 40])
async def test_requests_may_come_in_a_row(name: str, times: int) -> None:
    async with place(name) as here:
        answers = await here.answer_to(HEALTH * times + post(here, "Content-Length: 0", "Connection: close"))
        assert answers.count(b"HTTP/1.1 200 ") == times
        assert answers.count(b"HTTP/1.1 40") == 1
