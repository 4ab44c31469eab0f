from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from patter.builders import Keys, embedded_stt, embedded_tts
from patter.bus import Bus
from patter.callbacks import CallbackRunner, Callbacks
from patter.events import (
    AgentSaid,
    CallEnded,
    CallerSaid,
    CallerTranscribed,
    CallPlaced,
    CallStarted,
    MachineDetected,
    ReplyReached,
    ReplyStarted,
)
from patter.models import Agent, CallMetrics, TurnMetrics
from patter.observe.cost import Prices
from patter.ports import CallInfo
from tests.support.virtual_time import START_OF_WALL, VIRTUAL_BACKEND, virtual_clock

AGENT = Agent(
    "Be kind to {name}.", provider="pipeline", stt=embedded_stt(), tts=embedded_tts(), variables={"name": "you"}
)
CALL = CallInfo("CA1", "+15550001111", "+15550002222", "inbound", "twilio", {"vip": "yes"})


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


def runner(bus: Bus, **callbacks: Any) -> CallbackRunner:
    return CallbackRunner(bus, Callbacks(**callbacks), prices=Prices.load(), keys=Keys())


def one_turn(bus: Bus, call_id: str = "CA1") -> None:
    bus.publish(CallStarted(call_id=call_id, caller="+15550001111", callee="+15550002222", direction="inbound"))
    bus.publish(CallerSaid(call_id=call_id, turn=1, text="Are you open?", source="typed"))
    bus.publish(ReplyStarted(call_id=call_id, turn=1, reply_id=1))
    bus.publish(ReplyReached(call_id=call_id, reply_id=1, stage="playing", reached_at=bus.clock.now()))
    bus.publish(AgentSaid(call_id=call_id, turn=1, reply_id=1, text="Yes."))


@pytest.mark.anyio
async def test_words_that_follow_their_turn_are_told_when_they_are_known_and_stand_where_they_were_said() -> None:
    bus, told, ended = Bus(virtual_clock()), list[dict[str, Any]](), list[dict[str, Any]]()

    async with runner(bus, on_transcript=told.append, on_call_end=ended.append):
        bus.publish(CallStarted(call_id="CA1"))
        for turn in (1, 2):
            bus.publish(CallerSaid(call_id="CA1", turn=turn, text="", pending=True))
            bus.publish(AgentSaid(call_id="CA1", turn=turn, reply_id=turn, text=f"Answer {turn}."))
        bus.publish(CallerTranscribed(call_id="CA1", turn=1, text="Are you open?"))
        bus.publish(CallerTranscribed(call_id="CA1", turn=2, text=""))
        hang_up(bus)

    assert [data["text"] for data in told] == ["Answer 1.", "Answer 2.", "Are you open?"]
    assert [line["text"] for line in told[-1]["history"]] == ["Are you open?", "Answer 1.", "Answer 2."]
    assert ended[0]["transcript"] == told[-1]["history"]


@pytest.mark.anyio
async def test_a_turn_of_which_some_words_never_come_is_in_the_transcript_with_those_that_did() -> None:
    bus, ended = Bus(virtual_clock()), list[dict[str, Any]]()

    async with runner(bus, on_call_end=ended.append):
        bus.publish(CallStarted(call_id="CA1"))
        bus.publish(CallerSaid(call_id="CA1", turn=1, text="Wait.", pending=True))
        hang_up(bus)

    assert [line["text"] for line in ended[0]["transcript"]] == ["Wait."]


def hang_up(bus: Bus, call_id: str = "CA1") -> None:
    bus.publish(CallEnded(call_id=call_id, reason="caller_hung_up", duration_s=2.0))


@pytest.mark.anyio
async def test_each_callback_gets_what_the_reference_promises() -> None:
    bus = Bus(virtual_clock())
    got: dict[str, list[dict[str, Any]]] = {"on_transcript": [], "on_metrics": [], "on_call_end": []}

    def keep(name: str) -> Any:
        async def callback(data: dict[str, Any]) -> None:
            got[name].append(data)

        return callback

    async with runner(bus, **{name: keep(name) for name in got}):
        one_turn(bus)
        hang_up(bus)

    user = {"role": "user", "text": "Are you open?", "timestamp": START_OF_WALL}
    assistant = {"role": "assistant", "text": "Yes.", "timestamp": START_OF_WALL}
    assert got["on_transcript"] == [
        {"role": "user", "text": "Are you open?", "call_id": "CA1", "history": [user]},
        {"role": "assistant", "text": "Yes.", "call_id": "CA1", "history": [user, assistant]},
    ]
    [metrics] = got["on_metrics"]
    assert metrics.keys() == {"call_id", "turn", "cost_so_far"}
    assert isinstance(metrics["turn"], TurnMetrics)
    assert (metrics["turn"].turn_index, metrics["turn"].agent_text) == (1, "Yes.")
    [end] = got["on_call_end"]
    assert isinstance(end.pop("metrics"), CallMetrics)
    assert end == {
        "call_id": "CA1",
        "caller": "+15550001111",
        "callee": "+15550002222",
        "direction": "inbound",
        "transcript": [user, assistant],
        "reason": "caller_hung_up",
    }


@pytest.mark.anyio
async def test_a_call_that_nobody_took_ends_for_the_user_too() -> None:
    bus, ended = Bus(virtual_clock()), list[dict[str, Any]]()

    async with runner(bus, on_call_end=ended.append):
        bus.publish(CallPlaced(call_id="CA1", caller="+15550002222", callee="+15550001111", telephony="twilio"))
        bus.publish(CallEnded(call_id="CA1", reason="no_answer"))

    [end] = ended
    metrics = end.pop("metrics")
    assert (metrics.telephony_provider, metrics.cost.total, metrics.turns) == ("twilio", 0.0, ())
    assert end == {
        "call_id": "CA1",
        "caller": "+15550002222",
        "callee": "+15550001111",
        "direction": "outbound",
        "transcript": [],
        "reason": "no_answer",
    }


@pytest.mark.anyio
async def test_a_placed_call_that_is_answered_is_one_call() -> None:
    bus, ended = Bus(virtual_clock()), list[dict[str, Any]]()

    async with runner(bus, on_call_end=ended.append):
        bus.publish(CallPlaced(call_id="CA1"))
        one_turn(bus)
        hang_up(bus)

    assert [(end["reason"], len(end["transcript"])) for end in ended] == [("caller_hung_up", 2)]


@pytest.mark.anyio
async def test_each_call_tells_its_own_user_who_answered() -> None:
    bus, told = Bus(virtual_clock()), list[tuple[str, dict[str, Any]]]()

    async def first(data: dict[str, Any]) -> None:
        told.append(("first", data))
        raise RuntimeError("my bug")

    async with runner(bus) as running:
        for call_id in ("CA1", "CA2", "CA3"):
            bus.publish(CallPlaced(call_id=call_id))
        running.expect("CA1", first)
        running.expect("CA2", lambda data: told.append(("second", data)))
        running.expect("CA9", lambda data: told.append(("nobody", data)))
        bus.publish(MachineDetected(call_id="CA3", answered_by="human"))
        bus.publish(MachineDetected(call_id="CA1", answered_by="machine", ready=False))
        bus.publish(MachineDetected(call_id="CA1", answered_by="machine", ready=True))
        bus.publish(MachineDetected(call_id="CA2", answered_by="human"))
        for call_id in ("CA1", "CA2", "CA3"):
            hang_up(bus, call_id)

    assert sorted(told, key=lambda one: one[0]) == [
        ("first", {"call_id": "CA1", "answered_by": "machine"}),
        ("second", {"call_id": "CA2", "answered_by": "human"}),
    ]


@pytest.mark.anyio
async def test_a_callback_that_raises_is_logged_and_the_next_one_still_comes(caplog: pytest.LogCaptureFixture) -> None:
    bus, ended = Bus(virtual_clock()), []

    async def fail(data: dict[str, Any]) -> None:
        raise RuntimeError("my bug")

    async with runner(bus, on_transcript=fail, on_call_end=ended.append):
        one_turn(bus)
        hang_up(bus)

    assert len(ended) == 1
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [RuntimeError, RuntimeError]


@pytest.mark.anyio
async def test_a_slow_callback_delays_neither_the_bus_nor_another_call() -> None:
    bus, ended = Bus(virtual_clock()), []

    async def slow(data: dict[str, Any]) -> None:
        if data["call_id"] == "CA1":
            await anyio.sleep(3)

    async def note(data: dict[str, Any]) -> None:
        ended.append((data["call_id"], round(bus.clock.now() - START_OF_WALL)))

    async with runner(bus, on_transcript=slow, on_call_end=note):
        for call_id in ("CA1", "CA2"):
            one_turn(bus, call_id)
            hang_up(bus, call_id)
        assert bus.clock.now() == START_OF_WALL

    assert ended == [("CA2", 0), ("CA1", 6)]


@pytest.mark.anyio
async def test_a_callback_that_never_returns_is_given_up_at_the_end() -> None:
    bus = Bus(virtual_clock())

    async with runner(bus, on_call_end=lambda data: anyio.sleep_forever()):
        one_turn(bus)
        hang_up(bus)

    assert bus.clock.now() == pytest.approx(START_OF_WALL + 10)


@pytest.mark.anyio
async def test_on_call_start_may_change_the_agent_of_its_call(caplog: pytest.LogCaptureFixture) -> None:
    asked = []

    def start(data: dict[str, Any]) -> dict[str, Any]:
        asked.append(data)
        return {"variables": {"name": "Ada"}, "first_message": "Hello Ada!", "voice": "heart"}

    agent = await runner(Bus(virtual_clock()), on_call_start=start).welcome(CALL, AGENT)

    assert asked == [
        {
            "call_id": "CA1",
            "caller": "+15550001111",
            "callee": "+15550002222",
            "direction": "inbound",
            "custom_params": {"vip": "yes"},
        }
    ]
    assert (agent.variables, agent.first_message, agent.voice) == ({"name": "Ada"}, "Hello Ada!", "heart")
    assert agent.system_prompt == AGENT.system_prompt
    assert caplog.records == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "logged"),
    [
        (None, False),
        ({}, False),
        ("Hello", True),
        ({"first_mesage": "Hello"}, True),
        ({"provider": "magic"}, True),
        ({"tools": [{"name": "x"}]}, True),
    ],
)
async def test_an_answer_that_cannot_be_used_leaves_the_agent_alone(
    answer: object, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def start(data: dict[str, Any]) -> object:
        return answer

    assert await runner(Bus(virtual_clock()), on_call_start=start).welcome(CALL, AGENT) is AGENT
    assert bool(caplog.records) is logged


@pytest.mark.anyio
async def test_a_call_does_not_wait_for_ever_for_on_call_start(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    clock = virtual_clock()

    async def start(data: dict[str, Any]) -> None:
        await anyio.sleep(60)

    assert await runner(Bus(clock), on_call_start=start).welcome(CALL, AGENT) is AGENT
    assert clock.now() == pytest.approx(START_OF_WALL + 5)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="on_metrics must be a function"):
        Callbacks(on_metrics="https://example.com")  # type: ignore[arg-type]
