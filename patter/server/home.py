"""The home of an engine: one directory, one engine at a time, and `engine.json` by which others find it.

It owns the lock and that file; it refuses to know what the engine does.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

INFO = "engine.json"
LOCK = "engine.lock"
LOG = "engine.log"


def usual_home() -> Path:
    """Where everything is kept when nobody says otherwise: $PATTER_HOME, else where this system keeps users' data."""
    import platformdirs  # looks at the system when it is loaded

    named = os.environ.get("PATTER_HOME", "")
    return Path(named).expanduser() if named else Path(platformdirs.user_data_dir("patter"))


class HomeTaken(Exception):
    """Another engine lives here; the message is a sentence for the user."""


class HomeUnusable(Exception):
    """The directory cannot be made or written; the message is a sentence for the user."""


class Home:
    """One engine's directory. `take` it before anything else; `release` it last.

    The lock is the system's: it goes with the process however that dies, so an `engine.json` without one is stale."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self._lock: int | None = None

    @property
    def log(self) -> Path:
        """The engine's log file."""
        return self.path / LOG

    def take(self) -> None:
        """Become the engine of this home. Raises HomeTaken or HomeUnusable."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise HomeUnusable(f"The home {self.path} cannot be used: {error.strerror}. Give another --home.") from None
        try:
            _hold(lock)
        except OSError:
            os.close(lock)
            raise HomeTaken(self._who()) from None
        self._lock = lock
        (self.path / INFO).unlink(missing_ok=True)

    def announce(self, info: dict[str, Any]) -> None:
        """Write `engine.json`, whole or not at all, for the user's eyes only: it holds the token."""
        draft = self.path / f"{INFO}.{os.getpid()}"
        draft.unlink(missing_ok=True)
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as out:
            json.dump(info, out)
        draft.replace(self.path / INFO)

    def release(self) -> None:
        """Leave: `engine.json` goes first, then the lock."""
        if self._lock is not None:
            (self.path / INFO).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _who(self) -> str:
        try:
            info = json.loads((self.path / INFO).read_text(encoding="utf-8"))
            who = f"An engine (process {int(info['pid'])}, port {int(info['port'])})"
        except (OSError, ValueError, KeyError, TypeError):
            who = "An engine that is just starting or stopping"
        return f"{who} runs in {self.path} already: use that one, stop it, or give another --home."


def hold(path: Path) -> int | None:
    """Lock this file until the descriptor is closed or the process dies; None if somebody else has it. Raises OSError."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _hold(lock)
    except OSError:
        os.close(lock)
        return None
    return lock


def _hold(lock: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
