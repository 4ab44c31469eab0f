"""A phone line that finds its own way out: a tunnel comes up, the number is pointed at it, calls come in, and all is put back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import anyio
import pytest

from patter.agentfile import AgentFile
from patter.builders import Carrier
from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallEnded, CallStarted, Event
from patter.exceptions import CarrierError
from patter.exchange import join
from patter.loopback.person import Person
from patter.loopback.telnyx_carrier import LoopbackTelnyxCarrier
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from patter.models import Agent
from patter.server.desk import Desk, Route
from patter.server.front_door import FrontDoor, LineSettings
from patter.server.listener import listen
from tests.support.fake_calls import FakeCalls
from tests.support.tunnel_programs import ADDRESS, CLOUDFLARED, HOST, REGISTERED, STAY, Programs, lives, started

pytestmark = pytest.mark.anyio

OURS, THEIRS = "+14155550199", "+14155550123"
OLD = "https://old.example.test/flow"


class Agents:
    """One agent, whoever asks."""

    def current(self, route: Route) -> AgentFile:
        return AgentFile(route.agent, "front-desk", Agent("Be kind.", name="front-desk"), None, (), "", "")


@dataclass
class Line:
    """What a test looks at; the door is still closed."""

    door: FrontDoor
    events: list[Event]
    news: list[anyio.Event]

    async def event(self, kind: type[Event]) -> Event:
        """The first event of this kind, once it has happened."""
        with anyio.fail_after(10):
            while not (found := [event for event in self.events if isinstance(event, kind)]):
                await self.news[0].wait()
        return found[0]


@asynccontextmanager
async def line(carrier: Carrier, there: LoopbackTwilioCarrier | LoopbackTelnyxCarrier) -> AsyncIterator[Line]:
    clock = Clock()
    bus = Bus(clock)
    events: list[Event] = []
    news = [anyio.Event()]

    def note(event: Event) -> None:
        events.append(event)
        news[0].set()
        news[0] = anyio.Event()

    bus.add_sink(note)
    settings = LineSettings(carrier, OURS, tunnel=True, restore=True)
    desk, listener = Desk(bus, FakeCalls(bus).open_call), listen()
    there.reach[HOST] = f"127.0.0.1:{listener.getsockname()[1]}"  # as cloudflared's own network would
    async with aiohttp.ClientSession() as http, desk:
        joined = join(settings, desk, Agents(), clock, bus, http)
        yield Line(FrontDoor(settings, listener, joined, desk), events, news)


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cloudflared that works, alone on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return Programs(tmp_path)("cloudflared", CLOUDFLARED, ADDRESS, REGISTERED, STAY)


async def test_calls_come_through_a_tunnel_to_twilios_number(trace: Path) -> None:
    async with LoopbackTwilioCarrier() as there:
        there.add_number(OURS, OLD)
        carrier = Carrier("twilio", there.account_sid, there.auth_token, api_base=there.api_base)
        async with line(carrier, there) as ours, ours.door:
            ours.door.answer(OURS, Route(Path("front-desk"), "phone"))
            assert ours.door.public_url == f"https://{HOST}"
            assert there.numbers[OURS].voice_url == f"https://{HOST}/webhooks/twilio/voice"
            assert ours.door.notes == (f"Calls to {OURS} led to old.example.test; they come to {HOST} now.",)
            leg = there.place_call(THEIRS, OURS, Person())
            await ours.event(CallStarted)
            leg.hang_up()
            await ours.event(CallEnded)
            pid = started(trace)[0]
        assert not lives(pid)
        assert there.numbers[OURS].voice_url == OLD
        assert there.violations == []


async def test_calls_come_through_a_tunnel_to_telnyx_application(trace: Path) -> None:
    async with LoopbackTelnyxCarrier() as there:
        there.add_number(OURS, OLD)
        carrier = Carrier("telnyx", there.connection_id, there.api_key, there.public_key, there.api_base)
        async with line(carrier, there) as ours, ours.door:
            ours.door.answer(OURS, Route(Path("front-desk"), "phone"))
            assert there.webhook_url == f"https://{HOST}/webhooks/telnyx/voice"
            leg = there.place_call(THEIRS, OURS, Person())
            await ours.event(CallStarted)
            leg.hang_up()
            await ours.event(CallEnded)
            await there.settled()
        assert not lives(started(trace)[0])
        assert there.webhook_url == OLD
        assert there.violations == []


async def test_a_number_that_is_not_ours_closes_the_tunnel_again(trace: Path) -> None:
    async with LoopbackTwilioCarrier() as there:
        carrier = Carrier("twilio", there.account_sid, there.auth_token, api_base=there.api_base)
        async with line(carrier, there) as ours:
            with pytest.raises(CarrierError, match="no number of this account"):
                await ours.door.__aenter__()
    assert not lives(started(trace)[0])
