"""What Twilio's API does to a call that is up: transfers cold and warm, announcements, the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from aiohttp import web

from patter.exceptions import CarrierError, PatterError
from patter.server import twilio_control
from patter.server.twilio_cold import ColdTransfers
from patter.server.twilio_control import Consultations, TwilioControl
from patter.server.twilio_gate import CONSULT, Gate
from patter.transports import returning
from patter.wire import twiml
from patter.wire.twilio import CarrierWriter
from patter.wire.twiml import Verb
from tests.support.fake_calls import FakeSession
from tests.support.rest_desk import said
from tests.support.twilio_house import ACCOUNT, OURS, PUBLIC, House, an_order, house, query_of, sid

pytestmark = pytest.mark.anyio

CALL = sid(0xCA11)
COLLEAGUE = "+14155550177"
SUMMARY = "A <caller> & her invoice."


@asynccontextmanager
async def in_call() -> AsyncIterator[tuple[House, FakeSession]]:
    """A call that has come in and is up."""
    async with house() as built, built.talking(await built.incoming(CALL), CALL) as (_, _, session):
        yield built, session


def updates(built: House, call_sid: str = CALL) -> list[tuple[Verb, ...] | str]:
    """What the API was told to do with a call: the verbs of its TwiML, or its status."""
    orders = built.orders(f"/Calls/{call_sid}.json")
    return [twiml.read(order["Twiml"]).steps if "Twiml" in order else order["Status"] for order in orders]


class Transfer:
    """A warm transfer on its way, as somebody waits for it."""

    def __init__(self, built: House, session: FakeSession) -> None:
        self.built, self.session = built, session
        self.problem: Exception | None = None
        self.done = anyio.Event()

    async def run(self, summary: str = SUMMARY) -> None:
        try:
            await self.session.transport.transfer(COLLEAGUE, summary)
        except PatterError as problem:
            self.problem = problem
        self.done.set()

    async def rings(self) -> dict[str, str]:
        """The request for the leg to the colleague."""
        await self.built.until(lambda: self.built.orders("/Calls.json"))
        return self.built.orders("/Calls.json")[-1]

    async def decided(self) -> Exception | None:
        with anyio.fail_after(10):
            await self.done.wait()
        return self.problem


@asynccontextmanager
async def transferring() -> AsyncIterator[tuple[House, Transfer, dict[str, str]]]:
    """A warm transfer whose colleague's telephone rings."""
    async with in_call() as (built, session), anyio.create_task_group() as tasks:
        transfer = Transfer(built, session)
        tasks.start_soon(transfer.run)
        yield built, transfer, await transfer.rings()


# --------------------------------------------------------------------------- cold


@asynccontextmanager
async def dialling() -> AsyncIterator[tuple[House, Transfer, str, str]]:
    """A cold transfer whose colleague's telephone rings, and the carrier's addresses for its end and its other leg."""
    async with in_call() as (built, session), anyio.create_task_group() as tasks:
        transfer = Transfer(built, session)
        tasks.start_soon(transfer.run, "")
        await built.until(lambda: updates(built))
        [[dial]] = updates(built)
        assert isinstance(dial, Verb)
        yield built, transfer, dial.attributes["action"], dial.inside[0].attributes["statusCallback"]


async def other_leg(built: House, url: str, status: str, parent: str = CALL) -> None:
    """The carrier tells of the leg to the colleague."""
    await built.told(url, sid(7), CallStatus=status, ParentCallSid=parent)


async def test_a_cold_transfer_dials_the_number_and_is_done_when_it_is_taken() -> None:
    async with dialling() as (built, transfer, action, told):
        [[dial]] = updates(built)
        assert isinstance(dial, Verb)
        assert (dial.name, dial.attributes["timeout"], dial.attributes["method"]) == ("Dial", "30", "POST")
        assert (dial.inside[0].name, dial.inside[0].text) == ("Number", COLLEAGUE)
        assert dial.inside[0].attributes["statusCallbackEvent"] == "answered completed"
        await other_leg(built, told, "in-progress", parent=sid(9))  # somebody else's
        assert not transfer.done.is_set()
        await other_leg(built, told, "in-progress")
        assert await transfer.decided() is None
        assert (await built.asked(action, CALL, DialCallStatus="completed")).verbs == ("Hangup",)


@pytest.mark.parametrize(
    ("status", "why"), [("busy", "busy"), ("no-answer", "nobody answered"), ("failed", "cannot be reached")]
)
async def test_a_cold_transfer_that_nobody_takes_brings_the_caller_back(status: str, why: str) -> None:
    async with dialling() as (built, transfer, action, told):
        await other_leg(built, told, status)
        assert not transfer.done.is_set()  # the caller is not back yet
        heard = await built.asked(action, CALL, DialCallStatus=status)
        assert heard.verbs == ("Say", "Connect")
        assert "connecting you back" in heard.steps[0].text
        assert heard.stream is not None
        async with built.socket(heard.stream.url) as socket:
            writer = CarrierWriter("MZ" + "9" * 32, ACCOUNT.sid, CALL)
            await socket.send_str(writer.connected())
            await socket.send_str(writer.start())
            assert why in str(await transfer.decided())
            await socket.send_str(writer.media(b"\x22" * 160, 0))
            await built.until(lambda: b"\x22" * 160 in transfer.session.heard)
            await transfer.session.say("Here I am again.")
            while "media" not in await socket.receive_str():
                pass
            assert built.story == ["started"]  # one call, all the time
            await socket.send_str(writer.stop())
            await built.until(lambda: built.story == ["started", "caller_hung_up"])


async def test_each_word_on_a_transfer_is_good_once_and_for_its_own_call() -> None:
    async with dialling() as (built, transfer, action, _):
        for _ in range(2):
            strange = await built.asked(action.replace("transfer=", "transfer=x"), CALL, DialCallStatus="busy")
            assert strange.verbs == ("Say", "Hangup")
            assert (await built.asked(action, sid(9), DialCallStatus="busy")).verbs == ("Say", "Hangup")
        assert not transfer.done.is_set()
        assert (await built.asked(action, CALL, DialCallStatus="busy")).verbs == ("Say", "Connect")
        assert (await built.asked(action, CALL, DialCallStatus="busy")).verbs == ("Say", "Hangup")
        assert (await built.asked(action, CALL, DialCallStatus="completed")).verbs == ("Hangup",)


async def test_a_caller_who_does_not_come_back_has_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returning, "BACK_S", 0.0)
    async with in_call() as (built, session), anyio.create_task_group() as tasks:
        transfer = Transfer(built, session)
        tasks.start_soon(transfer.run, "")
        await built.until(lambda: updates(built))
        [[dial]] = updates(built)
        assert isinstance(dial, Verb)
        await built.asked(dial.attributes["action"], CALL, DialCallStatus="busy")
        assert "busy" in str(await transfer.decided())


async def test_a_caller_who_hangs_up_while_it_rings_ends_the_transfer() -> None:
    async with dialling() as (built, transfer, _, told):
        await other_leg(built, told, "canceled")
        assert "hung up" in str(await transfer.decided())


async def test_a_carrier_that_says_nothing_more_has_taken_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twilio_control, "RING_S", 0.0)
    monkeypatch.setattr(twilio_control, "WORD_S", 0.0)
    async with dialling() as (_, transfer, _, _):
        assert await transfer.decided() is None


async def test_a_call_that_ends_while_it_rings_somewhere_else_leaves_nobody_behind() -> None:
    async with in_call() as (built, session):
        with anyio.move_on_after(20) as waiting:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.transport.transfer, COLLEAGUE)
                await built.until(lambda: updates(built))
                tasks.cancel_scope.cancel()
        assert not waiting.cancelled_caught
        assert updates(built)[1:] == ["completed"]


@pytest.mark.parametrize("number", ["", "911", "+1415<Hangup/>", "+14155550123\n", "sip:a@b", "+1" * 200])
async def test_a_call_is_transferred_to_numbers_only(number: str) -> None:
    async with in_call() as (built, session):
        for summary in ("", SUMMARY):
            with pytest.raises(PatterError, match=r"E\.164"):
                await session.transport.transfer(number, summary)
        assert built.api.asked == []


async def test_a_transfer_that_the_carrier_refuses_says_why() -> None:
    async with in_call() as (built, session):

        async def refused(_: dict[str, str]) -> web.Response:
            return said(400, code=21220, message="Call is not in-progress", status=400)

        built.on_update = refused
        with pytest.raises(CarrierError, match="21220"):
            await session.transport.transfer(COLLEAGUE)


# --------------------------------------------------------------------------- warm


async def test_a_warm_transfer_tells_the_colleague_and_then_joins_the_two() -> None:
    async with transferring() as (built, transfer, request):
        assert (request["To"], request["From"]) == (COLLEAGUE, OURS)
        assert request["Url"].startswith(f"{PUBLIC}{CONSULT}?leg=")
        heard = await built.asked(request["Url"], sid(1))
        [say, redirect] = heard.steps
        assert (say.name, say.text) == ("Say", SUMMARY)
        assert (redirect.name, query_of(redirect.text)["step"]) == ("Redirect", "join")
        assert updates(built) == []  # the caller still talks to the agent
        joined = await built.asked(redirect.text, sid(1))
        assert await transfer.decided() is None
        [dial] = joined.steps
        [room] = dial.inside
        assert (dial.name, room.name) == ("Dial", "Conference")
        assert updates(built) == [joined.steps]  # the caller goes into the same room
        assert updates(built, sid(1)) == []
        await built.told(request["StatusCallback"], sid(1), CallStatus="completed")
        assert built.desk.find(CALL) is not None


async def test_our_own_number_calls_the_colleague_of_an_outbound_call() -> None:
    async with house() as built:
        await built.routes.dial(an_order(caller="+15559990000"))
        request = built.orders("/Calls.json")[0]
        async with (
            built.talking(await built.asked(request["Url"], sid(1)), sid(1)) as (_, _, session),
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(Transfer(built, session).run)
            await built.until(lambda: len(built.orders("/Calls.json")) == 2)
            assert built.orders("/Calls.json")[1]["From"] == "+15559990000"
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ("busy", "busy"),
        ("no-answer", "nobody answered"),
        ("failed", "cannot be reached"),
        ("canceled", "given up"),
        ("completed", "hung up before"),
    ],
)
async def test_a_colleague_who_does_not_come_leaves_the_caller_with_the_agent(status: str, why: str) -> None:
    async with transferring() as (built, transfer, request):
        await built.told(request["StatusCallback"], sid(1), CallStatus="ringing")
        await built.told(request["StatusCallback"], sid(1), CallStatus=status)
        problem = await transfer.decided()
        assert why in str(problem)
        assert (updates(built), updates(built, sid(1))) == ([], [])
        assert (await built.asked(request["Url"], sid(1))).verbs == ("Hangup",)


async def test_a_colleague_who_hangs_up_during_the_summary_has_not_taken_the_call() -> None:
    async with transferring() as (built, transfer, request):
        heard = await built.asked(request["Url"], sid(1))
        await built.told(request["StatusCallback"], sid(1), CallStatus="completed")
        assert "hung up" in str(await transfer.decided())
        assert (await built.asked(heard.steps[1].text, sid(1))).verbs == ("Hangup",)
        assert updates(built) == []


async def test_a_colleague_nobody_hears_of_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twilio_control, "CONSULT_S", 0.0)
    async with transferring() as (built, transfer, _):
        assert "too long" in str(await transfer.decided())
        assert updates(built, sid(1)) == ["completed"]


async def test_a_caller_who_hangs_up_gives_the_colleague_up() -> None:
    async with house() as built:
        async with built.talking(await built.incoming(CALL), CALL) as (_, writer, session):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    transfer = Transfer(built, session)
                    tasks.start_soon(transfer.run)
                    request = await transfer.rings()
                    await built.asked(request["Url"], sid(1))
                    scope.cancel()
            assert writer
        await built.until(lambda: updates(built, sid(1)))
        assert (updates(built, sid(1)), updates(built)) == (["completed"], [])


async def test_a_transfer_given_up_while_it_is_ordered_leaves_no_telephone_ringing() -> None:
    async with in_call() as (built, session), anyio.create_task_group() as tasks:
        go_on = anyio.Event()

        async def slowly(_: dict[str, str]) -> None:
            await go_on.wait()

        built.on_create = slowly
        transfer = Transfer(built, session)
        tasks.start_soon(transfer.run)
        await transfer.rings()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            go_on.set()
            await built.until(lambda: updates(built, sid(1)))
        assert updates(built, sid(1)) == ["completed"]


async def test_a_carrier_that_does_not_place_the_call_in_time_keeps_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twilio_control, "ORDER_S", 0.05)
    async with in_call() as (built, session):

        async def never(_: dict[str, str]) -> None:
            await anyio.sleep_forever()

        built.on_create = never
        with pytest.raises(PatterError, match="in time"):
            await session.transport.transfer(COLLEAGUE, SUMMARY)


async def test_a_caller_who_cannot_be_joined_frees_the_colleague() -> None:
    async with transferring() as (built, transfer, request):

        async def gone(form: dict[str, str]) -> web.Response | None:
            if "Twiml" not in form:
                return None
            return said(404, code=20404, message="The requested resource was not found", status=404)

        built.on_update = gone
        heard = await built.asked(request["Url"], sid(1))
        await built.asked(heard.steps[1].text, sid(1))
        assert isinstance(await transfer.decided(), CarrierError)
        assert updates(built, sid(1)) == ["completed"]


async def test_a_caller_is_not_left_alone_in_the_room() -> None:
    async with transferring() as (built, transfer, request):

        async def meanwhile(form: dict[str, str]) -> None:
            if "Conference" in form.get("Twiml", ""):
                await built.told(request["StatusCallback"], sid(1), CallStatus="completed")

        built.on_update = meanwhile
        heard = await built.asked(request["Url"], sid(1))
        await built.asked(heard.steps[1].text, sid(1))
        assert await transfer.decided() is None
        assert [steps[0].name for steps in updates(built) if not isinstance(steps, str)] == ["Dial", "Say"]


async def test_a_colleague_who_was_called_twice_is_asked_once() -> None:
    async with in_call() as (built, session), anyio.create_task_group() as tasks:

        async def lost(_: dict[str, str]) -> web.Response | None:
            return said(503) if built.made == 1 else None

        built.on_create = lost
        transfer = Transfer(built, session)
        tasks.start_soon(transfer.run)
        await built.until(lambda: built.made == 2)
        request = await transfer.rings()
        heard = await built.asked(request["Url"], sid(2))
        assert (await built.asked(request["Url"], sid(1))).verbs == ("Hangup",)
        await built.told(request["StatusCallback"], sid(1), CallStatus="completed")
        await built.asked(heard.steps[1].text, sid(2))
        assert await transfer.decided() is None


async def test_a_consultation_of_nobody_is_hung_up() -> None:
    async with house() as built:
        for query in ("", "?leg=", "?leg=x", "?leg=x&step=join", "?leg=../..&step=%3CSay%3E"):
            assert (await built.asked(PUBLIC + CONSULT + query, sid(1))).verbs == ("Hangup",)


@pytest.mark.parametrize("summary", ["x" * 100_000, "\x00\x08<Say>\ud800" * 9, "&" * 5_000])
async def test_a_summary_may_be_anything(summary: str) -> None:
    async with in_call() as (built, session), anyio.create_task_group() as tasks:
        transfer = Transfer(built, session)
        tasks.start_soon(transfer.run, summary)
        request = await transfer.rings()
        heard = await built.asked(request["Url"], sid(1))
        assert heard.verbs == ("Say", "Redirect")
        assert heard.steps[0].inside == ()
        await built.told(request["StatusCallback"], sid(1), CallStatus="completed")
        await transfer.decided()


# --------------------------------------------------------------------------- the rest


async def test_the_carriers_voice_says_it_word_for_word_and_hangs_up() -> None:
    async with in_call() as (built, session):
        await session.transport.announce(SUMMARY)
        assert updates(built) == [(Verb("Say", text=SUMMARY), Verb("Hangup"))]
        with pytest.raises(PatterError, match="shorten"):
            await session.transport.announce("x" * 4_000)


async def test_keys_are_no_request_of_the_carrier() -> None:
    async with in_call() as (built, session):
        await session.transport.send_digits("12#")
        assert built.api.asked == []


@pytest.mark.parametrize(("status", "code"), [(404, 20404), (400, 21220)])
async def test_hanging_up_what_is_over_is_no_error(status: int, code: int) -> None:
    async with house() as built:

        async def gone(_: dict[str, str]) -> web.Response:
            return said(status, code=code, message="over", status=status)

        built.on_update = gone
        gate = Gate([ACCOUNT], PUBLIC)
        await TwilioControl(built.rest, CALL, OURS, gate, Consultations(gate), ColdTransfers()).hang_up()
        assert updates(built) == ["completed"]
