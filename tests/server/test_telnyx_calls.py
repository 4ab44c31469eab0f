"""Telnyx' routes with a whole Telnyx beside them, in real time: good days, bad days, machines, transfers, recordings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web

from patter.agentfile import AgentFile
from patter.builders import Carrier
from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallEnded, CarrierRecordingSaved, Event
from patter.exceptions import PatterError
from patter.loopback.misbehaviour import GOOD_DAY, Misbehaviour
from patter.loopback.person import Person, says
from patter.loopback.telnyx_carrier import LoopbackTelnyxCarrier
from patter.loopback.tones import tone
from patter.providers.telnyx_rest import TelnyxRest
from patter.server.answers import sentences
from patter.server.desk import Desk, Route
from patter.server.listener import guarded
from patter.server.telnyx_routes import VOICE, TelnyxRoutes
from tests.support.fake_calls import FakeCalls, FakeSession
from tests.support.telnyx_house import BOSS, OURS, THEIRS, agent_file, an_order

pytestmark = pytest.mark.anyio

HOST = "voice.example.test"
TALK = says(tone(440, 4_000))


@dataclass
class Town:
    """A carrier and the routes it calls; `asked` lists the commands it got, in order."""

    carrier: LoopbackTelnyxCarrier
    calls: FakeCalls
    events: list[Event]
    routes: TelnyxRoutes = field(init=False)

    def current(self, _: Route) -> AgentFile:
        return agent_file()

    @property
    def asked(self) -> list[str]:
        return [asked.path.rpartition("/")[2] for asked in self.carrier.requests]

    def ends(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, CallEnded)]

    async def until(self, true: Callable[[], Any]) -> Any:
        with anyio.fail_after(10):
            while not (found := true()):
                await anyio.sleep(0.01)
        return found

    async def session(self, call_id: str) -> FakeSession:
        """The call, once it is up."""
        found: FakeSession = await self.until(lambda: self.calls.sessions.get(call_id))
        return found


@asynccontextmanager
async def town(
    day: Misbehaviour = GOOD_DAY, *, codec: str = "PCMU", record: bool = False, clean: bool = True
) -> AsyncIterator[Town]:
    """`clean`: the carrier must have had nothing to complain of."""
    async with AsyncExitStack() as stack:
        clock = Clock()
        bus = Bus(clock)
        events: list[Event] = []
        bus.add_sink(events.append)
        calls = FakeCalls(bus)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        desk = await stack.enter_async_context(Desk(bus, calls.open_call))
        carrier = await stack.enter_async_context(LoopbackTelnyxCarrier(clock=clock, misbehaviour=day))
        known = Carrier("telnyx", carrier.connection_id, carrier.api_key, carrier.public_key, carrier.api_base, codec)
        rest = TelnyxRest(http, carrier.api_key, carrier.api_base)
        built = Town(carrier, calls, events)
        built.routes = TelnyxRoutes(desk, built, clock, known, f"https://{HOST}", bus=bus, rest=rest, record=record)
        app = web.Application(middlewares=[sentences])
        app.add_routes(built.routes.routes())
        runner = guarded(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        carrier.reach[HOST] = f"127.0.0.1:{runner.addresses[0][1]}"
        carrier.add_number(OURS, f"https://{HOST}{VOICE}")
        desk.lead(OURS, Route(Path("front-desk"), "phone"))
        yield built
        for leg in list(carrier.legs.values()):
            leg.hang_up()
        for leg in list(carrier.legs.values()):
            await leg.over.wait()
        await carrier.settled()
        assert not clean or carrier.violations == []


async def test_a_call_on_a_bad_day_is_one_call_with_all_its_sound() -> None:
    day = Misbehaviour(jitter_ms=40, loss=0.05, reorder=0.2, late_marks_ms=50, duplicate_webhooks=True, seed=3)
    async with town(day) as here:
        leg = here.carrier.place_call(THEIRS, OURS, Person(mouth=TALK))
        session = await here.session(leg.call_id)
        await here.until(lambda: len(session.heard) > 25)
        leg.press("4#")
        await here.until(lambda: session.digits == ["4", "#"])
        leg.hang_up()
        await here.until(here.ends)
        assert here.ends() == ["caller_hung_up"]
        assert here.asked == ["answer", "streaming_start"]
        assert {len(frame) for frame in session.heard} == {160}


@pytest.mark.parametrize("codec", ["PCMU", "PCMA", "L16"])
async def test_sound_is_heard_at_both_ends_whatever_the_codec(codec: str) -> None:
    async with town(codec=codec) as here:
        leg = here.carrier.place_call(THEIRS, OURS, Person(mouth=TALK))
        session = await here.session(leg.call_id)
        await session.say("Hello")
        await here.until(lambda: leg.heard and session.heard)


async def test_a_stream_in_a_codec_that_nobody_asked_for_fails_the_call() -> None:
    async with town(Misbehaviour(wrong_codec=True), clean=False) as here:
        leg = here.carrier.place_call(THEIRS, OURS)
        with anyio.fail_after(10):
            await leg.over.wait()
        assert here.ends() == ["failed"]
        assert here.asked == ["answer", "streaming_start", "hangup"]


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        (Person("busy"), "busy"),
        (Person("reject"), "busy"),
        (Person(stays_s=0.3), "caller_hung_up"),
    ],
)
async def test_whom_we_call_decides_how_it_ends(person: Person, reason: str) -> None:
    async with town() as here:
        here.carrier.people[THEIRS] = person
        await here.routes.dial(an_order())
        await here.until(here.ends)
        assert here.ends() == [reason]


async def test_a_person_who_answers_is_told_apart_from_a_machine() -> None:
    async with town() as here:
        here.carrier.people[THEIRS] = Person(judged_after_s=0.1)
        call_id = await here.routes.dial(an_order(detect_machine=True))
        session = await here.session(call_id)
        await here.until(lambda: session.verdicts)
        assert [(said.answered_by, said.ready) for said in session.verdicts] == [("human", True)]


async def test_a_machine_is_told_before_it_listens_and_then() -> None:
    async with town() as here:
        here.carrier.people[THEIRS] = Person("machine", greeting=tone(300, 600), judged_after_s=0.1)
        session = await here.session(await here.routes.dial(an_order(voicemail="Please call back.")))
        await here.until(lambda: len(session.verdicts) == 2)
        assert [(said.answered_by, said.ready) for said in session.verdicts] == [("machine", False), ("machine", True)]


async def test_a_call_that_is_given_up_stops_ringing() -> None:
    async with town() as here:
        here.carrier.people[THEIRS] = Person(rings_s=5.0)
        call_id = await here.routes.dial(an_order())
        await here.routes.cancel(call_id)
        leg = here.carrier.legs[call_id]
        with anyio.fail_after(10):
            await leg.over.wait()
        assert (leg.hangup_cause, here.ends()) == ("originator_cancel", ["canceled"])


async def test_a_placed_call_is_handed_over_warm_and_the_two_go_on_without_us() -> None:
    async with town() as here:
        here.carrier.people[THEIRS] = Person()
        here.carrier.people[BOSS] = Person()
        call_id = await here.routes.dial(an_order())
        session = await here.session(call_id)
        await session.transfer(BOSS, summary="Ada asks about her bill.")
        await here.until(here.ends)
        leg = here.carrier.legs[call_id]
        colleague = leg.joined_with
        assert colleague is not None
        assert (colleague.caller, colleague.announced) == (OURS, ["Ada asks about her bill."])
        assert here.ends() == ["transferred"]
        colleague.hang_up()
        with anyio.fail_after(10):
            await leg.over.wait()
        assert "hangup" not in here.asked


async def test_a_caller_who_leaves_during_a_consultation_leaves_nobody_waiting() -> None:
    async with town() as here:
        here.carrier.people[BOSS] = Person()
        leg = here.carrier.place_call(THEIRS, OURS)
        session = await here.session(leg.call_id)
        async with anyio.create_task_group() as tasks:

            async def transfer() -> None:
                with pytest.raises(PatterError, match="hung up"):
                    await session.transport.transfer(BOSS, "Ada has a long story to tell, and it is about a bill.")

            tasks.start_soon(transfer)
            await here.until(lambda: [other for other in here.carrier.legs.values() if other.announced])
            leg.hang_up()
        [colleague] = [other for other in here.carrier.legs.values() if other is not leg]
        with anyio.fail_after(10):
            await colleague.over.wait()


async def test_the_carrier_keeps_a_recording_of_both_sides() -> None:
    async with town(record=True) as here:
        leg = here.carrier.place_call(THEIRS, OURS, Person(mouth=TALK))
        session = await here.session(leg.call_id)
        await here.until(lambda: len(session.heard) > 10)
        leg.hang_up()
        saved = await here.until(lambda: [event for event in here.events if isinstance(event, CarrierRecordingSaved)])
        assert [(event.call_id, event.url) for event in saved] == [(leg.call_id, leg.recordings[0])]
        assert saved[0].duration_s > 0.1
