"""An office that a softphone can ring: a real webhook and media socket with a scripted agent behind our transport."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import numpy as np
from aiohttp import web

from patter.audio.convert import Converter
from patter.audio.format import PCM_16K, AudioChunk
from patter.audio.level import rms_dbfs
from patter.clock import Clock
from patter.signals import DigitPressed, HungUp, PlayoutEnded, PlayoutStarted
from patter.transports.media_stream import StreamTransport
from patter.wire import twilio, twiml

TONE = (np.sin(np.arange(1600) * 2 * np.pi * 500 / 16_000) * 6000).astype(np.int16).tobytes()  # 100 ms of 500 Hz


@dataclass
class Office:
    """Greets with a tone; answers with a tone when the caller has been loud and then silent for 300 ms."""

    greeting_ms: int = 300
    answer_ms: int = 300
    hang_up_after_answers: int = 0
    base: str = ""
    caller_loud_frames: int = 0
    answers: int = 0
    digits: str = ""
    playouts: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)
    answered: anyio.Event = field(default_factory=anyio.Event)

    async def webhook(self, request: web.Request) -> web.Response:
        await request.post()
        return web.Response(
            text=twiml.connect_stream(self.base.replace("http", "ws", 1) + "/stream"), content_type="text/xml"
        )

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        wire = _Texts(socket)
        transport: StreamTransport | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.close_when_asked)
            async for message in socket:
                if transport is not None:
                    transport.feed(message.data)
                elif isinstance(start := twilio.read(message.data), twilio.Start):
                    transport = StreamTransport(start.call_sid, twilio.TwilioStream(start), wire, Clock())
                    self.formats.append(f"{start.format.encoding}/{start.format.rate}")
                    tasks.start_soon(self._note, transport)
                    transport.listen(self._agent(transport))
            assert transport is not None
            transport.lost()
            wire.close()
        return socket

    def _agent(self, transport: StreamTransport) -> Callable[[AudioChunk], None]:
        line = transport.abilities.hears
        assert line is not None
        to_pcm, from_pcm = Converter(line, PCM_16K), Converter(PCM_16K, line)
        silence = 0
        armed = False

        def speak(ms: int) -> None:
            self.answers += 1
            sound = from_pcm.convert(TONE * (ms // 100))
            transport.play(AudioChunk(sound, line), self.answers, 0.0)
            transport.finish(self.answers)

        def ear(chunk: AudioChunk) -> None:
            nonlocal silence, armed
            if rms_dbfs(to_pcm.convert(chunk.data)) > -45:
                self.caller_loud_frames += 1
                silence, armed = 0, True
            else:
                silence += 1
            if armed and silence == 15:
                armed = False
                speak(self.answer_ms)
                self.answered.set()

        if self.greeting_ms:
            speak(self.greeting_ms)
        return ear

    async def _note(self, transport: StreamTransport) -> None:
        async for signal in transport.signals():
            match signal:
                case PlayoutStarted(reply_id):
                    self.playouts.append(f"started {reply_id}")
                case PlayoutEnded(reply_id):
                    self.playouts.append(f"ended {reply_id}")
                    if reply_id == self.hang_up_after_answers:
                        await transport.hang_up()
                case DigitPressed(digit):
                    self.digits += digit
                case HungUp(reason):
                    self.reasons.append(reason)

    def dial(self, line: str = "phone") -> dict[str, Any]:
        return {
            "webhook_url": self.base + "/voice", "account_sid": "AC" + "1" * 32, "auth_token": "f" * 32,
            "from": "+15005550001", "to": "+15005560001", "line": line,
        }  # fmt: skip


class _Texts:
    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._closing = anyio.Event()

    def send(self, text: str) -> None:
        sending = self._socket.send_str(text)
        with suppress(StopIteration, ConnectionError):
            sending.send(None)
        sending.close()

    def close(self) -> None:
        self._closing.set()

    async def close_when_asked(self) -> None:
        await self._closing.wait()
        await self._socket.close()


@asynccontextmanager
async def open_office(**how: int) -> AsyncIterator[Office]:
    """An office at a free port of this machine."""
    office = Office(**how)
    app = web.Application()
    app.router.add_post("/voice", office.webhook)
    app.router.add_post("/status", office.webhook)
    app.router.add_get("/stream", office.stream)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    office.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield office
    finally:
        await runner.cleanup()
