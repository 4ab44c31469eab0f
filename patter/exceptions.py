"""Every error that Patter raises on purpose; it owns the tree and knows nothing of who raises what.

PatterError
├── PatterConnectionError     a connection failed, or a parameter needed to make one is missing
├── AgentFileError            an agent file cannot be used: file, line, what, how to fix it
├── SettingsError             what the engine is told to keep, spend or show cannot be
├── StoreError                the database of calls cannot be reached, read or written now
├── WireError                 a peer's message cannot be read: what is wrong with it
└── ProviderError             a vendor or an embedded engine failed: whose fault, and whether to retry
    └── CarrierError          a telephone carrier refused or failed, with its HTTP status and error code
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class PatterError(Exception):
    """Base of all Patter errors."""


class PatterConnectionError(PatterError):
    """A connection failed, or a parameter needed to make one is missing."""


class AgentFileError(PatterError):
    """An agent file cannot be used. `line` and `column` count from 1; 0 means the whole file."""

    def __init__(self, problem: str, *, path: str = "", line: int = 0, column: int = 0, fix: str = "") -> None:
        self.problem, self.path, self.line, self.column, self.fix = problem, path, line, column, fix
        place = path + (f":{line}" if line else "") + (f":{column}" if line and column else "")
        super().__init__(": ".join(part for part in (place, problem) if part) + (f" — {fix}" if fix else ""))


class SettingsError(PatterError, ValueError):
    """The engine's settings cannot be used; the message names the key and says how to fix it."""


class StoreError(PatterError):
    """The database of calls cannot be reached, read or written now. The message never carries its address' password."""

    def __init__(self, problem: str, *, fix: str = "") -> None:
        self.problem, self.fix = problem, fix
        super().__init__(problem + (f" — {fix}" if fix else ""))


class WireError(PatterError):
    """A peer's message cannot be read. The message says what is wrong with it, and never carries its payload."""


class ProviderError(PatterError):
    """A provider failed. `stage` is "stt", "llm", "tts", "agent", "vad", "tool" or "carrier"; `fix` tells what to do.

    `status` is the HTTP status or WebSocket close code (0: none), `code` the vendor's own word for it, `retry_after_s`
    what the vendor asks to wait (None: it did not say), `tries` how often it was tried before this was raised."""

    def __init__(
        self,
        problem: str,
        *,
        provider: str,
        stage: str = "",
        retryable: bool = False,
        fix: str = "",
        status: int = 0,
        code: str = "",
        retry_after_s: float | None = None,
        tries: int = 1,
    ) -> None:
        self.problem, self.provider, self.stage, self.retryable, self.fix = problem, provider, stage, retryable, fix
        self.status, self.code, self.retry_after_s, self.tries = status, code, retry_after_s, tries
        super().__init__(f"{provider}: {problem}" + (f" — {fix}" if fix else ""))


class CarrierError(ProviderError):
    """A carrier's API refused or failed. `status` is the HTTP status (0: no answer), `code` the carrier's own, or ""."""

    def __init__(
        self, problem: str, *, provider: str, fix: str = "", retryable: bool = False, status: int = 0, code: str = ""
    ) -> None:
        super().__init__(
            problem, provider=provider, stage="carrier", retryable=retryable, fix=fix, status=status, code=code
        )


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise an error as itself when task groups that were open around it have wrapped it in groups of one."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is group:
            raise
        raise error from error.__cause__


@contextmanager
def ended_context() -> Iterator[None]:
    """Leave an exit stack in it. What comes out of one may be its own `__context__`: contextlib joins what a member raises to
    what it was given, and task groups raise that very exception again. anyio follows contexts to their end, so for ever."""
    try:
        yield
    except BaseException as error:
        met, last = {id(error)}, error
        while (before := last.__context__) is not None and id(before) not in met:
            met.add(id(before))
            last = before
        last.__context__ = None
        raise
