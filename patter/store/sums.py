"""What a call adds to the sums of its day, and how such additions are written: exactly once, whoever else writes too.

It owns the tables days, day_reasons, day_latency, day_usage and the count of agent_versions; it refuses to know when a call
counts (`writing` does). A call's part is made of its stored rows alone: what was added can be taken out again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sqlalchemy import Table, bindparam, case, delete, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from patter.store.buckets import PLACES, bucket, packed, place, unpacked
from patter.store.schema import (
    SEGMENTS,
    agent_versions,
    day_latency,
    day_reasons,
    day_usage,
    days,
)
from patter.store.upsert import insert

Row = Mapping[str, Any]
TABLES = {days: "calls", day_reasons: "calls", day_latency: "n", day_usage: "calls"}
"""In the order in which they are written, always: two engines never wait for each other. With the count that says whether
anything is left in a row."""

LATENCIES = (*SEGMENTS, "total")
"""The histograms of a day, in their order."""

COSTS = ("cost_stt", "cost_tts", "cost_llm", "cost_telephony", "cost_total")


NO_TEXTS: Mapping[tuple[str, str], str] = MappingProxyType({})


@dataclass(slots=True)
class _Latency:
    """What is added to a day's latencies."""

    n: int = 0
    cells: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    sums_ms: list[float] = field(default_factory=lambda: [0.0] * len(LATENCIES))

    def add(self, turn: Row, sign: int) -> None:
        self.n += sign
        for number, name in enumerate(LATENCIES):
            ms = turn[f"{name}_ms"]
            self.cells[number * PLACES + place(bucket(ms))] += sign
            self.sums_ms[number] += sign * ms

    def onto(self, row: Row) -> dict[str, Any]:
        """The day's row with this added."""
        cells = unpacked(row["counts"])
        for cell, n in self.cells.items():
            cells[cell] = cells.get(cell, 0) + n
        made: dict[str, Any] = {"at_day": row["day"], "at_agent": row["agent"], "n": row["n"] + self.n}
        made |= {f"{name}_ms": row[f"{name}_ms"] + ms for name, ms in zip(LATENCIES, self.sums_ms, strict=True)}
        return made | {"counts": packed(cells)}


class Sums:
    """Additions to the sums, of any number of calls. `texts`: (agent, version) → the file as it was, where that is known."""

    def __init__(self, texts: Mapping[tuple[str, str], str] = NO_TEXTS) -> None:
        self._added: dict[Table, dict[tuple[Any, ...], dict[str, float]]] = {
            table: defaultdict(lambda: defaultdict(float)) for table in TABLES
        }
        self._latency: dict[tuple[int, str], _Latency] = defaultdict(_Latency)
        self._versions: dict[tuple[str, str], dict[str, float]] = {}
        self._texts = texts
        self._takes = False

    def add(self, call: Row, turns: Iterable[Row], usage: Iterable[Row], sign: int = 1) -> None:
        """Count a call in (`sign` 1) or out again (-1)."""
        self._takes = self._takes or sign < 0
        day, agent = call["day"], call["agent"]
        of_day = self._added[days][day, agent, call["direction"]]
        of_day["calls"] += sign
        of_day["seconds"] += sign * call["duration_s"]
        for name in ("turns", "interruptions", "false_interruptions", *COSTS):
            of_day[name] += sign * call[name]
        of_day["unpriced_calls"] += sign * (call["unpriced"] not in ("", "[]"))
        self._added[day_reasons][day, agent, call["reason"]]["calls"] += sign
        for turn in turns:
            if turn["sample"]:
                self._latency[day, agent].add(turn, sign)
        for used in usage:
            self._use(day, agent, used, sign)
        if call["agent_version"]:
            self._version(call, sign)

    def _use(self, day: int, agent: str, used: Row, sign: int) -> None:
        quantity = used["quantity"]
        held = self._added[day_usage][day, agent, used["stage"], used["provider"], used["model"], used["amount"]]
        held["calls"] += sign
        held["quantity"] += sign * quantity
        held["quantity_started"] += sign * math.ceil(round(quantity, 3) / 60) * 60
        held["quantity_minimum"] += sign * (max(60.0, quantity) if quantity > 0 else 0.0)
        held["cost"] += sign * used["cost"]
        held["unpriced_calls"] += sign * (not used["priced"])

    def _version(self, call: Row, sign: int) -> None:
        at = call["started_at"]
        held = self._versions.setdefault(
            (call["agent"], call["agent_version"][:200]), {"calls": 0, "first_used_at": at, "last_used_at": at}
        )
        held["calls"] += sign
        held["first_used_at"] = min(held["first_used_at"], at)
        held["last_used_at"] = max(held["last_used_at"], at)

    async def write(self, connection: AsyncConnection) -> None:
        """Add all of it to the tables, within the connection's transaction."""
        for table, count in TABLES.items():
            if table is day_latency:
                await self._write_latency(connection)
                continue
            keys = [column.name for column in table.primary_key]
            counted = [column.name for column in table.columns if column.name not in keys]
            rows = [
                dict(zip(keys, key, strict=True)) | {name: added.get(name, 0) for name in counted}
                for key, added in sorted(self._added[table].items())
                if any(added.values())
            ]
            if not rows:
                continue
            statement = insert(connection, table)
            sums = {name: table.c[name] + statement.excluded[name] for name in counted}
            await connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=sums), rows)
            if self._takes:
                touched = {row["day"] for row in rows}
                await connection.execute(delete(table).where(table.c.day.in_(touched), table.c[count] <= 0))
        await self._write_versions(connection)

    async def _write_latency(self, connection: AsyncConnection) -> None:
        """Read, add and write: no database adds histograms. The rows are locked in their order, made before if need be, so
        that nobody's addition is lost."""
        keys = sorted(key for key, held in self._latency.items() if any(held.cells.values()))
        if not keys:
            return
        key = (day_latency.c.day, day_latency.c.agent)
        blank = {"n": 0, "counts": b""} | dict.fromkeys((f"{name}_ms" for name in LATENCIES), 0.0)
        rows = [{"day": day, "agent": agent} | blank for day, agent in keys]
        await connection.execute(insert(connection, day_latency).on_conflict_do_nothing(), rows)
        asked = select(day_latency).where(tuple_(*key).in_(keys)).order_by(*key).with_for_update()
        found = (await connection.execute(asked)).mappings().all()
        changed = update(day_latency).where(key[0] == bindparam("at_day"), key[1] == bindparam("at_agent"))
        await connection.execute(changed, [self._latency[row["day"], row["agent"]].onto(dict(row)) for row in found])
        if self._takes:
            await connection.execute(
                delete(day_latency).where(key[0].in_({day for day, _ in keys}), day_latency.c.n <= 0)
            )

    async def _write_versions(self, connection: AsyncConnection) -> None:
        rows = [
            {"agent": agent, "version": version, "text": self._texts.get((agent, version), "")} | held
            for (agent, version), held in sorted(self._versions.items())
        ]
        if not rows:
            return
        statement, now = insert(connection, agent_versions), agent_versions.c
        new = statement.excluded
        sooner = (now.first_used_at == 0) | (new.first_used_at < now.first_used_at)
        changed = {
            "text": case((new.text != "", new.text), else_=now.text),
            "calls": now.calls + new.calls,
            "first_used_at": case((sooner, new.first_used_at), else_=now.first_used_at),
            "last_used_at": case((new.last_used_at > now.last_used_at, new.last_used_at), else_=now.last_used_at),
        }
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["agent", "version"], set_=changed), rows
        )
