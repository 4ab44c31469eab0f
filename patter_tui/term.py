"""The terminal around the workbench: is it one, which colours it wants, and who may write to it. No Textual here."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

MIN_COLUMNS, MIN_ROWS = 60, 16

NOT_A_TERMINAL = (
    "patter-tui needs a terminal, and its {stream} is not one. "
    "For scripts and pipes use `patter-tui test AGENT.toml` (add --json for JSON lines)."
)
DUMB = (
    "patter-tui cannot draw on TERM={term}. Set TERM (for example xterm-256color), or use `patter-tui test AGENT.toml`."
)


def problem(environment: Mapping[str, str] = os.environ) -> str:
    """Why the workbench cannot be drawn here, in a sentence; "" if it can."""
    if not sys.stdin.isatty():
        return NOT_A_TERMINAL.format(stream="input")
    if not sys.stdout.isatty():
        return NOT_A_TERMINAL.format(stream="output")
    term = environment.get("TERM", "")
    return DUMB.format(term=term or '""') if term in ("", "dumb") else ""


def theme(asked: str, environment: Mapping[str, str] = os.environ) -> str:
    """The theme to use, "" for the remembered one. NO_COLOR needs one without colours, known before the app is built."""
    if environment.get("NO_COLOR"):
        return "ansi-dark"
    return asked or environment.get("TEXTUAL_THEME", "")


def color_system(environment: Mapping[str, str] = os.environ) -> str:
    """How many colours to send, where the usual guess is too low; "" leaves the guess.

    tmux takes all colours and reduces them itself to what the terminal outside can show, but TERM=screen hides that."""
    if environment.get("NO_COLOR") or environment.get("COLORTERM") or environment.get("TEXTUAL_COLOR_SYSTEM"):
        return ""
    return "truecolor" if environment.get("TMUX") else ""


SPLASH = "\x1b[22;2t\x1b[?1049h\x1b[?25l\x1b[2J\x1b[H patter"
"""Keep the terminal's title, then the alternate screen with the name on it: something to see while the rest is loaded."""


def splash() -> None:
    """Show that the workbench is coming; what it draws itself replaces this."""
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), SPLASH.encode())


def leave(*, drawn: bool) -> None:
    """The terminal's own title again; and the normal screen, unless the interface has `drawn` and cleaned up itself."""
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), (b"" if drawn else b"\x1b[?1049l\x1b[?25h") + b"\x1b[23;2t")


@contextlib.contextmanager
def quiet_errors(log: Path) -> Iterator[None]:
    """Send file descriptor 2 to `log`: libraries in C write there and would paint over the screen.

    `sys.__stderr__`, on which the interface draws, becomes the terminal that standard output has."""
    try:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        yield
        return
    kept = os.dup(2)
    drawn = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    original, original_error = sys.__stderr__, sys.stderr
    os.dup2(target, 2)
    os.close(target)
    sys.__stderr__ = drawn  # type: ignore[misc]
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        sys.__stderr__, sys.stderr = original, original_error  # type: ignore[misc]
        with contextlib.suppress(OSError):
            drawn.close()
