"""An app on the other side of the loopback Telnyx: takes webhooks and media streams, and commands with Telnyx' own client.

It owns a server on this machine and what came in; it refuses to know what is being tested.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import numpy as np
from aiohttp import WSMsgType, web
from telnyx import AsyncTelnyx
from telnyx.lib.webhook_verification import verify_webhook_signature

from patter.audio.convert import Converter
from patter.audio.format import AudioFormat
from patter.loopback.misbehaviour import GOOD_DAY, Misbehaviour
from patter.loopback.telnyx_carrier import LoopbackTelnyxCarrier
from patter.loopback.telnyx_leg import Leg

OURS, THEIRS, BOSS = "+14155550100", "+14155550111", "+14155550122"
HOST = "voice.example.test"
PATIENCE_S = 10.0


def pitch(sound: bytes, line: AudioFormat) -> float:
    """The loudest frequency in Hz."""
    pcm = Converter(line, AudioFormat("pcm_s16le", line.rate)).convert(sound)
    samples = np.frombuffer(pcm, "<i2").astype(float)
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * line.rate / len(samples))


async def hears(leg: Leg, hz: float) -> None:
    """Wait until the person has heard this pitch for 260 ms on end."""
    line = leg.line.format
    size = line.bytes_for(260)
    with anyio.fail_after(PATIENCE_S):
        while len(leg.heard) < size or abs(pitch(bytes(leg.heard[-size:]), line) - hz) > 10:
            await anyio.sleep(0.02)


@dataclass
class Event:
    """One webhook as it came."""

    type: str
    id: str
    attempt: int
    payload: dict[str, Any]
    typed: Any


@dataclass
class Office:
    """What came in, and what to answer. `answers`: statuses for the next webhooks; then always 200."""

    carrier: LoopbackTelnyxCarrier
    client: AsyncTelnyx
    events: list[Event] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    socket: web.WebSocketResponse | None = None
    socket_closed: anyio.Event = field(default_factory=anyio.Event)
    _news: anyio.Event = field(default_factory=anyio.Event)

    async def webhook(self, request: web.Request) -> web.Response:
        body = await request.read()
        verify_webhook_signature(body, request.headers, self.carrier.public_key)
        typed = await self.client.webhooks.unwrap(body.decode(), headers=dict(request.headers))
        whole = json.loads(body)
        data = whole["data"]
        assert whole["meta"]["delivered_to"] == f"https://{request.host}{request.path}"
        self.events.append(Event(data["event_type"], data["id"], whole["meta"]["attempt"], data["payload"], typed))
        self._tell()
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        self.headers = dict(request.headers)
        self.socket = web.WebSocketResponse()
        await self.socket.prepare(request)
        async for message in self.socket:
            if message.type is WSMsgType.TEXT:
                self.messages.append(json.loads(message.data))
                self._tell()
        self.socket_closed.set()
        return self.socket

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def event(self, event_type: str, count: int = 1, **payload: Any) -> Event:
        """The `count`th webhook of this type with these fields, once it is here."""

        def found() -> Event | None:
            fits = [
                event
                for event in self.events
                if event.type == event_type and all(event.payload.get(name) == value for name, value in payload.items())
            ]
            return fits[count - 1] if len(fits) >= count else None

        return await self._once(found, f"{event_type} {payload}")

    async def message(self, event: str, count: int = 1) -> dict[str, Any]:
        """The `count`th message of this kind on the media stream, once it is here."""

        def found() -> dict[str, Any] | None:
            fits = [message for message in self.messages if message["event"] == event]
            return fits[count - 1] if len(fits) >= count else None

        return await self._once(found, event)

    async def _once(self, found: Callable[[], Any], what: str) -> Any:
        with anyio.move_on_after(PATIENCE_S):
            while (result := found()) is None:
                await self._news.wait()
            return result
        raise AssertionError(f"no {what}; there were {[event.type for event in self.events]}")

    def types(self) -> list[str]:
        """Which webhooks came, in order."""
        return [event.type for event in self.events]

    # ----------------------------------------------------------------- what the app says on a media stream

    async def say(self, message: dict[str, Any]) -> None:
        assert self.socket is not None
        await self.socket.send_str(json.dumps(message))

    async def play(self, sound: bytes) -> None:
        await self.say({"event": "media", "media": {"payload": b64encode(sound).decode()}})

    async def mark(self, name: str) -> None:
        await self.say({"event": "mark", "mark": {"name": name}})

    # ----------------------------------------------------------------- usual steps

    async def answered(self, leg: Any) -> None:
        """Answer a call that comes in."""
        await self.event("call.initiated", call_control_id=leg.handle)
        await self.client.calls.actions.answer(leg.handle)
        await self.event("call.answered", call_control_id=leg.handle)

    async def streaming(self, leg: Any, **options: Any) -> None:
        """Open a media stream as our SDK would, and wait for its first frame."""
        asked = {"stream_bidirectional_mode": "rtp", "stream_bidirectional_codec": "PCMU"} | options
        await self.client.calls.actions.start_streaming(leg.handle, stream_url=f"wss://{HOST}/ws/1", **asked)
        await self.message("media")

    async def dialled(self, to: str = THEIRS, **options: Any) -> Any:
        """Dial; returns the leg."""
        answer = await self.client.calls.dial(connection_id=self.carrier.connection_id, to=to, from_=OURS, **options)
        assert answer.data is not None
        return self.carrier.legs[answer.data.call_leg_id]


@asynccontextmanager
async def office(day: Misbehaviour = GOOD_DAY, **options: Any) -> AsyncIterator[Office]:
    """A carrier with one number, whose webhooks and streams come here."""
    async with LoopbackTelnyxCarrier(misbehaviour=day, **options) as carrier:
        client = AsyncTelnyx(
            api_key=carrier.api_key, base_url=f"{carrier.api_base}/v2", public_key=carrier.public_key, max_retries=0
        )
        here = Office(carrier, client)
        app = web.Application()
        app.router.add_post("/webhooks/telnyx/voice", here.webhook)
        app.router.add_get("/ws/1", here.stream)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        carrier.reach[HOST] = "127.0.0.1:{1}".format(*runner.addresses[0])
        carrier.add_number(OURS, f"https://{HOST}/webhooks/telnyx/voice")
        try:
            async with client:
                yield here
                for leg in carrier.legs.values():
                    leg.hang_up()
                for leg in carrier.legs.values():
                    await leg.over.wait()
                await carrier.settled()
        finally:
            await runner.cleanup()
