"""The sign-ins of browsers: a random id in a cookie stands for a token, until it is old, signed out or its token is gone.

It owns these ids and their age; it refuses to know requests. They live in memory: a new engine asks for the token again.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256

from patter.clock import Clock
from patter.server.tokens import Token

IDLE_S = 12 * 3600.0  # a day's work; a page that is open asks now and then
LONGEST_S = 7 * 24 * 3600.0
INVITED_S = 60.0  # a program opens the browser at once
MOST = 500  # sign-ins at once: the one that was used longest ago makes room


@dataclass(slots=True)
class Session:
    """One sign-in. Times in seconds since the epoch."""

    token: Token
    began: float
    used: float


class Sessions:
    """All sign-ins of one port. Only digests of the ids are kept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._invited: OrderedDict[str, Session] = OrderedDict()

    def open(self, token: Token) -> str:
        """A new sign-in; returns the id for the cookie."""
        name, now = secrets.token_urlsafe(32), self._clock.now()
        while len(self._open) >= MOST:
            self._open.popitem(last=False)
        self._open[_digest(name)] = Session(token, now, now)
        return name

    def invite(self, token: Token) -> str:
        """A code by which a browser may sign in once, within `INVITED_S`: addresses are seen by others, tokens are not."""
        code, now = secrets.token_urlsafe(24), self._clock.now()
        while len(self._invited) >= MOST:
            self._invited.popitem(last=False)
        self._invited[_digest(code)] = Session(token, now, now)
        return code

    def accept(self, code: str) -> Token | None:
        """The token that this code stands for; it is worth nothing afterwards. None for one that is used, old or made up."""
        found = self._invited.pop(_digest(code), None)
        return found.token if found and self._clock.now() - found.began <= INVITED_S else None

    def find(self, name: str) -> Session | None:
        """The sign-in of this id, used now; None if there is none any more."""
        key, now = _digest(name), self._clock.now()
        session = self._open.get(key)
        if session is None:
            return None
        if now - session.used > IDLE_S or now - session.began > LONGEST_S:
            del self._open[key]
            return None
        session.used = now
        self._open.move_to_end(key)
        return session

    def close(self, name: str) -> None:
        """Sign out."""
        self._open.pop(_digest(name), None)

    def close_all_of(self, token: str) -> None:
        """Sign everybody out who came in with the token of this name."""
        for kept in (self._open, self._invited):
            for key in [key for key, session in kept.items() if session.token.name == token]:
                del kept[key]


def _digest(name: str) -> str:
    return sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
