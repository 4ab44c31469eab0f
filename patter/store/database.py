"""The database of calls: a SQLite file or a PostgreSQL server, opened, brought to today's tables, read and written.

It owns connections, transactions and what their failures are called; it refuses to know any table's meaning.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import anyio
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from patter.exceptions import SettingsError, StoreError
from patter.models import Memory
from patter.store.address import database_url, shown
from patter.store.cancelling import ended_at_server, stopped_when_cancelled
from patter.store.failures import Refused, failure
from patter.store.migrations import HEAD, alone, load, upgrade, version

BUSY_MS = 1_500  # another program may hold the file for a moment, such as a backup; longer is told and tried again
READERS = 4  # connections for reading: more only wait for the same disk
LOOPBACK = ("127.0.0.1", "localhost", "::1")  # nothing to hide from itself, and a handshake less
CONNECT_S = 10
OPENING_S = 2.0  # how long a reader waits for a database that is being opened
MIGRATING = 0x70617474  # PostgreSQL's advisory lock: two engines that start at once do not both make the tables

PLANNING = {"enable_seqscan": "off", "max_parallel_workers_per_gather": "0"}
"""Of connections that read: every question has its index, and PostgreSQL would read all texts for a word of many calls."""

SQLITE_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",  # a power cut may take the last transactions: the journals have them
    "PRAGMA foreign_keys = ON",
    f"PRAGMA busy_timeout = {BUSY_MS}",
)


class Database:
    """`async with Database(memory, home) as database:`, or `open()` and `aclose()`. Raises SettingsError for an address
    that cannot be meant; opening, reading and writing raise StoreError for what may be better later."""

    def __init__(self, memory: Memory, home: Path) -> None:
        self._url = database_url(memory.database, home)
        self.is_sqlite = self._url.drivername.startswith("sqlite")
        self.name = shown(self._url)
        if not self.is_sqlite and importlib.util.find_spec("asyncpg") is None:
            raise SettingsError(
                "memory.database is PostgreSQL, and its driver is not installed — pip install 'patter[postgres]'"
            )
        self._writer: AsyncEngine | None = None
        self._reader: AsyncEngine | None = None
        self._opening = anyio.Lock()

    def __repr__(self) -> str:
        return f"<Database {self.name}>"

    @property
    def is_open(self) -> bool:
        """Whether it has been opened: its tables are there."""
        return self._writer is not None

    async def open(self) -> None:
        """Connect, and make or upgrade the tables. Safe to call again, also after it failed. Raises StoreError."""
        async with self._opening:
            if self._writer is None:
                await self._open()

    async def _open(self) -> None:
        writer, reader = self._engines()
        opened = False
        try:
            with self._told():
                if self.is_sqlite:
                    self._make_file()
                async with writer.begin() as connection:
                    if not self.is_sqlite:
                        await connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATING})"))
                    if await connection.run_sync(version) != HEAD:
                        await anyio.to_thread.run_sync(load)
                    async with alone():
                        await connection.run_sync(upgrade)
            opened = True
        except Refused as refused:  # no row was given yet: that would hide the trouble behind some call
            raise StoreError(f"{refused.problem} while its tables were made", fix="see the engine's log") from refused
        finally:
            if not opened:
                with anyio.CancelScope(shield=True):
                    await _dispose(writer, reader)
        self._writer, self._reader = writer, reader

    async def aclose(self) -> None:
        """Close all connections."""
        writer, reader = self._writer, self._reader
        self._writer = self._reader = None
        with anyio.CancelScope(shield=True):
            await _dispose(writer, reader)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.aclose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading: what it sees is of one moment only within one statement. Raises StoreError. A cancelled
        reader's query is stopped."""
        engine = await self._engine("_reader")
        with self._told():
            async with engine.connect() as connection:
                if self.is_sqlite:
                    async with stopped_when_cancelled(connection):
                        yield connection
                else:
                    async with ended_at_server(connection, engine):
                        yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A connection within a transaction, which ends with the block: kept, or undone by an error. Raises StoreError."""
        engine = await self._engine("_writer")
        with self._told():
            async with engine.begin() as connection:
                yield connection

    async def _engine(self, which: str) -> AsyncEngine:
        if self._writer is None:  # whoever is just opening it may be done in a moment
            with anyio.move_on_after(OPENING_S):
                async with self._opening:
                    pass
        engine: AsyncEngine | None = getattr(self, which)
        if engine is None:
            raise StoreError("the database of calls is not open yet", fix="it is tried again by itself")
        return engine

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Failures of drivers as StoreError, in sentences without statements, values and passwords."""
        try:
            yield
        except (PoolTimeout, DBAPIError, InterfaceError, OSError, TimeoutError) as error:
            raise failure(error, self.name) from None
        except SQLAlchemyError as error:  # a mistake of ours: its text may hold values
            raise StoreError(f"the database of calls was used wrongly ({type(error).__name__})") from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] in ("asyncpg", "sqlite3", "aiosqlite"):
                raise failure(error, self.name) from None
            raise

    # ------------------------------------------------------------------ engines

    def _engines(self) -> tuple[AsyncEngine, AsyncEngine]:
        if self.is_sqlite:
            writer = create_async_engine(self._url, pool_size=1, max_overflow=0, hide_parameters=True)
            reader = create_async_engine(self._url, pool_size=READERS, max_overflow=0, hide_parameters=True)
            event.listen(writer.sync_engine, "connect", _set_up)
            event.listen(writer.sync_engine, "begin", _begin)
            event.listen(reader.sync_engine, "connect", _set_up_reader)
            return writer, reader
        return self._server_engine(1, {}), self._server_engine(READERS, PLANNING)

    def _server_engine(self, size: int, settings: Mapping[str, str]) -> AsyncEngine:
        return create_async_engine(
            self._url,
            pool_size=size,
            max_overflow=READERS,
            pool_timeout=CONNECT_S,
            pool_pre_ping=True,  # a server that was restarted costs no query its life
            hide_parameters=True,
            connect_args={
                "timeout": CONNECT_S,
                "command_timeout": 60,
                "server_settings": {"application_name": "patter", "jit": "off", **settings},
                **({"ssl": False} if self._url.host in LOOPBACK and "ssl" not in self._url.query else {}),
            },
        )

    def _make_file(self) -> None:
        """The database of SQLite, for the eyes of its user only: what callers said stands in it."""
        path = Path(str(self._url.database))
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # its -wal and -shm take after it
        except OSError as error:
            raise StoreError(
                f"the database of calls cannot be made in {path.parent}: {error.strerror}",
                fix="give it a folder that this user may write",
            ) from None


async def _dispose(*engines: AsyncEngine | None) -> None:
    for engine in dict.fromkeys(engines):
        if engine is not None:
            await engine.dispose()


def _set_up(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say so, tables' making included
    cursor = connection.cursor()
    for pragma in SQLITE_PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _set_up_reader(connection: Any, _: Any) -> None:
    _set_up(connection, _)
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only = ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # who is to write waits for its turn here, not in the middle
