"""Whole calls between Twilio's routes and a Twilio on this machine, in real time and on bad days."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import anyio
import pytest
from aiohttp import web

from patter.audio.format import MULAW_8K, AudioChunk
from patter.events import CallEnded, CallStarted, CarrierRecordingSaved
from patter.exceptions import CarrierError, PatterError
from patter.loopback.misbehaviour import GOOD_DAY, Misbehaviour
from patter.loopback.person import Person
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from patter.providers.twilio_rest import TwilioRest
from patter.server.answers import sentences
from patter.server.desk import Desk, Route
from patter.server.listener import guarded
from patter.server.twilio_gate import VOICE, Account
from patter.server.twilio_routes import BACK, TwilioRoutes
from patter.signals import MachineDetected
from tests.support.fake_calls import FakeSession
from tests.support.twilio_house import OURS, THEIRS, Witness, agent_file, an_order

pytestmark = pytest.mark.anyio

COLLEAGUE = "+14155550177"
HOST = "voice.example.test"
HELLO = b"\x22" * 1600  # 200 ms of something that is not silence


class Town(Witness):
    """A carrier, the routes that it calls, and fake calls behind them."""

    def __init__(self, day: Misbehaviour) -> None:
        super().__init__()
        self.desk = Desk(self.bus, self.calls.open_call)
        self.carrier = LoopbackTwilioCarrier(clock=self.clock, misbehaviour=day)
        self.routes: TwilioRoutes

    async def answered(self, call_id: str) -> FakeSession:
        """The session of a call that is up."""
        await self.seen(CallStarted, call_id=call_id)
        return self.calls.sessions[call_id]


@asynccontextmanager
async def town(day: Misbehaviour = GOOD_DAY, *, record: bool = False, clean: bool = True) -> AsyncIterator[Town]:
    """A town whose carrier found nothing to complain about (`clean`) when it is left."""
    built = Town(day)
    async with aiohttp.ClientSession() as http, built.carrier as carrier, built.desk:
        built.desk.lead(OURS, Route(Path("front-desk"), "phone"))
        account = Account(carrier.account_sid, carrier.auth_token)
        rest = TwilioRest(http, account.sid, account.auth_token, carrier.api_base)
        built.routes = TwilioRoutes(
            built.desk, built, built.clock, [account], f"https://{HOST}", bus=built.bus, rest=rest, record=record
        )
        app = web.Application(middlewares=[sentences])
        app.add_routes(built.routes.routes())
        runner = guarded(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        carrier.reach[HOST] = f"127.0.0.1:{runner.addresses[0][1]}"
        carrier.add_number(OURS, f"https://{HOST}{VOICE}")
        try:
            yield built
        finally:
            await runner.cleanup()
    if clean:
        assert built.carrier.violations == []


def speak(session: FakeSession) -> None:
    """The agent says something."""
    session.transport.play(AudioChunk(HELLO, MULAW_8K), 1, 0.0)
    session.transport.finish(1)


async def test_a_call_comes_in_and_both_hear_each_other() -> None:
    async with town() as built:
        leg = built.carrier.place_call(THEIRS, OURS, Person(mouth=lambda line: lambda: b"\x33" * line.bytes_for(20)))
        session = await built.answered(leg.call_id)
        assert (session.call.caller, session.call.callee, session.call.direction) == (THEIRS, OURS, "inbound")
        speak(session)
        await built.until(lambda: HELLO in bytes(leg.heard))
        await built.until(lambda: any(b"\x33" in frame for frame in session.heard))
        leg.press("4")
        await built.until(lambda: session.digits == ["4"])
        await session.transport.send_digits("7#")
        await built.until(lambda: leg.digits_heard == "7#")
        leg.hang_up()
        await leg.over.wait()
        await built.seen(CallEnded, call_id=leg.call_id)
        assert built.story == ["started", "caller_hung_up"]


async def test_the_agent_hangs_up() -> None:
    async with town() as built:
        leg = built.carrier.place_call(THEIRS, OURS)
        session = await built.answered(leg.call_id)
        await session.hang_up("agent_ended")
        with anyio.fail_after(20):
            await leg.over.wait()
        assert (leg.status, built.story) == ("completed", ["started", "agent_ended"])


async def test_somebody_takes_the_call_that_we_place() -> None:
    async with town() as built:
        built.carrier.people[THEIRS] = Person()
        call_id = await built.routes.dial(an_order(detect_machine=True))
        session = await built.answered(call_id)
        assert (session.call.direction, session.call.callee) == ("outbound", THEIRS)
        speak(session)
        leg = built.carrier.legs[call_id]
        await built.until(lambda: HELLO in bytes(leg.heard))
        await built.until(lambda: session.verdicts)
        assert session.verdicts == [MachineDetected("human")]
        leg.hang_up()
        await built.seen(CallEnded)
        await leg.over.wait()
        assert (built.story, built.routes.ringing) == (["placed", "started", "caller_hung_up"], 0)


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        (Person("busy"), "busy"),
        (Person("reject"), "busy"),
        (Person("no_answer"), "no_answer"),
        (Person(rings_s=30.0), "no_answer"),
        (None, "failed"),
    ],
    ids=["busy", "rejected", "nobody there", "too slow", "no such number"],
)
async def test_nobody_takes_the_call_that_we_place(person: Person | None, reason: str) -> None:
    async with town() as built:
        if person is not None:
            built.carrier.people[THEIRS] = person
        call_id = await built.routes.dial(an_order(ring_timeout_s=1.0))
        await built.seen(CallEnded, call_id=call_id)
        assert built.story == ["placed", reason]


async def test_a_call_is_given_up_while_it_rings() -> None:
    async with town() as built:
        built.carrier.people[THEIRS] = Person(rings_s=20.0)
        call_id = await built.routes.dial(an_order())
        await built.until(lambda: built.carrier.legs[call_id].status == "ringing")
        await built.routes.cancel(call_id)
        with anyio.fail_after(20):
            await built.carrier.legs[call_id].over.wait()
        assert built.story == ["placed", "canceled"]


async def test_a_machine_is_told_when_it_listens() -> None:
    async with town() as built:
        built.carrier.people[THEIRS] = Person("machine", greeting=b"\x00\x40" * 8 * 300)
        call_id = await built.routes.dial(an_order(voicemail="Please call back."))
        session = await built.answered(call_id)
        assert built.calls.voicemails == ["Please call back."]
        await built.until(lambda: session.verdicts)
        assert session.verdicts == [MachineDetected("machine", ready=True)]
        speak(session)
        await built.until(lambda: HELLO in bytes(built.carrier.legs[call_id].heard))
        await session.hang_up("voicemail_left")
        await built.seen(CallEnded)
        await built.carrier.legs[call_id].over.wait()


async def test_a_socket_that_dies_loses_the_line() -> None:
    async with town(Misbehaviour(drop_socket_after_s=0.2), clean=False) as built:
        leg = built.carrier.place_call(THEIRS, OURS)
        await built.seen(CallEnded, call_id=leg.call_id, reason="line_lost")


async def test_webhooks_that_come_twice_make_one_call() -> None:
    async with town(Misbehaviour(duplicate_webhooks=True)) as built:
        leg = built.carrier.place_call(THEIRS, OURS)
        await built.answered(leg.call_id)
        leg.hang_up()
        await leg.over.wait()
        await built.seen(CallEnded)
        built.carrier.people[THEIRS] = Person()
        call_id = await built.routes.dial(an_order(detect_machine=True))
        session = await built.answered(call_id)
        await built.until(lambda: session.verdicts)
        built.carrier.legs[call_id].hang_up()
        await built.carrier.legs[call_id].over.wait()
        await built.seen(CallEnded, call_id=call_id)
        assert built.story == ["started", "caller_hung_up", "placed", "started", "caller_hung_up"]


async def test_a_codec_nobody_asked_for_is_no_call() -> None:
    async with town(Misbehaviour(wrong_codec=True), clean=False) as built:
        leg = built.carrier.place_call(THEIRS, OURS)
        with anyio.fail_after(20):
            await leg.over.wait()
        assert (built.story, built.calls.sessions) == (["started", "failed"], {})


# --------------------------------------------------------------------------- handing over


async def test_a_cold_transfer_joins_the_caller_and_the_number() -> None:
    async with town() as built:
        built.carrier.people[COLLEAGUE] = Person()
        leg = built.carrier.place_call(THEIRS, OURS)
        session = await built.answered(leg.call_id)
        await session.transfer(COLLEAGUE)
        await built.seen(CallEnded, reason="transferred")
        await built.until(lambda: leg.joined_with is not None)
        assert leg.transferred_to == COLLEAGUE
        leg.hang_up()
        await leg.over.wait()


@pytest.mark.parametrize(
    ("person", "why"),
    [(Person("busy"), "busy"), (None, "cannot be reached")],
    ids=["busy", "no such number"],
)
async def test_a_cold_transfer_that_nobody_takes_brings_the_caller_back_to_the_agent(
    person: Person | None, why: str
) -> None:
    async with town() as built:
        if person is not None:
            built.carrier.people[COLLEAGUE] = person
        leg = built.carrier.place_call(THEIRS, OURS, Person(mouth=lambda line: lambda: b"\x33" * line.bytes_for(20)))
        session = await built.answered(leg.call_id)
        for _ in range(2):  # as often as it is tried
            with anyio.fail_after(20), pytest.raises(PatterError, match=why):
                await session.transport.transfer(COLLEAGUE)
        assert leg.announced == [BACK, BACK]
        session.heard.clear()
        speak(session)
        await built.until(lambda: HELLO in bytes(leg.heard))
        await built.until(lambda: any(b"\x33" in frame for frame in session.heard))
        leg.hang_up()
        await built.seen(CallEnded, reason="caller_hung_up")
        assert built.story == ["started", "caller_hung_up"]


async def test_a_caller_who_hangs_up_while_a_colleague_is_rung_ends_the_call() -> None:
    async with town() as built:
        built.carrier.people[COLLEAGUE] = Person("no_answer")
        leg = built.carrier.place_call(THEIRS, OURS, Person(stays_s=0.5))
        session = await built.answered(leg.call_id)
        with anyio.fail_after(20), pytest.raises(PatterError, match="hung up"):
            await session.transport.transfer(COLLEAGUE)
        await built.seen(CallEnded, reason="caller_hung_up")


async def test_a_warm_transfer_tells_the_colleague_first() -> None:
    async with town() as built:
        built.carrier.people[COLLEAGUE] = Person()
        leg = built.carrier.place_call(THEIRS, OURS)
        session = await built.answered(leg.call_id)
        with anyio.fail_after(20):
            await session.transfer(COLLEAGUE, summary="Her invoice & <more>.")
        await built.seen(CallEnded, reason="transferred")
        await built.until(lambda: leg.joined_with is not None)
        other = leg.joined_with
        assert other is not None
        assert (other.to, other.caller, other.announced) == (COLLEAGUE, OURS, ["Her invoice & <more>."])
        leg.hang_up()
        with anyio.fail_after(20):
            await leg.over.wait()
            await other.over.wait()  # nobody is left alone in the room


@pytest.mark.parametrize(
    ("person", "why"),
    [(Person("busy"), "busy"), (Person(stays_s=0.3), "hung up"), (None, "cannot be reached")],
    ids=["busy", "leaves during the summary", "no such number"],
)
async def test_a_warm_transfer_that_nobody_takes_leaves_the_caller_with_the_agent(
    person: Person | None, why: str
) -> None:
    async with town() as built:
        if person is not None:
            built.carrier.people[COLLEAGUE] = person
        leg = built.carrier.place_call(THEIRS, OURS)
        session = await built.answered(leg.call_id)
        with anyio.fail_after(20), pytest.raises(PatterError, match=why):
            await session.transport.transfer(COLLEAGUE, "It is about the long story of her invoice. " * 20)
        speak(session)
        await built.until(lambda: HELLO in bytes(leg.heard))
        leg.hang_up()
        await built.seen(CallEnded, reason="caller_hung_up")


async def test_a_caller_who_hangs_up_during_the_consultation_frees_the_colleague() -> None:
    async with town() as built, anyio.create_task_group() as tasks:
        built.carrier.people[COLLEAGUE] = Person()
        leg = built.carrier.place_call(THEIRS, OURS)
        session = await built.answered(leg.call_id)

        tasks.start_soon(session.transport.transfer, COLLEAGUE, "It is about the long story of her invoice. " * 4)
        await built.until(lambda: len(built.carrier.legs) == 2)
        [other] = [each for each in built.carrier.legs.values() if each is not leg]
        await built.until(other.answered.is_set)
        leg.hang_up()
        await built.seen(CallEnded, reason="caller_hung_up")
        tasks.cancel_scope.cancel()  # what a session does with its jobs when it is over
        with anyio.fail_after(5, shield=True):
            await other.over.wait()


async def test_the_carrier_says_what_the_agent_cannot() -> None:
    async with town() as built:
        leg = built.carrier.place_call(THEIRS, OURS)
        session = await built.answered(leg.call_id)
        await session.transport.announce("Please call back.")
        with anyio.fail_after(20):
            await leg.over.wait()
        assert leg.announced == ["Please call back."]


# --------------------------------------------------------------------------- recording and refusals


async def test_the_carrier_records_and_tells_where() -> None:
    async with town(record=True) as built:
        leg = built.carrier.place_call(THEIRS, OURS)
        await built.answered(leg.call_id)
        await built.until(lambda: built.carrier.requests)
        leg.hang_up()
        saved = await built.seen(CarrierRecordingSaved, call_id=leg.call_id)
        assert isinstance(saved, CarrierRecordingSaved)
        assert [saved.url] == leg.recordings
        assert saved.recording_id.startswith("RE")


async def test_a_refusal_says_what_to_do_and_a_busy_carrier_is_asked_again() -> None:
    async with town(clean=False) as built:
        built.carrier.people[THEIRS] = Person("busy")
        built.carrier.refuse_next(400, 21211, "Invalid 'To' Phone Number: +14155550123")
        with pytest.raises(CarrierError, match=r"E\.164") as refused:
            await built.routes.dial(an_order())
        assert built.carrier.auth_token not in str(refused.value)
        built.carrier.refuse_next(429, 20429, "Too Many Requests", retry_after=0.0, times=2)
        call_id = await built.routes.dial(an_order())
        await built.seen(CallEnded, call_id=call_id, reason="busy")
        assert built.story == ["placed", "busy"]


async def test_twenty_calls_at_once_keep_their_own_agents() -> None:
    async with town() as built:
        numbers = [f"+1415555{number:04}" for number in range(20)]
        for number in numbers:
            built.carrier.people[number] = Person()
        async with anyio.create_task_group() as tasks:
            for number in numbers:
                tasks.start_soon(built.routes.dial, an_order(to=number, file=agent_file(number)))
        await built.until(lambda: len(built.calls.sessions) == 20)
        for session in built.calls.sessions.values():
            assert session.name == session.call.callee
        for leg in list(built.carrier.legs.values()):
            leg.hang_up()
        with anyio.fail_after(20):
            for leg in list(built.carrier.legs.values()):
                await leg.over.wait()
        await built.until(lambda: built.story.count("caller_hung_up") == 20)
