"""Budgets: whole calls in virtual time that run into one, days that are spent, and what survives a restart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
import pytest

from patter.bus import Bus
from patter.clock import Clock
from patter.events import (
    AgentChanged,
    AgentSaid,
    BudgetSpent,
    CallEnded,
    CallStarted,
    EndReason,
    Event,
    FaultOccurred,
    UsageMeasured,
)
from patter.exceptions import StoreError
from patter.models import Budget
from patter.observe.budget import Purse
from patter.observe.days import DAY_S
from patter.observe.meter import CostMeter
from patter.observe.prices import Prices
from tests.support.parts import Cast, Stage, perform, set_stage
from tests.support.virtual_time import START_OF_WALL, VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio

MINUTE = {"loopback": {"price": 0.01, "unit": "minute", "rounding": "started minute", "stage": "telephony"}}
"""A line of 0.02 a started minute: the media stream costs as much as the call."""

PRICES = Prices.load(MINUTE)
FAREWELL = "That was all the time we have. Goodbye."
TODAY = int(START_OF_WALL // DAY_S)


@pytest.fixture
def anyio_backend() -> Any:
    return VIRTUAL_BACKEND


def tokens(call_id: str, usd: float) -> UsageMeasured:
    """A burst of the model's."""
    return UsageMeasured(
        call_id=call_id, turn=1, stage="llm", provider="openai", model="gpt-4o-mini",
        amounts={"input_tokens": usd / 0.15 * 1e6},
    )  # fmt: skip


async def performed(
    scene: Callable[[Stage], Awaitable[None]], budget: Budget, own: Budget | None = None, prices: Prices = PRICES
) -> Stage:
    """A real session, guarded, with a caller who stays until the agent hangs up."""
    stage = set_stage(Cast())
    stage.session.agent = replace(stage.session.agent, budget=own or Budget())
    meter = CostMeter(stage.bus, stage.clock, prices)
    stage.bus.add_sink(meter)
    async with Purse(stage.bus, stage.clock, meter, budget) as purse:
        purse.guard("CA1", lambda: stage.session.agent.budget, stage.session.say_goodbye)
        await perform(stage, scene)
    meter.close()
    return stage


async def stays(stage: Stage) -> None:
    """The caller waits for as long as the call goes on, ten minutes at most."""
    with anyio.move_on_after(600):
        while not stage.of(CallEnded):
            await stage.line.silent(1.0)


def told(stage: Stage) -> tuple[list[Event], Any]:
    [ended] = stage.of(CallEnded)
    return stage.of(BudgetSpent), ended


async def test_a_minute_rate_alone_reaches_the_limit_and_the_caller_hears_the_farewell() -> None:
    stage = await performed(stays, Budget(per_call_usd=0.05, farewell=FAREWELL))
    [spent], ended = told(stage)
    assert isinstance(spent, BudgetSpent)
    assert (spent.scope, spent.limit_usd, spent.spent_usd) == ("call", 0.05, 0.04)
    assert ended.reason == "budget_spent"
    assert "$0.05" in ended.detail
    assert 110 <= ended.duration_s <= 120  # two minutes are paid for, the third is not begun
    assert [said.text for said in stage.of(AgentSaid) if isinstance(said, AgentSaid)] == [FAREWELL]
    assert stage.session.history[-1]["text"] == FAREWELL


async def test_a_burst_of_the_model_ends_the_call_at_once() -> None:
    async def scene(stage: Stage) -> None:
        await stage.line.silent(5)
        stage.bus.publish(tokens("CA1", 0.9))
        await stays(stage)

    stage = await performed(scene, Budget(per_call_usd=0.5, farewell=FAREWELL))
    [spent], ended = told(stage)
    assert isinstance(spent, BudgetSpent)
    assert spent.spent_usd == pytest.approx(0.92)
    assert ended.reason == "budget_spent"
    assert ended.duration_s < 12


async def test_a_call_within_its_budget_is_left_alone() -> None:
    async def scene(stage: Stage) -> None:
        await stage.line.silent(150)
        stage.line.leaves()
        await stays(stage)

    stage = await performed(scene, Budget(per_call_usd=0.07))
    assert told(stage)[0] == []
    assert told(stage)[1].reason == "caller_hung_up"


@pytest.mark.parametrize(("own", "engines"), [(0.03, 0.09), (0.09, 0.03)])
async def test_the_smaller_limit_wins_and_the_agents_own_words_are_said(own: float, engines: float) -> None:
    stage = await performed(stays, Budget(per_call_usd=engines), Budget(per_call_usd=own, farewell="Auf Wiederhören."))
    [spent], ended = told(stage)
    assert isinstance(spent, BudgetSpent)
    assert spent.limit_usd == 0.03
    assert ended.duration_s <= 60
    assert [said.text for said in stage.of(AgentSaid) if isinstance(said, AgentSaid)] == ["Auf Wiederhören."]


async def test_a_day_that_is_spent_ends_the_call() -> None:
    stage = await performed(stays, Budget(per_day_usd=0.05, farewell=FAREWELL))
    [spent], ended = told(stage)
    assert isinstance(spent, BudgetSpent)
    assert (spent.scope, spent.limit_usd) == ("day", 0.05)
    assert ended.reason == "budget_spent"
    assert 105 <= ended.duration_s <= 120


async def test_what_has_no_price_is_named_once_and_ends_nothing() -> None:
    async def scene(stage: Stage) -> None:
        for _ in range(3):
            stage.bus.publish(
                UsageMeasured(call_id="CA1", turn=1, stage="stt", provider="mystery", amounts={"audio_seconds": 9})
            )
            await stage.line.silent(1)

    stage = await performed(scene, Budget(per_call_usd=5))
    faults = [fault for fault in stage.of(FaultOccurred) if isinstance(fault, FaultOccurred)]
    assert [fault.problem for fault in faults] == ["the budget cannot count mystery: it has no price"]
    assert told(stage)[1].reason == "operator_ended"


async def test_without_a_budget_nothing_is_said_of_what_has_no_price() -> None:
    async def scene(stage: Stage) -> None:
        stage.bus.publish(
            UsageMeasured(call_id="CA1", turn=1, stage="stt", provider="mystery", amounts={"audio_seconds": 9})
        )
        await stage.line.silent(1)

    assert (await performed(scene, Budget())).of(FaultOccurred, BudgetSpent) == []


# ------------------------------------------------------------------ days of many calls


@dataclass
class House:
    """A bus with calls that cost what they are told to, and the goodbyes they were asked to say."""

    bus: Bus
    clock: Clock
    meter: CostMeter
    purse: Purse
    events: list[Event]
    ended: list[tuple[str, str, EndReason]]

    def call(self, call_id: str, *, agent: str = "", own: Budget | None = None, telephony: str = "text") -> None:
        """A call begins."""

        async def goodbye(text: str, reason: EndReason, detail: str) -> None:
            self.ended.append((call_id, text, reason))
            self.over(call_id)

        self.purse.guard(call_id, lambda: own or Budget(), goodbye)
        self.bus.publish(CallStarted(call_id=call_id, agent=agent, telephony=telephony, line="text"))

    def over(self, call_id: str) -> None:
        """A call ends."""
        self.bus.publish(CallEnded(call_id=call_id, reason="caller_hung_up"))


class Books:
    """What a database knows of other engines' calls; it raises `broken`, if that is given."""

    def __init__(self, **agents: float) -> None:
        self.agents: dict[int, Mapping[str, float]] = {TODAY: agents}
        self.broken: Exception | None = None
        self.asked = 0

    async def spent(self, day: int) -> Mapping[str, float]:
        self.asked += 1
        await anyio.sleep(0.01)
        if self.broken:
            raise self.broken
        return self.agents.get(day, {})


@asynccontextmanager
async def house(budget: Budget, books: Books | None = None) -> Any:
    clock = virtual_clock()
    bus = Bus(clock)
    meter = CostMeter(bus, clock, PRICES)
    seen: list[Event] = []
    bus.add_sink(meter)
    bus.add_sink(seen.append)
    async with Purse(bus, clock, meter, budget, books) as purse:
        yield House(bus, clock, meter, purse, seen, [])
    meter.close()


async def test_calls_together_spend_the_day_and_all_of_them_end() -> None:
    async with house(Budget(per_day_usd=1.0)) as it:
        it.call("a")
        it.bus.publish(tokens("a", 0.4))
        it.call("b")
        it.bus.publish(tokens("b", 0.5))
        await anyio.sleep(1)
        assert it.ended == []
        assert it.purse.spent_today().total == pytest.approx(0.9)
        it.bus.publish(tokens("a", 0.2))
        await anyio.sleep(1)
        assert sorted(call_id for call_id, _, _ in it.ended) == ["a", "b"]
        assert {reason for _, _, reason in it.ended} == {"budget_spent"}
        assert "its budget is $1.00" in it.purse.refusal()
        assert "per_day_usd" in it.purse.refusal()


async def test_ended_calls_count_and_a_spent_day_is_over_at_midnight() -> None:
    async with house(Budget(per_day_usd=1.0)) as it:
        it.call("a")
        it.bus.publish(tokens("a", 0.7))
        it.over("a")
        it.call("b")
        it.bus.publish(tokens("b", 0.4))
        await anyio.sleep(1)
        assert [call_id for call_id, _, _ in it.ended] == ["b"]
        assert it.purse.refusal()
        await anyio.sleep((TODAY + 1) * DAY_S - it.clock.now() + 1)
        assert it.purse.refusal() == ""
        assert it.purse.spent_today().total == 0


async def test_a_raised_budget_lets_calls_in_again() -> None:
    async with house(Budget(per_day_usd=0.5)) as it:
        it.call("a")
        it.bus.publish(tokens("a", 0.6))
        await anyio.sleep(1)
        assert it.purse.refusal()
        it.purse.change(Budget(per_day_usd=2.0))
        assert it.purse.refusal() == ""


async def test_a_lowered_budget_ends_live_calls() -> None:
    async with house(Budget()) as it:
        it.call("a")
        it.bus.publish(tokens("a", 0.6))
        await anyio.sleep(1)
        assert it.ended == []
        it.purse.change(Budget(per_call_usd=0.5, farewell=FAREWELL))
        await anyio.sleep(1)
        assert it.ended == [("a", FAREWELL, "budget_spent")]


async def test_an_agents_own_day_ends_its_calls_and_no_others() -> None:
    own = Budget(per_day_usd=0.3)
    async with house(Budget()) as it:
        it.call("a", agent="Ann", own=own)
        it.call("b", agent="Bob")
        it.bus.publish(tokens("b", 9.0))
        it.bus.publish(tokens("a", 0.4))
        await anyio.sleep(1)
        assert [call_id for call_id, _, _ in it.ended] == ["a"]
        assert 'The agent "Ann"' in it.purse.refusal("Ann", own)
        assert it.purse.refusal("Bob") == ""


async def test_a_new_version_of_the_agent_brings_its_limit() -> None:
    own = Budget()
    async with house(Budget()) as it:
        it.purse.guard("a", lambda: own, _never)
        it.bus.publish(CallStarted(call_id="a", telephony="text", line="text"))
        it.bus.publish(tokens("a", 0.4))
        own = Budget(per_call_usd=0.1)
        it.bus.publish(AgentChanged(call_id="a", agent="", agent_version="2", changed=("budget",)))
        await anyio.sleep(1)
        assert any(isinstance(event, BudgetSpent) for event in it.events)


async def _never(text: str, reason: EndReason, detail: str) -> None:
    """A goodbye that nobody hears."""


async def test_what_was_spent_before_a_restart_and_elsewhere_counts_from_the_beginning() -> None:
    async with house(Budget(per_day_usd=1.0), Books(ann=0.9)) as it:
        assert it.purse.refusal() == ""
        it.call("a")
        it.bus.publish(tokens("a", 0.2))
        await anyio.sleep(1)
        assert [call_id for call_id, _, _ in it.ended] == ["a"]
    async with house(Budget(per_day_usd=1.0), Books(ann=1.1)) as it:
        assert it.purse.refusal()


async def test_what_others_spend_is_learnt_when_a_call_ends() -> None:
    books = Books()
    async with house(Budget(per_day_usd=1.0), books) as it:
        it.call("a")
        it.call("b")
        await anyio.sleep(1)
        books.agents[TODAY] = {"": 5.0}
        it.over("a")
        await anyio.sleep(1)
        assert [call_id for call_id, _, _ in it.ended] == ["b"]


async def test_what_others_have_spent_meanwhile_counts_for_a_call_that_begins() -> None:
    books = Books()
    async with house(Budget(per_day_usd=1.0), books) as it:
        books.agents[TODAY] = {"": 5.0}
        it.call("a")
        await anyio.sleep(1)
        assert [call_id for call_id, _, _ in it.ended] == ["a"]


@pytest.mark.parametrize("broken", [StoreError("the database cannot be reached"), ZeroDivisionError()])
async def test_a_database_that_cannot_tell_stops_no_call(broken: Exception, caplog: pytest.LogCaptureFixture) -> None:
    books = Books()
    books.broken = broken
    async with house(Budget(per_day_usd=1.0), books) as it:
        it.call("a")
        it.over("a")
        await anyio.sleep(1)
        assert it.purse.refusal() == ""
    assert "this engine's calls only" in caplog.text


async def test_without_a_limit_of_days_the_database_is_not_asked() -> None:
    books = Books()
    async with house(Budget(per_call_usd=1.0), books) as it:
        it.call("a")
        it.over("a")
        await anyio.sleep(1)
    assert books.asked == 0


async def test_a_goodbye_that_fails_hurts_no_other_call(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(text: str, reason: EndReason, detail: str) -> None:
        raise RuntimeError("no voice")

    async with house(Budget(per_day_usd=0.5)) as it:
        it.purse.guard("a", Budget, fails)
        it.bus.publish(CallStarted(call_id="a", telephony="text", line="text"))
        it.call("b")
        it.bus.publish(tokens("a", 0.6))
        await anyio.sleep(1)
        assert [call_id for call_id, _, _ in it.ended] == ["b"]
    assert "a goodbye could not be said" in caplog.text


async def test_a_hundred_calls_by_the_minute_end_before_the_day_is_overdrawn() -> None:
    async with house(Budget(per_day_usd=5.0)) as it:
        for number in range(100):
            it.call(f"c{number}", telephony="loopback")
        await anyio.sleep(400)
        assert len(it.ended) == 100
        assert 4.0 - 1e-9 <= it.purse.spent_today().total <= 5.0 + 1e-9
        assert not it.meter.live
