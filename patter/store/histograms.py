"""The latencies of days, added up quickly: a day's buckets are read once and kept until a call more is counted in that day.

It owns that memory, and figures of a histogram; it refuses to know calls. Only days that changed since are read again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from patter.store.buckets import PLACES, added_up, bucket_at, percentile
from patter.store.schema import day_latency, days
from patter.store.sums import LATENCIES as NAMES

KEPT = 1_000  # days in memory, 29 KB each
AT_ONCE = 100  # days that are read together

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many latencies fell into each bucket (by place), and their sum in ms."""

    counts: Counts
    sum_ms: float

    def figures(self, *wanted: int | str) -> dict[str, float]:
        """{n, avg, p50, …} in ms; 0.0 of nothing."""
        held = {bucket_at(int(at)): int(self.counts[at]) for at in np.flatnonzero(self.counts)}
        n = sum(held.values())
        made: dict[str, float] = {"n": n}
        for name in wanted:
            if isinstance(name, int):
                made[f"p{name}"] = percentile(held, name)
            else:
                made[name] = self.sum_ms / n if n else 0.0
        return made


@dataclass(slots=True)
class Day:
    """One day's histograms, by segment in the order of NAMES."""

    counts: Counts
    sums_ms: NDArray[np.float64]


@dataclass(slots=True)
class Measured:
    """The histograms of a range, the first day first."""

    held: list[tuple[int, Day]]

    def by_segment(self) -> dict[str, Histogram]:
        """Those of each segment over all days."""
        counts, sums = _no_counts(), np.zeros(len(NAMES))
        for _, day in self.held:
            counts += day.counts
            sums += day.sums_ms
        return {name: Histogram(counts[at], float(sums[at])) for at, name in enumerate(NAMES)}

    def by_day(self, segment: str) -> Iterator[tuple[int, Histogram]]:
        """One segment's of each day that has any."""
        at = NAMES.index(segment)
        for number, day in self.held:
            if day.counts[at].any():
                yield number, Histogram(day.counts[at], float(day.sums_ms[at]))


class Histograms:
    """Reads ranges of days. What it keeps is known to be current by the sums of `days`, which every counted call changes in
    the same transaction."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, str], tuple[Any, Day]] = OrderedDict()

    async def read(self, connection: AsyncConnection, first: int, last: int, agent: str) -> Measured:
        """The histograms of the days from `first` to `last`, of one agent or all together ("")."""
        stamps = await self._stamps(connection, first, last, agent)
        stale = [day for day, stamp in stamps.items() if self._kept.get((day, agent), (None,))[0] != stamp]
        fresh: dict[int, Day] = {}
        for start in range(0, len(stale), AT_ONCE):
            rows = await self._rows(connection, stale[start : start + AT_ONCE], agent)
            fresh |= await anyio.to_thread.run_sync(_days_of, rows)
        held = []
        for number in stale:
            day = fresh.get(number) or Day(_no_counts(), np.zeros(len(NAMES)))
            self._kept[number, agent] = (stamps[number], day)
        for number in stamps:
            kept = self._kept[number, agent]
            self._kept.move_to_end((number, agent))
            held.append((number, kept[1]))
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return Measured(held)

    async def _stamps(self, connection: AsyncConnection, first: int, last: int, agent: str) -> dict[int, Any]:
        """What changes whenever a call is counted in a day, or taken out of it."""
        sums = [func.sum(days.c[name]) for name in ("calls", "turns", "seconds", "cost_total")]
        asked = select(days.c.day, *sums).where(days.c.day.between(first, last))
        if agent:
            asked = asked.where(days.c.agent == agent)
        found = await connection.execute(asked.group_by(days.c.day).order_by(days.c.day))
        return {row[0]: tuple(row[1:]) for row in found}

    async def _rows(self, connection: AsyncConnection, some: list[int], agent: str) -> list[tuple[Any, ...]]:
        """(day, packed counts, sums…) of each agent."""
        table = day_latency.c
        asked = select(table.day, table.counts, *(table[f"{name}_ms"] for name in NAMES)).where(table.day.in_(some))
        if agent:
            asked = asked.where(table.agent == agent)
        return [tuple(row) for row in await connection.execute(asked)]


def _days_of(rows: list[tuple[Any, ...]]) -> dict[int, Day]:
    at = {number: at for at, number in enumerate(dict.fromkeys(row[0] for row in rows))}
    groups = [at[row[0]] for row in rows]
    counts = added_up((row[1] for row in rows), groups, len(at), len(NAMES))
    sums = np.zeros((len(at), len(NAMES)))
    np.add.at(sums, groups, np.array([row[2:] for row in rows], dtype=float).reshape(-1, len(NAMES)))
    return {number: Day(counts[one].copy(), sums[one]) for number, one in at.items()}


def _no_counts() -> Counts:
    return np.zeros((len(NAMES), PLACES), dtype=np.int64)
