"""An engine process under test: started from a command, spoken to over its API, ended by every means there is."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FAKE = "tests.support.fake_engine"
REAL = "patter.engine"


class EngineProcess:
    """A started process that listens."""

    def __init__(self, process: subprocess.Popen[str], home: Path) -> None:
        assert process.stdout is not None
        self.process = process
        self.home = home
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        self.listening: dict[str, Any] = json.loads(line)
        self.info: dict[str, Any] = json.loads((home / "engine.json").read_text())

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request with the token."""
        connection = http.client.HTTPConnection("127.0.0.1", self.info["port"], timeout=20)
        try:
            headers = {"Authorization": f"Bearer {self.info['token']}"}
            connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def text_call(self, agent: str = "desk") -> str:
        """A text rehearsal; returns its call id."""
        status, answer = self.ask("POST", "/api/v1/rehearsals", {"agent": agent, "line": "text"})
        assert status == 201, answer
        return str(answer["data"]["call_id"])

    def journal(self, call_id: str) -> list[dict[str, Any]]:
        """What is on disk of a call."""
        lines = (self.home / "calls" / call_id / "events.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def wait_for(self, call_id: str, kind: str) -> None:
        """Return when the last line on disk is of this kind (files are written by a thread of their own)."""
        while not self._is_last(call_id, kind):
            self.ask("GET", "/health")

    def wait_for_kind(self, call_id: str, kind: str) -> None:
        """Return when a line of this kind is on disk."""
        while not self._has(call_id, kind):
            self.ask("GET", "/health")

    def _has(self, call_id: str, kind: str) -> bool:
        try:
            return any(event["type"] == kind for event in self.journal(call_id))
        except (OSError, ValueError):
            return False

    def _is_last(self, call_id: str, kind: str) -> bool:
        try:
            return bool(self.journal(call_id)[-1]["type"] == kind)
        except (OSError, ValueError, IndexError):
            return False

    def end(self) -> tuple[int, str]:
        """Wait for the process to end; its exit code and what it said on stderr."""
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


def run(*command: str) -> tuple[int, str]:
    """Run a process that is expected to end by itself; its exit code and what it said on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    return done.returncode, done.stderr


@contextlib.contextmanager
def engine(*command: str, home: Path) -> Iterator[EngineProcess]:
    """Start one and make sure that it is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield EngineProcess(process, home)
    finally:
        process.kill()
        process.communicate(timeout=30)
