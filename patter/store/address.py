"""Where the database is: a file in the home, or the URL of a server, checked before anything is opened.

It owns what such an address may look like and how it is shown (never with its password); it refuses to open it.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from patter.exceptions import SettingsError

FILE = "calls.db"
SCHEMES = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
EXAMPLE = "postgresql://user:password@host:5432/name"
OPTIONS = {  # what other programs write into such URLs → how asyncpg calls it
    "host": "host",
    "port": "port",
    "ssl": "ssl",
    "sslmode": "ssl",
    "connect_timeout": "timeout",
    "prepared_statement_cache_size": "prepared_statement_cache_size",
    "statement_cache_size": "statement_cache_size",
}


def database_url(database: str, home: Path) -> URL:
    """The address that the settings mean. Raises SettingsError, without the password that may stand in it."""
    if not database:
        return URL.create(SCHEMES["sqlite"], database=str(home.absolute() / FILE))
    if "://" not in database:
        raise SettingsError(f"memory.database must be a URL such as {EXAMPLE} or sqlite:///calls.db, not a bare name")
    try:
        url = make_url(database)
        scheme = SCHEMES[url.drivername]
    except KeyError:
        raise SettingsError(
            f"memory.database: {database.split('://')[0]!r} is no database that is known here; use sqlite:///path or {EXAMPLE}"
        ) from None
    except (ArgumentError, ValueError):
        raise SettingsError(
            f"memory.database cannot be read as a URL: write it as {EXAMPLE}, "
            "with special characters of user and password percent-encoded"
        ) from None
    return _file(url, home) if scheme == SCHEMES["sqlite"] else _server(url.set(drivername=scheme))


def shown(url: URL) -> str:
    """The address for people: without user, password and options."""
    if url.drivername.startswith("sqlite"):
        return str(url.database)
    port = f":{url.port}" if url.port else ""
    return f"PostgreSQL at {url.host or 'this machine'}{port}, database {url.database}"


def _file(url: URL, home: Path) -> URL:
    if url.host or not url.database or url.database == ":memory:" or url.query:
        raise SettingsError(
            "memory.database: a SQLite database is a file: sqlite:///name (in the home) or sqlite:////whole/path"
        )
    path = home.absolute() / Path(url.database).expanduser()
    return URL.create(SCHEMES["sqlite"], database=str(path))


def _server(url: URL) -> URL:
    if not url.database:
        raise SettingsError(f"memory.database names no database: write it as {EXAMPLE}")
    if unknown := sorted(set(url.query) - set(OPTIONS)):
        known = ", ".join(sorted(OPTIONS))
        raise SettingsError(f"memory.database: the option {unknown[0]!r} is unknown; known are {known}")
    return url.set(query={OPTIONS[name]: value for name, value in url.query.items()})
