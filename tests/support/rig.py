"""A real engine process and a caller on a loopback line to it, both of whose sides are recorded on one timeline.

It owns starting, calling and stopping; it refuses to judge what it recorded (`tests/support/ears.py` measures).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio

from patter.audio.format import AudioFormat
from patter.clock import Clock
from patter.loopback.twilio import Dial, LoopbackTwilio

START_S = 60.0  # a cold file cache and a busy machine


class Engine:
    """An engine process of its own, with its own home. `async with engine(agent_file) as e`."""

    def __init__(self, process: subprocess.Popen[str], home: Path, session: aiohttp.ClientSession) -> None:
        self.process, self.home, self._session = process, home, session
        self.state: dict[str, Any] = json.loads((home / "engine.json").read_text())
        self.url = f"http://127.0.0.1:{self.state['port']}"
        self.headers = {"Authorization": f"Bearer {self.state['token']}"}

    async def get(self, path: str) -> Any:
        """The data of an API answer."""
        async with self._session.get(self.url + path, headers=self.headers) as answer:
            body = await answer.json()
            assert answer.status < 300, body
            return body

    async def post(self, path: str, **body: Any) -> Any:
        """The data of an API answer."""
        async with self._session.post(self.url + path, json=body, headers=self.headers) as answer:
            result = await answer.json()
            assert answer.status < 300, result
            return result

    async def ready(self) -> None:
        """Wait until the embedded engines are loaded."""
        with anyio.fail_after(START_S):
            while any(rung["state"] == "loading" for rung in (await self.get("/api/v1/engine"))["data"]["rungs"].values()):
                await anyio.sleep(0.2)

    async def dial(self, agent: Path, line: str = "phone") -> Dial:
        """What to dial for a rehearsal with `agent`."""
        opened = await self.post("/api/v1/rehearsals", agent=str(agent), line=line)
        return Dial.from_json(opened["data"]["dial"])

    async def events(self, call_id: str) -> list[dict[str, Any]]:
        """A call's journal."""
        events: list[dict[str, Any]] = (await self.get(f"/api/v1/calls/{call_id}/events"))["data"]
        return events


@asynccontextmanager
async def engine(agent: Path, **environment: str) -> AsyncIterator[Engine]:
    """Start an engine for `agent`, stop it at the end."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        command = [sys.executable, "-m", "patter.engine", "--agents", str(agent.parent), "--home", str(home), "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
        assert process.stdout is not None
        try:
            line = await anyio.to_thread.run_sync(process.stdout.readline)
            assert "listening" in line, f"the engine did not start: {line!r}"
            async with aiohttp.ClientSession() as session:
                running = Engine(process, home, session)
                await running.ready()
                yield running
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


class Caller:
    """A person with a telephone: speaks prepared sound, and both directions are recorded frame by frame."""

    def __init__(self, dial: Dial, session: aiohttp.ClientSession) -> None:
        self.format: AudioFormat = dial.format
        self.carrier = LoopbackTwilio(dial, session, Clock(), self._mouth, self._ear)
        self._frame = self.format.bytes_for(20)
        self._words: deque[bytes] = deque()
        self.said = bytearray()
        self.heard = bytearray()

    def _mouth(self) -> bytes:
        frame = self._words.popleft() if self._words else self.format.quiet(20)
        self.said += frame
        return frame

    def _ear(self, frame: bytes) -> None:
        self.heard += frame

    @property
    def now_ms(self) -> float:
        """Position on the timeline of both recordings."""
        return self.format.ms_of(len(self.said))

    def speak(self, sound: bytes) -> float:
        """Begin to say `sound` (in the line's format) now; returns when, on the timeline, in ms."""
        for start in range(0, len(sound), self._frame):
            piece = sound[start : start + self._frame]
            self._words.append(piece + self.format.quiet(20)[len(piece) :])
        return self.now_ms

    @property
    def speaking(self) -> bool:
        """Whether the caller still has something to say."""
        return bool(self._words)
