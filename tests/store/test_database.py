"""Opening a database: addresses, tables made by steps, versions, and failures in sentences without secrets."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text

from patter.exceptions import SettingsError, StoreError
from patter.models import Memory
from patter.store import migrations, schema
from patter.store.database import Database
from tests.support.databases import Postgres

pytestmark = pytest.mark.anyio

SECRET = "hunter2"
Opening = Callable[[], Database]


def differences(connection: Connection) -> list[Any]:
    """What autogenerate would change; the search index is no part of the tables."""

    def ours(_: Any, name: str | None, *__: Any) -> bool:
        return not str(name).startswith("text_")

    context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_type": True})
    return list(compare_metadata(context, schema.metadata))


async def test_the_steps_make_exactly_the_tables_that_the_code_knows(
    tmp_path: Path, request: Any, memory: Memory
) -> None:
    fresh = Memory() if not memory.database else Memory(database=request.getfixturevalue("postgres").url())
    async with Database(fresh, tmp_path) as database, database.write() as connection:
        assert await connection.run_sync(differences) == []
        names = await connection.run_sync(lambda sync: set(inspect(sync).get_table_names()))
        assert names >= set(schema.metadata.tables) | {"alembic_version"}


def test_the_version_is_that_of_the_last_step() -> None:
    scripts = ScriptDirectory(str(migrations.FOLDER))
    assert scripts.get_heads() == [migrations.HEAD]


async def test_an_opened_database_is_opened_again_with_what_is_in_it(database: Opening) -> None:
    async with database() as first, first.write() as connection:
        await connection.execute(schema.day_reasons.insert(), {"day": 1, "agent": "amy", "reason": "busy", "calls": 3})
    async with database() as again:
        await again.open()  # does nothing
        async with again.read() as connection:
            assert (await connection.execute(schema.day_reasons.select())).all() == [(1, "amy", "busy", 3)]


async def test_an_error_within_a_transaction_undoes_all_of_it(database: Opening) -> None:
    async def fail(opened: Database) -> None:
        async with opened.write() as connection:
            await connection.execute(schema.days.insert(), {"day": 1, "agent": "", "direction": ""})
            raise ZeroDivisionError

    async with database() as opened:
        with pytest.raises(ZeroDivisionError):
            await fail(opened)
        async with opened.read() as connection:
            assert (await connection.execute(schema.days.select())).all() == []


async def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(database: Opening) -> None:
    async with database() as opened, opened.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    refused = database()
    with pytest.raises(StoreError, match=r"version 9999, which is newer .* install the newer version"):
        await refused.open()
    assert not refused.is_open
    with pytest.raises(StoreError, match="not open yet"):
        async with refused.read():
            pass


async def test_the_file_is_for_its_user_alone_and_readers_cannot_write(tmp_path: Path) -> None:
    async with Database(Memory(database="sqlite:///deep/er/my.db"), tmp_path) as database:
        path = tmp_path / "deep/er/my.db"
        async with database.write() as connection:
            await connection.execute(schema.days.insert(), {"day": 1, "agent": "", "direction": ""})
            assert (await connection.execute(text("PRAGMA journal_mode"))).scalar() == "wal"
            assert (await connection.execute(text("PRAGMA foreign_keys"))).scalar() == 1
        for file in (path, path.with_name("my.db-wal"), path.with_name("my.db-shm")):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with pytest.raises(StoreError, match="may only be read"):
            async with database.read() as connection:
                await connection.execute(schema.days.delete())


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("calls.db", "must be a URL such as"),
        ("mysql://me:hunter2@host/name", "'mysql' is no database that is known"),
        ("postgresql://me:hunter2@host:port/name", "cannot be read as a URL"),
        ("postgresql://me:hunter2@host", "names no database"),
        ("postgresql://me:hunter2@host/name?colour=blue", "the option 'colour' is unknown; known are"),
        ("sqlite://", "a SQLite database is a file"),
        ("sqlite:///:memory:", "a SQLite database is a file"),
        ("sqlite://host/name", "a SQLite database is a file"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_without_its_password(
    tmp_path: Path, url: str, sentence: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        Database(Memory(database=url), tmp_path)
    assert sentence in str(refused.value)
    assert "memory.database" in str(refused.value)
    assert SECRET not in str(refused.value) + repr(refused.value) + str(refused.value.__cause__)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_the_address_is_shown_without_user_and_password(tmp_path: Path, scheme: str) -> None:
    database = Database(Memory(database=f"{scheme}://me:{SECRET}@db.example:5433/calls?sslmode=require"), tmp_path)
    assert repr(database) == "<Database PostgreSQL at db.example:5433, database calls>"


def test_a_missing_driver_is_named_with_the_command_that_brings_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['asyncpg'] = None\n"
        "from pathlib import Path; from patter.models import Memory; from patter.store.database import Database\n"
        "try: Database(Memory(database='postgresql://u:p@h/n'), Path('.'))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "SettingsError" in done.stdout
    assert "pip install 'patter[postgres]'" in done.stdout


async def test_failures_of_a_server_are_sentences_without_secrets(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.url(password=SECRET)
    postgres.sql("CREATE ROLE reader LOGIN")
    cases = {
        url.rpartition("/")[0] + "/nowhere": "has no such database",
        url.replace("patter:", "stranger:"): "refuses user or password",
        url.replace("patter:", "reader:"): "does not let this user write",
        f"postgresql://me:{SECRET}@127.0.0.1:1/calls": "does not answer",
        f"postgresql://me:{SECRET}@nowhere.invalid/calls": "does not answer",
    }
    for address, sentence in cases.items():
        with pytest.raises(StoreError) as failed:
            await Database(Memory(database=address), tmp_path).open()
        assert sentence in str(failed.value), address
        assert failed.value.fix
        assert SECRET not in str(failed.value) + repr(failed.value)


async def test_a_file_that_is_no_database_and_a_folder_that_is_none_are_told(tmp_path: Path) -> None:
    (tmp_path / "calls.db").write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    with pytest.raises(StoreError, match=r"is damaged — move it away: it is made again from the journals"):
        await Database(Memory(), tmp_path).open()
    with pytest.raises(StoreError, match=r"cannot be made in .*: File exists — give it a folder"):
        await Database(Memory(database=f"sqlite:///{tmp_path}/calls.db/x.db"), tmp_path).open()


async def test_databases_of_several_homes_are_made_at_once(tmp_path: Path) -> None:
    databases = [Database(Memory(), tmp_path / str(number)) for number in range(4)]
    async with anyio.create_task_group() as tasks:
        for one in databases:
            tasks.start_soon(one.open)
    for one in databases:
        async with one.read() as connection:
            assert (await connection.execute(select(schema.calls))).all() == []
        await one.aclose()
