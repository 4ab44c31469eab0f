"""Both databases for every test of the store: an empty home, and the address of a database that nobody has used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from patter.models import Memory
from patter.store.database import Database
from tests.support.databases import NoPostgres, Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server of our own, up for all tests of this process."""
    try:
        server = Postgres().__enter__()
    except NoPostgres as missing:
        pytest.skip(str(missing))
    try:
        yield server
    finally:
        server.__exit__()


@pytest.fixture(scope="session")
def made(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database with today's tables, to be copied."""
    url = postgres.url()

    async def make() -> None:
        async with Database(Memory(database=url), tmp_path_factory.mktemp("home")):
            pass

    anyio.run(make)
    return url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def memory(request: pytest.FixtureRequest) -> Memory:
    """A database for this test alone; what is in it stays for as many openings as the test makes."""
    if request.param == "sqlite":
        return Memory()
    server: Postgres = request.getfixturevalue("postgres")
    return Memory(database=server.url(request.getfixturevalue("made")))


@pytest.fixture
def database(memory: Memory, tmp_path: Path) -> Callable[[], Database]:
    """Opens (`async with database():`) the test's database, as often as it likes."""
    return lambda: Database(memory, tmp_path)
