"""The engine's log: one file, small, for the user's eyes only, without secrets and without anybody's words.

It owns the form of a line: static text with known fields, and tracebacks without the failing values.
"""

from __future__ import annotations

import logging
import os
import traceback
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import Any

from patter.exceptions import AgentFileError

LIMIT = 2 * 1024 * 1024  # bytes; one older file of the same size is kept
FIELDS = ("call_id", "route", "event", "callback", "path", "why", "known_account", "tool", "engine_id", "left_out")
"""The fields of a record that are written. Others may hold words or numbers of callers."""


ALIKE = 30  # records of one kind that are written in a minute: more would wash the others out of the file
MINUTE_S = 60.0
KINDS = 1_000


class _Private(RotatingFileHandler):
    def _open(self) -> Any:
        return open(self.baseFilename, "a", encoding="utf-8", opener=_opener)


class Calm(logging.Filter):
    """Leaves out what is told too often, as it is when strangers knock; the next minute's first record says how much."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this one is to be written."""
        kind = record.name, str(record.msg)
        since, told = self._told.get(kind, (record.created, 0))
        if record.created - since >= MINUTE_S:
            if told > ALIKE:
                record.left_out = told - ALIKE
            since, told = record.created, 0
        if kind not in self._told and len(self._told) >= KINDS:
            self._told.clear()
        self._told[kind] = since, told + 1
        return told < ALIKE


class LineFormatter(logging.Formatter):
    """`date level logger message field=value …`, then where it failed and with which kind of error."""

    def format(self, record: logging.LogRecord) -> str:
        """One record. The error's own text is left out: it may quote what a caller said."""
        line = f"{self.formatTime(record)} {record.levelname} {record.name}: {_one_line(record.getMessage())}"
        line += "".join(f" {name}={getattr(record, name)!r}" for name in FIELDS if hasattr(record, name))
        if record.exc_info and record.exc_info[1] is not None:
            line += "\n" + "\n".join(_told(record.exc_info[1], record.exc_info[2]))
        return line


def start_log(path: Path) -> logging.Handler:
    """Write the engine's log to `path` from now on. Libraries only warn. Raises OSError."""
    handler = _Private(path, maxBytes=LIMIT, backupCount=1, encoding="utf-8")
    handler.setFormatter(LineFormatter())
    handler.addFilter(Calm())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("patter").setLevel(logging.INFO)
    logging.captureWarnings(True)
    return handler


def stop_log(handler: logging.Handler) -> None:
    """Close what `start_log` opened."""
    logging.getLogger().removeHandler(handler)
    logging.captureWarnings(False)
    handler.close()


def _told(error: BaseException, trace: TracebackType | None) -> list[str]:
    lines = [
        f"  {frame.filename}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(trace or error.__traceback__)
    ]
    lines.append(f"  {type(error).__module__}.{type(error).__qualname__}" + _safe_text(error))
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            lines += _told(inner, None)
    elif error.__cause__ is not None:
        lines += ["  caused by", *_told(error.__cause__, None)]
    return lines


def _safe_text(error: BaseException) -> str:
    """The text of the errors whose texts are ours or the system's."""
    if isinstance(error, AgentFileError):
        return f": {_one_line(str(error))}"
    return f": {_one_line(error.strerror)}" if isinstance(error, OSError) and error.strerror else ""


def _one_line(text: str) -> str:
    """Text that can neither begin a line of the log nor steer the terminal on which it is read."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
