"""Twilio's routes with fake calls behind them and a scripted REST API beside them, on free ports of this machine.

Webhooks and sockets are signed by Twilio's own library for a public address that is not where they really go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import anyio
from aiohttp import web
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from patter.agentfile import AgentFile
from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallEnded, CallPlaced, CallStarted, Event
from patter.models import Agent
from patter.providers.twilio_rest import TwilioRest
from patter.server.answers import sentences
from patter.server.desk import Desk, Route
from patter.server.listener import guarded
from patter.server.orders import Order
from patter.server.twilio_gate import VOICE, Account
from patter.server.twilio_routes import TwilioRoutes
from patter.wire import twiml
from patter.wire.twilio import CarrierWriter
from tests.support.fake_calls import FakeCalls, FakeSession
from tests.support.rest_desk import RestDesk, said

ACCOUNT = Account("AC" + "1" * 32, "the-auth-token-of-this-account")
PUBLIC = "https://voice.example.test"
OURS = "+15551234567"
THEIRS = "+14155550123"
STREAM = "MZ" + "0" * 32

Hook = Callable[[dict[str, str]], Awaitable[web.Response | None]]


def sid(number: int) -> str:
    """The CallSid of the n-th call that the API makes."""
    return f"CA{number:032x}"


def agent_file(name: str = "front-desk") -> AgentFile:
    """An agent that answers."""
    return AgentFile(Path(name), name, Agent("Be kind.", name=name), None, (), "v1", "")


def an_order(**changes: Any) -> Order:
    """A call to somebody."""
    return replace(Order(THEIRS, OURS, agent_file("caller")), **changes)


class Witness:
    """Keeps what was told to the world, and waits for it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.bus = Bus(self.clock)
        self.calls = FakeCalls(self.bus)
        self.events: list[Event] = []
        self.bus.add_sink(self._note)
        self._more = anyio.Event()

    def current(self, _: Route) -> AgentFile:
        return agent_file()

    def _note(self, event: Event) -> None:
        self.events.append(event)
        self._more.set()
        self._more = anyio.Event()

    async def until(self, true: Callable[[], object]) -> None:
        """Return when something has become true, looking again at every event and every few milliseconds."""
        with anyio.fail_after(20):
            while not true():
                with anyio.move_on_after(0.01):
                    await self._more.wait()

    async def seen(self, kind: type[Event], **fields: Any) -> Event:
        """The first event of this kind with these fields, which may have come before."""

        def found() -> list[Event]:
            return [
                event
                for event in self.events
                if isinstance(event, kind) and all(getattr(event, key) == value for key, value in fields.items())
            ]

        await self.until(found)
        return found()[0]

    @property
    def story(self) -> list[str]:
        """CallPlaced, CallStarted and CallEnded, shortly."""
        told: list[str] = []
        for event in self.events:
            if isinstance(event, CallEnded):
                told.append(event.reason)
            elif isinstance(event, (CallPlaced, CallStarted)):
                told.append({"CallPlaced": "placed", "CallStarted": "started"}[type(event).__name__])
        return told


class House(Witness):
    """What a test works with. `made` counts the calls that the API has made; `status` is what it says of every call.

    `on_create` and `on_update` may look at a request's form and answer it in the API's place."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.desk = Desk(self.bus, self.calls.open_call, capacity)
        self.api = RestDesk(self._rest)
        self.made = 0
        self.status = "in-progress"
        self.on_create: Hook | None = None
        self.on_update: Hook | None = None
        self.rest: TwilioRest
        self.routes: TwilioRoutes
        self.client: aiohttp.ClientSession
        self.address = ""

    # ------------------------------------------------------------------ the carrier's API

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        form = dict(await request.post())
        fields = {name: str(value) for name, value in form.items()}
        if request.method == "GET":
            return said(200, sid=request.path, status=self.status)
        if request.path.endswith("/Recordings.json"):
            return said(201, sid="RE" + "0" * 32)
        if request.path.endswith("/Calls.json"):
            self.made += 1
            made = sid(self.made)
            answer = await self.on_create(fields) if self.on_create else None
            return answer or said(201, sid=made)
        answer = await self.on_update(fields) if self.on_update else None
        return answer or said(200, sid="x")

    def orders(self, ending: str) -> list[dict[str, str]]:
        """The forms that were posted to a path with this ending."""
        return [dict(asked.form) for asked in self.api.asked if asked.method == "POST" and asked.path.endswith(ending)]

    # ------------------------------------------------------------------ the carrier's webhooks

    def form(self, call_sid: str, **changes: str) -> dict[str, str]:
        return {
            "CallSid": call_sid, "AccountSid": ACCOUNT.sid, "From": THEIRS, "To": OURS, "CallStatus": "ringing",
            "Direction": "inbound", "ApiVersion": "2010-04-01",
        } | changes  # fmt: skip

    async def post(self, url: str, form: dict[str, str], *, token: str = ACCOUNT.auth_token) -> tuple[int, str]:
        """A webhook to a public address, signed for it."""
        signature = RequestValidator(token).compute_signature(url, form)
        headers = {"X-Twilio-Signature": signature, "Content-Type": "application/x-www-form-urlencoded"}
        parts = urlsplit(url)
        local = self.address + parts.path + (f"?{parts.query}" if parts.query else "")
        async with self.client.post(local, data=urlencode(form), headers=headers) as answer:
            return answer.status, await answer.text()

    async def told(self, url: str, call_sid: str, **fields: str) -> None:
        """A callback that must be accepted."""
        status, _ = await self.post(url, self.form(call_sid, Direction="outbound-api", **fields))
        assert status == 204

    async def asked(self, url: str, call_sid: str, **fields: str) -> twiml.Document:
        """A voice webhook's answer."""
        status, text = await self.post(url, self.form(call_sid, **fields))
        assert status == 200, text
        return twiml.read(text)

    async def incoming(self, call_sid: str) -> twiml.Document:
        """A call comes in."""
        return await self.asked(PUBLIC + VOICE, call_sid)

    def socket(self, url: str) -> Any:
        """Opens a media socket at a public address."""
        signature = RequestValidator(ACCOUNT.auth_token).compute_signature(url, {})
        local = self.address.replace("http", "ws", 1) + urlsplit(url).path
        return self.client.ws_connect(local, headers={"X-Twilio-Signature": signature})

    @asynccontextmanager
    async def talking(
        self, document: twiml.Document, call_sid: str
    ) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, CarrierWriter, FakeSession]]:
        """The call whose voice webhook was answered so is up."""
        assert document.stream is not None
        async with self.socket(document.stream.url) as socket:
            writer = CarrierWriter(STREAM, ACCOUNT.sid, call_sid)
            await socket.send_str(writer.connected())
            await socket.send_str(writer.start())
            await self.seen(CallStarted, call_id=call_sid)
            yield socket, writer, self.calls.sessions[call_sid]


@asynccontextmanager
async def house(*, capacity: int = 100, record: bool = False) -> AsyncIterator[House]:
    """A house that is left only when all its calls are over."""
    built = House(capacity)
    async with built.api.open() as (http, base), aiohttp.ClientSession() as built.client, built.desk:
        built.desk.lead(OURS, Route(Path("front-desk"), "phone"))
        built.rest = TwilioRest(http, ACCOUNT.sid, ACCOUNT.auth_token, base, sleep=built.api.sleep)
        built.routes = TwilioRoutes(
            built.desk, built, built.clock, [ACCOUNT], PUBLIC, bus=built.bus, rest=built.rest, record=record
        )
        app = web.Application(middlewares=[sentences])
        app.add_routes(built.routes.routes())
        runner = guarded(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        built.address = f"http://{host}:{port}"
        try:
            yield built
        finally:
            await runner.cleanup()


def query_of(url: str) -> dict[str, str]:
    """The query of an address."""
    return dict(parse_qsl(urlsplit(url).query))
