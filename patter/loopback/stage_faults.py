"""What a vendor and the network do on a bad day to one connection or request.

It owns the kinds of faults and their effect on a visit that has not begun; it refuses to choose when they happen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with this status instead of an upgrade or a reply: 401, 402, 403, 404, 429, 5xx, or a redirect.

    `body`: a mapping goes as JSON. `retry_after` is the header's value ("" = none)."""

    status: int
    body: Mapping[str, Any] | str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: str = ""


@dataclass(frozen=True, slots=True)
class Silent:
    """Take the request and never answer a byte."""


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """Accept the socket, then neither read nor answer, not even pings (a request: send the headers, then nothing)."""


@dataclass(frozen=True, slots=True)
class Garbled:
    """Accept, and send what no such vendor sends: text that is no JSON, or (`frame`) bytes that are not even the protocol."""

    frame: bool = False


@dataclass(frozen=True, slots=True)
class CutAfter:
    """Break the connection without a goodbye after so many messages `sent` or `received` (sockets), or so many `bytes` of
    the body (requests; 0: right after the headers). What was sent before arrives."""

    sent: int | None = None
    received: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Hangup:
    """Break the connection instead of answering."""


@dataclass(frozen=True, slots=True)
class Late:
    """Answer as always, but so many seconds later."""

    by_s: float


Fault = Refuse | Silent | HalfOpen | Garbled | CutAfter | Hangup | Late


class Faults:
    """Faults to come, by path."""

    def __init__(self) -> None:
        self._next: dict[str, list[Fault]] = {}
        self._always: dict[str, Fault] = {}

    def put(self, path: str, *faults: Fault) -> None:
        """The next connections or requests of `path` meet these, one each."""
        self._next.setdefault(path, []).extend(faults)

    def keep(self, path: str, fault: Fault) -> None:
        """Every connection or request of `path` meets this one, until `heal`."""
        self._always[path] = fault

    def heal(self, path: str) -> None:
        """Nothing goes wrong any more on `path`."""
        self._always.pop(path, None)
        self._next.pop(path, None)

    def take(self, path: str) -> Fault | None:
        """What the visit that begins now meets."""
        if waiting := self._next.get(path):
            return waiting.pop(0)
        return self._always.get(path)

    def unused(self) -> list[str]:
        """What was put and never met."""
        return [f"{path}: {fault} was never met" for path, faults in self._next.items() for fault in faults]
