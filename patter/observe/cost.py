"""What a call costs: a fold over measured usage, and over the time that passes where time is what is billed.

It owns the sums; it refuses to know prices (`prices.py`), clocks, how usage was measured and who shows the sums. USD.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from patter.events import CallStarted, CarrierRecordingSaved, Event, UsageMeasured
from patter.models import CostBreakdown
from patter.observe.prices import STAGES, PriceRow, Prices

__all__ = ["STAGES", "CostFold", "Meter", "PriceRow", "Prices", "Running", "call_costs", "total_cost"]

BEGUN_S = 0.001
"""A minute that has begun is billed: the moment it begins counts as this much of it."""

HORIZON_S = 30 * 86_400.0
"""No call lasts for longer; what it would cost after that is not looked for."""

LINES = ("inbound", "outbound")
"""The carrier's time on the line, which is measured once, when it is over."""

Used = tuple[str, str, str]
"""Stage, provider, model."""


@dataclass(frozen=True, slots=True)
class Running:
    """What a call has cost at one moment, and who was used without a price: the cost is at least that much then."""

    cost: CostBreakdown
    unpriced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Meter:
    """Something that is billed for as long as the call goes on: since when it was not measured, and how much was before."""

    stage: str
    row: PriceRow
    measured: float
    since: float

    def cost(self, at: float) -> float:
        """What all of it has cost in USD at `at`."""
        return self.row.cost(self.measured + max(BEGUN_S, at - self.since))


class CostFold:
    """Sums usage, and prices the sums: rounding rules apply once to a whole call."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._used: dict[Used, dict[str, float]] = {}
        self._priced: dict[Used, tuple[float, bool]] = {}
        self._lasting: dict[Used, tuple[str, float]] = {}  # what is billed by time: the amount, and since when
        self._down = False

    @property
    def settled(self) -> bool:
        """Whether all that is billed by time was measured: the call is over."""
        return self._down and not self._lasting

    def began(self, started: CallStarted) -> None:
        """The carrier's time runs from now on (until it is measured), and that of the media stream where there is one."""
        direction = "outbound" if started.direction == "outbound" else "inbound"
        for model in (direction, *(["media-stream"] if started.line != "text" else [])):
            self._lasting["telephony", started.telephony, model] = ("seconds", started.at)

    def add(self, usage: UsageMeasured) -> None:
        """Count one measurement."""
        used = (usage.stage, usage.provider, usage.model)
        amounts = self._used.setdefault(used, {})
        for key, quantity in usage.amounts.items():
            if math.isfinite(quantity):  # one odd figure of a vendor's would spoil all sums for good
                amounts[key] = amounts.get(key, 0.0) + quantity
        self._priced.pop(used, None)
        if usage.stage != "telephony":
            self._lasts(used, usage)
        elif usage.model in LINES:  # the line is down: nothing else lasts either
            rest = ("telephony", usage.provider, "media-stream")
            self._lasting = {other: told for other, told in self._lasting.items() if other == rest}
            self._down = True
        else:
            self._lasting.pop(used, None)

    def _lasts(self, used: Used, usage: UsageMeasured) -> None:
        """Whoever serves a stage by the minute goes on from here; one that another has taken over from does not."""
        self._lasting = {other: told for other, told in self._lasting.items() if other[0] != usage.stage}
        for amount in usage.amounts:
            row = self._prices.row(usage.provider, usage.stage, usage.model, amount)
            if row is not None and row.running and usage.at:
                self._lasting[used] = (amount, usage.at)

    def recorded(self, saved: CarrierRecordingSaved, telephony: str) -> None:
        """The carrier has recorded so much of the call."""
        seconds = {"seconds": saved.duration_s}
        self.add(
            UsageMeasured(
                call_id=saved.call_id, turn=0, stage="telephony", provider=telephony, model="recording", amounts=seconds
            )
        )

    @property
    def used(self) -> Mapping[Used, Mapping[str, float]]:
        """All that was used so far, in order of first use."""
        return self._used

    def shares(self) -> dict[str, float]:
        """What each has cost of all that was measured so far in USD: "stage/provider/model" → cost."""
        return {"/".join(used): self._cost_of(used)[0] for used in self._used}

    def amount(self, stage: str, key: str) -> float:
        """How much of `key` was used in `stage` by all providers together."""
        return sum((amounts.get(key, 0.0) for (used, _, _), amounts in self._used.items() if used == stage), 0.0)

    def breakdown(self) -> CostBreakdown:
        """The cost measured so far in USD. What has no price row is not in it: see `unpriced`."""
        return _breakdown([(used[0], self._cost_of(used)[0]) for used in self._used])

    def unpriced(self) -> tuple[str, ...]:
        """Who was used without a price row: "provider" or "provider/model", in order of first use."""
        return _names([used for used in self._used if not self._cost_of(used)[1]])

    def _cost_of(self, used: Used) -> tuple[float, bool]:
        if used not in self._priced:
            self._priced[used] = self._prices.cost(*used, self._used[used])
        return self._priced[used]

    # ------------------------------------------------------------------ while the call goes on

    def running(self, at: float) -> Running:
        """The cost at clock time `at`: what was measured, and the time that runs; a minute that has begun counts whole."""
        costs = [(used[0], cost) for used, cost in self._still()]
        costs += [(meter.stage, meter.cost(at)) for meter in self.meters()]
        return Running(_breakdown(costs), self.unknown())

    def unknown(self) -> tuple[str, ...]:
        """Who was used without a price row, or runs without one: see `unpriced`."""
        running = [used for used in self._lasting if used not in self._used and self._row(used) is None]
        return _names([*(used for used in self._used if not self._cost_of(used)[1]), *running])

    def meters(self) -> list[Meter]:
        """What costs by the minute now."""
        made = []
        for used, (amount, since) in self._lasting.items():
            if (row := self._row(used)) is not None:
                made.append(Meter(used[0], row, self._used.get(used, {}).get(amount, 0.0), since))
        return made

    def fixed(self) -> float:
        """The part of the cost that stands still until something more is measured."""
        return sum(cost for _, cost in self._still())

    def calm_s(self, limit_usd: float, at: float, ahead_s: float = 0.0) -> float:
        """For how many seconds the cost is certainly not above `limit_usd` yet, found quickly (0: look with `reaches`).

        In any time every meter bills at most one minute more than pass."""
        meters = [meter for meter in self.meters() if meter.row.price]
        left = limit_usd - self.fixed() - sum(meter.cost(at + ahead_s) for meter in meters)
        by_minute = sum(meter.row.cost(60.0) for meter in meters)
        if left <= 0:
            return 0.0
        return max(0.0, 60 * (left / by_minute - 1)) if by_minute else math.inf

    def reaches(self, limit_usd: float, at: float, ahead_s: float = 0.0) -> float | None:
        """When, from `at` on, the cost will be more than `limit_usd` `ahead_s` seconds later; None: not at this rate.

        What is billed by the minute grows in steps and in lines: the moment is sought by halving, to the millisecond."""
        meters, fixed = self.meters(), self.fixed()

        def over(moment: float) -> bool:
            return fixed + sum(meter.cost(moment + ahead_s) for meter in meters) > limit_usd + 1e-9

        if over(at):
            return at
        if not any(meter.row.price for meter in meters) or not over(at + HORIZON_S):
            return None
        low, high = at, at + 60.0
        while not over(high):
            low, high = high, at + 2 * (high - at)
        while high - low > BEGUN_S:
            middle = (low + high) / 2
            low, high = (low, middle) if over(middle) else (middle, high)
        return high

    def _row(self, used: Used) -> PriceRow | None:
        stage, provider, model = used
        return self._prices.row(provider, stage, model, self._lasting[used][0])

    def _still(self) -> list[tuple[Used, float]]:
        """What each has cost of all that does not run."""
        costs = []
        for used, amounts in self._used.items():
            lasting = self._lasting.get(used)
            if lasting is None or self._row(used) is None:
                costs.append((used, self._cost_of(used)[0]))
            else:
                rest = {name: quantity for name, quantity in amounts.items() if name != lasting[0]}
                costs.append((used, self._prices.cost(*used, rest)[0]))
        return costs


def _breakdown(costs: Iterable[tuple[str, float]]) -> CostBreakdown:
    sums = dict.fromkeys(STAGES, 0.0)
    for stage, cost in costs:
        sums[stage] += cost
    return CostBreakdown(**sums, total=sum(sums.values()))


def _names(used: Iterable[Used]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{provider}/{model}" if model else provider for _, provider, model in used))


def call_costs(cost: CostBreakdown) -> dict[str, float]:
    """A breakdown as events and the API carry it."""
    return {"stt": cost.stt, "llm": cost.llm, "tts": cost.tts, "telephony": cost.telephony, "total": cost.total}


def total_cost(events: Iterable[Event], prices: Prices) -> CostBreakdown:
    """What the usage among `events` (of one call) costs."""
    fold = CostFold(prices)
    for event in events:
        if isinstance(event, UsageMeasured):
            fold.add(event)
    return fold.breakdown()
