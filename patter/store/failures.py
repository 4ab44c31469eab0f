"""What went wrong with the database, as a sentence and what to do: the drivers' many errors are few causes.

It owns these sentences; it refuses to repeat a driver's text that may hold values or addresses with passwords.
"""

from __future__ import annotations

from patter.exceptions import StoreError

SQLITE = (  # what SQLite's message says → (problem, fix)
    (("database is locked", "table is locked"), "is locked by another program", "close what else has it open"),
    (("is full",), "cannot grow: the disk is full", "make room on the disk"),
    (("readonly", "read-only"), "may only be read", "give this user the right to write it"),
    (("unable to open",), "cannot be opened", "check that its folder is there and may be written"),
    (("disk i/o",), "cannot be read or written: the disk fails", "check the disk"),
    (
        ("malformed", "not a database", "corrupt"),
        "is damaged",
        "move it away: it is made again from the journals at the next start",
    ),
)
POSTGRESQL = {  # SQLSTATE, or its class → (problem, fix)
    "28": ("refuses user or password", "check both in memory.database"),
    "3D": ("has no such database", "make it with createdb, or give another name in memory.database"),
    "53100": ("cannot grow: its disk is full", "make room on the server's disk"),
    "53300": ("has no connection left", "let it take more connections, or close others"),
    "57": ("is stopping or starting", "wait until it is up"),
    "40": ("has undone a transaction that another one crossed", "it is tried again by itself"),
    "55P03": ("is locked by another program", "wait until that is done"),
    "42501": ("does not let this user write", "grant the user the rights on its schema"),
    "25006": ("may only be read", "give the address of the server that takes writes"),
    "08": ("does not answer", "check that it runs and can be reached"),
}


class Refused(StoreError):
    """What was to be written is not what a table can hold: trying again would not help."""


def failure(error: BaseException, name: str) -> StoreError:
    """The error for the world, for any error of a driver, SQLAlchemy or the system."""
    problem, fix = _known(error)
    kind = Refused if problem.startswith("refused") else StoreError
    return kind(f"the database of calls ({name}) {problem}", fix=fix)


def _known(error: BaseException) -> tuple[str, str]:
    for cause in _causes(error):
        state = getattr(cause, "sqlstate", None)
        if isinstance(state, str):
            found = POSTGRESQL.get(state) or POSTGRESQL.get(state[:2])
            return found or (f"refused what it was given (SQLSTATE {state})", "")
        if type(cause).__module__ == "sqlite3":
            return _of_sqlite(str(cause).lower())
    for cause in _causes(error):
        if isinstance(cause, TimeoutError | OSError) or "connection" in str(cause).lower():
            return "does not answer", "check that it runs and can be reached"
    return f"failed ({type(error).__name__})", "see the engine's log"


def _of_sqlite(message: str) -> tuple[str, str]:
    for words, problem, fix in SQLITE:
        if any(word in message for word in words):
            return problem, fix
    return "refused what it was given", ""


def _causes(error: BaseException) -> list[BaseException]:
    """The error and those below it, the innermost first."""
    found: list[BaseException] = []
    now: BaseException | None = error
    while now is not None and now not in found:
        found.insert(0, now)
        now = getattr(now, "orig", None) or now.__cause__ or now.__context__
    return found
