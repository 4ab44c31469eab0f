"""`python -m tests.benchmarks.crash [--calls 50] [--kills 20]`: an engine full of calls is killed, again and again.

Half of the calls are typed, half come by telephone from a loopback carrier. After every kill the engine starts again on the same
home, and everything that anybody was told of must be there: calls closed with their cause, every closed turn in the journal and
in the database, sound that can be heard, sums that are right, and nothing left running or open.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import wave
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import anyio.to_thread

from patter.events import CallEnded, RecordingSaved, TurnMeasured
from patter.exceptions import PatterError
from patter.loopback.twilio import Dial
from patter.observe.journal import CALLS, EVENTS, call_folder, read
from tests.benchmarks import faked_engine
from tests.benchmarks.many_calls import Figures, Phone, clip

UNWRITTEN_S = 4.0  # sound of a killed process that may be missing: it was too young to be settled
MORE_FILES = 6  # descriptors that may come and go: connections, readers of the database
CLOSED_S = 60.0  # a start with its database, on a busy machine

GONE = (aiohttp.ClientError, ConnectionError, TimeoutError, PatterError)
"""What callers see of an engine that is killed."""

Turn = tuple[str, int, int]
"""A closed turn: its call, its number, its reply."""


@dataclass
class Told:
    """What the followers of an engine's events were told in its life."""

    started: dict[str, str] = field(default_factory=dict)
    """Calls by id, with their line."""
    ended: dict[str, str] = field(default_factory=dict)
    turns: set[Turn] = field(default_factory=set)

    def take(self, event: dict[str, Any]) -> None:
        """One event from the socket."""
        match event.get("type"):
            case "CallStarted":
                self.started[event["call_id"]] = event["line"]
            case "CallEnded":
                self.ended[event["call_id"]] = event["reason"]
            case "TurnMeasured" if event["closed"]:
                self.turns.add((event["call_id"], event["turn"], event["reply_id"]))


@dataclass
class Report:
    """What came of it; `wrong` is empty when nothing was lost."""

    kills: int = 0
    calls: int = 0
    died: int = 0
    turns: int = 0
    recordings: int = 0
    sound_s: float = 0.0
    start_s: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Engine:
    """One life of the engine process."""

    def __init__(self, agents: Path, home: Path) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.remembering_engine", str(agents), str(home)]
        began = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.start_s = time.monotonic() - began
        if not line:
            raise RuntimeError("the engine did not start")
        self.url = json.loads(line)["listening"]
        self.token = json.loads((home / "engine.json").read_text())["token"]
        self.api: aiohttp.ClientSession

    @property
    def files(self) -> int:
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def kill(self) -> None:
        """As a machine kills: at once."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def left_running(self) -> list[str]:
        """Processes of its session that are still there."""
        left = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and os.getsid(int(entry.name)) == self.process.pid:
                    left.append(entry.name)
        return left

    async def post(self, path: str, **body: Any) -> Any:
        """The data of an answer; ConnectionError when the engine is gone."""
        while True:
            async with self.api.post(self.url + path, json=body) as answer:
                said = await answer.json()
            if answer.status == 429:
                await anyio.sleep(0.2)
            elif answer.status >= 300:
                raise ConnectionError(said)
            else:
                return said["data"]

    async def get(self, path: str) -> Any:
        """The whole answer; None for 404. Whoever asks too much is told to wait, and does."""
        while True:
            async with self.api.get(self.url + path) as answer:
                if answer.status == 429:
                    await anyio.sleep(0.2)
                    continue
                said = await answer.json()
                if answer.status not in (200, 404, 503):
                    raise ConnectionError(f"{path}: {answer.status} {said}")
                return said if answer.status == 200 else None


@asynccontextmanager
async def engine(agents: Path, home: Path) -> AsyncIterator[Engine]:
    """An engine that is gone afterwards."""
    it = await anyio.to_thread.run_sync(Engine, agents, home)
    try:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {it.token}"}) as it.api:
            yield it
    finally:
        if it.process.poll() is None:
            it.process.terminate()
            try:
                await anyio.to_thread.run_sync(it.process.wait, 30)
            except subprocess.TimeoutExpired:
                it.process.kill()
        if it.process.stdout is not None:
            it.process.stdout.close()


# --------------------------------------------------------------------------- a life full of calls


async def a_life(it: Engine, calls: int, lasts_s: float, dice: random.Random) -> Told:
    """Talk on so many lines at once until the engine is killed; what was told by then."""
    told, words = Told(), clip()
    async with anyio.create_task_group() as tasks:
        ready = anyio.Event()
        tasks.start_soon(_follow, it, told, ready)
        await ready.wait()
        async with anyio.create_task_group() as talk:
            for number in range(calls):
                talk.start_soon(_by_telephone if number % 2 else _typed, it, words, random.Random(dice.random()))
            await anyio.sleep(lasts_s)
            await anyio.to_thread.run_sync(it.kill)
            talk.cancel_scope.cancel()
    return told


async def _follow(it: Engine, told: Told, ready: anyio.Event) -> None:
    """Read events until the socket breaks: what the system has of it is read even after the kill."""
    with suppress(aiohttp.ClientError, ConnectionError):
        async with it.api.ws_connect(f"{it.url}/api/v1/events/ws?after=0", compress=0, max_msg_size=0) as events:
            async for message in events:
                if message.type is aiohttp.WSMsgType.TEXT:
                    told.take(json.loads(message.data))
                    ready.set()
    ready.set()


async def _typed(it: Engine, _: Any, dice: random.Random) -> None:
    """Calls by text, one after the other."""
    while True:
        try:
            call_id = (await it.post("/api/v1/rehearsals", agent="desk", line="text"))["call_id"]
            for _turn in range(dice.randint(1, 8)):
                await anyio.sleep(dice.uniform(0.1, 0.6))
                await it.post(f"/api/v1/calls/{call_id}/text", text="My number is four two, what are your hours?")
            await anyio.sleep(0.3)
            await it.post(f"/api/v1/calls/{call_id}/hangup")
        except GONE:
            await anyio.sleep(0.1)


async def _by_telephone(it: Engine, words: list[bytes], dice: random.Random) -> None:
    """Calls by telephone, one after the other."""
    while True:
        await anyio.sleep(dice.uniform(0.1, 0.5))
        try:
            dial = (await it.post("/api/v1/rehearsals", agent="desk", line="phone"))["dial"]
            phone = Phone(Figures(), echoes=False)
            await phone.call(Dial.from_json(dial), words, time.perf_counter() + dice.uniform(1.0, 20.0))
        except* GONE:
            pass


# --------------------------------------------------------------------------- what must be there


async def look(it: Engine, home: Path, told: Told, report: Report) -> None:
    """Compare what was told before the kill with what there is after the start."""
    wrong = report.wrong
    for call_id, line in told.started.items():
        try:
            events = await anyio.to_thread.run_sync(read, call_folder(home, call_id) / EVENTS)
        except OSError:
            wrong.append(f"{call_id}: told, and without a journal")
            continue
        ends = [event for event in events if isinstance(event, CallEnded)]
        if len(ends) != 1:
            wrong.append(f"{call_id}: {len(ends)} ends in its journal")
            continue
        if told.ended.get(call_id, ends[0].reason) != ends[0].reason:
            wrong.append(f"{call_id}: ended as {ends[0].reason}, told as {told.ended[call_id]}")
        report.died += ends[0].reason == "engine_died"
        kept = {(call_id, it.turn, it.reply_id) for it in events if isinstance(it, TurnMeasured) and it.closed}
        mine = {turn for turn in told.turns if turn[0] == call_id}
        wrong += [f"{turn}: closed, told, and not in the journal" for turn in mine - kept]
        row = await _stored(it, call_id)
        if row is None or row["reason"] != ends[0].reason:
            wrong.append(f"{call_id}: in the database as {row and row['reason']}, not {ends[0].reason}")
            continue
        stored = {(call_id, turn["turn"], turn["reply_id"]) for turn in row["turns"]}
        wrong += [f"{turn}: closed, in the journal, and not in the database" for turn in kept - stored]
        report.turns += len(kept)
        if line != "text":
            saved = [event for event in events if isinstance(event, RecordingSaved)]
            _hear(home, call_id, ends[0].duration_s, saved, report)
    report.calls += len(told.started)


async def _stored(it: Engine, call_id: str) -> dict[str, Any] | None:
    """A call as the API has it, once it is over there too."""
    with anyio.move_on_after(CLOSED_S):
        while True:
            answer = await it.get(f"/api/v1/calls/{call_id}")
            if answer is not None and answer["data"]["state"] == "ended":
                row: dict[str, Any] = answer["data"]
                return row
            await anyio.sleep(0.1)
    return None


def _hear(home: Path, call_id: str, lasted_s: float, saved: list[RecordingSaved], report: Report) -> None:
    path = call_folder(home, call_id) / "recording.wav"
    if not path.exists():
        if lasted_s > UNWRITTEN_S:
            report.wrong.append(f"{call_id}: {lasted_s:.1f} s without a recording")
        return
    try:
        with wave.open(str(path), "rb") as file:
            seconds = file.getnframes() / file.getframerate()
            whole = file.getnframes() * 4 + 44 in range(path.stat().st_size - 3, path.stat().st_size + 1)
    except (wave.Error, EOFError) as error:
        report.wrong.append(f"{call_id}: its recording cannot be read ({error})")
        return
    report.recordings += 1
    report.sound_s += seconds
    if not whole:
        report.wrong.append(f"{call_id}: its recording's header does not tell all its sound")
    if not lasted_s - UNWRITTEN_S <= seconds <= lasted_s + 1.0:
        report.wrong.append(f"{call_id}: {seconds:.1f} s of sound for {lasted_s:.1f} s of call")
    if len(saved) != 1 or abs(saved[0].duration_s - seconds) > 0.01:
        report.wrong.append(f"{call_id}: its recording is noted {len(saved)} times")


async def look_at_sums(it: Engine, home: Path, report: Report) -> None:
    """Every call is listed once and counted once, and every folder is a call's."""
    folders = sum(1 for entry in os.scandir(home / CALLS) if entry.is_dir())
    with anyio.move_on_after(CLOSED_S):
        while True:
            await anyio.sleep(0.1)
            total = (await it.get("/api/v1/calls?limit=1"))["pagination"]["total"]
            overview = (await it.get("/api/v1/analytics/overview"))["data"]
            counted = (overview["calls"], sum(overview["reasons"].values()), total)
            if counted == (folders, folders, folders):
                return
    report.wrong.append(f"{folders} calls on disk; counted, by reason, listed: {counted}")


def look_at_database(home: Path, report: Report) -> None:
    """The file is sound, and its sums are those of its rows."""
    database = sqlite3.connect(home / "calls.db")
    try:
        said = database.execute("PRAGMA integrity_check").fetchone()[0]
        if said != "ok":
            report.wrong.append(f"the database says {said}")
        rows = database.execute(
            "SELECT count(*), sum(turns), sum(cost_total) FROM calls WHERE state = 'ended'"
        ).fetchone()
        sums = database.execute("SELECT sum(calls), sum(turns), sum(cost_total) FROM days").fetchone()
        if rows[:2] != sums[:2] or abs((rows[2] or 0) - (sums[2] or 0)) > 1e-6:
            report.wrong.append(f"rows say {rows}, sums say {sums}")
    finally:
        database.close()


async def crash(folder: Path, calls: int, kills: int, seed: int, longest_s: float = 12.0) -> Report:
    """Kill it so often, and look after each start."""
    agents, home, report, dice = folder / "agents", folder / "home", Report(), random.Random(seed)
    agents.mkdir()
    (agents / "desk.toml").write_text(faked_engine.AGENT)
    told: Told | None = None
    for kill in range(kills + 1):
        async with engine(agents, home) as it:
            report.start_s.append(it.start_s)
            if told is not None:
                await look(it, home, told, report)
                await look_at_sums(it, home, report)
                await anyio.sleep(0.3)
            report.files.append(it.files)
            if kill == kills:
                break
            told = await a_life(it, calls, dice.uniform(2.0, longest_s), dice)
            report.kills += 1
            if left := it.left_running():
                report.wrong.append(f"still running after the kill: {left}")
    look_at_database(home, report)
    if max(report.files) - report.files[0] > MORE_FILES:
        report.wrong.append(f"descriptors of an idle engine grow: {report.files}")
    return report


def main() -> int:
    """Print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = anyio.run(crash, Path(folder), given.calls, given.kills, given.seed)
    print(
        f"{report.kills} kills, {report.calls} calls ({report.died} cut off), {report.turns} closed turns, "
        f"{report.recordings} recordings ({report.sound_s / 60:.0f} min)"
    )
    print(f"starts took {min(report.start_s):.1f} to {max(report.start_s):.1f} s; descriptors {report.files}")
    for what, count in Counter(report.wrong).items():
        print(f"WRONG ({count}x): {what}")
    print("nothing was lost" if not report.wrong else f"{len(report.wrong)} things are wrong")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
