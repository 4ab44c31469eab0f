"""The end of a query of SQLite whose reader was cancelled: it runs in a thread, which no cancellation reaches.

It owns that one signal; it refuses to know queries. Without it the connection would stay taken until the query is through.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from sqlalchemy.ext.asyncio import AsyncConnection

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


AGAIN_S = 0.02  # a query may still wait for its thread when it is cancelled first, and an interruption of nothing is nothing


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
