"""The history of calls: pages of a list, one call whole, everything for an export.

It owns how calls of the memory and of the database become one list; it refuses to know tables' indexes and the API's words.
Calls that go on, and those that ended a moment ago and are not written yet, come from the keeper; what is over, from the
database. A moment's list may be a few milliseconds older than another's: nothing is locked for a reader.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Column, Select, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from patter.clock import Clock
from patter.store.database import Database
from patter.store.filters import Filter
from patter.store.queries import FOUND, TERMS_MANY, Ended, others, spread, terms_of, unfinished
from patter.store.schema import agent_versions, calls, texts, tool_calls, turns, usage
from patter.store.search import order_floor, order_key
from patter.store.shapes import call_json, detail_json

FIRST_PIECE, PIECE = 20, 200  # calls that an export reads at once: the event loop is busy with them for a few ms
UNFINISHED = 1_000  # calls that are not over in the database: many more than an engine carries

LOOKED_UP = 10.0  # how much longer it takes to ask whether a search finds one call than to sort one find

_PARTS: dict[Table, tuple[Column[Any], ...]] = {
    turns: (turns.c.number,),
    usage: (usage.c.stage, usage.c.provider, usage.c.model, usage.c.amount),
    tool_calls: (tool_calls.c.at, tool_calls.c.tool_id),
}


class Memory(Protocol):
    """What is known of calls before the database knows it: the keeper."""

    def unwritten(self) -> list[tuple[dict[str, Any], Sequence[str]]]:
        """The rows of calls that go on or are not written yet, with the lines of their transcripts."""

    def live(self) -> list[dict[str, Any]]:
        """The rows of the calls that go on or ring."""

    def detail(self, call_id: str) -> dict[str, Any] | None:
        """One call of the memory whole."""


class NoMemory:
    """A memory that has nothing, for reading a database by itself."""

    def unwritten(self) -> list[tuple[dict[str, Any], Sequence[str]]]:
        """Nothing."""
        return []

    def live(self) -> list[dict[str, Any]]:
        """Nothing."""
        return []

    def detail(self, call_id: str) -> dict[str, Any] | None:
        """Nothing."""
        return None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows as the API gives them, and how many calls there are in all: of a search at least so many if `more`."""

    rows: list[dict[str, Any]]
    total: int
    more: bool = False


class History:
    """Everything that is asked of the calls. All methods that read the database raise StoreError."""

    def __init__(self, database: Database, memory: Memory, home: Path, clock: Clock) -> None:
        self._database = database
        self._memory = memory
        self._home = home
        self._clock = clock

    def live(self) -> list[dict[str, Any]]:
        """The rows of the calls that go on or ring, newest first: from memory alone."""
        return self._memory.live()

    async def page(self, wanted: Filter, limit: int, offset: int) -> Page:
        """`limit` rows after the first `offset`. Of the calls that a search finds, `FOUND` are counted and shown."""
        held = self._memory.unwritten()
        rows: list[dict[str, Any]] = []
        async with self._database.read() as connection:
            first = await self._unwritten(connection, wanted, held)
            ended = await self._ended(connection, wanted, held)
            start = max(0, offset - len(first))  # of the database's rows: so many at most stand before the page
            limit_there = offset - start + limit if limit else 0
            if ended.nothing:
                total, more = 0, False
            elif wanted.searches:
                rows, total, more = await self._found(connection, ended, limit_there, start)
            else:
                total, more = int(await connection.scalar(ended.count()) or 0), False
                rows = await _read(connection, ended.page(limit_there, start)) if start < total and limit else []
        now = self._clock.now()
        rows = [call_json(row, self._home, now) for row in rows]
        known = {row["call_id"] for row in first}
        rows = [row for row in rows if row["call_id"] not in known]  # it was written between the two questions
        return Page(_merged(wanted, first, rows, start, offset)[:limit], total + len(first), more)

    async def detail(self, call_id: str) -> dict[str, Any] | None:
        """One call with all that is kept of it; None if there is none. Calls of the memory need no database."""
        if (held := self._memory.detail(call_id)) is not None:
            return held
        async with self._database.read() as connection:
            rows = await _read(connection, select(calls).where(calls.c.call_id == call_id))
            if not rows:
                return None
            text = await _read(connection, select(texts).where(texts.c.call_id == call_id))
            turn_rows, usage_rows, tool_rows = [
                await _read(connection, select(table).where(table.c.call_id == call_id).order_by(*order))
                for table, order in _PARTS.items()
            ]
        now = self._clock.now()
        return detail_json(rows[0], text[0] if text else None, turn_rows, usage_rows, tool_rows, self._home, now)

    async def export(self, wanted: Filter, *, transcripts: bool = False) -> AsyncIterator[list[dict[str, Any]]]:
        """All rows in pieces, each read by itself, so that a slow reader holds nothing open: first the calls of the memory,
        then those that are over, in order. A call that ends meanwhile is given once, as it was at first."""
        held = self._memory.unwritten()
        async with self._database.read() as connection:
            ended = await self._ended(connection, wanted, held)
            first = await self._unwritten(connection, wanted, held)
            await self._weigh(connection, ended)
        known = {row["call_id"] for row in first}
        spoken = {row["call_id"]: self._memory.detail(row["call_id"]) for row in first} if transcripts else {}
        if first:
            more = [(spoken.get(row["call_id"]) or {}).get("transcript", []) for row in first]
            yield (
                [row | {"transcript": lines} for row, lines in zip(first, more, strict=True)] if transcripts else first
            )
        last: Sequence[float] | None = None
        size = FIRST_PIECE
        while not ended.nothing:
            async with self._database.read() as connection:
                found = await self._piece(connection, ended, last, size)
                lines = await _transcripts(connection, [row["order_key"] for row in found]) if transcripts else {}
            if not found:
                return
            last, size = ended.values(found[-1]), PIECE
            rows = [call_json(row, self._home, self._clock.now()) for row in found]
            if transcripts:
                rows = [
                    made | {"transcript": json.loads(lines.get(row["order_key"], "[]"))}
                    for made, row in zip(rows, found, strict=True)
                ]
            yield [row for row in rows if row["call_id"] not in known]

    async def agent_versions(self, agent: str) -> list[dict[str, Any]]:
        """The versions of an agent that took calls, the latest first: version, text, first_used_at, last_used_at, calls."""
        columns = [column for column in agent_versions.c if column.name != "agent"]
        asked = select(*columns).where(agent_versions.c.agent == agent).order_by(agent_versions.c.last_used_at.desc())
        async with self._database.read() as connection:
            return await _read(connection, asked.limit(1_000))

    # ------------------------------------------------------------------ parts

    async def _ended(
        self, connection: AsyncConnection, wanted: Filter, held: list[tuple[dict[str, Any], Sequence[str]]]
    ) -> Ended:
        over = [order_key(row["started_at"], row["call_id"]) for row, _ in held if row["state"] == "ended"]
        known: dict[str, list[str]] = {}
        sqlite = self._database.is_sqlite
        for start in wanted.question.long_starts() if sqlite and wanted.indexed else ():
            found = list(await connection.scalars(terms_of(start)))
            if len(found) <= TERMS_MANY:
                known[start] = found
        return Ended(wanted, over, sqlite=sqlite, known=known)

    async def _unwritten(
        self, connection: AsyncConnection, wanted: Filter, held: list[tuple[dict[str, Any], Sequence[str]]]
    ) -> list[dict[str, Any]]:
        """The rows that are not in the database as calls that are over, in order."""
        known = {row["call_id"] for row, _ in held}
        found = await _read(connection, unfinished(UNFINISHED)) if await connection.scalar(others()) else []
        more = [call_json(row, self._home, self._clock.now()) for row in found if row["call_id"] not in known]
        rows = [row for row, lines in [*held, *((row, ()) for row in more)] if wanted.matches(row, lines)]
        return sorted(rows, key=wanted.place)

    async def _found(
        self, connection: AsyncConnection, ended: Ended, limit: int, offset: int
    ) -> tuple[list[dict[str, Any]], int, bool]:
        """A page of what a search finds, in any order; how many there are up to `FOUND`, and whether there are more."""
        finds, more = await self._finds(connection, ended, offset + limit)
        total = len(finds)
        limit = min(limit, total - offset)
        if limit <= 0:
            return [], total, more
        if ended.wanted.by_age:
            keys = finds[offset : offset + limit]
        else:
            walk = more and await self._walks(connection, ended, finds, offset + limit)
            asked = ended.ranked(limit, offset, None if more else finds, walk=walk)
            keys = list(await connection.scalars(asked))
        return await _read(connection, ended.rows(keys)), total, more

    async def _finds(self, connection: AsyncConnection, ended: Ended, rows: int) -> tuple[list[int], bool]:
        """The keys of the first finds, `FOUND` at most and `rows` at least, and whether there are more."""
        await self._weigh(connection, ended)
        reach = ended.reach(rows)
        edge = await connection.scalar(ended.edge(reach)) if reach else None
        finds = list(await connection.scalars(ended.finds(edge=edge)))
        if edge is not None and len(finds) > rows:
            return finds[:FOUND], True
        if edge is not None:
            finds = list(await connection.scalars(ended.finds()))
        return finds[:FOUND], len(finds) > FOUND

    async def _weigh(self, connection: AsyncConnection, ended: Ended) -> None:
        """Let a search of PostgreSQL choose its way."""
        if ended.wanted.indexed and not ended.nothing and not self._database.is_sqlite:
            found, *each = (await connection.execute(ended.sample())).one()
            ended.weigh(found, each)

    async def _walks(self, connection: AsyncConnection, ended: Ended, finds: list[int], rows: int) -> bool:
        """Whether walking along an order until so many `rows` are found is quicker than sorting all finds, whose number is
        guessed from how far back the first `finds` reach."""
        newest, oldest, count = (await connection.execute(spread())).one()
        if not count or newest is None:
            return False
        wanted = ended.wanted
        top = min(newest, order_floor(wanted.until)) if wanted.until is not None else newest
        bottom = max(oldest, order_floor(wanted.since)) if wanted.since is not None else oldest
        found = min(count, len(finds) * max(1.0, (top - bottom) / max(1, top - finds[-1])))
        walked = rows * count / found
        return bool(walked * LOOKED_UP < found)

    async def _piece(
        self, connection: AsyncConnection, ended: Ended, last: Sequence[float] | None, size: int
    ) -> list[dict[str, Any]]:
        """The next rows of an export, in order."""
        if not (ended.wanted.searches and ended.wanted.by_age):
            return await _read(connection, ended.after(last, size))
        asked = ended.finds(limit=size, last=last[0] if last else None)
        keys = list(await connection.scalars(asked))
        place = {key: at for at, key in enumerate(keys)}
        return (
            sorted(await _read(connection, ended.rows(keys)), key=lambda row: place[row["order_key"]]) if keys else []
        )


def _merged(
    wanted: Filter, first: list[dict[str, Any]], rows: list[dict[str, Any]], start: int, offset: int
) -> list[dict[str, Any]]:
    """The whole list from number `offset` on: `first` and, from number `start` of their own, the database's `rows`."""
    rows = sorted(rows, key=wanted.place)
    if start == 0:
        return sorted([*first, *rows], key=wanted.place)[offset:]
    if not rows:
        return []  # further down than there are any
    before = sum(wanted.place(row) < wanted.place(rows[0]) for row in first)
    return sorted([*first[before:], *rows], key=wanted.place)[offset - start - before :]


async def _read(connection: AsyncConnection, asked: Select[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in (await connection.execute(asked)).mappings()]


async def _transcripts(connection: AsyncConnection, keys: list[int]) -> dict[int, str]:
    asked = select(texts.c.id, texts.c.transcript).where(texts.c.id.in_(keys))
    return {row.id: row.transcript for row in await connection.execute(asked)}
