"""Runs the softphone process of one rehearsal and speaks its JSON lines. It owns the process; sound never comes near here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "patter.softphone")

GOODBYE_SECONDS = 2.0
"""A softphone hangs up and closes its devices in this time after its input ends; then it is ended."""

_LINE_LIMIT = 1 << 20


class Softphone:
    """One softphone process. `take` gets every message; a process that dies without a word gives {"is": "ended"}."""

    def __init__(self, take: Callable[[dict[str, Any]], None], log: Path, command: Sequence[str] = COMMAND) -> None:
        self._take = take
        self._log = log
        self._command = tuple(command)
        self._process: asyncio.subprocess.Process | None = None
        self._ended = False

    async def run(self, dial: dict[str, Any]) -> None:
        """Start the process, send it the command `dial`, and read it until it ends."""
        try:
            with self._log.open("ab") as errors:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, limit=_LINE_LIMIT,
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            self._take({"is": "error", "problem": f"The softphone could not be started: {error}.", "fix": ""})
            self._take({"is": "ended", "reason": "failed"})
            return
        self.send(**dial)
        try:
            await self._read()
        finally:
            await self._close()

    def send(self, **command: Any) -> None:
        """Send one command; a softphone that is gone does not mind."""
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            return
        with contextlib.suppress(OSError, RuntimeError):
            process.stdin.write(json.dumps(command).encode() + b"\n")

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            with contextlib.suppress(ValueError):
                message = json.loads(raw)
                if isinstance(message, dict):
                    self._ended = self._ended or message.get("is") == "ended"
                    self._take(message)
            if self._ended:
                return

    async def _close(self) -> None:
        process = self._process
        assert process is not None
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), GOODBYE_SECONDS)
        except (TimeoutError, asyncio.CancelledError):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if not self._ended:
            self._ended = True
            self._take({"is": "error", "problem": "The softphone stopped by itself.", "fix": f"Its log: {self._log}"})
            self._take({"is": "ended", "reason": "failed"})
