"""Puts text on the clipboard: the system's own program where there is one, else the terminal's escape code."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping

_PROGRAMS = (
    ("WAYLAND_DISPLAY", ("wl-copy",)),
    ("DISPLAY", ("xclip", "-selection", "clipboard")),
    ("DISPLAY", ("xsel", "--clipboard", "--input")),
)

LIMIT = 74_000
"""Longer texts are refused by many terminals when they come as an escape code."""


def by_program(text: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Hand the text to the system's clipboard program. False if there is none, or the session is a remote one."""
    if environment.get("SSH_CONNECTION"):
        return False
    candidates = (
        [("pbcopy",)] if sys.platform == "darwin" else [line for name, line in _PROGRAMS if environment.get(name)]
    )
    for line in candidates:
        program = shutil.which(line[0])
        if program is None:
            continue
        try:
            subprocess.run(  # noqa: S603 (a fixed program, found on PATH, no shell)
                [program, *line[1:]], input=text.encode(), timeout=2, check=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            continue
        return True
    return False


def escape_code(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The terminal's clipboard code (OSC 52); inside tmux it is wrapped, or tmux would keep it."""
    code = f"\x1b]52;c;{base64.b64encode(text.encode()[:LIMIT]).decode()}\a"
    return f"\x1bPtmux;{code.replace(chr(27), chr(27) * 2)}\x1b\\" if environment.get("TMUX") else code
