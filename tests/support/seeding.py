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

LOAD_SQLITE = (
    "PRAGMA synchronous = OFF",
    "PRAGMA cache_size = -400000",
    "DROP TRIGGER texts_written",
)
LOADED_SQLITE = (
    "INSERT INTO text_search (text_search, rank) VALUES ('hashsize', 67108864)",
    "INSERT INTO text_search (text_search) VALUES ('rebuild')",
    "INSERT INTO text_search (text_search, rank) VALUES ('hashsize', 1048576)",
)
LOAD_POSTGRESQL = ("SET synchronous_commit = off", "SET session_replication_role = replica")  # no triggers
LOADED_POSTGRESQL = (
    "SET maintenance_work_mem = '512MB'",
    "DROP INDEX text_search_lexemes",
    "INSERT INTO text_search SELECT id, array_to_tsvector(string_to_array(words, ' ')) FROM texts ORDER BY id",
    "CREATE INDEX text_search_lexemes ON text_search USING gin (lexemes) WITH (fastupdate = off)",
)


def _tables(made: Iterable[Stored]) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    sums, calls = DaySums(), iter(made)
    while some := list(islice(calls, PIECE)):
        for one in some:
            sums.add(one)
        yield from rows_of(some)
    yield from sums.rows()


def seed_sqlite(path: Path, made: Iterable[Stored], *, many: bool = False) -> None:
    """Into a file whose tables are there."""
    database = sqlite3.connect(path)
    try:
        [trigger] = database.execute("SELECT sql FROM sqlite_master WHERE name = 'texts_written'").fetchone()
        for statement in LOAD_SQLITE if many else LOAD_SQLITE[:1]:
            database.execute(statement)
        for table, rows in _tables(made):
            names, tuples = whole(table, rows)
            places = ",".join("?" * len(names))
            database.executemany(f"INSERT INTO {table.name} ({','.join(names)}) VALUES ({places})", tuples)
        for statement in (*LOADED_SQLITE, trigger) if many else ():
            database.execute(statement)
        database.commit()
    finally:
        database.close()


async def seed_postgresql(url: str, made: Iterable[Stored], *, many: bool = False) -> None:
    """Into a database whose tables are there. Its statistics are made, as a server makes them by itself in time."""
    connection = await asyncpg.connect(url)
    try:
        for statement in LOAD_POSTGRESQL if many else ():
            await connection.execute(statement)
        for table, rows in _tables(made):
            names, tuples = whole(table, rows)
            await connection.copy_records_to_table(table.name, records=tuples, columns=names)
        for statement in LOADED_POSTGRESQL if many else ():
            await connection.execute(statement, timeout=600)
        await connection.execute("VACUUM ANALYZE", timeout=600)
    finally:
        await connection.close()


async def seed(url: str, home: Path, made: Iterable[Stored], *, many: bool = False) -> None:
    """Into the database at this address as settings give it ("": the file in the home), whose tables are there. `many`:
    nothing is in it, and it is to be quick for many thousands."""
    if url.startswith("postgresql"):
        await seed_postgresql(url, made, many=many)
    else:
        seed_sqlite(Path(url.partition(":///")[2]) if url else home / "calls.db", made, many=many)
