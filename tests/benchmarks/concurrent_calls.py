"""How many telephone calls one core carries, beside a bare aiohttp echo server with the same streams.

Run: `python -m tests.benchmarks.concurrent_calls [--calls 50] [--seconds 10] [--sustained]`. Each server runs alone on one
core, the callers on another: 50 frames a second and call, each timed from its sending to its return. `--sustained` also seeks
how many calls each server carries before the 95th percentile passes 20 ms. The agent passes sound through untouched.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from patter.wire import twilio_signature, twiml
from patter.wire.twilio import CarrierWriter
from tests.benchmarks.passthrough_server import NUMBER, SID, TOKEN
from tests.benchmarks.processes import Neighbours, cpu_ms, rss_mb

FRAME_S = 0.02
LATE_MS = 20.0
RAMP = 10  # calls a second
WARM_UP_CALLS, SETTLE_S = 5, 1.0
STREAM = "MZ" + "2" * 32
PAYLOAD, TAG = b'"payload":"', 4
MEDIA, MARK = b'{"event":"media"', b'{"event":"mark"'


def text_frame(text: str) -> bytes:
    """A client's WebSocket text frame; its mask is zero, which leaves the text as it is."""
    data = text.encode()
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return b"\x81" + length + b"\0\0\0\0" + data


@dataclass
class Figures:
    """What one server did with a number of calls. Times in ms, memory in MB."""

    latency: list[float] = field(default_factory=list)
    setups: list[float] = field(default_factory=list)
    lost: int = 0
    cpu: float = 0.0
    """Processor ms a call and second."""
    call_mb: float = 0.0
    callers: float = 0.0
    """Share of a core that the callers' own process used."""


class Caller(asyncio.Protocol):
    """One call: a signed webhook, a media socket, then frames that are timed. As cheap as can be, to carry hundreds."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._sent: deque[tuple[float, bytes]] = deque()  # when, and how the frame's sound begins in base64
        self._rest = b""
        self._upgraded = False
        self._pipe: asyncio.Transport
        self._sid = "CA" + secrets.token_hex(16)
        self.timed = False
        self.gone = False
        self.open = asyncio.get_running_loop().create_future()
        self.first = asyncio.get_running_loop().create_future()

    async def dial(self, port: int) -> None:
        """Webhook, socket, `start`; returns when the stream is open."""
        loop = asyncio.get_running_loop()
        stream = await self._webhook(port)
        parts = urllib.parse.urlsplit(stream)
        pipe, _ = await loop.create_connection(lambda: self, "127.0.0.1", port)
        signature = twilio_signature.sign(stream, {}, TOKEN)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        pipe.write(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"X-Twilio-Signature: {signature}\r\n\r\n".encode()
        )
        await asyncio.wait_for(self.open, 10)
        writer = CarrierWriter(STREAM, SID, self._sid)
        pipe.write(text_frame(writer.connected()) + text_frame(writer.start()))

    async def _webhook(self, port: int) -> str:
        url = f"http://127.0.0.1:{port}/webhooks/twilio/voice"
        form = {
            "CallSid": self._sid, "AccountSid": SID, "From": "+15005550001", "To": NUMBER,
            "CallStatus": "ringing", "Direction": "inbound", "ApiVersion": "2010-04-01",
        }  # fmt: skip
        body = urllib.parse.urlencode(form)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST /webhooks/twilio/voice HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
            f"X-Twilio-Signature: {twilio_signature.sign(url, form, TOKEN)}\r\n\r\n{body}".encode()
        )
        answer = (await reader.read()).decode()
        writer.close()
        document = twiml.read(answer.partition("\r\n\r\n")[2])
        assert document.stream is not None, answer
        return document.stream.url

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pipe = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True

    def send(self, frame: bytes, tag: bytes) -> None:
        """One frame of sound, now."""
        self._sent.append((time.perf_counter(), tag))
        self._pipe.write(frame)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        data = self._rest + data
        if not self._upgraded:
            head, found, data = data.partition(b"\r\n\r\n")
            assert found, "a short head"
            assert head.startswith(b"HTTP/1.1 101"), head
            self._upgraded = True
            self.open.set_result(None)
        at = 0
        while len(data) - at >= 2:
            size, begins = data[at + 1], at + 2
            if size == 126:
                size, begins = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            if len(data) < begins + size:
                break
            self._message(data[begins : begins + size], data[at] & 0x0F, now)
            at = begins + size
        self._rest = data[at:]

    def _message(self, said: bytes, kind: int, now: float) -> None:
        if kind == 9:
            self._pipe.write(b"\x8a\x80\0\0\0\0")
        elif said.startswith(MEDIA):
            begins = said.index(PAYLOAD) + len(PAYLOAD)
            sent, tag = self._sent.popleft()
            while tag != said[begins : begins + TAG]:  # frames before the session listens have no echo
                sent, tag = self._sent.popleft()
                self._figures.lost += self.timed
            if not self.first.done():
                self.first.set_result(None)
            if self.timed:
                self._figures.latency.append((now - sent) * 1000)
        elif said.startswith(MARK):
            name = json.loads(said)["mark"]["name"]
            back = {"event": "mark", "sequenceNumber": "1", "streamSid": STREAM, "mark": {"name": name}}
            self._pipe.write(text_frame(json.dumps(back)))

    def hang_up(self) -> int:
        """Leave; returns how many frames never came back (the last few are under way)."""
        missing = max(0, len(self._sent) - 5)
        self._pipe.write(text_frame(CarrierWriter(STREAM, SID, self._sid).stop()))
        self._pipe.close()
        return missing


class Load:
    """Calls on one server, each with a fiftieth of a second between its frames, evenly spread."""

    def __init__(self, port: int, pid: int, seconds: float) -> None:
        self._port, self._pid, self._seconds = port, pid, seconds
        self.figures = Figures()
        self._callers: list[Caller] = []
        writer = CarrierWriter(STREAM, SID, "CA" + "0" * 32)
        self._frames = [text_frame(writer.media(bytes([index & 0x7F] * 160), index * 20)) for index in range(50 * 600)]
        self._tags = [base64.b64encode(bytes([index & 0x7F] * 3)) for index in range(128)]
        self._over = False

    async def run(self, calls: int, ramp: float) -> Figures:
        """`calls` at once, `ramp` new ones a second."""
        await self._warm_up()
        before = rss_mb(self._pid)
        async with asyncio.TaskGroup() as tasks:
            for number in range(calls):
                tasks.create_task(self._call(number, calls))
                await asyncio.sleep(1 / ramp)
            await asyncio.sleep(SETTLE_S)
            for caller in self._callers:
                caller.timed = True
            began, used, own = time.perf_counter(), cpu_ms(self._pid), time.process_time()
            await asyncio.sleep(self._seconds)
            elapsed = time.perf_counter() - began
            self.figures.cpu = (cpu_ms(self._pid) - used) / elapsed / calls
            self.figures.callers = (time.process_time() - own) / elapsed
            self.figures.call_mb = (rss_mb(self._pid) - before) / calls
            self._over = True
        return self.figures

    async def _warm_up(self) -> None:
        for _ in range(WARM_UP_CALLS):
            caller = Caller(Figures())
            await caller.dial(self._port)
            for index in range(10):
                caller.send(self._frames[index], self._tags[index])
                await asyncio.sleep(FRAME_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(caller.first, 2)
            caller.hang_up()

    async def _call(self, number: int, calls: int) -> None:
        caller = Caller(self.figures)
        began = time.perf_counter()
        await caller.dial(self._port)
        self.figures.setups.append((time.perf_counter() - began) * 1000)
        self._callers.append(caller)
        due = time.perf_counter() + FRAME_S * number / calls
        for index, frame in enumerate(self._frames):
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if self._over or caller.gone:
                break
            caller.send(frame, self._tags[index & 0x7F])
            due += FRAME_S
        self.figures.lost += caller.hang_up()


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; nan of nothing."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else math.nan


def measure(module: str, calls: int, seconds: float, ramp: float) -> Figures:
    """A fresh server on a core of its own, with so many calls."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", module, home]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                cores = sorted(os.sched_getaffinity(0))
                if len(cores) > 1:
                    os.sched_setaffinity(process.pid, cores[:1])
                    os.sched_setaffinity(0, cores[1:])
                assert process.stdout is not None
                address = json.loads(process.stdout.readline())["listening"]
                load = Load(int(address.rpartition(":")[2]), process.pid, seconds)
                return asyncio.run(load.run(calls, ramp))
            finally:
                os.sched_setaffinity(0, cores)
                process.terminate()


SERVERS = {"bare": "tests.benchmarks.bare_server", "patter": "tests.benchmarks.passthrough_server"}


def told(name: str, figures: Figures) -> str:
    """One server's figures in a line."""
    return (
        f"{name:7} return of a frame: median {statistics.median(figures.latency):.2f}, "
        f"p95 {percentile(figures.latency, 0.95):.2f}, worst {max(figures.latency):.1f} ms; set-up median "
        f"{statistics.median(figures.setups):.1f}, p95 {percentile(figures.setups, 0.95):.1f} ms; "
        f"{figures.cpu:.2f} CPU-ms a call-second; {figures.call_mb:.2f} MB a call; lost {figures.lost}; "
        f"callers used {100 * figures.callers:.0f} % of their core"
    )


def sustained(name: str, seconds: float, step: int) -> int:
    """The most calls with a 95th percentile of at most `LATE_MS` and nothing lost."""
    best, calls = 0, step
    while True:
        figures = measure(SERVERS[name], calls, seconds, ramp=100)
        p95 = percentile(figures.latency, 0.95)
        expected = 50 * seconds * calls
        good = p95 <= LATE_MS and not figures.lost and len(figures.latency) > 0.98 * expected
        print(
            f"  {name}: {calls} calls, p95 {p95:.1f} ms, callers {100 * figures.callers:.0f} %{'' if good else ': too many'}"
        )
        if not good:
            return best
        best, calls = calls, calls + step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sustained", action="store_true", help="also seek how many calls each carries")
    parser.add_argument("--step", type=int, default=50)
    given = parser.parse_args()
    for number in range(given.rounds):
        neighbours = Neighbours()
        bare, ours = (measure(SERVERS[name], given.calls, given.seconds, RAMP) for name in ("bare", "patter"))
        print(f"round {number + 1}: {given.calls} calls, {RAMP} new ones a second; {neighbours.told()}")
        print(told("bare", bare), told("patter", ours), sep="\n")
        print(
            f"added latency p95 {percentile(ours.latency, 0.95) - percentile(bare.latency, 0.95):.2f} ms; "
            f"calls a core by CPU, patter / bare: {bare.cpu / ours.cpu:.2f}"
        )
    if given.sustained:
        most = {name: sustained(name, given.seconds, given.step) for name in SERVERS}
        print(f"sustained: {most}; ratio {most['patter'] / max(1, most['bare']):.2f}")


if __name__ == "__main__":
    main()
