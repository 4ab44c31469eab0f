"""Rows of calls into the database and out of it, each call's part of the days' sums with them, in one transaction.

It owns which statements that takes; it refuses to know when to write and what to do when it fails.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Table, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from patter.store.record import Rows
from patter.store.schema import calls, texts, tool_calls, turns, usage
from patter.store.sums import NO_TEXTS, Sums
from patter.store.upsert import upsert

PARTS = {turns: ("call_id", "number"), usage: ("call_id", "stage", "provider", "model", "amount"),
         tool_calls: ("call_id", "tool_id")}  # fmt: skip
TOGETHER = 100  # calls in one statement


async def write(
    connection: AsyncConnection, batch: Sequence[Rows], files: Mapping[tuple[str, str], str] = NO_TEXTS
) -> None:
    """Write calls, new or known. Those that are over are written whole, and counted in the sums of their day.

    `files`: (agent, version) → the agent's file as it was, where that is known."""
    over = [rows for rows in batch if rows.text is not None]
    sums = Sums(files)
    await _count(connection, [rows.call["call_id"] for rows in over], sums, -1)
    for rows in over:
        rows.call["counted"] = True
        sums.add(rows.call, rows.turns, rows.usage)
    await _put(connection, calls, ("call_id",), [rows.call for rows in batch])
    await _put(connection, texts, ("call_id",), [rows.text for rows in over if rows.text is not None])
    for table, keys in PARTS.items():
        if over:  # what an older fold of the same journal made is not left behind
            await connection.execute(delete(table).where(table.c.call_id.in_([rows.call["call_id"] for rows in over])))
        parts = [row for rows in batch for row in getattr(rows, _NAMES[table])]
        await _put(connection, table, keys, list({tuple(row[key] for key in keys): row for row in parts}.values()))
    await sums.write(connection)


async def erase(connection: AsyncConnection, call_ids: Sequence[str]) -> None:
    """Take calls out of all tables, and out of the sums."""
    for start in range(0, len(call_ids), TOGETHER):
        some = list(call_ids[start : start + TOGETHER])
        sums = Sums()
        await _count(connection, some, sums, -1)
        await sums.write(connection)
        await connection.execute(delete(calls).where(calls.c.call_id.in_(some)))


_NAMES = {turns: "turns", usage: "usage", tool_calls: "tools"}


async def _put(
    connection: AsyncConnection,
    table: Table,
    keys: tuple[str, ...],
    rows: list[dict[str, Any]],
) -> None:
    if rows:
        await connection.execute(upsert(connection, table, keys), rows)


async def _count(connection: AsyncConnection, call_ids: Iterable[str], sums: Sums, sign: int) -> None:
    """Add what the stored rows of these calls have in the sums; calls that are not counted have nothing there."""
    ids = list(call_ids)
    if not ids:
        return
    query = select(calls).where(calls.c.call_id.in_(ids), calls.c.counted).with_for_update()
    counted = (await connection.execute(query)).mappings().all()
    if not counted:
        return
    found = [call["call_id"] for call in counted]
    parts: dict[Table, dict[str, list[Any]]] = {turns: defaultdict(list), usage: defaultdict(list)}
    for table, held in parts.items():
        for row in (await connection.execute(select(table).where(table.c.call_id.in_(found)))).mappings():
            held[row["call_id"]].append(dict(row))
    for row in counted:
        call = dict(row)
        sums.add(call, parts[turns][call["call_id"]], parts[usage][call["call_id"]], sign)
