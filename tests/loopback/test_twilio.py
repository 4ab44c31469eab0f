"""The loopback carrier against a real socket server that echoes through our transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
import anyio
import pytest
from aiohttp import web

from patter.audio.format import AudioChunk
from patter.clock import Clock
from patter.exceptions import PatterConnectionError
from patter.loopback.twilio import CallOver, Dial, LoopbackTwilio
from patter.transports.media_stream import StreamTransport
from patter.wire import twilio, twilio_signature, twiml

pytestmark = pytest.mark.anyio

TOKEN = "f" * 32


class Texts:
    """The transport's socket over aiohttp: what is sent goes into the socket's own buffer, without a task."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self.asked_to_close = anyio.Event()

    def send(self, text: str) -> None:
        sending = self._socket.send_str(text)
        with suppress(StopIteration, ConnectionError):
            sending.send(None)
        sending.close()

    def close(self) -> None:
        self.asked_to_close.set()


@dataclass
class Office:
    """The agent's side: answers, echoes every frame, and keeps what it was told."""

    answer: str = ""
    close_after: int = 0
    drop_after: int = 0
    forms: list[dict[str, str]] = field(default_factory=list)
    signed: list[bool] = field(default_factory=list)
    starts: list[twilio.Start] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    base: str = ""

    async def webhook(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        signature = request.headers.get(twilio_signature.HEADER, "")
        self.signed.append(twilio_signature.verify(signature, str(request.url), form, TOKEN))
        self.forms.append(form)
        stream = twiml.connect_stream(self.base.replace("http", "ws", 1) + "/stream", {"token": "one & only"})
        return web.Response(text=self.answer or stream, content_type="text/xml")

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        signature = request.headers.get(twilio_signature.HEADER, "")
        self.signed.append(twilio_signature.verify(signature, str(request.url), {}, TOKEN))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        texts = Texts(socket)
        transport: StreamTransport | None = None
        frames = 0
        async for message in socket:
            first = twilio.read(message.data) if transport is None else None
            if isinstance(first, twilio.Start):
                self.starts.append(first)
                transport = StreamTransport(first.call_sid, twilio.TwilioStream(first), texts, Clock())
                transport.listen(self.echo(transport))
            elif transport is not None:
                transport.feed(message.data)
                frames += 1
                if frames == self.drop_after:
                    assert request.transport is not None
                    request.transport.abort()
                if frames == self.close_after:
                    await transport.hang_up()
                    await socket.close()
        assert transport is not None
        transport.lost()
        self.ends += [signal.reason async for signal in transport.signals() if hasattr(signal, "reason")]
        return socket

    def echo(self, transport: StreamTransport) -> object:
        at = 0.0

        def ear(chunk: AudioChunk) -> None:
            nonlocal at
            transport.play(chunk, 1, at)
            at += chunk.ms

        return ear


@asynccontextmanager
async def office(**how: object) -> AsyncIterator[tuple[Office, aiohttp.ClientSession]]:
    one = Office(**how)  # type: ignore[arg-type]
    app = web.Application()
    app.router.add_post("/voice", one.webhook)
    app.router.add_post("/status", one.webhook)
    app.router.add_get("/stream", one.stream)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession() as session:
            yield one, session
    finally:
        await runner.cleanup()


def dial(one: Office, line: str = "phone") -> Dial:
    return Dial(one.base + "/voice", "AC" + "1" * 32, TOKEN, "+15005550001", "+15005560001", line)


@pytest.mark.parametrize(("line", "size"), [("phone", 160), ("wideband", 640)])
async def test_a_call_is_signed_answered_echoed_and_reported(line: str, size: int) -> None:
    async with office() as (one, session):
        words = [bytes([number]) * size for number in range(1, 11)]
        spoken = list(words)
        heard: list[bytes] = []
        states: list[str] = []
        call: LoopbackTwilio

        def ear(frame: bytes) -> None:
            heard.append(frame)
            if words[-1] in heard:
                call.hang_up()

        call = LoopbackTwilio(
            dial(one, line), session, Clock(), lambda: spoken.pop(0) if spoken else b"", ear, on_state=states.append
        )
        over = await call.call()
    assert over == CallOver("hung_up")
    assert call.violations == []
    assert [frame for frame in heard if frame in words] == words
    assert states == ["ringing", "in_call", "ended"]
    assert one.signed == [True, True, True]
    ringing, completed = one.forms
    assert (ringing["CallStatus"], completed["CallStatus"]) == ("ringing", "completed")
    assert ringing["CallSid"] == completed["CallSid"] == call.call_sid == one.starts[0].call_sid
    assert one.starts[0].parameters == {"token": "one & only"}
    assert one.starts[0].format == call.dial.format
    assert one.ends == ["caller_hung_up"]


async def test_the_agent_may_hang_up() -> None:
    async with office(close_after=5) as (one, session):
        call = LoopbackTwilio(dial(one), session, Clock(), bytes, lambda _: None)
        assert await call.call() == CallOver("agent_hung_up")
    assert one.ends == ["agent_ended"]
    assert one.forms[-1]["CallStatus"] == "completed"


async def test_a_dropped_line_is_told_from_a_goodbye() -> None:
    async with office(drop_after=5) as (one, session):
        call = LoopbackTwilio(dial(one), session, Clock(), bytes, lambda _: None)
        over = await call.call()
    assert over.reason == "line_lost"
    assert one.ends == ["line_lost"]


async def test_an_answer_without_a_stream_is_a_rejection() -> None:
    async with office(answer=twiml.say_and_hang_up("We are closed.")) as (one, session):
        over = await LoopbackTwilio(dial(one), session, Clock(), bytes, lambda _: None).call()
    assert over.reason == "rejected"
    assert one.forms[-1]["CallStatus"] == "canceled"


async def test_broken_twiml_says_so() -> None:
    async with office(answer="<Response><Connect>") as (one, session):
        with pytest.raises(PatterConnectionError, match="unusable TwiML"):
            await LoopbackTwilio(dial(one), session, Clock(), bytes, lambda _: None).call()


async def test_nobody_at_home_says_so() -> None:
    async with office() as (one, session):
        nowhere = Dial("http://127.0.0.1:9/voice", "AC1", TOKEN, "+1", "+2")
        with pytest.raises(PatterConnectionError, match="does not answer"):
            await LoopbackTwilio(nowhere, session, Clock(), bytes, lambda _: None).call()
        refused = Dial(one.base + "/elsewhere", "AC1", TOKEN, "+1", "+2")
        with pytest.raises(PatterConnectionError, match="answered 404"):
            await LoopbackTwilio(refused, session, Clock(), bytes, lambda _: None).call()


def test_a_dial_names_what_it_lacks() -> None:
    with pytest.raises(ValueError, match="lacks auth_token, to"):
        Dial.from_json({"webhook_url": "http://x/voice", "account_sid": "AC1", "from": "+1"})
    whole = {"webhook_url": "http://x/v", "account_sid": "AC1", "auth_token": "t", "from": "+1", "to": "+2"}
    with pytest.raises(ValueError, match=r"dial\.line is 'fax'"):
        Dial.from_json(whole | {"line": "fax"})
    assert Dial.from_json(whole | {"line": "wideband"}) == Dial("http://x/v", "AC1", "t", "+1", "+2", "wideband")
