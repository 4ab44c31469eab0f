"""Who did what to the engine: one line an operation, in audit.jsonl of the home.

It owns that file, its writer and its size; it refuses to know what an operation does. Lines hold no bodies and no secrets.
They are written by a thread: no request and no call waits for the disk.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.to_thread

from patter.exceptions import ended_context
from patter.server.answers import json_text

log = logging.getLogger(__name__)

FILE = "audit.jsonl"
SIZE = 4 * 1024 * 1024  # bytes of one file: some 15,000 lines
KEPT = 5  # older files: audit.1.jsonl is the last one before
WAITING = 10_000  # lines that wait for a disk that takes none; what comes then is counted, not kept
AGAIN_S = 5.0  # how soon a disk that took nothing is tried again


class Audit:
    """`async with Audit(home) as audit:`; leaving it writes what is left."""

    def __init__(self, home: Path) -> None:
        self._path = home / FILE
        self._waiting: deque[str] = deque()
        self._more = anyio.Event()
        self._lost = 0
        self._told = False
        self._writing = anyio.Lock()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(anyio.create_task_group())
            stack.push_async_callback(self._finish)
            stack.callback(tasks.cancel_scope.cancel)
            tasks.start_soon(self._write)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        with ended_context():
            return await self._stack.__aexit__(*error)

    def note(self, line: dict[str, Any]) -> None:
        """Keep a line; never waits and never fails."""
        if len(self._waiting) >= WAITING:
            self._lost += 1
            return
        self._waiting.append(json_text(line))
        self._more.set()

    async def last(self, limit: int) -> list[dict[str, Any]]:
        """The newest lines, newest first."""
        await self._flush()
        return await anyio.to_thread.run_sync(_last, self._path, limit)

    async def _write(self) -> None:
        while True:
            await self._more.wait()
            self._more = anyio.Event()
            if not await self._flush():
                await anyio.sleep(AGAIN_S)
                self._more.set()

    async def _flush(self) -> bool:
        """Whether all that waited has been written."""
        async with self._writing:
            lines = list(self._waiting)
            if not lines:
                return True
            try:
                await anyio.to_thread.run_sync(_append, self._path, lines)
            except OSError as error:
                if not self._told:
                    log.error("the audit cannot be written: %s", error.strerror)
                self._told = True
                return False
            for _ in lines:
                self._waiting.popleft()
            if self._lost:
                log.warning("lines of the audit were lost while it could not be written", extra={"lines": self._lost})
            self._told, self._lost = False, 0
            return True

    async def _finish(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._flush()


def _append(path: Path, lines: list[str]) -> None:
    if path.exists() and path.stat().st_size > SIZE:
        for number in range(KEPT, 0, -1):
            older = _older(path, number - 1)
            if older.exists():
                older.replace(_older(path, number))
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", buffering=0) as file:
        before = os.fstat(file.fileno()).st_size
        try:
            left = memoryview("".join(line + "\n" for line in lines).encode())
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(before)  # a full disk takes a part: all of it is written once there is room again
            raise


def _older(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.{number}{path.suffix}") if number else path


def _last(path: Path, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for line in _backwards(path):
        if len(found) >= limit:
            break
        try:
            row = json.loads(line)
        except ValueError:
            continue  # torn when the machine went down
        if isinstance(row, dict):
            found.append(row)
    return found


def _backwards(path: Path) -> Iterator[str]:
    for number in range(KEPT + 1):
        try:
            text = _older(path, number).read_text("utf-8", "replace")
        except FileNotFoundError:
            return
        yield from reversed(text.split("\n"))  # not splitlines: strangers' words may hold other ends of a line
