"""That every page of the history is answered by indexes, which is what the benchmark's times come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import sqlite

from patter.models import Memory
from patter.store.database import Database
from patter.store.filters import ORDERS, Filter
from patter.store.queries import Ended
from tests.support.seeding import seed
from tests.support.stored_calls import stored_calls

pytestmark = pytest.mark.anyio


async def test_pages_and_totals_are_read_of_indexes_alone(tmp_path: Path) -> None:
    async with Database(Memory(), tmp_path) as database:
        await seed("", tmp_path, stored_calls(200))
        kinds: tuple[dict[str, Any], ...] = (
            {}, {"agent": "billing"}, {"reason": "busy", "direction": "inbound"}, {"q": "thank you"}, {"number": "5550"},
            {"telephony": "telnyx", "agent": "billing"},
        )  # fmt: skip
        filters = [Filter(order=order, **some) for order in (ORDERS[0], ORDERS[2]) for some in kinds]
        async with database.read() as connection:
            for wanted in filters:
                ended = Ended(wanted, sqlite=True)
                pages = (
                    (ended.finds(), ended.ranked(50, 100)) if wanted.searches else (ended.count(), ended.page(50, 100))
                )
                for asked in pages:
                    compiled = asked.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
                    plan = [
                        str(row[3])
                        for row in await connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}".replace(":", "\\:")))
                    ]
                    reads = [step for step in plan if step.startswith(("SCAN calls", "SEARCH calls"))]
                    assert all("INDEX" in step for step in reads), (wanted, plan)
                    if reads and not wanted.searches:
                        assert any("COVERING INDEX" in step for step in reads), (wanted, plan)
                    assert not any(step.startswith(("SCAN texts", "SCAN turns")) for step in plan), (wanted, plan)
