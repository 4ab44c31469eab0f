"""`python -m tests.benchmarks.remembering_engine AGENTS HOME`: an engine process with its whole memory, its engines faked.

Server, session, pipeline, transports and everything that `Records` joins are the real ones; only hearing, thinking and speaking
take fixed times and nothing of the processor.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread

from patter.bus import Bus
from patter.clock import Clock
from patter.observe.prices import Prices
from patter.records import Records
from patter.server.host import Options, Parts, host
from patter.settings import load
from tests.benchmarks.faked_engine import opener


@asynccontextmanager
async def parts(home: Path, bus: Bus, clock: Clock) -> AsyncIterator[Parts]:
    """All that watches real calls, and calls that cost next to nothing."""
    settings = await anyio.to_thread.run_sync(load, home)

    async def warm() -> None:
        """Nothing to load."""

    async with Records(home, bus, clock, Prices.load(), settings) as records:
        rungs = {"llm": {"name": "fixed", "state": "ready", "note": ""}}
        yield Parts(opener(bus, clock, records.taps), lambda: rungs, warm, kept=records.kept())


if __name__ == "__main__":
    agents, home = sys.argv[1:3]
    sys.exit(host(Options(Path(home), Path(agents), "0.benchmark"), parts))
