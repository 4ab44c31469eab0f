"""A terminal of one's own (tmux) with the real workbench in it: keys go in, what a person would see comes out.

It owns the terminal's processes and their end; it refuses to know what should be on the screen.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

WORKBENCH = (sys.executable, "-m", "patter_tui")
STEP_S = 0.05
SOON_S = 30.0
"""How long anything may take that needs no model: the machines of tests are slow and busy."""

LOADED_S = 60.0
"""How long the embedded engines may take to load from a cold disk."""

_SETTINGS = "set -g status off\nset -sg escape-time 10\n"
_SHELL = 'code=$1; shift; "$@"; echo $? > "$code"; exec sleep infinity'
"""Keeps the window open after the program's end, so that its last words can be read."""

_BORDER = "╭"
_SPOKEN = re.compile(r"^(\d\d:\d\d:\d\d)? +(caller|agent|tool)? +(\S.*)$")
_FIGURE = re.compile(r"\s{2,}[\d.]+ (?:s|ms)(?: ▲)?\s*$")


def missing() -> str:
    """Why there can be no terminal here; "" if there can."""
    if not Path("/proc/self/environ").exists():
        return "processes are looked up in /proc, which this system has not"
    return "" if shutil.which("tmux") else "not installed: tmux (apt-get install tmux)"


@dataclass(frozen=True)
class Said:
    """One entry of the transcript on screen. `who` is "caller", "agent", "tool" or "" (a remark)."""

    who: str
    text: str


@dataclass(frozen=True)
class Terminal:
    """One window. `screen` is what is in it now."""

    name: str
    environment: dict[str, str]
    code: Path

    def tmux(self, *command: str) -> str:
        """Run a tmux command and return what it prints."""
        line = ("tmux", "-L", self.name, *command)
        return subprocess.run(line, env=self.environment, check=True, capture_output=True, text=True, timeout=20).stdout

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names ("d", "F5", "C-q", "Enter")."""
        self.tmux("send-keys", *keys)

    def write(self, text: str) -> None:
        """Type text."""
        self.tmux("send-keys", "-l", text)

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size."""
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    @property
    def screen(self) -> str:
        """The characters in the window, line by line."""
        return self.tmux("capture-pane", "-p")

    @property
    def exit_code(self) -> int | None:
        """How the program in the window ended; None while it runs."""
        text = self.code.read_text().strip() if self.code.exists() else ""
        return int(text) if text else None

    def wait(self, *wanted: str, within: float = SOON_S) -> str:
        """Wait until all of these are on the screen (spaces and line ends count alike); the screen then."""
        flat: list[str] = []

        def seen() -> bool:
            screen = self.screen
            flat[:] = [screen, *(" ".join(column.split()) for column in _columns(screen))]
            return all(any(text in view for view in flat) for text in wanted)

        self.until(seen, f"{wanted} on the screen", within)
        return flat[0]

    def until(self, done: Callable[[], bool], what: str, within: float = SOON_S) -> None:
        """Wait for something; if it does not come, fail with what is on the screen instead."""
        until = time.monotonic() + within
        while not done():
            if time.monotonic() > until:
                raise AssertionError(f"waited {within:.0f} s for {what}; on the screen was:\n{self.screen}")
            time.sleep(STEP_S)

    def ended(self, within: float = SOON_S) -> int:
        """Wait until the program in the window has ended; its exit code."""
        self.until(lambda: self.exit_code is not None, "the program's end", within)
        return self.exit_code or 0

    def transcript(self) -> list[Said]:
        """What the transcript pane (the first one) says now, in order. Entries that have scrolled away are missing."""
        said: list[Said] = []
        for row in _pane(self.screen, " in call", " ended ")[1:-1]:
            found = _SPOKEN.match(_FIGURE.sub("", row).rstrip())
            if found is None:
                continue
            timed, who, text = found.groups()
            if who or text.startswith(("·", "↯", "✗ ")) or not said:
                said.append(Said(who or "", text))
            elif not timed:
                said[-1] = replace(said[-1], text=f"{said[-1].text} {text}")
        return said

    def says(self, who: str, *words: str, within: float = SOON_S) -> str:
        """Wait until an entry of `who` in the transcript has all these words (in any case); its text."""
        found: list[str] = []

        def seen() -> bool:
            texts = [entry.text for entry in self.transcript() if entry.who == who]
            found[:] = [text for text in texts if all(word.lower() in text.lower() for word in words)]
            return bool(found)

        self.until(seen, f"the {who or 'remark'} with {words}", within)
        return found[-1]


def heard_so_far(text: str) -> str:
    """What of a reply that is being spoken the caller has heard: what stands before the bar."""
    heard, bar, _ = text.partition("│")
    return heard if bar else ""


def _columns(screen: str) -> list[str]:
    """The text of each pane of a screen, its rows joined, and the whole."""
    rows = screen.splitlines()
    edges = sorted({place for row in rows for place, sign in enumerate(row) if sign == _BORDER})
    if not edges:
        return [screen]
    cuts = [*edges, max(len(row) for row in rows)]
    columns = ["\n".join(row[start:end].strip("│ ") for row in rows) for start, end in pairwise(cuts)]
    return [screen, *columns]


def _pane(screen: str, *titles: str) -> list[str]:
    """The rows inside the pane whose title has one of these texts; nothing if it is not there."""
    rows = screen.splitlines()
    for top, row in enumerate(rows):
        for corner in re.finditer(r"╭[^╭╮]*╮", row):
            if any(title in corner.group() for title in titles):
                start, end = corner.start(), corner.end()
                inside = [row[start:end]]
                for below in rows[top + 1 :]:
                    inside.append(below[start + 2 : end - 1])
                    if below[start : start + 1] == "╰":
                        break
                return inside
    return []


def own_environment(home: Path) -> dict[str, str]:
    """The environment of a user whose every folder lies in `home`: nothing of this machine's user is read or changed."""
    places = {f"XDG_{name}_HOME": str(home / "xdg" / name.lower()) for name in ("CONFIG", "STATE", "DATA")}
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TMUX", "TEXTUAL", "OPENAI", "PATTER_HOME")) and name not in ("NO_COLOR", "COLORTERM")
    }
    return environment | places | {"PATTER_HOME": str(home), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}


@contextmanager
def terminal(
    home: Path,
    *arguments: str,
    columns: int = 120,
    rows: int = 40,
    command: Sequence[str] = WORKBENCH,
    **environment: str,
) -> Iterator[Terminal]:
    """A window of that size with `command` (the workbench) in it; it and all processes of `home` are gone afterwards."""
    with TemporaryDirectory(prefix="patter-tmux-") as folder:
        settings = Path(folder) / "tmux.conf"
        settings.write_text(_SETTINGS)
        window = Terminal(
            "patter", own_environment(home) | environment | {"TMUX_TMPDIR": folder}, Path(folder) / "code"
        )
        size = ("-x", str(columns), "-y", str(rows))
        line = ("sh", "-c", _SHELL, "sh", str(window.code), *command, *arguments)
        window.tmux("-f", str(settings), "new-session", "-d", *size, *line)
        try:
            yield window
        finally:
            with suppress(subprocess.CalledProcessError):
                window.tmux("kill-server")


@contextmanager
def household(home: Path) -> Iterator[None]:
    """Whatever still runs for `home` at the end is ended by force, so that a failed test leaves nothing behind."""
    try:
        yield
    finally:
        for process in processes(home):
            with suppress(ProcessLookupError):
                os.kill(process, 9)


def processes(home: Path) -> dict[int, str]:
    """The Python processes (workbench, engine, softphone) whose home this is: command line by process id."""
    mark = f"PATTER_HOME={home}".encode()
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().split(b"\0")
            ours = Path(os.fsdecode(command[0])).name.startswith("python") and b"-m" in command
            if ours and mark in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = b" ".join(command).decode(errors="replace")
    return found


def left_behind(home: Path, within: float = SOON_S) -> dict[int, str]:
    """Wait until no process of this home is left; those that are when the time is over."""
    until = time.monotonic() + within
    while (left := processes(home)) and time.monotonic() < until:
        time.sleep(STEP_S)
    return left
