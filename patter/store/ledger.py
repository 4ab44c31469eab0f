"""What the calls of a day have cost that this engine does not carry: those of other engines, and of its own earlier lives.

It owns that one question to the database; it refuses to know limits. USD by agent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from sqlalchemy import and_, func, not_, select

from patter.store.database import Database
from patter.store.schema import calls

DAY_S = 86_400.0


class DayLedger:
    """Answers for one engine (`engine_id`) that was started at `began_at` (seconds since the epoch)."""

    def __init__(
        self, database: Database, engine_id: str, began_at: float, ready: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        """`ready` is waited for before the first answer: the database may still be told what earlier journals hold."""
        self._database = database
        self._ready = ready
        self._engine_id = engine_id
        self._began_at = began_at

    async def spent(self, day: int) -> Mapping[str, float]:
        """USD by agent of the calls that began on `day` (days since the epoch, UTC), but for this engine's own since it was
        started. Raises StoreError."""
        if self._ready is not None:
            await self._ready()
            self._ready = None
        own = and_(calls.c.engine_id == self._engine_id, calls.c.started_at >= self._began_at)
        question = (
            select(calls.c.agent, func.sum(calls.c.cost_total))
            .where(calls.c.started_at >= day * DAY_S, calls.c.started_at < (day + 1) * DAY_S, not_(own))
            .group_by(calls.c.agent)
        )
        async with self._database.read() as connection:
            return {agent: float(cost or 0.0) for agent, cost in await connection.execute(question)}
