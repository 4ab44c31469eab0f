"""Calls placed through Telnyx: whoever is first, webhook or answer, one CallPlaced and one ending; who answered; giving up."""

from __future__ import annotations

import itertools
import random
from typing import Any

import anyio
import pytest
from aiohttp import web

from patter.events import CallEnded, CallPlaced, CallStarted
from patter.exceptions import CarrierError, PatterConnectionError
from patter.server import telnyx_calls
from tests.support.telnyx_house import CONNECTION, OURS, PUBLIC, THEIRS, House, an_order, handle, house, leg, trouble

pytestmark = pytest.mark.anyio

CALL = leg(1)
DETECTED = "call.machine.premium.detection.ended"
GREETED = "call.machine.premium.greeting.ended"


async def test_a_placed_call_is_asked_for_as_the_order_says() -> None:
    async with house() as here:
        order = an_order(voicemail="Please call back.", ring_timeout_s=12.0, custom_params={"plan": "blue", "lead": 7})
        assert await here.routes.dial(order) == CALL
        assert here.routes.ringing == 1
        asked = here.commands("calls")[0]
        assert (asked["to"], asked["from"], asked["connection_id"]) == (THEIRS, OURS, CONNECTION)
        assert (asked["timeout_secs"], asked["answering_machine_detection"]) == (12, "premium")
        assert asked["webhook_url"] == PUBLIC + "/webhooks/telnyx/voice"
        await here.told("call.initiated", CALL, direction="outgoing", state="bridging")
        await here.told("call.answered", CALL)
        async with here.talking(await here.stream(), CALL) as (_, _, session):
            assert here.routes.ringing == 0
            assert (session.call.direction, session.name) == ("outbound", "caller")
            assert (session.call.caller, session.call.callee) == (OURS, THEIRS)
            assert session.call.custom_params == {"plan": "gold", "lead": 7}
            assert here.calls.voicemails == ["Please call back."]
            await here.told("call.hangup", CALL, hangup_cause="normal_clearing")
            await here.seen(CallEnded)
        assert here.did == ["calls", "streaming_start 1"]
        assert here.story == ["placed", "started", "caller_hung_up"]


@pytest.mark.parametrize(
    ("cause", "sip", "reason"),
    [
        ("user_busy", "486", "busy"),
        ("no_answer", "480", "no_answer"),
        ("timeout", "487", "no_answer"),
        ("originator_cancel", "487", "canceled"),
        ("call_rejected", "603", "busy"),
        ("call_rejected", "403", "failed"),
        ("not_found", "404", "failed"),
        ("unspecified", "503", "failed"),
        ("a_cause_of_next_year", "", "failed"),
    ],
)
async def test_a_call_that_nobody_takes_ends_with_its_reason(cause: str, sip: str, reason: str) -> None:
    async with house() as here:
        await here.routes.dial(an_order())
        for _ in range(2):
            await here.told("call.hangup", CALL, hangup_cause=cause, sip_hangup_cause=sip)
        await here.told("call.answered", CALL)
        ended = await here.seen(CallEnded)
        assert (ended.reason, ended.duration_s) == (reason, 0.0)
        assert ended.detail
        assert here.story == ["placed", reason]
        assert (here.did, here.routes.ringing) == (["calls"], 0)


async def test_webhooks_that_overtake_the_answer_to_our_request_are_of_the_same_call() -> None:
    async with house() as here:

        async def webhooks_first(_: dict[str, Any]) -> None:
            await here.told("call.answered", CALL)
            await here.told("call.initiated", CALL, direction="outgoing")

        here.on["dial"] = webhooks_first
        assert await here.routes.dial(an_order()) == CALL
        async with here.talking(await here.stream(), CALL) as (socket, writer, _):
            await socket.send_str(writer.stop())
            await here.seen(CallEnded)
        assert here.story == ["placed", "started", "caller_hung_up"]

    async with house() as here:

        async def busy_first(_: dict[str, Any]) -> None:
            await here.told("call.hangup", CALL, hangup_cause="user_busy")

        here.on["dial"] = busy_first
        assert await here.routes.dial(an_order()) == CALL
        assert here.story == ["placed", "busy"]


async def test_every_order_of_webhooks_tells_one_story() -> None:
    """All orders of a call that is answered and hung up before its stream opens, each webhook delivered twice."""
    rng = random.Random(7)
    kinds = ["call.initiated", "call.answered", "call.hangup"]
    async with house() as here:
        for number, order in enumerate(itertools.permutations(kinds), 1):
            call_id = await here.routes.dial(an_order())
            assert call_id == leg(number)
            events = [here.event(kind, call_id, direction="outgoing", hangup_cause="normal_clearing") for kind in order]
            late = [*events, *rng.sample(events, 3)]
            for body in late:
                assert await here.post(body) == 200
            ends = [event for event in here.events if isinstance(event, CallEnded) and event.call_id == call_id]
            assert len(ends) == 1
            assert ends[0].reason == (
                "caller_hung_up" if order.index("call.answered") < order.index("call.hangup") else "failed"
            )
        assert here.routes.ringing == 0
        assert len(here.commands("streaming_start")) <= 3


# ------------------------------------------------------------------------------- the carrier's answer


@pytest.mark.parametrize(
    ("status", "code", "said"), [(401, "10009", "TELNYX_API_KEY"), (422, "10016", "E.164"), (403, "20012", "funds")]
)
async def test_a_refused_order_says_what_to_do_and_leaves_no_call(status: int, code: str, said: str) -> None:
    async def refuse(_: dict[str, Any]) -> web.Response:
        return trouble(status, code)

    async with house() as here:
        here.on["dial"] = refuse
        with pytest.raises(CarrierError, match=said) as refused:
            await here.routes.dial(an_order())
        assert "KEY-of-this-test" not in str(refused.value)
        assert (here.story, here.routes.ringing) == ([], 0)


async def test_a_number_that_is_none_is_never_dialled() -> None:
    async with house() as here:
        with pytest.raises(ValueError, match=r"E\.164"):
            await here.routes.dial(an_order(to="0800 123"))
        assert (here.did, here.story, here.routes.ringing) == ([], [], 0)


async def test_a_full_desk_places_no_calls() -> None:
    async with house(capacity=1) as here:
        await here.routes.dial(an_order())
        with pytest.raises(PatterConnectionError, match="busy"):
            await here.routes.dial(an_order())
        assert here.did == ["calls"]


async def test_an_order_whose_answer_was_lost_is_one_call_all_the_same() -> None:
    """The first request got through, and the second made another call: the first that shows is kept."""
    lost = [True]

    async with house() as here:

        async def lose_the_first(_: dict[str, Any]) -> web.Response | None:
            if lost and lost.pop():
                await here.told("call.initiated", CALL, direction="outgoing")
                return trouble(503, "")
            return None

        here.on["dial"] = lose_the_first
        assert await here.routes.dial(an_order()) == CALL
        assert len({order["command_id"] for order in here.commands("calls")}) == 1
        await here.until(lambda: here.commands("hangup"))
        assert here.did == ["calls", "calls", "hangup 2"]
        await here.told("call.initiated", leg(2), direction="outgoing")
        await here.told("call.hangup", leg(2), hangup_cause="originator_cancel")
        assert here.story == ["placed"]


async def test_a_call_that_exists_though_every_answer_was_lost_goes_on() -> None:
    async with house() as here:

        async def lose(_: dict[str, Any]) -> web.Response:
            await here.told("call.initiated", CALL, direction="outgoing")
            return trouble(503, "")

        here.on["dial"] = lose
        assert await here.routes.dial(an_order()) == CALL
        assert here.story == ["placed"]


async def test_a_call_that_shows_after_its_order_was_given_up_is_hung_up_once() -> None:
    async def lose(_: dict[str, Any]) -> web.Response:
        return trouble(503, "")

    async with house() as here:
        here.on["dial"] = lose
        with pytest.raises(CarrierError):
            await here.routes.dial(an_order())
        for kind in ("call.initiated", "call.answered", "call.initiated"):
            await here.told(kind, CALL, direction="outgoing")
        await here.until(lambda: here.commands("hangup"))
        await here.told("call.answered", leg(9), direction="outgoing", client_state="c29tZWJvZHkgZWxzZSdz")
        assert here.did == ["calls"] * 3 + ["hangup 1"]
        assert here.story == []


# ------------------------------------------------------------------------------- who answered


async def verdicts(*webhooks: tuple[str, str], early: int = 0) -> list[tuple[str, bool]]:
    """What a session is told; the first `early` webhooks come before its stream."""
    async with house() as here:
        await here.routes.dial(an_order(detect_machine=True))
        await here.told("call.answered", CALL)
        order = await here.stream()
        for kind, result in webhooks[:early]:
            await here.told(kind, CALL, result=result)
        async with here.talking(order, CALL) as (socket, writer, session):
            for kind, result in webhooks[early:]:
                await here.told(kind, CALL, result=result)
            await socket.send_str(writer.dtmf("1"))
            await here.until(lambda: session.digits)
            return [(said.answered_by, said.ready) for said in session.verdicts]


@pytest.mark.parametrize("early", [0, 1, 2])
async def test_a_machine_is_told_when_it_is_known_and_when_it_listens(early: int) -> None:
    webhooks = ((DETECTED, "machine"), (GREETED, "beep_detected"))
    assert await verdicts(*webhooks, early=early) == [("machine", False), ("machine", True)]


async def test_verdicts_in_disorder_never_take_back_what_is_known() -> None:
    assert await verdicts((GREETED, "no_beep_detected"), (DETECTED, "machine")) == [("machine", True)]
    assert await verdicts((GREETED, "beep_detected")) == [("machine", True)]


@pytest.mark.parametrize(
    ("result", "answered_by"),
    [("human_residence", "human"), ("human_business", "human"), ("fax_detected", "fax"), ("silence", "unknown"),
     ("not_sure", "unknown")],
)  # fmt: skip
async def test_who_answered_is_told_once(result: str, answered_by: str) -> None:
    assert await verdicts((DETECTED, result), (DETECTED, result), (DETECTED, "nonsense")) == [(answered_by, True)]


# ------------------------------------------------------------------------------- giving up


async def test_a_ringing_call_that_is_given_up_ends_canceled_whatever_comes_then() -> None:
    async with house() as here:
        await here.routes.dial(an_order())
        await here.routes.cancel(CALL)
        await here.routes.cancel(CALL)
        await here.routes.cancel("nobody")
        await here.told("call.answered", CALL)
        await here.told("call.hangup", CALL, hangup_cause="originator_cancel")
        assert here.story == ["placed", "canceled"]
        assert here.did == ["calls", "hangup 1"]


async def test_a_call_that_is_up_is_not_given_up() -> None:
    async with house() as here:
        await here.routes.dial(an_order())
        await here.told("call.answered", CALL)
        async with here.talking(await here.stream(), CALL):
            await here.routes.cancel(CALL)
            assert here.did == ["calls", "streaming_start 1"]
        await here.seen(CallEnded)


async def test_a_carrier_that_never_says_how_it_ended_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telnyx_calls, "LATE_S", -30.0)
    async with house() as here:
        await here.routes.dial(an_order(ring_timeout_s=30.0))
        ended = await here.seen(CallEnded)
        assert ended.reason == "no_answer"
        await here.until(lambda: here.commands("hangup"))
        assert here.story == ["placed", "no_answer"]


async def test_ringing_calls_end_with_the_engine() -> None:
    async with house() as here:
        await here.routes.dial(an_order())
    assert here.story == ["placed", "engine_stopped"]
    assert here.did == ["calls", "hangup 1"]


async def test_many_calls_are_placed_at_once() -> None:
    async with house() as here:
        placed: list[str] = []

        async def place(here: House) -> None:
            placed.append(await here.routes.dial(an_order()))

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(place, here)
        assert len(set(placed)) == 20
        for number, call_id in enumerate(placed):
            if number % 2:
                await here.told("call.hangup", call_id, hangup_cause="user_busy")
            else:
                await here.told("call.answered", call_id)
        await here.until(lambda: len(here.commands("streaming_start")) == 10)
        ended = [event.call_id for event in here.events if isinstance(event, CallEnded)]
        assert sorted(ended) == sorted(placed[1::2])
        assert len([event for event in here.events if isinstance(event, CallPlaced)]) == 20
        assert not [event for event in here.events if isinstance(event, CallStarted)]


async def test_an_answered_call_whose_callee_leaves_at_once_ends_as_such() -> None:
    async with house() as here:
        await here.routes.dial(an_order())
        await here.told("call.answered", CALL)
        order = await here.stream()
        await here.told("call.hangup", CALL, hangup_cause="normal_clearing")
        assert here.story == ["placed", "caller_hung_up"]
        async with here.client.get(order["stream_url"].replace("wss://voice.example.test", here.address)) as answer:
            assert answer.status == 400
        assert handle(CALL) not in str(here.events)
