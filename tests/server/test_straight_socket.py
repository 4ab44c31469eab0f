"""The straight socket: what reaches the ear and in which order, an ear that fails, and peers that are silent."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import WSMsgType, web
from hypothesis import given
from hypothesis import strategies as st

from patter.server import straight_socket
from patter.server.straight_socket import StraightSocket
from patter.unwaited import frame_of, masked_frame_of

pytestmark = pytest.mark.anyio

Handle = Callable[[StraightSocket, web.Request], Any]


@asynccontextmanager
async def served(handle: Handle) -> AsyncIterator[tuple[str, int]]:
    async def upgrade(request: web.Request) -> web.StreamResponse:
        socket = StraightSocket(max_msg_size=1 << 20, compress=False, timeout=1)
        await socket.prepare(request)
        await handle(socket, request)
        return socket

    app = web.Application()
    app.add_routes([web.get("/", upgrade)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][:2]
    finally:
        await runner.cleanup()


async def test_texts_that_came_before_are_received_and_the_rest_is_heard_at_once_in_its_order() -> None:
    got: list[str] = []
    over = anyio.Event()

    async def handle(socket: StraightSocket, _: web.Request) -> None:
        got.append(f"first {(await socket.receive()).data}")
        await anyio.sleep(0.05)  # the next ones come meanwhile
        socket.listen(lambda text: got.append(f"heard {text}"))
        async for message in socket:
            got.append(f"received {message.type.name} {message.data!r}")
        socket.deafen()
        over.set()

    async with served(handle) as (host, port), aiohttp.ClientSession() as client:
        async with client.ws_connect(f"http://{host}:{port}/") as socket:
            for text in ("1", "2", "3"):
                await socket.send_str(text)
            await anyio.sleep(0.2)
            await socket.send_str("4")
            await socket.ping()
            await socket.send_bytes(b"5")
            await anyio.sleep(0.2)
            await socket.send_str("6")
        with anyio.fail_after(10):
            await over.wait()
    assert got == ["first 1", "received TEXT '2'", "received TEXT '3'", "heard 4", "received BINARY b'5'", "heard 6"]


async def test_a_fault_of_the_ear_ends_the_reading_and_is_told() -> None:
    told: list[str] = []
    over = anyio.Event()

    def ear(text: str) -> None:
        told.append(text)
        raise LookupError("a fault of ours")

    async def handle(socket: StraightSocket, _: web.Request) -> None:
        socket.listen(ear)
        async for message in socket:
            told.append(message.type.name)
        try:
            socket.deafen()
        except LookupError as error:
            told.append(str(error))
        over.set()

    async with (
        served(handle) as (host, port),
        aiohttp.ClientSession() as client,
        client.ws_connect(f"http://{host}:{port}/") as socket,
    ):
        await socket.send_str("1")
        await socket.send_str("2")
        with anyio.fail_after(10):
            assert (await socket.receive()).type is WSMsgType.CLOSE
            await over.wait()
    assert told == ["1", "ERROR", "a fault of ours"]


async def test_a_peer_that_does_not_wait_for_our_answer_loses_nothing() -> None:
    got: list[str] = []
    over = anyio.Event()

    async def handle(socket: StraightSocket, _: web.Request) -> None:
        async for message in socket:
            got.append(message.data)
        over.set()

    async with served(handle) as (host, port):
        key = base64.b64encode(os.urandom(16)).decode()
        hello = (
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        )
        async with await anyio.connect_tcp(host, port) as pipe:
            frames = masked_frame_of("early") + masked_frame_of("split")
            await pipe.send(hello.encode() + frames[:-3])
            with anyio.fail_after(10):
                await pipe.receive()
                await pipe.send(frames[-3:])
                while len(got) < 2:
                    await anyio.sleep(0.005)
        with anyio.fail_after(10):
            await over.wait()
    assert got == ["early", "split"]


@pytest.mark.parametrize("answers", [True, False])
async def test_a_silent_peer_is_asked_and_cut_off_only_if_it_is_not_there(
    answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(straight_socket, "QUIET_S", 0.05)
    over = anyio.Event()

    async def handle(socket: StraightSocket, request: web.Request) -> None:
        assert request.transport is not None
        socket.listen(lambda _: None)
        socket.watch(request.transport)
        async for _ in socket:
            pass
        socket.deafen()
        over.set()

    async with served(handle) as (host, port), aiohttp.ClientSession() as client:
        async with client.ws_connect(f"http://{host}:{port}/", autoping=answers) as socket:
            if not answers:
                with anyio.fail_after(10):
                    assert (await socket.receive()).type is WSMsgType.PING
                    await over.wait()
                return
            with anyio.move_on_after(0.5):
                await socket.receive()
            assert not over.is_set()
        with anyio.fail_after(10):
            await over.wait()


@given(message=st.one_of(st.text(), st.binary()), size=st.sampled_from([0, 125, 126, 65_535, 65_536]))
def test_frames_are_read_as_they_were_meant(message: str | bytes, size: int) -> None:
    message = message + ("x" if isinstance(message, str) else b"x") * size  # type: ignore[operator]
    data = message.encode() if isinstance(message, str) else message
    for frame, masked in ((frame_of(message), False), (masked_frame_of(message), True)):
        assert frame[0] == (0x81 if isinstance(message, str) else 0x82)
        assert bool(frame[1] & 0x80) is masked
        length, at = frame[1] & 0x7F, 2
        assert length == (len(data) if len(data) < 126 else 126 if len(data) < 65_536 else 127)
        if length > 125:
            at = 4 if length == 126 else 10
            assert int.from_bytes(frame[2:at], "big") == len(data)
        mask = frame[at : at + 4] if masked else b"\0\0\0\0"
        body = frame[at + 4 * masked :]
        assert bytes(byte ^ mask[place % 4] for place, byte in enumerate(body)) == data
