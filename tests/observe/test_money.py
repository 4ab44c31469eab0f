"""Forecasts and what-if: pure sums over usage and prices."""

from __future__ import annotations

import math
import random
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.events import UsageMeasured
from patter.models import CostBreakdown
from patter.observe.cost import CostFold
from patter.observe.money import CallStats, Swap, UsageSum, bill, cost_per_minute, forecast, student_t, what_if
from patter.observe.prices import Prices

PRICES = Prices.load()


def use(stage: str, provider: str, model: str, **amounts: float) -> list[UsageSum]:
    return [UsageSum.of_call(stage, provider, model, name, quantity) for name, quantity in amounts.items()]


CALL = [
    *use("telephony", "twilio", "inbound", seconds=250),
    *use("telephony", "twilio", "media-stream", seconds=250),
    *use("stt", "deepgram", "nova-3", audio_seconds=250),
    *use("llm", "openai", "gpt-4o-mini", input_tokens=9000, cached_tokens=6000, output_tokens=900),
    *use("tts", "elevenlabs", "eleven_flash_v2_5", characters=1500),
]
"""The worked example of the price sheet."""


def stats(costs: list[float], seconds: float = 60.0, unpriced: tuple[str, ...] = ()) -> CallStats:
    total = sum(costs)
    cost = CostBreakdown(llm=total, total=total)
    return CallStats(len(costs), seconds * len(costs), cost, sum(one * one for one in costs), unpriced)


def test_the_worked_example_of_the_price_sheet() -> None:
    made = bill(CALL, PRICES)
    assert made.cost.total == pytest.approx(0.14394)
    assert made.unpriced == ()


@given(st.lists(st.tuples(st.floats(0.001, 4000), st.integers(0, 20_000), st.integers(0, 20_000)), max_size=8))
def test_a_bill_of_many_calls_is_the_sum_of_their_own(calls: list[tuple[float, int, int]]) -> None:
    """Each rounding rule once for each call, whoever adds them up."""
    total, sums = 0.0, []
    for seconds, tokens, cached in calls:
        fold = CostFold(PRICES)
        amounts = {"input_tokens": float(tokens + cached), "cached_tokens": float(cached)}
        for stage, provider, model, used in (
            ("telephony", "twilio", "inbound", {"seconds": seconds}),
            ("telephony", "telnyx", "inbound", {"seconds": seconds}),
            ("llm", "openai", "gpt-4o", amounts),
        ):
            fold.add(UsageMeasured(call_id="c", turn=1, stage=stage, provider=provider, model=model, amounts=used))  # type: ignore[arg-type]
            sums += use(stage, provider, model, **used)
        total += fold.breakdown().total
    assert bill(sums, PRICES).cost.total == pytest.approx(total)


def test_a_minute_without_time_or_with_unknown_prices_has_no_cost() -> None:
    assert cost_per_minute(0.06, 90) == pytest.approx(0.04)
    assert cost_per_minute(0.06, 0) is None
    assert cost_per_minute(0.06, 90, ["mystery"]) is None


# ------------------------------------------------------------------ forecast


def test_a_thousand_calls_cost_a_thousand_means_with_a_range() -> None:
    costs = [0.10, 0.12, 0.08, 0.11, 0.09, 0.10]
    made = forecast(stats(costs))
    assert made.total.total == pytest.approx(100.0)
    assert made.per_call.total == pytest.approx(0.1)
    assert made.per_minute == pytest.approx(0.1)
    half = student_t(5) * stdev(costs) * math.sqrt(1000 + 1000**2 / 6)
    assert made.low == pytest.approx(100 - half)
    assert made.high == pytest.approx(100 + half)


def test_a_range_is_unknown_of_few_calls_and_open_where_prices_are() -> None:
    few = forecast(stats([0.1, 0.2, 0.3, 0.4]))
    assert (few.low, few.high) == (None, None)
    unknown = forecast(stats([0.1] * 9, unpriced=("mystery",)))
    assert unknown.low == pytest.approx(100.0)
    assert unknown.high is None
    assert unknown.per_minute is None
    with pytest.raises(ValueError, match="nothing to forecast"):
        forecast(stats([]))


def test_more_calls_make_the_range_narrower() -> None:
    costs = [0.05, 0.1, 0.15, 0.1, 0.1]
    few, many = forecast(stats(costs)), forecast(stats(costs * 40))
    assert few.high is not None
    assert many.high is not None
    assert many.high - many.total.total < (few.high - few.total.total) / 4


@pytest.mark.parametrize(("freedom", "quantile"), [(4, 2.7764), (9, 2.2622), (29, 2.0452), (1000, 1.9623)])
def test_students_quantiles(freedom: int, quantile: float) -> None:
    assert student_t(freedom) == pytest.approx(quantile, rel=0.01)


def test_the_range_holds_what_it_promises() -> None:
    """Calls of an uneven kind (many short, few long): about 95 of 100 ranges have what the next hundred calls cost."""
    chance, kept = random.Random(7), 0
    for _ in range(400):
        seen = [chance.expovariate(10) for _ in range(60)]
        coming = sum(chance.expovariate(10) for _ in range(100))
        made = forecast(stats(seen), 100)
        assert made.low is not None
        assert made.high is not None
        assert made.per_call.total == pytest.approx(fmean(seen))
        kept += made.low <= coming <= made.high
    assert 360 <= kept <= 396


# ------------------------------------------------------------------ what if


def swapped(**stages: Swap) -> tuple[float, tuple[str, ...], tuple[str, ...]]:
    made = what_if(CALL, PRICES, PRICES, stages)
    assert made.now.cost.total == pytest.approx(0.14394)
    return made.then.cost.total - made.now.cost.total, made.then.unpriced, made.notes


def test_other_prices_over_the_same_usage() -> None:
    then = PRICES.overridden({"elevenlabs": {"price": 0.02, "stage": "tts"}})
    made = what_if(CALL, PRICES, then, {})
    assert made.difference == pytest.approx(-0.03)


def test_seconds_characters_and_tokens_are_priced_as_anothers() -> None:
    difference, unpriced, _ = swapped(stt=Swap("deepgram", "flux-general-en"))
    assert difference == pytest.approx(250 / 60 * (0.0065 - 0.0048))
    assert unpriced == ()
    difference, unpriced, _ = swapped(tts=Swap("openai", "tts-1"))
    assert difference == pytest.approx(0.0225 - 0.06)
    assert unpriced == ()
    difference, unpriced, notes = swapped(llm=Swap("openai", "gpt-4.1"))
    assert difference == pytest.approx((3000 * 2.0 + 6000 * 0.5 + 900 * 8.0) / 1e6 - 0.00144)
    assert unpriced == ()
    assert "counted by the model that was used" in notes[0]


def test_a_carrier_keeps_its_directions() -> None:
    difference, unpriced, _ = swapped(telephony=Swap("telnyx"))
    assert difference == pytest.approx(250 / 60 * 0.009 - 0.0625)
    assert unpriced == ()


def test_what_runs_here_costs_nothing() -> None:
    difference, unpriced, _ = swapped(stt=Swap("embedded", "whisper-base"))
    assert difference == pytest.approx(-0.02)
    assert unpriced == ()


@pytest.mark.parametrize(
    ("stage", "swap", "name"),
    [
        ("llm", Swap("openai", "gpt-realtime"), "openai/gpt-realtime"),  # text tokens say nothing of audio tokens
        ("llm", Swap("elevenlabs", "convai"), "elevenlabs/convai"),
        ("tts", Swap("elevenlabs", "eleven_v99"), "elevenlabs/eleven_v99"),
        ("stt", Swap("mystery"), "mystery"),
    ],
)
def test_what_cannot_be_counted_in_the_others_units_is_unknown_and_said(stage: str, swap: Swap, name: str) -> None:
    made = what_if(CALL, PRICES, PRICES, {stage: swap})
    assert made.then.unpriced == (name,)
    assert made.difference is None
    assert any("cannot be counted" in note for note in made.notes)


def test_a_recogniser_that_hears_the_whole_line_is_not_billed_for_speech_alone() -> None:
    heard = [one for one in CALL if one.stage != "stt"] + use("stt", "openai", "whisper-1", audio_seconds=60)
    made = what_if(heard, PRICES, PRICES, {"stt": Swap("deepgram", "nova-3")})
    assert made.then.cost.stt == pytest.approx(250 / 60 * 0.0048)
    assert any("all of a call's time" in note for note in made.notes)


def test_cached_tokens_where_none_are_cheaper_are_paid_for_as_fresh() -> None:
    prices = PRICES.overridden({"acme": {"input_tokens": 1.0, "output_tokens": 2.0}})
    made = what_if(CALL, PRICES, prices, {"llm": Swap("acme", "x")})
    assert made.then.cost.llm == pytest.approx((9000 * 1.0 + 900 * 2.0) / 1e6)
    assert made.then.unpriced == ()
