"""A PostgreSQL of our own for tests: Debian's programs, a new cluster in a temporary directory, gone when the tests are.

It owns that cluster's life; it refuses to know what is kept in it. Nothing of the system's own clusters is touched.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

USERS = ("postgres", "nobody")  # the server refuses to run as root: one of these runs it then
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "autovacuum": "off",
    "listen_addresses": "127.0.0.1",
}
READY_S = 30.0


class NoPostgres(Exception):
    """There is none to run here; the message says what is missing."""


def programs() -> Path:
    """The directory of initdb and postgres, the newest version. Raises NoPostgres."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    named = [found[-1]] if found else [Path(name) for name in (shutil.which("initdb"),) if name]
    for initdb in named:
        if (initdb.parent / "postgres").exists():
            return initdb.parent
    raise NoPostgres("PostgreSQL is not installed (Debian's package: postgresql)")


@dataclass
class Postgres:
    """`with Postgres() as server:` runs one; every `url()` is that of a new database. `stop` and `start` it at will."""

    bin: Path = field(default_factory=programs)
    folder: Path = field(init=False)
    port: int = 0
    _uid: int | None = None
    _server: subprocess.Popen[bytes] | None = None
    _count: int = 0

    def __enter__(self) -> Postgres:
        self.folder = Path(tempfile.mkdtemp(prefix="patter-pg-"))
        try:
            self._uid = _owner()
            if self._uid is not None:
                os.chown(self.folder, self._uid, pwd.getpwuid(self._uid).pw_gid)
            self._run(
                "initdb", "-D", self._data, "-U", "patter", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"
            )
            settings = "".join(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
            with open(self._data / "postgresql.conf", "a", encoding="ascii") as file:
                file.write(settings + f"unix_socket_directories = '{self.folder}'\n")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Run the server; returns when it answers."""
        leash: tuple[str, ...] = (
            ("setpriv", "--pdeathsig", "QUIT") if shutil.which("setpriv") else ()
        )  # killed tests leave no server
        with open(self.folder / "server.log", "ab") as out:
            self._server = subprocess.Popen(
                [*leash, self.bin / "postgres", "-D", self._data, "-p", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                **self._as_owner(),
            )
        end = time.monotonic() + READY_S
        ready: list[str | Path] = [
            self.bin / "pg_isready",
            "-q",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "patter",
            "-d",
            "postgres",
        ]
        while subprocess.run(ready, check=False).returncode:
            if time.monotonic() > end or self._server.poll() is not None:
                raise NoPostgres("PostgreSQL does not start: " + (self.folder / "server.log").read_text()[-500:])
            time.sleep(0.05)

    def stop(self, how: int = signal.SIGINT) -> None:
        """End the server: SIGINT drops its connections ("fast"), SIGQUIT leaves everything as it is ("immediate")."""
        server, self._server = self._server, None
        if server is not None:
            server.send_signal(how)
            server.wait(READY_S)

    def sql(self, statement: str, database: str = "postgres") -> None:
        """Run one statement."""
        command: list[str | Path] = [
            self.bin / "psql",
            "-q",
            "-X",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "patter",
            "-d",
            database,
        ]
        subprocess.run([*command, "-v", "ON_ERROR_STOP=1", "-c", statement], check=True, stdout=subprocess.DEVNULL)

    def url(self, template: str = "template1", *, user: str = "patter", password: str = "secret") -> str:
        """The address of a database that is made for this call, as a copy of `template`."""
        self._count += 1
        name = f"calls_{self._count}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self.bin / program, *arguments], capture_output=True, text=True, check=False, **self._as_owner()
        )
        if done.returncode:
            raise NoPostgres(f"{program} failed: {done.stderr[-500:]}")

    def _as_owner(self) -> dict[str, Any]:
        if self._uid is None:
            return {"cwd": self.folder}
        group = pwd.getpwuid(self._uid).pw_gid
        return {"cwd": self.folder, "user": self._uid, "group": group, "extra_groups": []}


def _owner() -> int | None:
    """Whom the server runs as; None for ourselves."""
    if os.getuid() != 0:
        return None
    for name in USERS:
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise NoPostgres("there is no user that PostgreSQL could run as")
