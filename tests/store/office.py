"""An engine's memory without its calls: bus, journal, measurements and keeper of one home, and calls told as events.

It owns what such calls say; it refuses to look into the database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from sqlalchemy import Table, select

from patter.bus import Bus
from patter.clock import Clock
from patter.events import (
    AgentSaid,
    CallEnded,
    CallerSaid,
    CallPlaced,
    CallStarted,
    ConnectionUsed,
    Event,
    FaultOccurred,
    Interrupted,
    LineMeasured,
    MemoryChanged,
    ReplyReached,
    ReplyStarted,
    ToolCalled,
    ToolReturned,
    UsageMeasured,
)
from patter.models import Memory
from patter.observe.journal import Journal
from patter.observe.prices import Prices
from patter.observe.reader import MetricsReader
from patter.store import schema
from patter.store.database import Database
from patter.store.keeper import Keeper

PRICES = Prices.load()
DAY = 20_000 * 86_400.0
SUMS = (schema.days, schema.day_reasons, schema.day_latency, schema.day_usage)


@dataclass
class Office:
    """Made by `office(…)`. `told` are the MemoryChanged of this engine's life."""

    home: Path
    bus: Bus
    journal: Journal
    database: Database
    keeper: Keeper
    told: list[MemoryChanged] = field(default_factory=list)

    def tell(self, *events: Event) -> None:
        """Publish these."""
        for event in events:
            self.bus.publish(event)

    def call(self, call_id: str, turns: int = 2, **changed: Any) -> None:
        """A whole call."""
        self.tell(*a_call(call_id, turns, **changed))

    async def rows(self, table: Table) -> list[dict[str, Any]]:
        """All rows of a table, in the order of its key."""
        async with self.database.read() as connection:
            found = await connection.execute(select(table).order_by(*table.primary_key.columns))
            return [dict(row) for row in found.mappings()]

    async def sums(self) -> dict[str, list[dict[str, Any]]]:
        """The tables of sums; money and seconds to nine digits, as additions come in any order."""
        return {table.name: [_rounded(row) for row in await self.rows(table)] for table in SUMS}

    async def written(self) -> None:
        """Wait until everything is in the database, however busy the machine is."""
        with anyio.fail_after(50):
            while not await self.keeper.settled():
                await anyio.sleep(0.05)


@asynccontextmanager
async def office(
    home: Path, memory: Memory, *, pauses_s: Iterable[float] = (0.05,), held: int = 500, prices: Prices = PRICES
) -> AsyncIterator[Office]:
    """One life of an engine's memory."""
    clock = Clock()
    bus = Bus(clock)
    journal = Journal(home, told=bus.publish)
    database = Database(memory, home)
    keeper = Keeper(database, home, prices, bus, clock, engine_id="one", pauses_s=tuple(pauses_s), held=held)
    made = Office(home, bus, journal, database, keeper)
    bus.add_sink(lambda event: made.told.append(event) if isinstance(event, MemoryChanged) else None)
    async with keeper:
        bus.add_sink(journal)
        bus.add_sink(MetricsReader(bus, prices))
        bus.add_sink(keeper)
        try:
            yield made
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(journal.close)


def a_call(
    call_id: str, turns: int = 2, *, at: float = DAY, agent: str = "amy", reason: Any = "agent_ended"
) -> list[Event]:
    """The events of a call of `turns` turns of 10 s each: the caller waits half a second for every answer."""
    events: list[Event] = [
        CallStarted(call_id=call_id, at=at, caller="+15550001111", callee="+15550002222", agent=agent, agent_version="v1",
                    telephony="twilio", line="mulaw/8000", stt="deepgram", llm="openai", tts="openai",
                    provider_mode="pipeline", custom_params={"plan": "gold"}),
        ReplyStarted(call_id=call_id, at=at, turn=0, reply_id=1, kind="greeting"),
        ReplyReached(call_id=call_id, at=at + 0.25, reply_id=1, stage="playing", reached_at=at + 0.25),
        AgentSaid(call_id=call_id, at=at + 2, turn=0, reply_id=1, text="Hello, this is Amy.", kind="greeting"),
    ]  # fmt: skip
    for turn in range(1, turns + 1):
        events += _turn(call_id, at + 10.0 * turn, turn, turn + 1)
    end = at + 10.0 * (turns + 1)
    return [
        *events,
        LineMeasured(call_id=call_id, at=end, frames=500, lost=3, dropped=1, jitter_ms=2.5, underruns=1),
        UsageMeasured(call_id=call_id, at=end, turn=0, stage="telephony", provider="twilio", model="inbound",
                      amounts={"seconds": end - at}),
        CallEnded(call_id=call_id, at=end, reason=reason, duration_s=end - at),
    ]  # fmt: skip


def _turn(call_id: str, at: float, turn: int, reply_id: int) -> list[Event]:
    tool = f"tool{turn}"
    return [
        CallerSaid(call_id=call_id, at=at, turn=turn, text=f"Question number {turn}?", speech_ended_at=at - 0.2),
        ConnectionUsed(call_id=call_id, at=at, turn=turn, stage="llm", provider="openai", reused=turn > 1, ms=80.0),
        ToolCalled(call_id=call_id, at=at + 0.1, turn=turn, tool_id=tool, name="look_up", arguments='{"what": "table"}'),
        ToolReturned(call_id=call_id, at=at + 0.2, tool_id=tool, name="look_up", ok=True, output="found", ms=100.0),
        UsageMeasured(call_id=call_id, at=at + 0.2, turn=turn, stage="stt", provider="deepgram", model="nova-3",
                      amounts={"audio_seconds": 4.0}),
        UsageMeasured(call_id=call_id, at=at + 0.2, turn=turn, stage="llm", provider="openai", model="gpt-4o-mini",
                      amounts={"input_tokens": 300.0, "cached_tokens": 100.0, "output_tokens": 40.0}),
        UsageMeasured(call_id=call_id, at=at + 0.2, turn=turn, stage="tts", provider="nobody", model="voice",
                      amounts={"characters": 20.0}),
        ReplyStarted(call_id=call_id, at=at + 0.2, turn=turn, reply_id=reply_id),
        ReplyReached(call_id=call_id, at=at + 0.3, reply_id=reply_id, stage="playing", reached_at=at + 0.3),
        AgentSaid(call_id=call_id, at=at + 3, turn=turn, reply_id=reply_id, text=f"Answer number {turn}."),
    ]  # fmt: skip


def rings(call_id: str, at: float = DAY) -> Event:
    """An outbound call begins to ring."""
    return CallPlaced(call_id=call_id, at=at, caller="+1555", callee="+1666", agent="amy", telephony="telnyx")


def interrupted(call_id: str, reply_id: int, turn: int, at: float) -> list[Event]:
    """The caller takes the floor."""
    return [
        Interrupted(call_id=call_id, at=at, turn=turn, reply_id=reply_id, heard="Answer", dropped="number", heard_ms=300,
                    voice_began_at=at - 0.3, stopped_at=at),
        FaultOccurred(call_id=call_id, at=at, stage="stt", provider="deepgram", problem="slow", fix="wait"),
    ]  # fmt: skip


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 9) if isinstance(value, float) else value for name, value in row.items()}
