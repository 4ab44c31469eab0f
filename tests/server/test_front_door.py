from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import anyio
import anyio.lowlevel
import pytest

from patter.agentfile import AgentFile
from patter.builders import Carrier
from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallEnded, CallStarted, Event
from patter.exceptions import PatterConnectionError
from patter.loopback.twilio import CallOver, Dial, LoopbackTwilio
from patter.models import Agent
from patter.server.desk import Desk, Route
from patter.server.front_door import FrontDoor, Joined, LineSettings, public_address
from patter.server.listener import PortInUse, listen
from patter.server.number_setup import NumberSetup
from patter.server.twilio_routes import VOICE, Account, TwilioRoutes
from tests.support.fake_calls import FakeCalls

ACCOUNT = Account("AC" + "1" * 32, "the-auth-token")
NUMBER = "+15551234567"


class House:
    """A front door on a free port with fake calls behind it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.bus = Bus(self.clock)
        self.calls = FakeCalls(self.bus)
        self.events: list[Event] = []
        self.up = anyio.Event()
        self.bus.add_sink(self._note)
        listener = listen()
        self.port = listener.getsockname()[1]
        settings = LineSettings(
            Carrier("twilio", ACCOUNT.sid, ACCOUNT.auth_token), NUMBER, f"127.0.0.1:{self.port}", take_number=False
        )
        self.desk = Desk(self.bus, self.calls.open_call)
        routes = TwilioRoutes(self.desk, self, self.clock, [ACCOUNT], "")
        self.door = FrontDoor(settings, listener, Joined(routes, nothing, nothing), self.desk)
        self.client: aiohttp.ClientSession

    def current(self, route: Route) -> AgentFile:
        agent = Agent("Be kind.", name="front-desk")
        return AgentFile(route.agent, agent.name, agent, None, (), "", "")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def carrier(self, to: str = NUMBER, token: str = ACCOUNT.auth_token, line: str = "phone") -> LoopbackTwilio:
        dial = Dial(self.url + VOICE, ACCOUNT.sid, token, "+15550001111", to, line)
        return LoopbackTwilio(dial, self.client, self.clock, mouth=lambda: b"", ear=lambda _: None)

    async def in_call(self) -> None:
        with anyio.fail_after(10):
            await self.up.wait()

    def _note(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, CallStarted):
            self.up.set()


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    built = House()
    async with aiohttp.ClientSession() as built.client, built.desk, built.door:
        built.door.answer(NUMBER, Route(Path("front-desk"), "phone"))
        yield built


async def nothing(_: object) -> NumberSetup:
    return NumberSetup()


@pytest.mark.anyio
async def test_a_carriers_call_reaches_the_agent() -> None:
    async with house() as built:
        carrier = built.carrier()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(carrier.call)
            await built.in_call()
            carrier.hang_up()
        [call] = built.calls.sessions.values()

    assert (call.call.caller, call.call.callee) == ("+15550001111", NUMBER)
    assert (call.call.direction, call.call.telephony, call.name) == ("inbound", "twilio", "front-desk")
    assert carrier.violations == []
    assert [event.reason for event in built.events if isinstance(event, CallEnded)] == ["caller_hung_up"]


@pytest.mark.anyio
async def test_nobody_unknown_gets_in() -> None:
    async with house() as built:
        with pytest.raises(PatterConnectionError, match="answered 403"):
            await built.carrier(NUMBER, "another-token").call()

    assert built.events == []


@pytest.mark.anyio
async def test_a_number_without_an_agent_hears_a_sentence() -> None:
    async with house() as built:
        over = await built.carrier("+15559999999").call()

    assert (over.reason, built.events) == ("rejected", [])


@pytest.mark.anyio
async def test_the_port_has_no_api() -> None:
    async with house() as built:
        async with built.client.get(f"{built.url}/health") as answer:
            assert await answer.json() == {"status": "ok", "door": built.door.identity}
        for path in ("/api/v1/calls", "/api/v1/engine", "/dashboard"):
            async with built.client.get(built.url + path) as answer:
                assert answer.status == 404


@pytest.mark.anyio
async def test_closing_lets_the_call_finish_and_takes_no_new_one() -> None:
    over: list[CallOver] = []

    async def ring(carrier: LoopbackTwilio) -> None:
        over.append(await carrier.call())

    async with house() as built:
        carrier = built.carrier()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ring, carrier)
            await built.in_call()
            tasks.start_soon(built.door.close)
            await anyio.lowlevel.checkpoint()
            await ring(built.carrier())
            assert over[0].reason == "rejected"
            carrier.hang_up()

    assert [item.reason for item in over] == ["rejected", "hung_up"]


@pytest.mark.anyio
async def test_a_call_that_is_still_up_is_ended_with_a_reason() -> None:
    async with anyio.create_task_group() as tasks:
        async with house() as built:
            tasks.start_soon(built.carrier().call)
            await built.in_call()
        ends = [event.reason for event in built.events if isinstance(event, CallEnded)]
        tasks.cancel_scope.cancel()

    assert ends == ["engine_stopped"]


@pytest.mark.anyio
async def test_a_closed_door_frees_its_port() -> None:
    async with house() as built:
        with pytest.raises(PortInUse):
            listen(built.port)
    listen(built.port).close()


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("voice.example.com", "https://voice.example.com"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("localhost", "http://localhost"),
    ],
)
def test_the_public_address_is_what_the_carrier_signs(host: str, public: str) -> None:
    assert public_address(host) == public
