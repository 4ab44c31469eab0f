"""An app in its simplest form, for judging carriers: answers webhooks by a table, keeps what it was told, talks on its socket.

It owns the app's chair; whether the carrier signed as it should is judged by the official library.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from aiohttp import WSMsgType, web
from twilio.request_validator import RequestValidator

from patter.loopback.misbehaviour import GOOD_DAY, Misbehaviour
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier

HOST = "agent.example.test"
NUMBER, CALLER, HUMAN = "+15550001111", "+15557770000", "+15558880000"
STREAM = (
    f'<Connect><Stream url="wss://{HOST}/media"><Parameter name="token" value="one &amp; only"/></Stream></Connect>'
)
PATIENCE_S = 10.0


def url(path: str) -> str:
    return f"https://{HOST}{path}"


def response(*verbs: str) -> str:
    return f"<Response>{''.join(verbs)}</Response>"


@dataclass
class Talk:
    """One media stream in the app's chair."""

    socket: web.WebSocketResponse
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def sid(self) -> str:
        return str(self.named("start")[0]["streamSid"])

    @property
    def heard(self) -> bytes:
        return b"".join(b64decode(message["media"]["payload"]) for message in self.named("media"))

    def named(self, event: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["event"] == event]

    async def say(self, event: str, **parts: Any) -> None:
        await self.socket.send_str(json.dumps({"event": event, "streamSid": self.sid, **parts}))

    async def play(self, sound: bytes) -> None:
        await self.say("media", media={"payload": b64encode(sound).decode()})

    async def mark(self, name: str) -> None:
        await self.say("mark", mark={"name": name})

    async def until(self, event: str, count: int = 1) -> None:
        """Read on until so many of this kind have come, or the carrier closed the socket."""
        while len(self.named(event)) < count:
            message = await self.socket.receive()
            if message.type is not WSMsgType.TEXT:
                return
            self.messages.append(json.loads(message.data))


Talking = Callable[[Talk], Awaitable[None]]


async def listen(talk: Talk) -> None:
    await talk.until("stop")


@dataclass
class App:
    """`answers` by path (TwiML, or what makes it of the form); `talks`: what happens on each socket."""

    validator: RequestValidator
    answers: dict[str, str | Callable[[dict[str, str]], str]] = field(default_factory=dict)
    talking: Talking = listen
    talks: list[Talk] = field(default_factory=list)
    told: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    forged: list[str] = field(default_factory=list)
    status: int = 200
    content_type: str = "text/xml"
    news: anyio.Event = field(default_factory=anyio.Event)

    def forms(self, path: str) -> list[dict[str, str]]:
        return [form for where, form in self.told if where == path]

    async def form(self, path: str, count: int = 1) -> dict[str, str]:
        """The last of so many forms, as soon as it has come."""
        with anyio.fail_after(PATIENCE_S):
            while len(self.forms(path)) < count:
                await self.news.wait()
        return self.forms(path)[count - 1]

    async def talks_begun(self) -> None:
        """Until the app has heard three frames of the first stream."""
        with anyio.fail_after(PATIENCE_S):
            while not self.talks or len(self.talks[0].named("media")) < 3:
                await anyio.sleep(0.01)

    async def webhook(self, request: web.Request) -> web.Response:
        if "Upgrade" in request.headers:
            raise web.HTTPNotFound
        form = {name: str(value) for name, value in (await request.post()).items()}
        if not self.validator.validate(url(request.path_qs), form, request.headers.get("X-Twilio-Signature", "")):
            self.forged.append(request.path_qs)
        self.told.append((request.path_qs, form or dict(request.query)))
        self.news.set()
        self.news = anyio.Event()
        answer = self.answers.get(request.path, "")
        text = answer if isinstance(answer, str) else answer(form)
        return web.Response(text=text, content_type=self.content_type, status=self.status)

    async def media(self, request: web.Request) -> web.WebSocketResponse:
        addresses = [f"{scheme}://{HOST}{request.path}" for scheme in ("wss", "ws")]
        signature = request.headers["X-Twilio-Signature"]
        if not any(self.validator.validate(address, {}, signature) for address in addresses):
            self.forged.append(request.path)
        socket = web.WebSocketResponse(max_msg_size=1 << 24)
        await socket.prepare(request)
        talk = Talk(socket)
        self.talks.append(talk)
        await talk.until("start")
        await self.talking(talk)
        await socket.close()
        return socket


@asynccontextmanager
async def town(misbehaviour: Misbehaviour = GOOD_DAY, **how: Any) -> AsyncIterator[tuple[App, LoopbackTwilioCarrier]]:
    """A carrier and an app behind the name HOST; whatever the app was told, it was signed well."""
    async with LoopbackTwilioCarrier(misbehaviour=misbehaviour) as carrier:
        app = App(RequestValidator(carrier.auth_token), **how)
        server = web.Application()
        server.router.add_get("/media", app.media)
        server.router.add_route("*", "/{path:.*}", app.webhook)
        runner = web.AppRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        carrier.reach[HOST] = f"127.0.0.1:{runner.addresses[0][1]}"
        carrier.add_number(NUMBER, url("/voice"), url("/number-status"))
        try:
            with anyio.fail_after(30):
                yield app, carrier
        finally:
            await runner.cleanup()
        assert app.forged == []
