"""INSERT … ON CONFLICT in the dialect of the connection: both databases have it, SQLAlchemy spells it twice.

It owns that choice; it refuses to know any table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

if TYPE_CHECKING:
    Insert = postgresql.Insert | sqlite.Insert


def insert(connection: AsyncConnection, table: Table) -> Insert:
    """An insert that can be told what to do with rows that are there already."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def upsert(connection: AsyncConnection, table: Table, keys: tuple[str, ...]) -> Insert:
    """Insert rows, or replace all columns of those with the same `keys`."""
    statement = insert(connection, table)
    columns = [column.name for column in table.columns if column.name not in keys]
    return statement.on_conflict_do_update(
        index_elements=list(keys), set_={name: statement.excluded[name] for name in columns}
    )
