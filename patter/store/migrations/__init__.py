"""The database's versions: steps from each to the next, taken when an engine opens a database that is older than itself.

It owns the way from empty to today; it refuses databases of a newer version, and to know what the tables are for.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from sqlalchemy import Connection, inspect, text

from patter.exceptions import StoreError

HEAD = "0001"
FOLDER = Path(__file__).parent
TURN_S = 0.01  # between two looks whether it is our turn

_turn = threading.Lock()


@asynccontextmanager
async def alone() -> AsyncIterator[None]:
    """Only one `upgrade` at a time in the whole process: the steps speak to whichever database was named last."""
    while not _turn.acquire(blocking=False):  # noqa: ASYNC110 - a lock of threads, as there may be several loops
        await anyio.sleep(TURN_S)
    try:
        yield
    finally:
        _turn.release()


def version(connection: Connection) -> str:
    """The version that the database says it has; "" for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")


def load() -> None:
    """Import what `upgrade` needs, which takes about half a second: not for an event loop."""
    import alembic.migration
    import alembic.operations
    import alembic.script  # noqa: F401


def upgrade(connection: Connection) -> None:
    """Bring the database to today's version, within the connection's transaction; hold `alone` meanwhile.

    Raises StoreError for a newer one."""
    found = version(connection)
    if found == HEAD:
        return
    from alembic.migration import MigrationContext  # `load` has been here
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(FOLDER))
    if found and found not in {script.revision for script in scripts.walk_revisions()}:
        raise StoreError(
            f"the database of calls has the version {found}, which is newer than this program's {HEAD}",
            fix="install the newer version of patter again, or give another database",
        )
    context = MigrationContext.configure(
        connection, opts={"fn": lambda revision, _: scripts._upgrade_revs("head", revision)}
    )
    with Operations.context(context):
        context.run_migrations()
