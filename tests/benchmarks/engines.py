"""What an engine adds to its vendors' own delays, and how many calls one core carries with it, beside a bare server.

Run: `python -m tests.benchmarks.engines [--turns 40] [--calls 50] [--sustained]`. The server runs alone on one core; callers
and emulated vendors share the other. Added latency: from the frame that ends the caller's voice to the vendor that hears it,
from each vendor's answer to the next vendor's question, and from the first sound of the voice to the caller's ear, summed
over a turn; the vendors' delays are not in it. Every third turn of a caller with `--calls` interrupts the answer. For one
call every millisecond that the machine gives to others counts: `chrt -f 10 python -m …` keeps it out (of the bare server too).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from patter.event_loop import new_loop
from patter.wire.twilio import CarrierWriter
from tests.benchmarks.concurrent_calls import (
    FRAME_S,
    MARK,
    MEDIA,
    STREAM,
    Caller,
    Figures,
    percentile,
    text_frame,
)
from tests.benchmarks.passthrough_server import SID
from tests.benchmarks.processes import Neighbours, awake, cpu_ms, rss_mb
from tests.benchmarks.quick_vendors import CHUNKS, Moments, Peer, voice_of

SPEAKS_S = 1.0
ANSWER_S = 0.2 * CHUNKS
PATIENCE_S = 5.0
ROUND_S = 9.9  # two turns and an interrupted one, with the vendors' delays: who dials in evenly over it stays spread
TOO_LATE_MS = 100.0  # more than this added to the vendors' own delays is heard
ENGINES = ("pipeline", "speech-to-speech", "stored agent")
SERVERS = {"bare": "tests.benchmarks.bare_pipeline", "patter": "tests.benchmarks.engine_line"}
CLEAR = b'{"event":"clear"'


@dataclass
class Turns:
    """What callers met. Times in ms."""

    added: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    """Of each caller's first turn, which are not among the others."""
    clears: list[float] = field(default_factory=list)
    """From the first frame of an interruption to the clear."""
    setups: list[float] = field(default_factory=list)
    unanswered: int = 0
    cpu: float = 0.0
    call_mb: float = 0.0
    outside: float = 0.0
    """Share of a core that callers and vendors used."""


class Talker(Caller):
    """A caller who speaks, waits for the answer, and returns marks when the sound before them has been heard."""

    def __init__(self, number: int, moments: Moments) -> None:
        super().__init__(Figures())
        self.number, self._moments = number, moments
        self.heard: asyncio.Future[float] | None = None
        self.cleared: asyncio.Future[float] | None = None
        self._until = 0.0
        writer = CarrierWriter(STREAM, SID, self._sid)
        self._writer = writer
        self._count = 0
        self._sounds = (b"\xff" * 160, voice_of(number))
        self.voice = self._spoke = False

    def tick(self) -> None:
        """One frame of what they do now."""
        frame = self._writer.media(self._sounds[self.voice], self._count * 20)
        self._count += 1
        if self._spoke and not self.voice:
            self._moments.note(self.number, "silent")
        self._spoke = self.voice
        self._pipe.write(text_frame(frame))

    def _message(self, said: bytes, kind: int, now: float) -> None:
        if kind == 9:
            self._pipe.write(b"\x8a\x80\0\0\0\0")
        elif said.startswith(MEDIA):
            self._until = max(self._until, now) + len(said) * 0.75 / 8000
            _decide(self.heard, now)
        elif said.startswith(CLEAR):
            self._until = now
            _decide(self.cleared, now)
        elif said.startswith(MARK):
            name = json.loads(said)["mark"]["name"]
            asyncio.get_running_loop().call_later(max(0.0, self._until - now), self._mark, name)

    def _mark(self, name: str) -> None:
        back = {"event": "mark", "sequenceNumber": "1", "streamSid": STREAM, "mark": {"name": name}}
        if not self.gone:
            self._pipe.write(text_frame(json.dumps(back)))


def _decide(waited: asyncio.Future[float] | None, now: float) -> None:
    if waited is not None and not waited.done():
        waited.set_result(now)


class Load:
    """Callers on one server, with the vendors beside them."""

    def __init__(self, port: int, pid: int, moments: Moments) -> None:
        self._port, self._pid = port, pid
        self._moments = moments
        self._talkers: list[Talker] = []
        self._over = False
        self._measuring = False
        self.turns = Turns()

    async def one(self, turns: int) -> Turns:
        """One caller, so many turns."""
        async with asyncio.TaskGroup() as tasks:
            talker = await self._dial(1)
            tasks.create_task(self._frames())
            for turn in range(turns + 1):
                await self._turn(talker, first=not turn, interrupts=False, count=True)
            self._over = True
        return self.turns

    async def many(self, calls: int, seconds: float, ramp: float) -> Turns:
        """`calls` at once, for so long."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._frames())
            before = rss_mb(self._pid)
            for number in range(1, calls + 1):
                tasks.create_task(self._call(number))
                await asyncio.sleep(1 / ramp)
            await asyncio.sleep(SPEAKS_S + ANSWER_S)
            self._measuring = True
            began, used, own = time.perf_counter(), cpu_ms(self._pid), time.process_time()
            await asyncio.sleep(seconds)
            elapsed = time.perf_counter() - began
            self.turns.cpu = (cpu_ms(self._pid) - used) / elapsed / calls
            self.turns.outside = (time.process_time() - own) / elapsed
            self.turns.call_mb = (rss_mb(self._pid) - before) / calls
            self._over = True
        return self.turns

    async def _dial(self, number: int) -> Talker:
        talker = Talker(number, self._moments)
        began = time.perf_counter()
        await talker.dial(self._port)
        self.turns.setups.append((time.perf_counter() - began) * 1000)
        self._talkers.append(talker)
        return talker

    async def _frames(self) -> None:
        """Fifty times a second a frame of every caller, in ten groups that are evenly spread."""
        due, group = time.perf_counter(), 0
        while not self._over:
            for talker in self._talkers[group::10]:
                if not talker.gone:
                    talker.tick()
            group = (group + 1) % 10
            due += FRAME_S / 10
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        for talker in self._talkers:
            talker.hang_up()

    async def _call(self, number: int) -> None:
        talker = await self._dial(number)
        turn = 0
        while not self._over:
            await self._turn(talker, first=not turn, interrupts=turn % 3 == 2, count=self._measuring)
            turn += 1

    async def _turn(self, talker: Talker, *, first: bool, interrupts: bool, count: bool) -> None:
        """Speak, be answered, listen; an interruption speaks into the answer, which ends the turn."""
        loop = asyncio.get_running_loop()
        talker.voice = True
        await asyncio.sleep(SPEAKS_S)
        talker.heard = loop.create_future()
        talker.voice = False
        with suppress(TimeoutError):
            heard_at = await asyncio.wait_for(talker.heard, PATIENCE_S)
            if count:
                (self.turns.first if first else self.turns.added).append(
                    self._moments.added_ms(talker.number, heard_at)
                )
            await asyncio.sleep(ANSWER_S / 2 if interrupts else ANSWER_S + 0.3)
            if interrupts:
                await self._interrupt(talker, count=count)
            return
        self.turns.unanswered += count and not self._over

    async def _interrupt(self, talker: Talker, *, count: bool) -> None:
        talker.cleared = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        talker.voice = True
        with suppress(TimeoutError):
            cleared_at = await asyncio.wait_for(talker.cleared, 2)
            if count:
                self.turns.clears.append((cleared_at - began) * 1000)


async def serve_vendors(moments: Moments) -> asyncio.Server:
    """The vendors of this process, on a free port."""
    return await asyncio.get_running_loop().create_server(lambda: Peer(moments), "127.0.0.1", 0)


def measure(server: str, engine: str, run: Callable[[Load], object]) -> Turns:
    """A fresh server on a core of its own, and what `run` makes of the load on it."""
    cores = sorted(os.sched_getaffinity(0))

    async def within(home: str) -> Turns:
        moments = Moments()
        async with await serve_vendors(moments) as vendors:
            at = f"http://127.0.0.1:{vendors.sockets[0].getsockname()[1]}"
            command = [sys.executable, "-m", SERVERS[server], *([at] if server == "bare" else [home, engine, at])]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                try:
                    os.sched_setaffinity(process.pid, cores[:1])
                    os.sched_setaffinity(0, cores[1:] or cores)
                    assert process.stdout is not None
                    line = await asyncio.to_thread(process.stdout.readline)
                    port = int(json.loads(line)["listening"].rpartition(":")[2])
                    turns = await run(Load(port, process.pid, moments))  # type: ignore[misc]
                    assert isinstance(turns, Turns)
                    return turns
                finally:
                    os.sched_setaffinity(0, cores)
                    process.terminate()

    with tempfile.TemporaryDirectory() as home, asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(within(home))


def told(name: str, turns: Turns) -> str:
    """One run in a line."""
    if not turns.added:
        return f"{name}: no turn was answered ({turns.unanswered} waited in vain)"
    clears = f"; clear after {statistics.median(turns.clears):.0f} ms" if turns.clears else ""
    busy = f"; {turns.cpu:.2f} CPU-ms a call-second, {turns.call_mb:.2f} MB a call" if turns.cpu else ""
    first = f", first turn {statistics.median(turns.first):.1f}" if turns.first else ""
    return (
        f"{name}: added median {statistics.median(turns.added):.2f}, p95 {percentile(turns.added, 0.95):.2f} ms of "
        f"{len(turns.added)} turns{first}{clears}; set-up p95 {percentile(turns.setups, 0.95):.1f} ms{busy}; "
        f"unanswered {turns.unanswered}; outside {100 * turns.outside:.0f} %"
    )


def sustained(server: str, seconds: float, calls: int, step: int) -> int:
    """The most pipeline calls whose added latency stays within `TOO_LATE_MS` at the 95th percentile, all turns answered.

    A number that fails is tried once more: a machine that stalls fails once."""
    best, failed = 0, False
    while True:
        turns = measure(server, "pipeline", partial(Load.many, calls=calls, seconds=seconds, ramp=calls / ROUND_S))
        good = percentile(turns.added, 0.95) <= TOO_LATE_MS and not turns.unanswered
        print(f"  {calls} calls, {told(server, turns)}{'' if good else ': too many'}", flush=True)
        if good:
            best, calls, failed = calls, calls + step, False
        elif failed:
            return best
        else:
            failed = True


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=40, help="of one caller, for the added latency")
    parser.add_argument("--calls", type=int, default=0, help="at once, for the processor time a call")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument(
        "--sustained", action="store_true", help="also seek how many pipeline calls each server carries"
    )
    parser.add_argument("--first", type=int, default=20, help="how many calls that begins with")
    parser.add_argument("--step", type=int, default=20)
    given = parser.parse_args()
    neighbours = Neighbours()
    if given.turns:
        with awake():
            for server, engine in (("bare", "pipeline"), *(("patter", engine) for engine in ENGINES)):
                turns = measure(server, engine, lambda load: load.one(given.turns))
                print(told(f"{server} {engine}, one call", turns), flush=True)
    if given.calls:
        both = {
            server: measure(server, "pipeline", lambda load: load.many(given.calls, given.seconds, 10))
            for server in SERVERS
        }
        print(*(told(f"{given.calls} pipeline calls, {server}", turns) for server, turns in both.items()), sep="\n")
        print(f"calls a core by CPU, patter / bare: {both['bare'].cpu / both['patter'].cpu:.2f}")
    if given.sustained:
        most = {server: sustained(server, given.seconds, given.first, given.step) for server in SERVERS}
        print(f"sustained: {most}; ratio {most['patter'] / max(1, most['bare']):.2f}")
    print(neighbours.told())


if __name__ == "__main__":
    main()
