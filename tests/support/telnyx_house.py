"""Telnyx' routes with fake calls behind them and a scripted REST API beside them, on free ports of this machine.

Webhooks are signed with a key of the test's own, for a public address that is not where they really go.
"""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import anyio
from aiohttp import web
from nacl.signing import SigningKey

from patter.agentfile import AgentFile
from patter.audio.format import MULAW_8K, AudioFormat
from patter.builders import Carrier
from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallEnded, CallPlaced, CallStarted, Event, FaultOccurred
from patter.models import Agent
from patter.providers.telnyx_rest import TelnyxRest
from patter.server.answers import sentences
from patter.server.desk import Desk, Route
from patter.server.listener import guarded
from patter.server.orders import Order
from patter.server.telnyx_routes import VOICE, TelnyxRoutes
from patter.wire.telnyx import AUTH_TOKEN, CarrierWriter
from tests.support.fake_calls import FakeCalls, FakeSession
from tests.support.rest_desk import RestDesk, said

PUBLIC = "https://voice.example.test"
OURS = "+15551234567"
THEIRS = "+14155550123"
BOSS = "+14155550999"
KEY = SigningKey(bytes(range(32)))
PUBLIC_KEY = base64.b64encode(bytes(KEY.verify_key)).decode()
CONNECTION = "2411111111111111111"
OK = {"result": "ok"}

Hook = Callable[[dict[str, Any]], Awaitable[web.Response | None]]


def leg(number: int) -> str:
    """The call_leg_id of the n-th leg."""
    return f"6f0e0000-0000-4000-8000-{number:012x}"


def handle(leg_id: str) -> str:
    """The call_control_id of a leg."""
    return "v3:" + leg_id[-12:]


def trouble(status: int, code: str) -> web.Response:
    """An error as Telnyx words it."""
    return web.json_response({"errors": [{"code": code, "title": "No", "detail": "as told"}]}, status=status)


def agent_file(name: str = "front-desk", **changes: Any) -> AgentFile:
    """An agent that answers."""
    return AgentFile(Path(name), name, Agent("Be kind.", name=name, **changes), None, (), "v1", "")


def an_order(**changes: Any) -> Order:
    """A call to somebody."""
    given: dict[str, Any] = {"to": THEIRS, "caller": OURS, "file": agent_file("caller")}
    return Order(**(given | changes))


class House:
    """What a test works with. `on` may look at a command's body, or a dial's ("dial"), and answer it in the API's place."""

    def __init__(self, capacity: int) -> None:
        self.clock = Clock()
        self.bus = Bus(self.clock)
        self.calls = FakeCalls(self.bus)
        self.events: list[Event] = []
        self.bus.add_sink(self._note)
        self.desk = Desk(self.bus, self.calls.open_call, capacity)
        self.api = RestDesk(self._rest)
        self.on: dict[str, Hook] = {}
        self.states: dict[str, str] = {}
        """The client_state of each leg that was dialled."""
        self.file: AgentFile | None = agent_file()
        self.routes: TelnyxRoutes
        self.client: aiohttp.ClientSession
        self.address = ""
        self._legs = itertools.count(1)
        self._ids = itertools.count(1)
        self._more = anyio.Event()

    def current(self, _: Route) -> AgentFile | None:
        return self.file

    # ------------------------------------------------------------------ the carrier's API

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        action = request.path.rpartition("/")[2] if request.path != "/v2/calls" else "dial"
        made = ""
        if action == "dial":
            made = leg(next(self._legs))
            self.states[made] = body.get("client_state", "")
        self._turn()
        hook = self.on.get(action)
        answer = await hook(body) if hook else None
        if answer is not None:
            return answer
        if not made:
            return said(200, data=OK)
        return said(200, data={"call_control_id": handle(made), "call_leg_id": made, "call_session_id": leg(0)})

    def commands(self, *actions: str) -> list[dict[str, Any]]:
        """The bodies of the commands of these kinds so far, in order."""
        return [json.loads(asked.body) for asked in self.api.asked if asked.path.rpartition("/")[2] in actions]

    @property
    def did(self) -> list[str]:
        """Which commands were given, in order, and to whom: "answer 000000000001"; a dial is "calls"."""
        told = []
        for asked in self.api.asked:
            parts = asked.path.split("/")
            told.append("calls" if parts[-1] == "calls" else f"{parts[-1]} {int(parts[-3].removeprefix('v3:'), 16)}")
        return told

    async def done(self, *commands: str) -> None:
        """Return when these commands have been given (and check that nothing else was, by then)."""
        await self.until(lambda: len(self.did) >= len(commands))
        assert self.did == list(commands)

    # ------------------------------------------------------------------ the carrier's webhooks

    def event(self, kind: str, leg_id: str, event_id: str = "", **payload: Any) -> bytes:
        """The body of one webhook."""
        about = {
            "call_control_id": handle(leg_id), "connection_id": CONNECTION, "call_leg_id": leg_id,
            "call_session_id": leg(0), "client_state": self.states.get(leg_id), "from": THEIRS, "to": OURS,
        } | payload  # fmt: skip
        data = {
            "record_type": "event", "event_type": kind, "id": event_id or f"event-{next(self._ids)}",
            "occurred_at": "2026-11-20T09:15:02.114205Z", "payload": about,
        }  # fmt: skip
        return json.dumps({"data": data, "meta": {"attempt": 1}}).encode()

    async def post(self, body: bytes, *, key: SigningKey = KEY, age_s: float = 0.0, **headers: str) -> int:
        """A webhook as it stands, signed; the status it is answered with."""
        stamp = str(int(time.time() - age_s))
        signature = base64.b64encode(key.sign(stamp.encode() + b"|" + body).signature).decode()
        given = {
            "telnyx-signature-ed25519": signature, "telnyx-timestamp": stamp, "Content-Type": "application/json"
        } | {name.replace("_", "-"): value for name, value in headers.items()}  # fmt: skip
        async with self.client.post(self.address + VOICE, data=body, headers=given) as answer:
            await answer.read()
            return answer.status

    async def told(self, kind: str, leg_id: str, **payload: Any) -> None:
        """A webhook that must be accepted."""
        assert await self.post(self.event(kind, leg_id, **payload)) == 200

    async def incoming(self, leg_id: str, **payload: Any) -> None:
        """A call comes in."""
        await self.told("call.initiated", leg_id, direction="incoming", state="parked", **payload)

    # ------------------------------------------------------------------ media

    async def stream(self, number: int = 1) -> dict[str, Any]:
        """The `number`th command to open a media socket."""
        await self.until(lambda: len(self.commands("streaming_start")) >= number)
        return self.commands("streaming_start")[number - 1]

    def socket(self, url: str, **headers: str) -> Any:
        """Opens a media socket at a public address."""
        local = self.address.replace("http", "ws", 1) + urlsplit(url).path
        return self.client.ws_connect(local, headers=headers)

    @asynccontextmanager
    async def talking(
        self, order: dict[str, Any], leg_id: str, line: AudioFormat = MULAW_8K
    ) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, CarrierWriter, FakeSession]]:
        """The call whose stream was ordered so is up."""
        async with self.socket(order["stream_url"], **{AUTH_TOKEN: order["stream_auth_token"]}) as socket:
            writer = CarrierWriter("stream-1", handle(leg_id), line)
            await socket.send_str(writer.connected(order["stream_auth_token"]))
            await socket.send_str(writer.start({"plan": "gold"}))
            await self.seen(CallStarted, call_id=leg_id)
            yield socket, writer, self.calls.sessions[leg_id]

    @asynccontextmanager
    async def called(
        self, leg_id: str, line: AudioFormat = MULAW_8K
    ) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, CarrierWriter, FakeSession]]:
        """A call that came in and is up."""
        streams = len(self.commands("streaming_start"))
        await self.incoming(leg_id)
        await self.told("call.answered", leg_id)
        async with self.talking(await self.stream(streams + 1), leg_id, line) as up:
            yield up

    # ------------------------------------------------------------------ what was told to the world

    def _note(self, event: Event) -> None:
        self.events.append(event)
        self._turn()

    def _turn(self) -> None:
        self._more.set()
        self._more = anyio.Event()

    async def until(self, true: Callable[[], object]) -> None:
        """Return when something has become true, looking again whenever anything happened, and every few milliseconds."""
        with anyio.fail_after(10):
            while not true():
                with anyio.move_on_after(0.01):
                    await self._more.wait()

    async def seen(self, kind: type[Event], **fields: Any) -> Any:
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
        """CallPlaced, CallStarted, FaultOccurred and CallEnded, shortly."""
        told: list[str] = []
        for event in self.events:
            if isinstance(event, CallEnded):
                told.append(event.reason)
            elif isinstance(event, (CallPlaced, CallStarted, FaultOccurred)):
                names = {"CallPlaced": "placed", "CallStarted": "started", "FaultOccurred": "fault"}
                told.append(names[type(event).__name__])
        return told


@asynccontextmanager
async def house(*, capacity: int = 100, record: bool = False, codec: str = "PCMU") -> AsyncIterator[House]:
    """A house that is left only when all its calls are over."""
    built = House(capacity)
    carrier = Carrier("telnyx", CONNECTION, "KEY-of-this-test", public_key=PUBLIC_KEY, codec=codec)
    async with built.api.open() as (http, base), aiohttp.ClientSession() as built.client, built.desk:
        built.desk.lead(OURS, Route(Path("front-desk"), "phone"))
        rest = TelnyxRest(http, carrier.secret, base, sleep=built.api.sleep)
        built.routes = TelnyxRoutes(
            built.desk, built, built.clock, carrier, PUBLIC, bus=built.bus, rest=rest, record=record
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
