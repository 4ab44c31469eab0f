"""The whole way between a person at a telephone and a session: loopback Telnyx, our front door, and back, in real time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from patter.agentfile import AgentFile
from patter.audio.format import AudioChunk
from patter.builders import KEYLESS, Carrier
from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallEnded, CarrierRecordingSaved, Event
from patter.exceptions import CarrierError, PatterError
from patter.exchange import join
from patter.loopback.misbehaviour import GOOD_DAY, Misbehaviour
from patter.loopback.person import Person, says
from patter.loopback.telnyx_carrier import LoopbackTelnyxCarrier
from patter.loopback.telnyx_leg import CODECS, Leg
from patter.loopback.tones import as_line, tone
from patter.models import Agent
from patter.server.desk import Desk, Route
from patter.server.front_door import FrontDoor, LineSettings
from patter.server.listener import listen
from patter.server.orders import Order
from tests.loopback.telnyx_office import hears, pitch
from tests.support.fake_calls import FakeCalls, FakeSession

pytestmark = pytest.mark.anyio

OURS, THEIRS, BOSS = "+14155550100", "+14155550111", "+14155550122"
HOST = "voice.example.test"
FILE = AgentFile(Path("desk"), "desk", Agent("You answer.", provider=KEYLESS), None, (), "", "")
TALK = tone(400, 8_000)


class Files:
    """One agent for everything."""

    def current(self, _: Route) -> AgentFile:
        return FILE


@dataclass
class House:
    """A carrier, an open door, and what was told."""

    carrier: LoopbackTelnyxCarrier
    door: FrontDoor
    calls: FakeCalls
    events: list[Event]

    async def until(self, holds: Any) -> Any:
        """Look again until `holds()` gives something."""
        with anyio.fail_after(10):
            while not (found := holds()):
                await anyio.sleep(0.01)
        return found

    async def session(self, leg: Leg) -> FakeSession:
        """The session that got this leg's call."""
        found: FakeSession = await self.until(lambda: self.calls.sessions.get(leg.call_id))
        return found

    async def event(self, kind: type[Event]) -> Any:
        """The first event of its kind."""
        return await self.until(lambda: next((event for event in self.events if isinstance(event, kind)), None))

    async def dial(self, **options: Any) -> Leg:
        """Place a call to `THEIRS`."""
        return self.carrier.legs[await self.door.dial(Order(THEIRS, OURS, FILE, **options))]

    def asked(self, action: str) -> list[Any]:
        """The commands of this name that the carrier got."""
        return [asked for asked in self.carrier.requests if asked.path.endswith(f"/actions/{action}")]


@asynccontextmanager
async def house(
    day: Misbehaviour = GOOD_DAY, *, codec: str = "PCMU", recording: bool = False, **options: Any
) -> AsyncIterator[House]:
    """Everything open; nothing the real carrier would complain of may happen."""
    async with AsyncExitStack() as stack:
        clock = Clock()
        bus = Bus(clock)
        events: list[Event] = []
        stack.callback(bus.add_sink(events.append))
        carrier = await stack.enter_async_context(
            LoopbackTelnyxCarrier(clock=clock, misbehaviour=day, codec=codec, **options)
        )
        carrier.add_number(OURS)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        calls = FakeCalls(bus)
        desk = await stack.enter_async_context(Desk(bus, calls.open_call))
        account = Carrier("telnyx", carrier.connection_id, carrier.api_key, carrier.public_key, carrier.api_base, codec)
        settings = LineSettings(account, OURS, HOST, recording=recording)
        listener = listen()
        stack.callback(listener.close)
        carrier.reach[HOST] = f"127.0.0.1:{listener.getsockname()[1]}"
        door = FrontDoor(settings, listener, join(settings, desk, Files(), clock, bus, http), desk)
        await stack.enter_async_context(door)
        door.answer(OURS, Route(Path("desk"), "phone"))
        yield House(carrier, door, calls, events)
        for leg in list(carrier.legs.values()):
            leg.hang_up()
        for leg in list(carrier.legs.values()):
            await leg.over.wait()
        await carrier.settled()
        await door.close(0.0)
        assert carrier.violations == []


async def test_a_call_comes_in_and_sound_passes_both_ways() -> None:
    async with house(recording=True) as here:
        leg = here.carrier.place_call(THEIRS, OURS, Person(mouth=says(TALK)))
        session = await here.session(leg)
        assert (session.call.caller, session.call.callee) == (THEIRS, OURS)
        await here.until(lambda: len(session.heard) > 5)
        leg.press("42")
        await here.until(lambda: session.digits == ["4", "2"])
        leg.hang_up()
        assert (await here.event(CallEnded)).reason == "caller_hung_up"
        assert (await here.event(CarrierRecordingSaved)).call_id == leg.call_id


async def test_webhooks_that_come_twice_are_acted_on_once() -> None:
    async with house(Misbehaviour(duplicate_webhooks=True)) as here:
        leg = here.carrier.place_call(THEIRS, OURS)
        session = await here.session(leg)
        await here.until(lambda: session.heard)
        assert [len(here.asked(action)) for action in ("answer", "streaming_start")] == [1, 1]
        leg.hang_up()
        await leg.over.wait()
        await here.carrier.settled()
        assert sum(isinstance(event, CallEnded) for event in here.events) == 1


async def test_our_goodbye_hangs_up_at_the_carrier() -> None:
    async with house() as here:
        leg = here.carrier.place_call(THEIRS, OURS)
        session = await here.session(leg)
        await session.transport.hang_up()
        await session.hang_up()
        with anyio.fail_after(10):
            await leg.over.wait()
        assert leg.hangup_cause == "normal_clearing"


@pytest.mark.parametrize("codec", ["PCMU", "PCMA", "L16"])
async def test_every_codec_is_heard_as_it_was_spoken(codec: str) -> None:
    async with house(codec=codec, big_endian=codec == "L16") as here:
        leg = here.carrier.place_call(THEIRS, OURS, Person(mouth=says(TALK)))
        session = await here.session(leg)
        line = CODECS[codec]
        await here.until(lambda: len(session.heard) > 20)
        assert pitch(b"".join(session.heard)[-line.bytes_for(300) :], line) == pytest.approx(400, abs=10)
        session.transport.play(AudioChunk(as_line(tone(700, 1_000), line), line), 1, 0.0)
        await hears(leg, 700)


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        (Person(answers="busy"), "busy"),
        (None, "failed"),
    ],
)
async def test_a_call_nobody_takes_ends_with_its_reason(person: Person | None, reason: str) -> None:
    async with house() as here:
        if person is not None:
            here.carrier.people[THEIRS] = person
        await here.dial()
        ended = await here.event(CallEnded)
        assert (ended.reason, ended.duration_s) == (reason, 0.0)


@pytest.mark.parametrize("repeats_dials", [False, True])
async def test_an_answer_that_was_lost_leaves_one_call(repeats_dials: bool) -> None:
    async with house(repeats_dials=repeats_dials) as here:
        here.carrier.people[THEIRS] = Person()
        here.carrier.refuse_next(503, "10007", "try again", done=True)
        await here.dial()
        await here.until(lambda: here.calls.sessions)
        await here.until(lambda: sum(leg.alive for leg in here.carrier.legs.values()) == 1)
        assert len(here.carrier.legs) == (2 if repeats_dials else 1)
        assert len(here.calls.sessions) == 1


async def test_a_refused_call_says_what_to_do_and_keeps_the_key() -> None:
    async with house() as here:
        here.carrier.refuse_next(403, "20012", "Account inactive")
        with pytest.raises(CarrierError, match="funds") as caught:
            await here.dial()
        assert here.carrier.api_key not in str(caught.value)


async def test_a_machine_is_told_apart_when_it_listens() -> None:
    async with house() as here:
        here.carrier.people[THEIRS] = Person("machine", greeting=tone(300, 400), judged_after_s=0.2)
        leg = await here.dial(detect_machine=True)
        session = await here.session(leg)
        await here.until(lambda: any(verdict.ready for verdict in session.verdicts))
        assert [(verdict.answered_by, verdict.ready) for verdict in session.verdicts][-1] == ("machine", True)


async def test_a_warm_transfer_tells_the_other_person_first_and_then_joins_the_two() -> None:
    async with house() as here:
        here.carrier.people[BOSS] = Person(mouth=says(tone(700, 8_000)))
        leg = here.carrier.place_call(THEIRS, OURS, Person(mouth=says(TALK)))
        session = await here.session(leg)
        await session.transfer(BOSS, summary="Bill.")
        boss = leg.joined_with
        assert boss is not None
        assert boss.announced == ["Bill."]
        assert boss.session_id == leg.session_id
        await hears(boss, 400)
        await hears(leg, 700)
        assert leg.alive


async def test_a_cold_transfer_joins_the_two_and_nobody_at_home_leaves_the_call_as_it_was() -> None:
    async with house() as here:
        leg = here.carrier.place_call(THEIRS, OURS)
        session = await here.session(leg)
        here.carrier.people[BOSS] = Person(answers="busy")
        for summary in ("", "A caller."):
            with pytest.raises(PatterError, match="busy"):
                await session.transfer(BOSS, summary=summary)
            assert leg.alive
        here.carrier.people[BOSS] = Person()
        await session.transfer(BOSS)
        await here.until(lambda: leg.joined_with is not None)
        assert leg.transferred_to == BOSS


async def test_the_carrier_says_a_last_sentence_and_hangs_up() -> None:
    async with house() as here:
        leg = here.carrier.place_call(THEIRS, OURS)
        session = await here.session(leg)
        await session.transport.announce("Goodbye.")
        with anyio.fail_after(10):
            await leg.over.wait()
        assert leg.announced == ["Goodbye."]


async def test_a_socket_that_dies_ends_the_call_as_lost() -> None:
    async with house(Misbehaviour(drop_socket_after_s=0.2)) as here:
        leg = here.carrier.place_call(THEIRS, OURS)
        await here.session(leg)
        assert (await here.event(CallEnded)).reason == "line_lost"
        with anyio.fail_after(10):
            await leg.over.wait()


async def test_keys_are_pressed_at_the_other_side() -> None:
    async with house() as here:
        leg = here.carrier.place_call(THEIRS, OURS)
        session = await here.session(leg)
        await session.send_digits("1w#")
        assert leg.digits_heard == "1#"
