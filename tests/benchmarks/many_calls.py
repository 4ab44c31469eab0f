"""Twenty calls at once in one engine, ten typed and ten by telephone, beside a bare aiohttp echo server with the same streams.

Run: `python -m tests.benchmarks.many_calls [--seconds 30] [--calls 10] [--rounds 2]`. The engines behind the ports are faked
with fixed delays (`faked_engine`); all callers live in this process. Engine and echo take turns; ratios are what to compare.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import numpy as np

from patter.audio.format import MULAW_8K
from patter.audio.g711 import mulaw_encode
from patter.clock import Clock
from patter.loopback.twilio import Dial, LoopbackTwilio
from tests.benchmarks import faked_engine
from tests.benchmarks.processes import Neighbours, cpu_ms, rss_mb

FRAME_MS = 20
PAUSE_FRAMES = 10  # the silence that starts recognition (TurnTaking.pause_ms)
SPEECH_FRAMES = 50
ANSWER_MS = (faked_engine.RECOGNITION_S + faked_engine.THINKING_S + faked_engine.SYNTHESIS_S) * 1000
TEXT_MS = faked_engine.THINKING_S * 1000
MEDIA = '{"event":"media"'
SETTLE_S = 2.0


def clip() -> list[bytes]:
    """A second of a loud tone whose last frame ends 5 ms early, so that filters do not carry it into the next."""
    count = SPEECH_FRAMES * 160
    tone = (np.sin(np.arange(count) / 8000 * 2 * np.pi * 300) * 12000).astype(np.int16)
    tone[-40:] = 0
    sound = mulaw_encode(tone.tobytes())
    return [sound[at : at + 160] for at in range(0, count, 160)]


def socket_of(phone: Phone) -> type[aiohttp.ClientWebSocketResponse]:
    """A media socket that tells its telephone when each text came."""

    class Socket(aiohttp.ClientWebSocketResponse):
        async def receive(self, timeout: float | None = None) -> aiohttp.WSMessage:
            message = await super().receive(timeout)
            if message.type is aiohttp.WSMsgType.TEXT:
                phone.came(message.data, time.perf_counter())
            return message

    return Socket


@dataclass
class Figures:
    """What one server did with all calls."""

    added: list[float] = field(default_factory=list)
    """ms beyond the fixed delays, by telephone."""
    typed: list[float] = field(default_factory=list)
    """The same for typed lines."""
    leads: list[float] = field(default_factory=list)
    """How many ms of sound the carrier still had when more of the same answer came; below 0 it ran dry."""
    setups: list[float] = field(default_factory=list)
    frames: int = 0
    jitter: list[float] = field(default_factory=list)
    slips: int = 0
    underruns: int = 0
    violations: int = 0
    unanswered: int = 0
    cpu: float = 0.0
    """Processor ms a call and second."""
    own_share: float = 0.0
    idle_mb: float = 0.0
    call_mb: float = 0.0


class Phone:
    """One caller by telephone: speaks, waits for the answer, and notes when what was sent and came."""

    def __init__(self, figures: Figures, echoes: bool) -> None:
        self._figures, self._echoes = figures, echoes
        self._words: deque[bytes] = deque()
        self._spoke = -1  # frames since the last word; -1: nothing asked
        self._due = math.inf
        self._ends = 0.0  # until when the carrier has sound
        self._sent: deque[float] = deque()  # of frames whose echo has not come
        self.answered = anyio.Event()

    def mouth(self) -> bytes:
        """The next frame, which is sent at once."""
        now = time.perf_counter()
        if self._echoes:
            self._sent.append(now)
        if self._words:
            self._spoke = 0
            return self._words.popleft()
        if self._spoke >= 0:
            self._spoke += 1
            if self._spoke == PAUSE_FRAMES:
                self._due, self._ends, self._spoke = now + ANSWER_MS / 1000, 0.0, -1
        return b""

    def came(self, text: str, at: float) -> None:
        """A text of the server."""
        if not text.startswith(MEDIA):
            return
        if self._echoes:
            self._figures.added.append((at - self._sent.popleft()) * 1000)
            return
        ms = MULAW_8K.ms_of((text.rindex('"') - text.rindex('"', 0, -3) - 1) * 3 // 4)  # of base64, within a quarter
        if self._due < math.inf:
            self._figures.added.append((at - self._due) * 1000)
            self._due, self._ends = math.inf, at
            self.answered.set()
        elif self._ends:
            self._figures.leads.append((self._ends - at) * 1000)
        self._ends = max(self._ends, at) + ms / 1000

    async def call(self, dial: Dial, words: Sequence[bytes], until: float) -> None:
        """Talk until the time is over."""
        async with aiohttp.ClientSession(ws_response_class=socket_of(self)) as session:
            began = time.perf_counter()

            def state(new: str) -> None:
                if new == "in_call":
                    self._figures.setups.append((time.perf_counter() - began) * 1000)

            carrier = LoopbackTwilio(dial, session, Clock(), self.mouth, lambda frame: None, on_state=state)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(carrier.call)
                await self._talk(carrier, words, until)
                carrier.hang_up()
        stats = carrier.stats
        self._figures.frames += stats.frames_sent
        self._figures.jitter.append(stats.jitter_ms)
        self._figures.slips += stats.slips
        if not self._echoes:
            self._figures.underruns += stats.underruns
        self._figures.violations += len(carrier.violations)

    async def _talk(self, carrier: LoopbackTwilio, words: Sequence[bytes], until: float) -> None:
        await anyio.sleep(1.5 + random.random())  # the greeting
        while time.perf_counter() < until:
            self.answered = anyio.Event()
            self._words.extend(words)
            if self._echoes:
                await anyio.sleep(4.0)
                continue
            with anyio.move_on_after(8) as waiting:
                await self.answered.wait()
            if waiting.cancelled_caught:
                self._figures.unanswered += 1
            await anyio.sleep(0.3)
            while carrier.queued_ms > 0:
                await anyio.sleep(0.05)
            self._ends = 0.0
            await anyio.sleep(0.2 + 0.4 * random.random())


class Server:
    """A server process under load."""

    def __init__(self, command: list[str], home: Path, echoes: bool) -> None:
        self._command, self._home, self._echoes = command, home, echoes
        self.figures = Figures()
        self._asked: dict[str, float] = {}
        self._told: dict[str, anyio.Event] = {}

    async def run(self, seconds: float, calls: int) -> Figures:
        """`calls` typed and as many by telephone for so long."""
        with subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                self._url = json.loads(process.stdout.readline())["listening"]
                known = self._home / "engine.json"
                token = json.loads(known.read_text())["token"] if known.exists() else "-"
                async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as self._api:
                    await self._load(process.pid, seconds, calls)
            finally:
                process.terminate()
        return self.figures

    async def _load(self, pid: int, seconds: float, calls: int) -> None:
        figures = self.figures
        await self._post("/api/v1/rehearsals", agent="desk", line="phone")
        await anyio.sleep(0.5)
        figures.idle_mb = rss_mb(pid)
        words = clip()
        until = time.perf_counter() + SETTLE_S + seconds
        async with anyio.create_task_group() as followers:
            followers.start_soon(self._follow)
            async with anyio.create_task_group() as tasks:
                for number in range(calls):
                    dial = (await self._post("/api/v1/rehearsals", agent="desk", line="phone"))["dial"]
                    tasks.start_soon(Phone(figures, self._echoes).call, Dial.from_json(dial), words, until)
                    tasks.start_soon(self._type, until)
                    await anyio.sleep(0.02 + 0.013 * (number % 3))
                await anyio.sleep(SETTLE_S)
                began, used, own = time.perf_counter(), cpu_ms(pid), time.process_time()
                await anyio.sleep(max(0.0, until - time.perf_counter() - 0.2))
                figures.call_mb = (rss_mb(pid) - figures.idle_mb) / (2 * calls)
                elapsed = time.perf_counter() - began
                figures.cpu = (cpu_ms(pid) - used) / elapsed / (2 * calls)
                figures.own_share = (time.process_time() - own) / elapsed
            followers.cancel_scope.cancel()

    async def _post(self, path: str, **body: Any) -> Any:
        async with self._api.post(self._url + path, json=body) as answer:
            said = await answer.json()
            assert answer.status < 300, said
            return said["data"]

    async def _follow(self) -> None:
        async with self._api.ws_connect(f"{self._url}/api/v1/events/ws", compress=0) as events:
            async for message in events:
                now = time.perf_counter()
                event = json.loads(message.data)
                call_id = event.get("call_id", "")
                if event.get("type") == "ReplyText" and call_id in self._asked:
                    fixed = 0.0 if self._echoes else TEXT_MS
                    self.figures.typed.append((now - self._asked.pop(call_id)) * 1000 - fixed)
                    self._told[call_id].set()

    async def _type(self, until: float) -> None:
        call_id = (await self._post("/api/v1/rehearsals", agent="desk", line="text"))["call_id"]
        await anyio.sleep(1.0 + random.random())
        while time.perf_counter() < until:
            self._told[call_id] = anyio.Event()
            self._asked[call_id] = time.perf_counter()
            await self._post(f"/api/v1/calls/{call_id}/text", text="What are your hours?")
            with anyio.move_on_after(8) as waiting:
                await self._told[call_id].wait()
            if waiting.cancelled_caught:
                self.figures.unanswered += 1
            await anyio.sleep(0.5 + random.random())
        await self._post(f"/api/v1/calls/{call_id}/hangup")


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; nan of nothing."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else math.nan


def row(name: str, figures: Figures) -> None:
    """One server's figures."""
    print(
        f"{name}: {figures.cpu:.2f} ms CPU per call-second; {figures.idle_mb:.0f} MB idle + {figures.call_mb:.2f} MB a call; "
        f"set-up {statistics.median(figures.setups):.0f} ms, p95 {percentile(figures.setups, 0.95):.0f}"
    )
    for what, values in (("sound", figures.added), ("typed", figures.typed)):
        print(
            f"  {what}: {len(values)} answers, added latency median {statistics.median(values):.1f}, "
            f"p95 {percentile(values, 0.95):.1f}, worst {max(values):.1f} ms"
        )
    if figures.leads:
        late = sum(lead < 0 for lead in figures.leads)
        print(
            f"  sound left at the carrier when more came: least {min(figures.leads):.0f} ms, median "
            f"{statistics.median(figures.leads):.0f}; pieces that came too late: {late} of {len(figures.leads)}"
        )
    print(
        f"  carriers: underruns {figures.underruns}, unanswered {figures.unanswered}, violations {figures.violations}; "
        f"their own jitter {statistics.median(figures.jitter):.1f} ms (worst {max(figures.jitter):.1f}), "
        f"{figures.slips} slips in {figures.frames} frames; the callers' process used {100 * figures.own_share:.0f} %"
    )


async def main(seconds: float, calls: int, rounds: int) -> None:
    """Measure and print."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        neighbours = Neighbours()
        with tempfile.TemporaryDirectory() as scratch:
            agents, home = Path(scratch) / "agents", Path(scratch) / "home"
            agents.mkdir()
            (agents / "desk.toml").write_text(faked_engine.AGENT)
            bare = [sys.executable, "-m", "tests.benchmarks.bare_server"]
            echo = await Server(bare, home, echoes=True).run(seconds, calls)
            engine_command = [sys.executable, "-m", "tests.benchmarks.faked_engine", str(agents), str(home)]
            engine = await Server(engine_command, home, echoes=False).run(seconds, calls)
        print(f"round {number + 1}: {calls} + {calls} calls, {seconds:.0f} s each; {neighbours.told()}")
        row("bare aiohttp echo", echo)
        row("engine", engine)
        ratios["CPU per call-second"].append(engine.cpu / echo.cpu)
        ratios["added latency, sound, median"].append(statistics.median(engine.added) / statistics.median(echo.added))
        ratios["added latency, typed, median"].append(statistics.median(engine.typed) / statistics.median(echo.typed))
        ratios["memory idle"].append(engine.idle_mb / echo.idle_mb)
    print("engine / bare echo: " + "; ".join(
        f"{name} {' '.join(f'{value:.2f}' for value in values)}" for name, values in ratios.items()))  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--calls", type=int, default=10, help="of each kind")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    random.seed(os.environ.get("SEED", "1"))
    anyio.run(main, given.seconds, given.calls, given.rounds)
