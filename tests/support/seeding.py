"""Made-up calls into a database, the quickest way that each has.

It owns that way in; it refuses to know what the calls are like.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import Table

from tests.support.stored_calls import DaySums, Stored, rows_of, whole

PIECE = 5_000  # calls at once


def _tables(made: Iterable[Stored]) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    sums, calls = DaySums(), iter(made)
    while some := list(islice(calls, PIECE)):
        for one in some:
            sums.add(one)
        yield from rows_of(some)
    yield from sums.rows()


def seed_sqlite(path: Path, made: Iterable[Stored]) -> None:
    """Into a file whose tables are there."""
    database = sqlite3.connect(path)
    try:
        database.execute("PRAGMA synchronous = OFF")
        for table, rows in _tables(made):
            names, tuples = whole(table, rows)
            places = ",".join("?" * len(names))
            database.executemany(f"INSERT INTO {table.name} ({','.join(names)}) VALUES ({places})", tuples)
        database.commit()
    finally:
        database.close()


async def seed_postgresql(url: str, made: Iterable[Stored]) -> None:
    """Into a database whose tables are there. Its statistics are made, as a server makes them by itself in time."""
    connection = await asyncpg.connect(url)
    try:
        for table, rows in _tables(made):
            names, tuples = whole(table, rows)
            await connection.copy_records_to_table(table.name, records=tuples, columns=names)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def seed(url: str, home: Path, made: Iterable[Stored]) -> None:
    """Into the database at this address as settings give it ("": the file in the home), whose tables are there."""
    if url.startswith("postgresql"):
        await seed_postgresql(url, made)
    else:
        seed_sqlite(Path(url.partition(":///")[2]) if url else home / "calls.db", made)
