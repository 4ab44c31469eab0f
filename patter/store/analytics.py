"""What many calls come to: how many, how long, what they cost and how quickly they were answered, from the sums of days.

It owns these figures; it refuses to read single calls, so that a year costs hardly more than a week. A range is whole days of
UTC, since that is what the sums are of: a time within a day means that day. Percentiles are nearest-rank over histograms whose
buckets are 2.5 % about their value, and always come with n, how many turns they are of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date as calendar
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from patter.store.database import Database
from patter.store.histograms import Histograms
from patter.store.schema import SEGMENTS, day_reasons, day_usage, days
from patter.store.shapes import COSTS

DAY_S = 86_400
EPOCH = calendar(1970, 1, 1).toordinal()
_NO_COST = {"cost_total": 0.0, "unpriced_calls": 0}
FIRST, LAST = 0, 2_000_000
"""The days that a range without a beginning or an end reaches to."""


@dataclass(frozen=True, slots=True)
class Days:
    """Whole days of UTC, as days since the epoch: from `first` to `last`, both included."""

    first: int = FIRST
    last: int = LAST

    @classmethod
    def touched(cls, since: float | None, until: float | None) -> Days:
        """Every day that has a moment from `since` until before `until` (seconds since the epoch; None: no limit)."""
        first = FIRST if since is None else int(since // DAY_S)
        return cls(first, LAST if until is None else max(first - 1, -int(-until // DAY_S) - 1))

    def of(self, table: Table, agent: str) -> list[ColumnElement[bool]]:
        """The condition on a table of sums: these days, and one agent ("": all)."""
        made: list[ColumnElement[bool]] = [table.c.day.between(self.first, self.last)]
        return [*made, table.c.agent == agent] if agent else made


class Analytics:
    """The figures. All methods raise StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._histograms = Histograms()

    async def overview(self, within: Days, agent: str = "") -> dict[str, Any]:
        """Everything of a range in one value, but for the calls that are up. `cost_per_minute` and `cost_per_call` are None
        where there is nothing to divide by, or no price at all."""
        async with self._database.read() as connection:
            groups = await _rows(connection, _summed(days, ("agent", "direction"), within, agent))
            reasons = await _rows(connection, _summed(day_reasons, ("reason",), within, agent))
            unpriced = await _rows(connection, _unpriced(within, agent))
            measured = await self._histograms.read(connection, within.first, within.last, agent)
        whole = _total(groups)
        segments = measured.by_segment()
        return {
            "calls": whole["calls"],
            "minutes": whole["seconds"] / 60,
            "turns": whole["turns"],
            "directions": {
                name: sum(row["calls"] for row in groups if row["direction"] == name)
                for name in ("inbound", "outbound", "test")
            },
            "interruptions": whole["interruptions"],
            "false_interruptions": whole["false_interruptions"],
            "cost": {name: whole[f"cost_{name}"] for name in COSTS},
            "unpriced_calls": whole["unpriced_calls"],
            "unpriced": [_named(row) for row in unpriced],
            "cost_per_minute": _each(whole, whole["seconds"] / 60),
            "cost_per_call": _each(whole, whole["calls"]),
            "latency": segments["total"].figures("avg", 50, 90, 95, 99),
            "segments": {name: segments[name].figures(50, 95) for name in SEGMENTS},
            "reasons": {row["reason"]: row["calls"] for row in sorted(reasons, key=lambda row: -row["calls"])},
            "agents": _agents(groups),
        }

    async def costs(self, within: Days, agent: str = "") -> dict[str, Any]:
        """The costs of a range: in all, by day (those with calls), and by provider with what was used of it."""
        async with self._database.read() as connection:
            by_day = await _rows(connection, _summed(days, ("day",), within, agent))
            used = await _rows(connection, _summed(day_usage, ("stage", "provider", "model", "amount"), within, agent))
        whole = _total(by_day)
        return {
            "total": {name: whole[f"cost_{name}"] for name in COSTS},
            "days": [
                {"day": date(row["day"]), "calls": row["calls"], "minutes": row["seconds"] / 60}
                | {name: row[f"cost_{name}"] for name in COSTS}
                | {"unpriced_calls": row["unpriced_calls"]}
                for row in sorted(by_day, key=lambda row: row["day"])
            ],
            "providers": _providers(used),
        }

    async def latency(self, within: Days, agent: str = "") -> dict[str, Any]:
        """The latency of a range: by day (those with samples), and by segment over all of it."""
        async with self._database.read() as connection:
            measured = await self._histograms.read(connection, within.first, within.last, agent)
        segments = measured.by_segment()
        return {
            "days": [{"day": date(day)} | held.figures(50, 95) for day, held in measured.by_day("total")],
            "segments": {name: segments[name].figures(50, 95) for name in (*SEGMENTS, "total")},
        }


def date(day: int) -> str:
    """A day since the epoch as YYYY-MM-DD."""
    return str(calendar.fromordinal(EPOCH + day))


def _summed(table: Table, by: tuple[str, ...], within: Days, agent: str) -> Select[Any]:
    """Every count of a table of sums, added up."""
    groups = [table.c[name] for name in by]
    sums = [
        func.sum(column).label(column.name) for column in table.c if column not in table.primary_key.columns.values()
    ]
    return select(*groups, *sums).where(*within.of(table, agent)).group_by(*groups)


def _unpriced(within: Days, agent: str) -> Select[Any]:
    columns = (day_usage.c.stage, day_usage.c.provider, day_usage.c.model)
    return (
        select(*columns)
        .distinct()
        .where(*within.of(day_usage, agent), day_usage.c.unpriced_calls > 0)
        .order_by(*columns)
    )


async def _rows(connection: AsyncConnection, asked: Select[Any]) -> list[dict[str, Any]]:
    """The rows, with PostgreSQL's sums of whole numbers (which it takes for decimals) as whole numbers."""
    found = (await connection.execute(asked)).mappings()
    return [{name: _plain(value) for name, value in row.items()} for row in found]


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else int(value)


def _total(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    rows = list(rows)
    names = [column.name for column in days.c if column not in days.primary_key.columns.values()]
    return {name: sum(row[name] for row in rows) for name in names}


def _each(whole: dict[str, Any], parts: float) -> float | None:
    """The cost of one part; None for no parts, or if nothing that was used has a price."""
    known = whole["cost_total"] > 0 or not whole["unpriced_calls"]
    return whole["cost_total"] / parts if parts and known else None


def _named(row: dict[str, Any]) -> str:
    return f"{row['provider']}/{row['model']}" if row["model"] else str(row["provider"])


def _agents(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The agents, the busiest first."""
    made: dict[str, dict[str, Any]] = {}
    for row in groups:
        entry = made.setdefault(row["agent"], {"agent": row["agent"], "calls": 0, "minutes": 0.0, **_NO_COST})
        entry["minutes"] += row["seconds"] / 60
        for name in ("calls", *_NO_COST):
            entry[name] += row[name]
    return sorted(made.values(), key=lambda entry: (-entry["calls"], entry["agent"]))


def _providers(used: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was used of each provider's model, the dearest first."""
    made: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in used:
        key = (row["stage"], row["provider"], row["model"])
        entry = made.setdefault(
            key,
            dict(zip(("stage", "provider", "model"), key, strict=True)) | {"amounts": {}, "cost": 0.0, "priced": True},
        )
        entry["amounts"][row["amount"]] = row["quantity"]
        entry["cost"] += row["cost"]
        entry["priced"] = entry["priced"] and not row["unpriced_calls"]
    return sorted(made.values(), key=lambda entry: (-entry["cost"], entry["stage"], entry["provider"], entry["model"]))
