"""`python -m tests.benchmarks.soak [--minutes 60]`: an engine takes short calls as fast as it can, for as long as is asked.

Rounds of typed and telephone calls; between two rounds, when nobody is on the line, the engine counts itself: memory after a
garbage collection, descriptors, threads, tasks. After the warm-up all but the memory must be what it was, exactly, and memory
may grow by no more than the names of calls take.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio

from patter.loopback.twilio import Dial
from tests.benchmarks import faked_engine
from tests.benchmarks.crash import Engine, engine
from tests.benchmarks.many_calls import Figures, Phone, clip

WARM_UP = 3  # rounds at least, and half of them: caches, the bus's backlog, the allocator's arenas
PER_CALL_KB = 1.0  # the list of calls keeps an id and a date of each
NOISE_MB = 4.0  # the allocator gives back in pieces
QUIET_S = 60.0
CARRIER_SPEAKS_S = 1.0, 3.0


@dataclass
class Report:
    """What an engine held after each round; `wrong` is empty when it stayed as it was."""

    calls: list[int] = field(default_factory=list)
    census: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def warm(self) -> int:
        """The round after which nothing may grow."""
        return max(WARM_UP, len(self.census) // 2) - 1

    @property
    def kb_a_call(self) -> float:
        """How memory grew with the calls after the warm-up: the slope of a line through all rounds."""
        megabytes = [float(round_["rss_mb"]) for round_ in self.census[self.warm :]]
        calls = self.calls[self.warm :]
        if len(calls) < 2 or calls[0] == calls[-1]:
            return 0.0
        return statistics.linear_regression(calls, megabytes).slope * 1024

    @property
    def wrong(self) -> list[str]:
        """What grew."""
        found = []
        first, last = self.census[self.warm], self.census[-1]
        for name in ("files", "threads"):
            if last[name] > first[name]:
                found.append(f"{name}: {first[name]} became {last[name]}")
        for name in set(first["tasks"]) | set(last["tasks"]):
            if last["tasks"].get(name, 0) > first["tasks"].get(name, 0):
                found.append(f"task {name}: {first['tasks'].get(name, 0)} became {last['tasks'][name]}")
        grown = max(0.0, last["rss_mb"] - first["rss_mb"] - NOISE_MB)
        if grown > PER_CALL_KB / 1024 * (self.calls[-1] - self.calls[self.warm]):
            found.append(f"memory: {first['rss_mb']:.1f} MB became {last['rss_mb']:.1f} MB: {last['top']}")
        return found


async def _typed(it: Engine, until: float, done: list[int], dice: random.Random) -> None:
    while time.monotonic() < until:
        call_id = (await it.post("/api/v1/rehearsals", agent="desk", line="text"))["call_id"]
        for _ in range(dice.randint(1, 4)):
            await it.post(f"/api/v1/calls/{call_id}/text", text="What are your hours?")
            await anyio.sleep(dice.uniform(0.0, 0.05))
        with suppress(ConnectionError):  # the agent may have ended it
            await it.post(f"/api/v1/calls/{call_id}/hangup")
        done.append(1)


async def _by_telephone(it: Engine, until: float, done: list[int], dice: random.Random) -> None:
    words = clip()
    while time.monotonic() < until:
        dial = (await it.post("/api/v1/rehearsals", agent="desk", line="phone"))["dial"]
        ends = min(
            time.perf_counter() + dice.uniform(*CARRIER_SPEAKS_S), time.perf_counter() + until - time.monotonic()
        )
        await Phone(Figures(), echoes=False).call(Dial.from_json(dial), words, ends)
        done.append(1)


async def _follow(it: Engine) -> None:
    async with it.api.ws_connect(f"{it.url}/api/v1/events/ws", compress=0) as events:
        async for _ in events:
            pass


async def _round(it: Engine, seconds: float, typed: int, phones: int, dice: random.Random) -> int:
    """So much talk; how many calls that were. Nobody is on the line afterwards, and no connection is open."""
    done: list[int] = []
    until = time.monotonic() + seconds
    async with (
        aiohttp.ClientSession(headers=it.api.headers) as it.api,
        anyio.create_task_group() as followers,
    ):
        followers.start_soon(_follow, it)
        async with anyio.create_task_group() as tasks:
            for _ in range(typed):
                tasks.start_soon(_typed, it, until, done, random.Random(dice.random()))
            for _ in range(phones):
                tasks.start_soon(_by_telephone, it, until, done, random.Random(dice.random()))
        with anyio.fail_after(QUIET_S):
            while (await it.get("/api/v1/calls/active"))["data"]:
                await anyio.sleep(0.05)
        followers.cancel_scope.cancel()
    return len(done)


async def _census(it: Engine, home: Path) -> dict[str, Any]:
    """What the engine counts of itself, when it has calmed down."""
    path = home / "census.json"
    last: dict[str, Any] = {}
    with anyio.move_on_after(QUIET_S):
        while True:
            path.unlink(missing_ok=True)
            os.kill(it.process.pid, signal.SIGUSR1)
            while not path.exists():
                await anyio.sleep(0.02)
            now = json.loads(path.read_text())
            if last and all(now[name] == last[name] for name in ("files", "threads", "tasks")):
                return dict(now)
            last = now
            await anyio.sleep(0.5)
    return last


async def soak(
    folder: Path, seconds: float, rounds: int = 12, typed: int = 8, phones: int = 4, seed: int = 1
) -> Report:
    """So many rounds in so much time."""
    agents, home, report, dice = folder / "agents", folder / "home", Report(), random.Random(seed)
    agents.mkdir()
    (agents / "desk.toml").write_text(faked_engine.AGENT)
    os.environ.setdefault("SOAK", "quick")  # for the engine that is started
    began, calls = time.monotonic(), 0
    async with engine(agents, home) as it:
        for _ in range(rounds):
            outer = it.api
            try:
                calls += await _round(it, seconds / rounds, typed, phones, dice)
            finally:
                it.api = outer
            report.calls.append(calls)
            report.census.append(await _census(it, home))
    report.seconds = time.monotonic() - began
    return report


def main() -> int:
    """Print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--trace", action="store_true", help="tell where memory was taken (slow)")
    given = parser.parse_args()
    if given.trace:
        os.environ["SOAK"] = "trace"
    with tempfile.TemporaryDirectory() as folder:
        report = anyio.run(soak, Path(folder), 60 * given.minutes, given.rounds)
    for calls, census in zip(report.calls, report.census, strict=True):
        tasks = sum(census["tasks"].values())
        print(
            f"{calls:7} calls: {census['rss_mb']:6.1f} MB, {census['files']} files, {census['threads']} threads, {tasks} tasks"
        )
    print(
        f"{report.calls[-1]} calls in {report.seconds / 60:.1f} min; {report.kb_a_call:.2f} kB a call after the warm-up"
    )
    for what in report.wrong:
        print(f"GREW: {what}")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
