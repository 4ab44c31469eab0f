"""Finds, starts and stops the engine process. It owns the process's life as seen from here; it knows nothing of calls.

Everything here blocks and runs in a thread. One engine serves one state folder: a second workbench adopts the first one's.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from patter.exceptions import PatterError
from patter_tui.line import BUSY
from patter_tui.paths import Paths

PROTOCOL = 1
"""Version of the HTTP and event protocol that this workbench speaks."""

START_SECONDS = 30.0
"""A cold start imports the server and reads agent files; a slow disk may need this long."""

LINGER_SECONDS = 600
"""An engine whose workbench vanished (a closed terminal) and that carries no call ends by itself after this time."""

RUNS_ALREADY = 3
"""Exit code of an engine that found another one in its home."""

STOP_SECONDS = 6.0
"""The engine ends calls and closes files in this time; then it is ended by force."""


FAREWELL_SECONDS = 20.0
"""With an open phone line: callers hear a goodbye, and the number's former webhook is put back."""


class EngineUnavailable(PatterError):
    """The engine cannot be used: what happened and what to do about it."""

    def __init__(self, problem: str, fix: str = "") -> None:
        self.problem, self.fix = problem, fix
        super().__init__(problem + (f" {fix}" if fix else ""))


@dataclass(frozen=True)
class Engine:
    """A running engine. `ours`: a workbench started it, so a workbench may stop it."""

    port: int
    token: str
    engine_id: str
    version: str
    pid: int
    ours: bool = False

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


def ask(port: int, method: str, path: str, token: str = "", *, timeout_s: float = 2.0) -> dict[str, Any] | None:
    """One small request to an engine; None if nothing (or no engine) answers."""
    import http.client  # not needed before the first paint

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, path, headers=headers)
        answer = json.loads(connection.getresponse().read() or b"{}")
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else None


def find(paths: Paths) -> Engine | None:
    """The engine that runs for this state folder; None if there is none.

    Raises EngineUnavailable if one runs that this workbench cannot talk to."""
    known = _read(paths.engine_file)
    try:
        port, pid = int(known["port"]), int(known["pid"])
    except (KeyError, TypeError, ValueError):
        return None
    health = ask(port, "GET", "/health")
    if health is None or health.get("engine_id") != known.get("engine_id"):
        return None
    if health.get("protocol") != PROTOCOL:
        raise EngineUnavailable(
            f"An engine of another version ({health.get('version', 'unknown')}) is running as process {pid}.",
            "Stop it with `patter-tui stop` and start again.",
        )
    engine_id = str(known["engine_id"])
    ours = is_ours(paths, engine_id)
    return Engine(port, str(known.get("token", "")), engine_id, str(health.get("version", "")), pid, ours)


def is_ours(paths: Paths, engine_id: str) -> bool:
    """Whether a workbench started this engine. Its starter notes it a moment after others can find the engine."""
    return bool(_read(paths.started_file).get("engine_id") == engine_id)


def find_any_version(paths: Paths) -> Engine | None:
    """The running engine whatever its version, to stop it."""
    known = _read(paths.engine_file)
    try:
        port, pid, engine_id = int(known["port"]), int(known["pid"]), str(known["engine_id"])
    except (KeyError, TypeError, ValueError):
        return None
    health = ask(port, "GET", "/health")
    if health is None or health.get("engine_id") != engine_id:
        return None
    return Engine(port, str(known.get("token", "")), engine_id, str(health.get("version", "")), pid)


def ensure(
    paths: Paths,
    *,
    command: Sequence[str] = (),
    stt_model: str = "",
    given_up: Callable[[], bool] = lambda: False,
) -> Engine:
    """Adopt the running engine or start one; `given_up()` says that nobody waits any more. Raises EngineUnavailable."""
    deadline = time.monotonic() + START_SECONDS
    running = find(paths)
    while running is not None and _is_going(running) and time.monotonic() < deadline and not given_up():
        time.sleep(0.1)
        running = find(paths)
    if running is not None:
        return running
    process, said = _spawn(paths, command, stt_model)
    while time.monotonic() < deadline and not given_up():
        ended = process.poll()
        if ended is not None and ended != RUNS_ALREADY:
            raise EngineUnavailable(f"The engine stopped at its start: {_last_line(said)}", f"Its last words: {said}")
        found = find(paths)
        if found is not None:
            if found.pid != process.pid:
                return found  # another terminal was quicker
            _write(paths.started_file, {"engine_id": found.engine_id})
            return replace(found, ours=True)
        time.sleep(0.04)
    process.terminate()
    raise EngineUnavailable(
        f"The engine did not answer within {START_SECONDS:.0f} seconds.", f"Its log: {paths.engine_log}"
    )


def _is_going(engine: Engine) -> bool:
    """Whether an engine is about to end: it answers still, but nothing can be started on it any more."""
    facts = (ask(engine.port, "GET", "/api/v1/engine", engine.token) or {}).get("data")
    return isinstance(facts, dict) and bool(facts.get("stopping")) and not facts.get("calls")


def _spawn(paths: Paths, command: Sequence[str], stt_model: str) -> tuple[subprocess.Popen[bytes], Path]:
    """An engine process that outlives this one, and the file with its first words."""
    line = [*(command or (sys.executable, "-m", "patter.engine")), "--agents", str(paths.agents)]
    line += ["--home", str(paths.home), "--linger", str(LINGER_SECONDS)]
    environment = os.environ | ({"PATTER_STT_MODEL": stt_model} if stt_model else {})
    said = paths.home / "engine-start.log"
    try:
        with said.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 (our own module, no shell)
                line, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=environment
            )
    except OSError as error:
        raise EngineUnavailable(f"The engine could not be started: {error}.") from error
    _children[process.pid] = process
    return process, said


def stop(engine: Engine, told: Callable[[str], None] = lambda _: None) -> bool:
    """Ask the engine to end, and end it by force if it does not. True once it is gone.

    `told` gets a sentence if that takes longer, because people are on the line."""
    patience = STOP_SECONDS / 2
    if _serves(engine):
        patience = FAREWELL_SECONDS
        told("Ending calls and closing the phone line…")
    ask(engine.port, "POST", "/api/v1/shutdown", engine.token)
    for sign in (None, signal.SIGTERM, signal.SIGKILL):
        if sign is not None:
            health = ask(engine.port, "GET", "/health", timeout_s=1.0)
            if health is not None and health.get("engine_id") != engine.engine_id:
                return True  # another process has the port: nothing of ours is left to end
            with contextlib.suppress(OSError):
                os.kill(engine.pid, sign)
        deadline = time.monotonic() + (patience if sign is None else STOP_SECONDS / 2)
        while time.monotonic() < deadline:
            if not alive(engine.pid):
                return True
            time.sleep(0.03)
    return not alive(engine.pid)


def _serves(engine: Engine) -> bool:
    line = (ask(engine.port, "GET", "/api/v1/line", engine.token) or {}).get("data")
    return isinstance(line, dict) and line.get("state") in BUSY


_children: dict[int, subprocess.Popen[bytes]] = {}
"""Engines started by this process: they must be waited for, or they stay as zombies."""


def alive(pid: int) -> bool:
    """Whether a process runs (a child of ours that ended is collected here)."""
    child = _children.get(pid)
    if child is not None:
        return child.poll() is None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _write(path: Path, data: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        path.write_text(json.dumps(data), "utf-8")


def _last_line(path: Path) -> str:
    """The sentence an engine left behind."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return lines[-1] if lines else "it said nothing."
