"""What is asked of Telnyx for a call that is up: keys, cold and warm transfers step by step, announcements, the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from aiohttp import web

from patter.events import CallEnded
from patter.exceptions import CarrierError, PatterError
from patter.server import telnyx_control
from patter.server.telnyx_control import language_for, state_for, token_in
from patter.wire.telnyx_webhook import state_of
from tests.support.fake_calls import FakeSession
from tests.support.telnyx_house import BOSS, OURS, House, agent_file, handle, house, leg, trouble

pytestmark = pytest.mark.anyio

COLLEAGUE = leg(1)  # the first leg that is dialled
CALL = leg(2)


class Asking:
    """A wish at a call, while it is being fulfilled. `problem`: why it was not."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.problem: PatterError | None = None


@asynccontextmanager
async def asking(wish: Any) -> AsyncIterator[Asking]:
    """What is asked of a call, beside the test."""
    asked = Asking()

    async def run() -> None:
        try:
            await wish
        except PatterError as problem:
            asked.problem = problem
        asked.done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        yield asked
        with anyio.fail_after(10):
            await asked.done.wait()


@asynccontextmanager
async def up(**changes: Any) -> AsyncIterator[tuple[House, FakeSession]]:
    """A call that is up, with an agent that has these properties."""
    async with house() as here:
        here.file = agent_file(**changes)
        async with here.called(CALL) as (_, _, session):
            here.api.asked.clear()
            yield here, session


async def colleague(here: House, kind: str, number: int = 1, **payload: Any) -> None:
    await here.told(kind, leg(number), **payload)


# ------------------------------------------------------------------------------- keys and the end


async def test_keys_are_pressed_by_the_carrier() -> None:
    async with up() as (here, session):
        await session.transport.send_digits("12w#A")
        [order] = here.commands("send_dtmf")
        assert order["digits"] == "12w#A"
        assert 100 <= order["duration_millis"] <= 500
        for wrong in ("", "5 5", "hello", "1" * 101, "\n"):
            with pytest.raises(PatterError, match="Keys"):
                await session.transport.send_digits(wrong)
        assert here.did == ["send_dtmf 2"]


@pytest.mark.parametrize("code", ["90018", "10015"])
async def test_a_call_that_is_over_needs_no_end(code: str) -> None:
    async def refuse(_: dict[str, Any]) -> web.Response:
        return trouble(422, code)

    async with up() as (here, session):
        here.on["hangup"] = refuse
        await session.transport.hang_up()
        await here.seen(CallEnded)
        assert here.did == ["hangup 2"]


async def test_a_command_that_is_refused_says_what_to_do() -> None:
    async def refuse(_: dict[str, Any]) -> web.Response:
        return trouble(401, "10009")

    async with up() as (here, session):
        here.on["send_dtmf"] = refuse
        with pytest.raises(CarrierError, match="TELNYX_API_KEY") as refused:
            await session.transport.send_digits("1")
        assert "KEY-of-this-test" not in str(refused.value)


# ------------------------------------------------------------------------------- cold transfer


@pytest.mark.parametrize("sign", ["call.answered", "call.bridged", "bridged for the caller"])
async def test_a_cold_transfer_is_done_when_the_two_are_joined(sign: str) -> None:
    async with up() as (here, session):
        async with asking(session.transfer(BOSS)) as asked:
            await here.until(lambda: here.commands("transfer"))
            [order] = here.commands("transfer")
            assert (order["to"], order["from"]) == (BOSS, OURS)
            here.states[leg(7)] = order["target_leg_client_state"]
            await here.told("call.initiated", leg(7), direction="outgoing")
            assert not asked.done.is_set()
            if sign == "bridged for the caller":
                await here.told("call.bridged", CALL)
            else:
                await here.told(sign, leg(7))
        assert asked.problem is None
        assert (await here.seen(CallEnded)).reason == "transferred"
        await here.told("call.bridged", leg(7))
        await here.told("call.hangup", leg(7), hangup_cause="normal_clearing")
        await here.told("call.hangup", CALL, hangup_cause="normal_clearing")
        assert here.did == ["transfer 2"]


async def test_a_cold_transfer_that_nobody_takes_leaves_the_call_up() -> None:
    async with up() as (here, session):
        async with asking(session.transfer(BOSS)) as asked:
            await here.until(lambda: here.commands("transfer"))
            here.states[leg(7)] = here.commands("transfer")[0]["target_leg_client_state"]
            await here.told("call.hangup", leg(7), hangup_cause="user_busy")
            await here.told("call.initiated", leg(7), direction="outgoing")
        assert "busy" in str(asked.problem)
        assert here.did == ["transfer 2"]
        assert here.desk.find(CALL)
        await session.transport.send_digits("1")


async def test_a_number_that_is_none_is_called_by_nobody() -> None:
    async with up() as (here, session):
        for wrong in ("", "0800", "sip:boss@example.test", "+0", "+1" * 20):
            with pytest.raises(PatterError, match=r"E\.164"):
                await session.transport.transfer(wrong, "summary")
        assert here.did == []


# ------------------------------------------------------------------------------- warm transfer


async def test_a_warm_transfer_tells_the_summary_before_the_two_are_joined() -> None:
    async with up(language="de") as (here, session):
        async with asking(session.transfer(BOSS, summary="Frau Ada fragt nach <Rechnung> 7.")) as asked:
            await here.until(lambda: here.commands("calls"))
            [dial] = here.commands("calls")
            assert (dial["to"], dial["from"], dial["link_to"]) == (BOSS, OURS, handle(CALL))
            await colleague(here, "call.initiated", direction="outgoing")
            for _ in range(2):
                await colleague(here, "call.answered")
            await here.until(lambda: here.commands("speak"))
            [speak] = here.commands("speak")
            assert (speak["payload"], speak["language"]) == ("Frau Ada fragt nach <Rechnung> 7.", "de-DE")
            assert not here.commands("bridge")
            for _ in range(2):
                await colleague(here, "call.speak.ended", status="completed")
            await here.until(lambda: here.commands("bridge"))
            assert here.commands("bridge")[0]["call_control_id"] == handle(COLLEAGUE)
            assert not asked.done.is_set()
            await colleague(here, "call.bridged")
            await here.told("call.bridged", CALL)
        assert asked.problem is None
        assert (await here.seen(CallEnded)).reason == "transferred"
        await colleague(here, "call.answered")  # late, again
        assert here.did == ["calls", "speak 1", "bridge 2"]


@pytest.mark.parametrize(
    ("steps", "said", "did"),
    [
        ([("call.hangup", {"hangup_cause": "user_busy"})], "busy", ["calls"]),
        ([("call.hangup", {"hangup_cause": "timeout"})], "in time", ["calls"]),
        ([("call.answered", {}), ("call.hangup", {})], "before the two", ["calls", "speak 1"]),
        (
            [("call.answered", {}), ("call.speak.ended", {"status": "call_hangup"}), ("call.hangup", {})],
            "before the two",
            ["calls", "speak 1"],
        ),
        (
            [("call.answered", {}), ("call.speak.ended", {}), ("call.hangup", {}), ("call.bridged", {})],
            "before the two",
            ["calls", "speak 1", "bridge 2"],
        ),
    ],
)
async def test_a_warm_transfer_that_fails_leaves_the_caller_with_the_agent(
    steps: list[tuple[str, dict[str, Any]]], said: str, did: list[str]
) -> None:
    async with up() as (here, session):
        async with asking(session.transfer(BOSS, summary="Ada")) as asked:
            await here.until(lambda: here.commands("calls"))
            for number, (kind, payload) in enumerate(steps):
                await colleague(here, kind, **payload)
                if number + 2 <= len(did):
                    await here.until(lambda: len(here.did) >= number + 2)  # noqa: B023 - awaited at once
        assert said in str(asked.problem)
        assert BOSS in str(asked.problem)
        assert here.did == did
        assert here.desk.find(CALL)


async def test_a_caller_who_leaves_ends_the_consultation() -> None:
    async with up() as (here, session):
        async with asking(session.transport.transfer(BOSS, "Ada")) as asked:
            await here.until(lambda: here.commands("calls"))
            await colleague(here, "call.answered")
            await here.until(lambda: here.commands("speak"))
            await here.told("call.hangup", CALL, hangup_cause="normal_clearing")
        assert "caller hung up" in str(asked.problem)
        assert here.did == ["calls", "speak 1", "hangup 1"]


async def test_a_consultation_that_is_called_off_hangs_up_on_the_colleague() -> None:
    async with up() as (here, session):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.transport.transfer, BOSS, "Ada")
            await here.until(lambda: here.commands("calls"))
            await colleague(here, "call.initiated", direction="outgoing")
            tasks.cancel_scope.cancel()
        await here.done("calls", "hangup 1")


@pytest.mark.parametrize("action", ["dial", "speak", "bridge"])
async def test_a_step_that_the_carrier_refuses_ends_the_consultation(action: str) -> None:
    async def refuse(_: dict[str, Any]) -> web.Response:
        return trouble(422, "10015")

    async with up() as (here, session):
        here.on[action] = refuse
        async with asking(session.transfer(BOSS, summary="Ada")) as asked:
            await here.until(lambda: here.commands("calls"))
            if action != "dial":
                await colleague(here, "call.answered")
                await here.until(lambda: here.commands("speak"))
            if action == "bridge":
                await colleague(here, "call.speak.ended")
        assert isinstance(asked.problem, CarrierError)
        assert here.commands("hangup") == [] if action == "dial" else here.did[-1] == "hangup 1"
        assert here.desk.find(CALL)


async def test_a_colleague_who_never_answers_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telnyx_control, "GRACE_S", -30.0)
    async with up() as (here, session):
        with pytest.raises(PatterError, match="too long"):
            await session.transport.transfer(BOSS, "Ada")
        assert here.did[0] == "calls"


async def test_a_join_that_is_never_confirmed_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telnyx_control, "JOIN_S", 0.0)
    async with up() as (here, session):
        async with asking(session.transfer(BOSS, summary="Ada")) as asked:
            await here.until(lambda: here.commands("calls"))
            await colleague(here, "call.answered")
            await here.until(lambda: here.commands("speak"))
            await colleague(here, "call.speak.ended")
        assert asked.problem is None
        assert here.did == ["calls", "speak 1", "bridge 2"]


async def test_a_call_is_handed_over_once_at_a_time() -> None:
    async with up() as (here, session):
        async with asking(session.transport.transfer(BOSS, "Ada")) as asked:
            await here.until(lambda: here.commands("calls"))
            with pytest.raises(PatterError, match="already"):
                await session.transport.transfer(BOSS)
            await colleague(here, "call.hangup", hangup_cause="no_answer")
        assert asked.problem
        async with asking(session.transport.transfer(BOSS, "Ada")):
            await here.until(lambda: len(here.commands("calls")) == 2)
            await colleague(here, "call.hangup", number=2, hangup_cause="no_answer")


# ------------------------------------------------------------------------------- announcements


async def test_an_announcement_ends_the_call_with_its_last_word() -> None:
    async with up() as (here, session):
        async with asking(session.transport.announce("Please call back.\n Thank you.")) as asked:
            await here.until(lambda: here.commands("speak"))
            assert here.commands("speak")[0]["payload"] == "Please call back. Thank you."
            assert here.did == ["speak 2"]
            for _ in range(2):
                await here.told("call.speak.ended", CALL, status="completed")
        assert asked.problem is None
        await here.told("call.hangup", CALL, hangup_cause="normal_clearing")
        assert here.did == ["speak 2", "hangup 2"]


async def test_what_the_carrier_cannot_say_at_once_is_not_cut_short() -> None:
    async with up() as (here, session):
        for text in ("", " \n", "word " * 700):
            with pytest.raises(PatterError, match="characters"):
                await session.transport.announce(text)
        assert here.did == []


async def test_an_announcement_to_a_caller_who_leaves_has_failed() -> None:
    async with up() as (here, session):
        async with asking(session.transport.announce("Please call back.")) as asked:
            await here.until(lambda: here.commands("speak"))
            await here.told("call.hangup", CALL, hangup_cause="normal_clearing")
        assert "ended before" in str(asked.problem)
        assert here.did == ["speak 2"]


# ------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("language", "name"),
    [("en", "en-US"), ("de", "de-DE"), ("pt-PT", "pt-PT"), ("xx", "en-US"), ("", "en-US"), ("ZH", "cmn-CN")],
)
def test_the_carriers_voice_speaks_the_agents_language(language: str, name: str) -> None:
    assert language_for(language) == name


def test_a_token_comes_back_from_a_client_state() -> None:
    assert token_in(state_of(state_for("the-token"))) == "the-token"
    assert token_in(state_of("c29tZWJvZHkgZWxzZSdz")) == ""
    assert token_in("") == ""
