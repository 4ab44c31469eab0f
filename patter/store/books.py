"""What the database knows of money: usage summed over days or of one call, and what calls have cost so far.

It owns these questions; it refuses to know prices and formulas (`observe/money.py`). USD, seconds, days since the epoch (UTC).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select

from patter.models import CostBreakdown
from patter.observe.money import CallStats, UsageSum
from patter.store.database import Database
from patter.store.schema import calls, day_usage, usage
from patter.store.search import order_floor

SAMPLE = 10_000
"""Of so many of the newest calls a forecast is made: older ones say little of the next thousand, and reading stays quick."""

REHEARSAL = "test"
PARTS = ("stt", "tts", "llm", "telephony", "total")


@dataclass(frozen=True, slots=True)
class Books:
    """Reads a database. Its methods raise StoreError."""

    database: Database

    async def of_call(self, call_id: str) -> list[UsageSum] | None:
        """What one call used; None for a call that is not there."""
        columns = (usage.c.stage, usage.c.provider, usage.c.model, usage.c.amount, usage.c.quantity)
        async with self.database.read() as connection:
            rows = (await connection.execute(select(*columns).where(usage.c.call_id == call_id))).all()
            if not rows and await connection.scalar(select(calls.c.call_id).where(calls.c.call_id == call_id)) is None:
                return None
        return [UsageSum.of_call(*row) for row in rows]

    async def of_days(self, first: int, end: int, agent: str = "") -> list[UsageSum]:
        """What the calls used that began on the days from `first` to `end` (exclusive) and are over."""
        names = (day_usage.c.stage, day_usage.c.provider, day_usage.c.model, day_usage.c.amount)
        sums = (day_usage.c.quantity, day_usage.c.quantity_started, day_usage.c.quantity_minimum)
        wanted = [day_usage.c.day >= first, day_usage.c.day < end, *([day_usage.c.agent == agent] if agent else [])]
        question = select(*names, *(func.sum(one) for one in sums)).where(*wanted).group_by(*names)
        async with self.database.read() as connection:
            return [UsageSum(*row) for row in await connection.execute(question)]

    async def stats(self, since: float, until: float, agent: str = "", *, rehearsals: bool = False) -> CallStats:
        """The newest calls (at most `SAMPLE`) that began from `since` to `until` and are over; phone calls, or `rehearsals`."""
        kind: ColumnElement[bool] = calls.c.direction == REHEARSAL if rehearsals else calls.c.direction != REHEARSAL
        key = calls.c.order_key
        wanted = [
            key >= order_floor(since),
            key < order_floor(until),
            kind,
            *([calls.c.agent == agent] if agent else []),
        ]
        costs = [calls.c[f"cost_{part}"] for part in PARTS]
        newest = (
            select(calls.c.duration_s, calls.c.unpriced, *costs)
            .where(*wanted)
            .order_by(key.desc())
            .limit(SAMPLE)
            .subquery()
        )
        total = newest.c.cost_total
        sums = [func.sum(newest.c[f"cost_{part}"]) for part in PARTS]
        question = select(func.count(), func.sum(newest.c.duration_s), *sums, func.sum(total * total)).select_from(
            newest
        )
        unknown = select(newest.c.unpriced).where(newest.c.unpriced != "[]").distinct().limit(100)
        async with self.database.read() as connection:
            row = (await connection.execute(question)).one()
            lists = [text for (text,) in await connection.execute(unknown)]
        count, seconds, *parts, squares = (value or 0 for value in row)
        cost = CostBreakdown(**dict(zip(PARTS, map(float, parts), strict=True)))
        names = dict.fromkeys(name for text in lists for name in _names(text))
        return CallStats(int(count), float(seconds), cost, float(squares), tuple(names))


def _names(text: str) -> list[str]:
    try:
        value: Any = json.loads(text)
    except ValueError:
        return []
    return [str(name) for name in value] if isinstance(value, list) else []
