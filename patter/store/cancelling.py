"""The end of a query whose reader was cancelled: SQLite's runs in a thread, PostgreSQL's in another process, and no cancellation
reaches either.

It owns these two signals; it refuses to know queries. Without them the work would go on until the query is through.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from patter.exceptions import plain_errors


@asynccontextmanager
async def stopped_when_cancelled(connection: AsyncConnection) -> AsyncIterator[None]:
    """While this is open, a cancellation from outside interrupts whatever the connection is doing, at once: the reader itself
    cannot, it waits for its thread."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    watching = _Watching()
    with plain_errors():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watching.interrupt, driver)
            try:
                yield
            finally:
                watching.over = True
            tasks.cancel_scope.cancel()


GIVE_UP_S = 5.0


@asynccontextmanager
async def ended_at_server(connection: AsyncConnection, engine: AsyncEngine) -> AsyncIterator[None]:
    """While this is open, a cancellation makes the server give up what the connection had asked: the driver hangs up before it
    has said so, and the server would notice that only when it has an answer."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    server = driver.get_server_pid()
    try:
        yield
    except anyio.get_cancelled_exc_class():
        if connection.invalidated or driver.is_closed():  # else it was between two queries, and serves others again
            with anyio.CancelScope(shield=True), anyio.move_on_after(GIVE_UP_S), suppress(SQLAlchemyError, OSError):
                async with engine.connect() as another:
                    await another.execute(text("SELECT pg_cancel_backend(:server)"), {"server": server})
        raise


AGAIN_S = 0.02
"""A query may still wait for its thread when it is cancelled first, and an interruption of nothing is nothing."""


class _Watching:
    def __init__(self) -> None:
        self.over = False

    async def interrupt(self, driver: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                while not self.over:
                    await driver.interrupt()
                    await anyio.sleep(AGAIN_S)
