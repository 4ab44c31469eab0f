"""A program on a pseudo-terminal, as a person's terminal would run it: sized, typed into, resized, read.

It owns the terminal and the times at which text appeared; it refuses to interpret a screen.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence

_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[\]P^_X].*?(?:\x07|\x1b\\)"  # OSC, DCS and their kin
    r"|\x1b[ -/]*[0-~]",
    re.DOTALL,
)
_SHOWN = re.compile(r"[^\s\x00-\x1f]")
KEPT = 400_000  # characters of output that are searched


class Terminal:
    """`with Terminal(…) as terminal:` runs the command until it is left. Times are seconds since the process was started."""

    def __init__(self, command: Sequence[str], columns: int, rows: int, environment: Mapping[str, str]) -> None:
        self._command, self._size, self._environment = list(command), (columns, rows), dict(environment)
        self._output = ""
        self._news = threading.Condition()
        self._closed = False
        self.drawn_bytes = 0
        """How much the program has written to the terminal."""

    def __enter__(self) -> Terminal:
        self._master, line = pty.openpty()
        self.resize(*self._size)
        self._began = time.perf_counter()
        self.process = subprocess.Popen(
            self._command, stdin=line, stdout=line, stderr=line, env=self._environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that a resize is signalled
        )  # fmt: skip
        os.close(line)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(2)
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # the program has closed its end
                data = b""
            with self._news:
                if not data:
                    self._closed = True
                    self._news.notify_all()
                    return
                self.drawn_bytes += len(data)
                self._output = (self._output + data.decode("utf-8", "replace"))[-KEPT:]
                self._news.notify_all()

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Another size; the program is signalled."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def text(self) -> str:
        """What was written lately, without control sequences."""
        return _ESCAPE.sub("", self._output)

    def wait_for(self, pattern: str, timeout_s: float = 30.0) -> float:
        """Wait for text that matches; returns when it was there. Raises TimeoutError with the screen's text."""
        found = re.compile(pattern)
        deadline = time.perf_counter() + timeout_s
        with self._news:
            while not found.search(self.text):
                left = deadline - time.perf_counter()
                if left <= 0 or self._closed:
                    raise TimeoutError(f"{pattern!r} did not appear; the end of what did: {self.text[-500:]!r}")
                self._news.wait(left)
        return time.perf_counter() - self._began

    def first_text(self) -> float:
        """When the first character that can be seen was written."""
        return self.wait_for(_SHOWN.pattern)
