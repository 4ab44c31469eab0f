"""Sums about money: cost per minute, what a thousand calls will cost, and what the same usage would have cost otherwise. Pure.

It owns these formulas; it refuses to know where usage and prices come from. USD and seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from patter.models import CostBreakdown
from patter.observe.prices import STAGES, PriceRow, Prices

MINUTE_S = 60.0
FEWEST = 5
"""Of fewer calls the spread says nothing: a range would be a guess."""

Z95 = 1.959964  # 95 % of a normal distribution is within so many standard deviations


# ------------------------------------------------------------------ usage and its bill


@dataclass(frozen=True, slots=True)
class UsageSum:
    """How much of one amount of the price table was used, by one call or by many: as it was measured, with each call rounded
    up to whole minutes (`started`), and with each call at least a minute (`minimum`)."""

    stage: str
    provider: str
    model: str
    amount: str
    quantity: float
    started: float = 0.0
    minimum: float = 0.0

    @classmethod
    def of_call(cls, stage: str, provider: str, model: str, amount: str, quantity: float) -> UsageSum:
        """What one call used."""
        by_rule = [
            PriceRow(provider, stage, model, amount, "minute", 0.0, rule).rounded(quantity)
            for rule in ("started minute", "minimum minute")
        ]
        return cls(stage, provider, model, amount, quantity, *by_rule)

    def billed(self, row: PriceRow) -> float:
        """USD for it at this price."""
        by_rule = {"started minute": self.started, "minimum minute": self.minimum}
        return replace(row, rounding="none").cost(by_rule.get(row.rounding, self.quantity))

    @property
    def name(self) -> str:
        """Who was used: "provider" or "provider/model"."""
        return f"{self.provider}/{self.model}" if self.model else self.provider


@dataclass(frozen=True, slots=True)
class Bill:
    """A sum, and who is not in it because there is no price: with anybody there it is a least."""

    cost: CostBreakdown
    unpriced: tuple[str, ...] = ()


def bill(usage: Iterable[UsageSum], prices: Prices) -> Bill:
    """What this usage costs at these prices."""
    users: dict[tuple[str, str, str], dict[str, UsageSum]] = {}
    for used in _merged(usage):
        users.setdefault((used.stage, used.provider, used.model), {})[used.amount] = used
    sums, unpriced = dict.fromkeys(STAGES, 0.0), []
    for (stage, provider, model), amounts in users.items():
        left = prices.billed(stage, provider, model, {name: used.quantity for name, used in amounts.items()})
        for name, quantity in left.items():
            row = prices.row(provider, stage, model, name)
            if row is None:
                unpriced.append(amounts[name].name)
            else:
                sums[stage] += replace(amounts[name], quantity=quantity).billed(row)
    return Bill(CostBreakdown(**sums, total=sum(sums.values())), tuple(dict.fromkeys(unpriced)))


def cost_per_minute(total_usd: float, seconds: float, unpriced: Iterable[str] = ()) -> float | None:
    """USD a minute; None while it is not known: no time has passed, or something that was used has no price."""
    return None if seconds <= 0 or tuple(unpriced) else total_usd / (seconds / MINUTE_S)


# ------------------------------------------------------------------ what will calls cost


@dataclass(frozen=True, slots=True)
class CallStats:
    """Calls that are over: how many, their seconds, their costs, and the sum of the squares of their totals."""

    calls: int
    seconds: float
    cost: CostBreakdown
    squares: float
    unpriced: tuple[str, ...] = ()

    @property
    def deviation(self) -> float:
        """Standard deviation of a call's total cost (of a sample: n - 1)."""
        if self.calls < 2:
            return 0.0
        return math.sqrt(max(0.0, self.squares - self.cost.total**2 / self.calls) / (self.calls - 1))


@dataclass(frozen=True, slots=True)
class Forecast:
    """What `calls` more calls like those before will cost. `low` to `high`: where their total will be with 95 % certainty;
    None where that is not known."""

    calls: int
    per_call: CostBreakdown
    total: CostBreakdown
    per_minute: float | None
    low: float | None
    high: float | None


def forecast(stats: CallStats, calls: int = 1000) -> Forecast:
    """The mean of the calls so far, times `calls`.

    With n calls of mean m and deviation s, N more cost N·m on average, with the standard error s·√(N + N²/n): the first part
    is the chance of the new calls, the second that m is known from n calls only. The range is N·m ± t·s·√(N + N²/n), t the
    95 % quantile of Student's distribution with n - 1 degrees of freedom; never below 0. Fewer than `FEWEST` calls have no
    range, and with something unpriced there is no upper end. Raises ValueError without any call."""
    if stats.calls < 1:
        raise ValueError("no call is over yet: there is nothing to forecast from")
    per_call, total = _times(stats.cost, 1 / stats.calls), _times(stats.cost, calls / stats.calls)
    low = high = None
    if stats.calls >= FEWEST:
        error = student_t(stats.calls - 1) * stats.deviation * math.sqrt(calls + calls**2 / stats.calls)
        low = max(0.0, total.total - error)
        high = None if stats.unpriced else total.total + error
    per_minute = cost_per_minute(stats.cost.total, stats.seconds, stats.unpriced)
    return Forecast(calls, per_call, total, per_minute, low, high)


def student_t(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t, by the Cornish-Fisher expansion (within 1 % from 4 degrees on)."""
    z, v = Z95, float(freedom)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def _times(cost: CostBreakdown, factor: float) -> CostBreakdown:
    parts = {name: getattr(cost, name) * factor for name in STAGES}
    return CostBreakdown(**parts, total=cost.total * factor)


# ------------------------------------------------------------------ what would it have cost


@dataclass(frozen=True, slots=True)
class Swap:
    """Another provider and model for a stage. An empty `model` keeps the old one's name, as a carrier's directions do."""

    provider: str
    model: str = ""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The same usage twice. `unpriced`: who has no price in the second, or whose usage cannot be counted in the other's units;
    `notes`: what is assumed."""

    now: Bill
    then: Bill
    notes: tuple[str, ...] = ()

    @property
    def difference(self) -> float | None:
        """USD by which the second is dearer (negative: cheaper); None when one of them is not whole."""
        whole = not (self.now.unpriced or self.then.unpriced)
        return self.then.cost.total - self.now.cost.total if whole else None


def what_if(usage: Iterable[UsageSum], now: Prices, then: Prices, swaps: Mapping[str, Swap]) -> WhatIf:
    """What `usage` costs at the prices `now`, and what it would at `then` with stages swapped."""
    used = list(usage)
    changed, missing, notes = [], [], []
    for stage in STAGES:
        mine = [one for one in used if one.stage == stage]
        swap = swaps.get(stage)
        if swap is None or not mine:
            changed += mine
            continue
        mine, note = _heard(mine, swap, then, used)
        notes += [note] if note else []
        for other in (one for one in mine if one.quantity > 0):
            made, note = _swapped(other, swap, then)
            notes += [note] if note else []
            if made is None:
                missing.append(f"{swap.provider}/{swap.model}" if swap.model else swap.provider)
            else:
                changed.append(made)
    second = bill(changed, then)
    unpriced = tuple(dict.fromkeys((*second.unpriced, *missing)))
    return WhatIf(bill(used, now), Bill(second.cost, unpriced), tuple(dict.fromkeys(notes)))


def _swapped(used: UsageSum, swap: Swap, prices: Prices) -> tuple[UsageSum | None, str]:
    """The usage as the other provider would bill it, and what that assumes; None when that cannot be known."""
    model = swap.model or used.model
    there = replace(used, provider=swap.provider, model=model)
    row = prices.row(swap.provider, used.stage, model, used.amount)
    if row is None:
        if used.amount in _SUBSETS and prices.row(swap.provider, used.stage, model, _SUBSETS[used.amount]):
            return there, ""  # billed with the tokens that they are a part of
        return None, (
            f"{used.amount.replace('_', ' ')} of {used.name} cannot be counted as {there.name} bills them, or it has no price"
        )
    if used.amount.endswith("tokens") and (swap.provider, model) != (used.provider, used.model):
        return there, "tokens are taken as counted by the model that was used"
    return there, ""


def _heard(mine: list[UsageSum], swap: Swap, prices: Prices, used: list[UsageSum]) -> tuple[list[UsageSum], str]:
    """What was heard, for a recogniser that is billed while the call goes on: all of the line, not only what was said."""
    row = prices.row(swap.provider, "stt", swap.model, "audio_seconds")
    heard = [one for one in mine if one.stage == "stt" and one.amount == "audio_seconds"]
    lines = [one for one in used if one.stage == "telephony" and one.model in ("inbound", "outbound")]
    seconds = sum(line.quantity for line in lines)
    if row is None or not row.running or not heard or seconds <= sum(one.quantity for one in heard):
        return mine, ""
    if all(_is_running(one, prices) for one in heard):
        return mine, ""  # that is what it heard already
    note = f"{swap.provider}/{swap.model} is billed for all of a call's time, not for its speech alone"
    return [replace(heard[0], quantity=seconds), *(one for one in mine if one not in heard)], note


def _is_running(used: UsageSum, prices: Prices) -> bool:
    row = prices.row(used.provider, used.stage, used.model, used.amount)
    return row is not None and row.running


_SUBSETS = {
    "cached_tokens": "input_tokens",
    "cached_text_tokens": "input_text_tokens",
    "cached_audio_tokens": "input_audio_tokens",
}


def _merged(usage: Iterable[UsageSum]) -> list[UsageSum]:
    """Several that were swapped for the same one, or that several agents used, are one."""
    made: dict[tuple[str, str, str, str], UsageSum] = {}
    for used in usage:
        key = (used.stage, used.provider, used.model, used.amount)
        held = made.get(key)
        if held is None:
            made[key] = used
            continue
        made[key] = replace(
            held,
            quantity=held.quantity + used.quantity,
            started=held.started + used.started,
            minimum=held.minimum + used.minimum,
        )
    return list(made.values())
