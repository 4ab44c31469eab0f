"""The cost while a call goes on: minutes that have begun count whole, and what is told is never taken back."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.bus import Bus
from patter.events import (
    CallEnded,
    CallStarted,
    CarrierRecordingSaved,
    CostMeasured,
    Event,
    TurnMeasured,
    UsageMeasured,
)
from patter.observe.cost import CostFold
from patter.observe.meter import CostMeter
from patter.observe.prices import Prices
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

PRICES = Prices.load()
T0 = 1_700_000_000.0
STARTED_MINUTES = 0.0085 + 0.0040


@pytest.fixture
def anyio_backend() -> Any:
    return VIRTUAL_BACKEND


def started(telephony: str = "twilio", **more: Any) -> CallStarted:
    return CallStarted(call_id="c", at=T0, telephony=telephony, line="mulaw/8000", **more)


def used(stage: Any, provider: str, model: str, at: float = T0, **amounts: float) -> UsageMeasured:
    return UsageMeasured(call_id="c", at=at, turn=1, stage=stage, provider=provider, model=model, amounts=amounts)


def begun(*usage: UsageMeasured, telephony: str = "twilio") -> CostFold:
    made = CostFold(PRICES)
    made.began(started(telephony))
    for one in usage:
        made.add(one)
    return made


def test_the_first_minute_is_paid_for_as_soon_as_it_begins() -> None:
    assert begun().running(T0).cost.total == pytest.approx(STARTED_MINUTES)
    assert begun().running(T0 + 59).cost.total == pytest.approx(STARTED_MINUTES)
    assert begun().running(T0 + 60.01).cost.total == pytest.approx(2 * STARTED_MINUTES)


def test_a_minimum_minute_runs_by_the_second_afterwards() -> None:
    by_minute = 0.0055 + 0.0035
    assert begun(telephony="telnyx").running(T0 + 10).cost.total == pytest.approx(by_minute)
    assert begun(telephony="telnyx").running(T0 + 90).cost.total == pytest.approx(1.5 * by_minute)


def test_a_recogniser_that_hears_silence_goes_on_costing_after_it_was_measured() -> None:
    fold = begun(used("stt", "deepgram", "nova-3", T0 + 10, audio_seconds=10), telephony="loopback")
    assert fold.breakdown().stt == pytest.approx(10 / 60 * 0.0048)
    assert fold.running(T0 + 40).cost.stt == pytest.approx(40 / 60 * 0.0048)


def test_a_recogniser_that_another_has_taken_over_from_stops() -> None:
    fold = begun(
        used("stt", "deepgram", "nova-3", T0 + 10, audio_seconds=10),
        used("stt", "openai", "whisper-1", T0 + 20, audio_seconds=3),
        telephony="loopback",
    )
    assert fold.running(T0 + 100).cost.stt == pytest.approx(10 / 60 * 0.0048 + 3 / 60 * 0.006)


def test_a_carrier_without_a_price_is_unknown_from_the_beginning() -> None:
    running = begun(telephony="acme").running(T0 + 30)
    assert running.unpriced == ("acme/inbound", "acme/media-stream")
    assert running.cost.total == 0


def test_the_lines_own_bill_settles_the_call() -> None:
    fold = begun(used("stt", "deepgram", "nova-3", T0 + 10, audio_seconds=10))
    assert not fold.settled
    for model in ("inbound", "media-stream"):
        fold.add(used("telephony", "twilio", model, T0 + 61, seconds=61))
    assert fold.settled
    assert fold.running(T0 + 500).cost == fold.breakdown()


@pytest.mark.parametrize(("limit", "seconds"), [(0.0125, 60), (0.03, 120), (0.05, 240), (0.0624, 240)])
def test_a_limit_is_reached_when_the_minute_begins_that_is_beyond_it(limit: float, seconds: float) -> None:
    assert begun().reaches(limit, T0) == pytest.approx(T0 + seconds, abs=0.01)
    assert begun().reaches(limit, T0, ahead_s=10) == pytest.approx(T0 + seconds - 10, abs=0.01)


def test_a_limit_that_no_time_reaches_is_never_reached() -> None:
    assert begun(telephony="loopback").reaches(0.01, T0) is None
    assert begun(telephony="acme").reaches(0.01, T0) is None
    assert begun().reaches(1e9, T0) is None


def test_a_limit_below_the_first_minute_is_reached_at_once() -> None:
    assert begun().reaches(0.01, T0) == T0


# ------------------------------------------------------------------ whatever is used, in whatever order

KINDS = [
    ("stt", "deepgram", "nova-3", ("audio_seconds",)),
    ("llm", "openai", "gpt-4o-mini", ("input_tokens", "cached_tokens", "output_tokens")),
    ("llm", "openai", "gpt-realtime", ("input_audio_tokens", "cached_audio_tokens", "output_audio_tokens")),
    ("tts", "elevenlabs", "eleven_flash_v2_5", ("characters",)),
    ("tts", "mystery", "", ("characters",)),
    ("telephony", "twilio", "recording", ("seconds",)),
    ("telephony", "telnyx", "recording", ("seconds",)),
]
quantities = st.floats(0, 1e5, allow_nan=False)


@st.composite
def usages(draw: st.DrawFn) -> UsageMeasured:
    stage, provider, model, amounts = draw(st.sampled_from(KINDS))
    return used(stage, provider, model, T0 + draw(st.floats(0, 600)), **{name: draw(quantities) for name in amounts})


@given(st.lists(usages(), max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_usage_does_not_matter_and_no_cost_is_negative(usage: list[UsageMeasured], random: Any) -> None:
    straight, mixed = begun(*usage), begun(*random.sample(usage, len(usage)))
    for name in ("stt", "llm", "tts", "telephony", "total"):
        assert getattr(straight.breakdown(), name) == pytest.approx(getattr(mixed.breakdown(), name))
        assert getattr(straight.breakdown(), name) >= 0
    assert set(straight.unpriced()) == set(mixed.unpriced())


@given(st.lists(st.floats(0.001, 400), min_size=1, max_size=8))
def test_rounding_is_once_for_a_call(seconds: list[float]) -> None:
    parts = begun(*(used("telephony", "twilio", "inbound", seconds=part) for part in seconds), telephony="loopback")
    whole = begun(used("telephony", "twilio", "inbound", seconds=sum(seconds)), telephony="loopback")
    assert parts.breakdown().total == pytest.approx(whole.breakdown().total)


@given(
    st.lists(st.tuples(st.floats(0.5, 120), st.integers(0, 3000)), min_size=1, max_size=10),
    st.sampled_from(["twilio", "telnyx"]),
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_the_running_cost_grows_and_is_above_the_final_one_by_a_minute_at_most(
    turns: list[tuple[float, int]], carrier: str, looks: list[float]
) -> None:
    """A recogniser that hears everything tells after each turn what it heard; the line tells at the end."""
    fold, now, seen = begun(telephony=carrier), T0, [0.0]
    for seconds, tokens in turns:
        for share in sorted(looks):
            seen.append(fold.running(now + share * seconds).cost.total)
        now += seconds
        fold.add(used("stt", "deepgram", "nova-3", now, audio_seconds=seconds))
        fold.add(used("llm", "openai", "gpt-4o-mini", now, input_tokens=tokens))
        seen.append(fold.running(now).cost.total)
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(seen))
    for model in ("inbound", "media-stream"):
        fold.add(used("telephony", carrier, model, now, seconds=now - T0))
    assert seen[-1] <= fold.breakdown().total + STARTED_MINUTES + 1e-9


@given(st.lists(usages(), max_size=6), st.floats(0.0001, 5), st.sampled_from(["twilio", "telnyx"]))
def test_the_moment_of_a_limit_is_the_first_one_above_it(
    usage: list[UsageMeasured], limit: float, carrier: str
) -> None:
    fold, at = begun(*usage, telephony=carrier), T0 + 600
    moment = fold.reaches(limit, at)
    assert moment is not None
    assert fold.running(moment).cost.total > limit
    assert moment >= at + fold.calm_s(limit, at) - 1e-3
    assert moment == at or fold.running(moment - 0.002).cost.total <= limit + 1e-6


# ------------------------------------------------------------------ the meter


class Watched:
    """A bus with a meter, and the costs it told."""

    def __init__(self) -> None:
        self.clock = virtual_clock()
        self.bus = Bus(self.clock)
        self.events: list[Event] = []
        self.meter = CostMeter(self.bus, self.clock, PRICES)
        self.bus.add_sink(self.meter)
        self.bus.add_sink(self.events.append)

    @property
    def totals(self) -> list[float]:
        return [round(event.cost["total"], 6) for event in self.events if isinstance(event, CostMeasured)]


@pytest.mark.anyio
async def test_every_minute_that_begins_is_told_and_nothing_is_after_the_end() -> None:
    watched = Watched()
    watched.bus.publish(CallStarted(call_id="c", telephony="twilio", line="mulaw/8000"))
    await anyio.sleep(130)
    assert watched.totals == [0.0125, 0.025, 0.0375]
    for model in ("inbound", "media-stream"):
        watched.bus.publish(used("telephony", "twilio", model, 0, seconds=130))
    watched.bus.publish(CallEnded(call_id="c", reason="caller_hung_up"))
    await anyio.sleep(300)
    assert watched.totals[-1] == 0.0375
    assert len(watched.totals) == 5
    assert watched.meter.live == []


@pytest.mark.anyio
async def test_a_call_that_costs_nothing_by_time_sets_no_timer_and_tells_its_turns() -> None:
    watched = Watched()
    watched.bus.publish(CallStarted(call_id="c", telephony="loopback", line="mulaw/8000"))
    assert [call.timer for call in watched.meter.live] == [None]
    watched.bus.publish(used("llm", "openai", "gpt-4o-mini", 0, input_tokens=1e6))
    turn = TurnMeasured(
        call_id="c",
        turn=1,
        reply_id=1,
        kind="answer",
        closed=True,
        user_text="",
        agent_text="",
        segments={},
        total_ms=0,
    )
    watched.bus.publish(turn)
    watched.bus.publish(turn)
    assert watched.totals == [0.15]
    watched.meter.close()


@pytest.mark.anyio
async def test_what_the_carrier_recorded_is_added_when_it_tells_of_it() -> None:
    watched = Watched()
    watched.bus.publish(CallStarted(call_id="c", telephony="twilio", line="mulaw/8000"))
    for model in ("inbound", "media-stream"):
        watched.bus.publish(used("telephony", "twilio", model, 0, seconds=30))
    watched.bus.publish(CallEnded(call_id="c", reason="caller_hung_up"))
    watched.bus.publish(CarrierRecordingSaved(call_id="c", url="https://carrier.example/RE1", duration_s=30.0))
    assert watched.totals[-1] == pytest.approx(0.0125 + 0.0025)


@pytest.mark.anyio
async def test_an_unknown_price_is_told_with_every_cost() -> None:
    watched = Watched()
    watched.bus.publish(CallStarted(call_id="c", telephony="acme", line="mulaw/8000"))
    told = [event for event in watched.events if isinstance(event, CostMeasured)]
    assert [event.unpriced for event in told] == [("acme/inbound", "acme/media-stream")]
    watched.meter.close()
