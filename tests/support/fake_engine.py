"""`python -m tests.support.fake_engine AGENTS HOME [PORT]`: a whole engine process whose calls are fakes.

The process is the real one (home, signals, log, journal, server); only what calls are made of is not.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from patter.bus import Bus
from patter.clock import Clock
from patter.observe.prices import Prices
from patter.records import Records
from patter.server.host import Options, Parts, host
from tests.support.fake_calls import FakeCalls


@asynccontextmanager
async def parts(home: Path, bus: Bus, clock: Clock) -> AsyncIterator[Parts]:
    """Fake calls with all that watches real ones."""
    calls = FakeCalls(bus)

    async def warm() -> None:
        raise RuntimeError("the engines of a fake cannot be loaded: my card is 4111")

    async with Records(home, bus, clock, Prices.load(), recording=False) as records:
        yield Parts(calls.open_call, calls.rungs, warm, kept=records.kept())


if __name__ == "__main__":
    agents, home, port, linger = (*sys.argv[1:], *("0", "")[len(sys.argv) - 3 :])
    options = Options(Path(home), Path(agents), "0.test", int(port), linger_s=float(linger) if linger else None)
    sys.exit(host(options, parts))
