"""How long the API's pages take with many stored calls, over real HTTP.

Run: `python -m tests.benchmarks.history [--calls 100000] [--database sqlite|postgresql] [--requests 40] [--only PAGE]`. The
calls are made from a seed (about six turns each, 90 days, six agents), and every kind of page is asked for again and again,
each time of another place, word or number. Bar: p95 of 50 ms for every one. PostgreSQL is one of our own, started for this.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import anyio
from aiohttp import web
from sqlalchemy import func, select

from patter.clock import Clock
from patter.models import Memory
from patter.server.answers import sentences
from patter.server.api.analytics_api import AnalyticsApi
from patter.server.api.export_api import ExportApi
from patter.server.api.history_api import HistoryApi
from patter.server.endpoint import mount
from patter.store.analytics import Analytics
from patter.store.database import Database
from patter.store.history import History, NoMemory
from patter.store.queries import FOUND
from patter.store.schema import calls
from tests.support.databases import Postgres
from tests.support.seeding import seed
from tests.support.stored_calls import AGENTS, DAY_S, REASONS, SYLLABLES, Stored, many_calls

BAR_MS = 50.0
UNTIL = 20_000 * DAY_S
WARM_UP = 3
COMMON = ("thank you", "a", "help", "appointment", "you", "question", "possible", "is")


@asynccontextmanager
async def reading(database: Database, home: Path) -> AsyncIterator[str]:
    """The API of reading by itself on a free port; yields its address."""
    history = History(database, NoMemory(), home, Clock())
    app = web.Application(middlewares=[sentences])
    mount(app, HistoryApi(history, home).endpoints())
    mount(app, AnalyticsApi(Analytics(database), list).endpoints())
    mount(app, ExportApi(history).endpoints())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield "http://127.0.0.1:{1}/api/v1".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


@dataclass
class Sample:
    """What is known of the stored calls, to ask for."""

    count: int
    chosen: list[Stored]


def pages(sample: Sample, chance: random.Random) -> dict[str, Callable[[], str]]:
    """Every kind of page, and how the next address of it is made."""
    deepest = max(0, sample.count - 100)

    def rare() -> str:
        return "".join(chance.choice(SYLLABLES) for _ in range(3))

    def one() -> Stored:
        return chance.choice(sample.chosen)

    def digits(least: int, most: int) -> str:
        number = one().call[chance.choice(("caller", "callee"))].strip("+")
        size = min(len(number), chance.randint(least, most))
        start = chance.randint(0, len(number) - size)
        return str(number[start : start + size])

    def span(days: int) -> str:
        end = UNTIL - chance.randrange(3) * DAY_S
        return f"from={end - days * DAY_S}&to={end}"

    return {
        "first page": lambda: "calls?limit=50",
        "page of 100": lambda: "calls?limit=100&offset=100",
        "deep page": lambda: f"calls?limit=100&offset={deepest - chance.randrange(50)}",
        "middle page": lambda: f"calls?limit=100&offset={deepest // 2 + chance.randrange(50)}",
        "oldest first": lambda: f"calls?order=started_at&offset={chance.randrange(100)}",
        "by cost": lambda: f"calls?order=-cost_total&offset={chance.randrange(100)}",
        "by cost, deep": lambda: f"calls?order=-cost_total&offset={deepest}",
        "by duration": lambda: f"calls?order=-duration_s&offset={chance.randrange(100)}",
        "by latency": lambda: f"calls?order=-p95_latency_ms&offset={chance.randrange(100)}",
        "by agent": lambda: f"calls?agent={chance.choice(AGENTS)}",
        "by agent, deep": lambda: f"calls?agent={AGENTS[0]}&offset={int(deepest * 0.3)}",
        "by unknown agent": lambda: f"calls?agent=nobody{chance.random()}",
        "by direction": lambda: f"calls?direction={chance.choice(('inbound', 'outbound', 'test'))}",
        "by state": lambda: f"calls?state={chance.choice(('ended', 'live'))}",
        "by reason": lambda: f"calls?reason={chance.choice(REASONS)}",
        "by carrier": lambda: f"calls?telephony={chance.choice(('twilio', 'telnyx', 'text'))}",
        "by range": lambda: f"calls?{span(chance.randint(1, 60))}",
        "by all at once": lambda: (
            f"calls?agent=bookings&direction=inbound&reason=transferred&{span(30)}&order=-cost_total"
        ),
        "number, 1-3 digits": lambda: f"calls?number={digits(1, 3)}",
        "number, 4-7 digits": lambda: f"calls?number={digits(4, 7)}",
        "number, whole": lambda: f"calls?number=%2B{digits(11, 11)}",
        "number of nobody": lambda: f"calls?number=00{chance.randrange(10**7):07}0",
        "common word": lambda: f"calls?q={chance.choice(COMMON)}",
        "common word, deep": lambda: f"calls?q=you&limit=100&offset={min(deepest // 2, FOUND - 100)}",
        "rare word": lambda: f"calls?q={rare()}",
        "word of nobody": lambda: f"calls?q=xylophone{chance.randrange(999)}",
        "three words": lambda: f"calls?q={rare()[:2]} question {chance.choice(COMMON)}",
        "start of an id": lambda: f"calls?q={one().call['call_id'][:8]}",
        "word and filters": lambda: f"calls?q={chance.choice(COMMON)}&agent={chance.choice(AGENTS)}&{span(30)}",
        "word by cost": lambda: f"calls?q={chance.choice(COMMON)}&order=-cost_total",
        "active": lambda: "calls/active",
        "one call": lambda: f"calls/{one().call['call_id']}",
        "overview, 7 days": lambda: f"analytics/overview?{span(7)}",
        "overview, 90 days": lambda: f"analytics/overview?{span(90)}",
        "overview, 365 days": lambda: f"analytics/overview?{span(365)}",
        "overview of an agent": lambda: f"analytics/overview?{span(90)}&agent={chance.choice(AGENTS[:2])}",
        "costs, 90 days": lambda: f"analytics/costs?{span(90)}",
        "costs, 365 days": lambda: f"analytics/costs?{span(365)}",
        "latency, 90 days": lambda: f"analytics/latency?{span(90)}",
        "latency, 365 days": lambda: f"analytics/latency?{span(365)}",
        "agent's versions": lambda: f"agents/{AGENTS[0]}/versions",
        "export csv, first byte": lambda: "export/csv",
        "export json, first byte": lambda: "export/json",
        "export a search": lambda: f"export/csv?q={rare()}",
    }


async def measure(
    base: str, made: dict[str, Callable[[], str]], requests: int
) -> dict[str, tuple[float, float, float, float]]:
    """For every page: the first answer, p50, p95 in ms, and processor ms a request."""
    found = {}
    async with aiohttp.ClientSession() as client:
        for name, address in made.items():
            times, used = [], 0.0
            for number in range(requests + WARM_UP):
                url = f"{base}/{address()}"
                begun, before = time.perf_counter(), time.process_time()
                async with client.get(url) as answer:
                    assert answer.status == 200, (url, await answer.text())
                    if "export" in name:
                        await answer.content.readany()
                        times.append((time.perf_counter() - begun) * 1000)
                        answer.close()
                        await anyio.sleep(0.1)  # what is still read of it is not the next one's
                    else:
                        await answer.read()
                        times.append((time.perf_counter() - begun) * 1000)
                if number >= WARM_UP:
                    used += (time.process_time() - before) * 1000
            first, steady = max(times[:WARM_UP]), sorted(times[WARM_UP:])
            found[name] = (first, steady[len(steady) // 2], steady[-(-len(steady) * 95 // 100) - 1], used / requests)
            print(f"{name:26} first {first:7.1f}  p50 {found[name][1]:6.1f}  p95 {found[name][2]:6.1f} ms"
                  f"  cpu {found[name][3]:5.1f} ms{'   OVER' if found[name][2] > BAR_MS else ''}", flush=True)  # fmt: skip
    return found


def remembered(made: Iterable[Stored], count: int, chosen: list[Stored]) -> Iterator[Stored]:
    """The calls, some hundred of which are kept to be asked for."""
    for number, one in enumerate(made):
        if number % max(1, count // 500) == 0:
            chosen.append(one)
        yield one


async def main(count: int, url: str, home: Path, requests: int, only: str) -> int:
    """Fill the database if it is empty, and measure."""
    async with Database(Memory(database=url), home) as database:
        async with database.read() as connection:
            there = await connection.scalar(select(func.count()).select_from(calls)) or 0
        chosen: list[Stored] = []
        begun = time.perf_counter()
        if there:
            async with database.read() as connection:
                for row in (await connection.execute(select(calls).limit(500))).mappings():
                    chosen.append(Stored(dict(row), {}))
        else:
            await seed(url, home, remembered(many_calls(count, until=float(UNTIL)), count, chosen), many=True)
        print(
            f"{there or count:,} calls in {database.name}, there after {time.perf_counter() - begun:.0f} s", flush=True
        )
        async with reading(database, home) as base:
            wanted = pages(Sample(there or count, chosen), random.Random(5))
            found = await measure(base, {name: wanted[name] for name in wanted if only in name}, requests)
    worst = max(found, key=lambda name: found[name][2])
    print(f"the slowest: {worst}, p95 {found[worst][2]:.1f} ms (bar: {BAR_MS:.0f} ms)")
    return int(found[worst][2] > BAR_MS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--only", default="", help="pages whose name has this in it")
    parser.add_argument("--home", type=Path, help="keep SQLite's file here, and use it again")
    parser.add_argument("--url", default="", help="a PostgreSQL database that is empty, or was filled by this before")
    given = parser.parse_args()
    with ExitStack() as stack:
        place = given.home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patter-history-")))
        where = given.url or (stack.enter_context(Postgres()).url() if given.database == "postgresql" else "")
        sys.exit(anyio.run(main, given.calls, where, place, given.requests, given.only))
