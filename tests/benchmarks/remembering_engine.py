"""`python -m tests.benchmarks.remembering_engine AGENTS HOME`: an engine process with its whole memory, its engines faked.

Server, session, pipeline, transports and everything that `Records` joins are the real ones; only hearing, thinking and speaking
take fixed times and nothing of the processor. SIGUSR1 makes it count itself, into HOME/census.json.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import signal
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread

from patter import bus
from patter.bus import Bus
from patter.clock import Clock
from patter.observe.prices import Prices
from patter.records import Records
from patter.server.host import Options, Parts, host
from patter.settings import load
from tests.benchmarks.faked_engine import opener
from tests.benchmarks.processes import rss_mb

POOL = "AnyIO worker"  # threads that are kept for a while after their last work
BACKLOG = 1_000  # of the bus, which is bounded: that it fills up is no growth, and takes long with the usual 20,000
KEPT_OPEN = "RequestHandler.start"  # the task of a connection, which is kept for a while after its last request


def census(home: Path) -> None:
    """What this process holds now, garbage collected and free memory given back."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    tasks = Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())
    top = tracemalloc.take_snapshot().statistics("lineno")[:15] if tracemalloc.is_tracing() else []
    told = {
        "rss_mb": rss_mb(os.getpid()),
        "files": len(os.listdir("/proc/self/fd")) - tasks[KEPT_OPEN],
        "threads": sum(not thread.name.startswith(POOL) for thread in threading.enumerate()),
        "tasks": {name: count for name, count in tasks.items() if name != KEPT_OPEN},
        "top": [str(line) for line in top],
    }
    fresh = home / "census.new"
    fresh.write_text(json.dumps(told))
    fresh.rename(home / "census.json")


@asynccontextmanager
async def parts(home: Path, stream: Bus, clock: Clock) -> AsyncIterator[Parts]:
    """All that watches real calls, and calls that cost next to nothing."""
    settings = await anyio.to_thread.run_sync(load, home)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, census, home)

    async def warm() -> None:
        """Nothing to load."""

    async with Records(home, stream, clock, Prices.load(), settings) as records:
        rungs = {"llm": {"name": "fixed", "state": "ready", "note": ""}}
        yield Parts(opener(stream, clock, records.taps), lambda: rungs, warm, kept=records.kept())


if __name__ == "__main__":
    agents, home = sys.argv[1:3]
    if os.environ.get("SOAK"):
        bus.BACKLOG = BACKLOG
    if os.environ.get("SOAK") == "trace":
        tracemalloc.start(5)
    sys.exit(host(Options(Path(home), Path(agents), "0.benchmark"), parts))
