"""The media socket by itself: what may come first, what ends it, and what a transport's writes meet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import anyio
import pytest
from aiohttp import web

from patter.exceptions import WireError
from patter.server import media_socket
from patter.server.answers import sentences
from patter.server.listener import guarded
from patter.server.media_socket import MediaSocket, accept, carry, check_upgrade, first, refuse

pytestmark = pytest.mark.anyio


class Word(str):
    """What a test's stream says."""


class Start(Word):
    """The message that is waited for."""


def read(text: str) -> Word:
    if text == "broken":
        raise WireError("this cannot be read")
    return Start(text) if text == "start" else Word(text)


class Line:
    """A transport that keeps what it is fed, and does what a test says on each text."""

    def __init__(self) -> None:
        self.fed: list[str] = []
        self.gone = anyio.Event()
        self.wire: MediaSocket
        self.on_text: Callable[[str], None] = lambda _: None

    def feed(self, text: str) -> None:
        self.fed.append(text)
        self.on_text(text)

    def lost(self, detail: str = "") -> None:
        self.gone.set()


class Office:
    """One server of media sockets whose stream begins with `start`."""

    def __init__(self) -> None:
        self.line = Line()
        self.problem = ""
        self.over = anyio.Event()
        self.client: aiohttp.ClientSession
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        check_upgrade(request)
        socket = await accept(request)
        try:
            await first(socket, read, Start, (Word,) if request.query else ())
        except WireError as problem:
            self.problem = str(problem)
            await refuse(socket, self.problem)
        else:
            self.line.wire = MediaSocket(socket, request)
            await carry(socket, self.line.wire, self.line)
        self.over.set()
        return socket

    async def done(self) -> None:
        with anyio.fail_after(10):
            await self.over.wait()


@asynccontextmanager
async def office() -> AsyncIterator[Office]:
    built = Office()
    app = web.Application(middlewares=[sentences])
    app.add_routes([web.get("/", built.handle)])
    runner = guarded(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    built.url = f"http://{host}:{port}/"
    try:
        async with aiohttp.ClientSession() as built.client:
            yield built
    finally:
        await runner.cleanup()


async def test_what_follows_the_start_is_fed_until_the_peer_closes() -> None:
    async with office() as built:
        async with built.client.ws_connect(built.url) as socket:
            for text in ("start", "one", "two"):
                await socket.send_str(text)
            await socket.send_bytes(b"three")
        await built.done()
        assert built.line.fed == ["one", "two"]
        assert built.line.gone.is_set()


async def test_a_transport_writes_at_once_and_closes_without_waiting() -> None:
    async with office() as built:

        def answer(text: str) -> None:
            built.line.wire.send(f"you said {text}")
            built.line.wire.close()
            built.line.wire.close()

        built.line.on_text = answer
        async with built.client.ws_connect(built.url) as socket:
            await socket.send_str("start")
            await socket.send_str("hello")
            with anyio.fail_after(10):
                assert await socket.receive_str() == "you said hello"
                assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 1000
        await built.done()
        assert built.line.wire.closing
        built.line.wire.send("nobody hears this")


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["hello"], "Word came before start"),
        (["broken"], "this cannot be read"),
        ([b"start"], "ended before"),
        (["x" * 70_000], "ended before"),
        ([], "ended before"),
    ],
)
async def test_a_stream_that_begins_otherwise_is_refused(texts: list[str | bytes], why: str) -> None:
    async with office() as built:
        async with built.client.ws_connect(built.url) as socket:
            for text in texts:
                await (socket.send_bytes(text) if isinstance(text, bytes) else socket.send_str(text))
            if not texts:
                await socket.close()
            with anyio.fail_after(10):
                await socket.receive()
        await built.done()
        assert why in built.problem
        assert built.line.fed == []


async def test_a_few_messages_may_come_before_the_start_and_no_more() -> None:
    async with office() as built:
        async with built.client.ws_connect(built.url + "?patient=1") as socket:
            for text in ("one", "two", "start", "three"):
                await socket.send_str(text)
        await built.done()
        assert built.line.fed == ["three"]
    async with office() as built:
        async with built.client.ws_connect(built.url + "?patient=1") as socket:
            for _ in range(media_socket.FIRST_MESSAGES):
                await socket.send_str("not yet")
            await socket.send_str("start")
            await socket.receive()
        await built.done()
        assert built.problem == "no start message came"


async def test_a_stream_that_never_starts_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_socket, "START_SECONDS", 0.05)
    async with office() as built:
        async with built.client.ws_connect(built.url) as socket:
            with anyio.fail_after(10):
                await socket.receive()
            assert socket.close_code == 1008
        await built.done()
        assert built.problem == "no start message came"


async def test_a_refusal_of_any_length_fits_its_frame() -> None:
    async with office() as built:
        app_socket: list[web.WebSocketResponse] = []

        async def long_refusal(request: web.Request) -> web.StreamResponse:
            socket = await accept(request)
            app_socket.append(socket)
            await refuse(socket, "é" * 61 + "€" * 200, 1011)
            return socket

        app = web.Application()
        app.add_routes([web.get("/", long_refusal)])
        runner = guarded(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        async with built.client.ws_connect(f"http://{host}:{port}/") as socket:
            with anyio.fail_after(10):
                message = await socket.receive()
        await runner.cleanup()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1011)
        assert message.extra is not None
        assert message.extra.startswith("é" * 60)


async def test_only_a_websocket_is_taken() -> None:
    async with office() as built:
        for headers in ({}, {"Upgrade": "websocket", "Connection": "Upgrade"}, {"Upgrade": "h2c"}):
            async with built.client.get(built.url, headers=headers) as answer:
                assert answer.status == 400
                assert "WebSocket" in (await answer.json())["error"]
