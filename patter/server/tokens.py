"""Who may speak to a port and as what: the port's own token, and further ones that are kept as digests in tokens.json.

It owns that file and the comparison; it refuses to know what a role may do. A token is told once, when it is made.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from patter.server.answers import Refused
from patter.server.endpoint import ROLES, Role

log = logging.getLogger(__name__)

FILE = "tokens.json"
MOST = 200  # tokens of one home: people and programs, not requests
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}")
NAMED = "must begin with a letter or digit: up to 64 letters, digits, spaces, . _ @ -"


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept. `made_at` in seconds since the epoch. `chosen`: a person made it up, so it may be guessed.
    `paced`: who has it may ask only so often."""

    name: str
    role: Role
    digest: str = field(repr=False)
    made_at: float = 0.0
    chosen: bool = False
    paced: bool = True

    def row(self) -> dict[str, Any]:
        """The token as the API lists it."""
        return {"name": self.name, "role": self.role, "made_at": self.made_at}


class Tokens:
    """The tokens of one port: `own` (None: it has none) and those of `home`/tokens.json. `removed` is told of one that is
    taken away."""

    def __init__(self, home: Path, own: Token | None) -> None:
        self._path = home / FILE
        self._own = own
        self._made: dict[str, Token] = {}
        self._writing = anyio.Lock()
        self.removed: Callable[[str], None] = lambda name: None

    def load(self) -> None:
        """Read the file (blocking). One that cannot be read lets nobody in, and is kept beside the next one."""
        try:
            found = json.loads(self._path.read_text("utf-8"))
            self._made = {row["name"]: _token(row) for row in found["tokens"]}
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("the tokens cannot be read (%s): none of them is let in", type(error).__name__)
            self._made = {}
            if self._path.exists():
                self._path.replace(self._path.with_suffix(".unreadable"))

    def find(self, given: str) -> Token | None:
        """The token that this text is. It takes as long whichever it is."""
        digest = _digest(given)
        found = None
        for token in (self._own, *self._made.values()):
            if token is not None and hmac.compare_digest(token.digest, digest):
                found = token
        return found

    def named(self, name: str) -> Token | None:
        """The token of this name."""
        return self._own if self._own is not None and self._own.name == name else self._made.get(name)

    def rows(self) -> list[dict[str, Any]]:
        """The tokens of the file, by name."""
        return [self._made[name].row() for name in sorted(self._made)]

    async def make(self, name: str, role: Role, now: float) -> str:
        """A new token, told this once. Raises Refused."""
        if not NAME.fullmatch(name):
            raise Refused(422, f'"name" {NAMED}.')
        async with self._writing:
            taken = name in self._made or (self._own is not None and name == self._own.name)
            if taken:
                raise Refused(409, f'There is a token called "{name}" already: take another name, or delete it first.')
            if len(self._made) >= MOST:
                raise Refused(409, f"There are {MOST} tokens, which is the limit: delete those that nobody uses.")
            text = "pat_" + secrets.token_urlsafe(32)
            made = self._made | {name: Token(name, role, _digest(text), now)}
            await self._keep(made)
            return text

    async def remove(self, name: str) -> None:
        """Let nobody in with this token any more, at once. Raises Refused."""
        async with self._writing:
            if name not in self._made:
                raise Refused(404, "There is no token of this name.")
            await self._keep({other: token for other, token in self._made.items() if other != name})
        self.removed(name)

    async def _keep(self, made: dict[str, Token]) -> None:
        try:
            await anyio.to_thread.run_sync(_write, self._path, [_row(token) for token in made.values()])
        except OSError as error:
            raise Refused(503, f"The tokens cannot be written: {error.strerror}.") from None
        self._made = made


def own_token(text: str, name: str, *, chosen: bool = False) -> Token:
    """The token that a port is given; it may everything. Raises ValueError for an empty one."""
    if not text:
        raise ValueError("the server needs a token")
    return Token(name, "admin", _digest(text), chosen=chosen, paced=chosen)


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _row(token: Token) -> dict[str, Any]:
    return token.row() | {"digest": token.digest}


def _token(row: dict[str, Any]) -> Token:
    role = row["role"]
    if role not in ROLES[1:] or not re.fullmatch(r"[0-9a-f]{64}", row["digest"]):
        raise ValueError("no such role or digest")
    return Token(str(row["name"]), role, row["digest"], float(row["made_at"]))


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Whole or not at all, for the user's eyes only."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as out:
        json.dump({"tokens": rows}, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)
