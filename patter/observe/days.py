"""What the calls of a day (UTC) have cost together: live ones by the meter, ended ones, and those of other engines.

It owns the sums by day and agent; it refuses to know limits' consequences. A call belongs to the day on which it began.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from patter.observe.cost import BEGUN_S
from patter.observe.meter import MINUTE_S, CostMeter, Metered

DAY_S = 86_400.0
KEPT_DAYS = 2  # today's, and yesterday's as long as a call of it may be on


@dataclass(frozen=True, slots=True)
class Spent:
    """USD of one day. `agents`: the same by agent; `unpriced`: who was used in live calls without a price."""

    day: int
    total: float
    live: float
    agents: Mapping[str, float]
    unpriced: tuple[str, ...] = ()


class DayBook:
    """The sums of the last days."""

    def __init__(self, meter: CostMeter) -> None:
        self._meter = meter
        self._ended: dict[int, dict[str, float]] = {}  # by day and agent
        self._others: dict[int, Mapping[str, float]] = {}
        self._closed: dict[tuple[int, str | None], float] = {}

    @staticmethod
    def day_of(call: Metered) -> int:
        """The day on which a call began."""
        return int(call.began_at // DAY_S)

    def take(self, call: Metered) -> None:
        """Note what an ended call has cost."""
        if not call.ended:
            return
        day, cost = self.day_of(call), call.cost(call.began_at).cost.total
        agents = self._ended.setdefault(day, {})
        agents[call.agent] = agents.get(call.agent, 0.0) + cost - call.billed
        call.billed = cost
        self._ended = {known: costs for known, costs in self._ended.items() if known >= day - KEPT_DAYS}
        self._others = {known: costs for known, costs in self._others.items() if known >= day - KEPT_DAYS}
        self._closed = {key: limit for key, limit in self._closed.items() if key[0] >= day - KEPT_DAYS}

    def learn(self, day: int, others: Mapping[str, float]) -> None:
        """What the calls of other engines have cost, by agent."""
        self._others[day] = dict(others)

    def live(self, day: int, agent: str | None = None) -> list[Metered]:
        """The calls of a day that go on; `agent` None: of all."""
        return [call for call in self._meter.live if self.day_of(call) == day and agent in (None, call.agent)]

    def spent(self, day: int, agent: str | None, at: float) -> float:
        """USD at clock time `at`; `agent` None: of all."""
        return self._over(day, agent) + sum(call.cost(at).cost.total for call in self.live(day, agent))

    def _over(self, day: int, agent: str | None) -> float:
        books = (self._ended.get(day, {}), self._others.get(day, {}))
        return sum(sum(costs.values()) if agent is None else costs.get(agent, 0.0) for costs in books)

    def total(self, day: int, at: float) -> Spent:
        """The whole day at clock time `at`."""
        agents: dict[str, float] = {}
        for costs in (self._ended.get(day, {}), self._others.get(day, {})):
            for agent, cost in costs.items():
                agents[agent] = agents.get(agent, 0.0) + cost
        going = 0.0
        unpriced: list[str] = []
        for call in self.live(day):
            now = call.cost(at)
            going += now.cost.total
            agents[call.agent] = agents.get(call.agent, 0.0) + now.cost.total
            unpriced += now.unpriced
        return Spent(day, sum(agents.values()), going, agents, tuple(dict.fromkeys(unpriced)))

    # ------------------------------------------------------------------ limits

    def close(self, day: int, agent: str | None, limit: float) -> None:
        """The limit was reached: until it is raised the day is over."""
        self._closed[day, agent] = limit

    def is_closed(self, day: int, agent: str | None, limit: float) -> bool:
        """Whether this limit, or a higher one, was reached."""
        return limit <= self._closed.get((day, agent), -1.0)

    def leeway(self, day: int, agent: str | None, limit: float, at: float, ahead_s: float) -> tuple[float, float]:
        """What may be used, and how many seconds may pass, before `limit` can be reached at all (infinite: at no time).

        Half of what is left is for usage, half for time. While that lasts for longer than a minute at most one more minute
        than passes is billed for every meter; nearer to the limit the moment itself is sought."""
        calls = self.live(day, agent)
        left = limit - self.spent(day, agent, at + ahead_s)
        meters = [meter for call in calls for meter in call.fold.meters() if meter.row.price]
        by_minute = sum(meter.row.cost(MINUTE_S) for meter in meters)
        if not by_minute:
            return left / 2, math.inf
        wait = MINUTE_S * (left / 2 / by_minute - 1)
        if wait > MINUTE_S:
            return left / 2, wait
        standing = self._over(day, agent) + sum(call.fold.fixed() for call in calls)

        def reached(seconds: float) -> bool:
            return standing + sum(meter.cost(at + ahead_s + seconds) for meter in meters) > limit + 1e-9

        low, high = 0.0, MINUTE_S
        while not reached(high):
            low, high = high, 2 * high
        while high - low > BEGUN_S:
            middle = (low + high) / 2
            low, high = (low, middle) if reached(middle) else (middle, high)
        return left / 2, high
