"""Calls that are on their way: answered by webhook or dialled by us, and waiting for their media socket.

It owns the one-time tokens that let a socket in; it refuses to know carriers, sockets and what a call is about.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import anyio

from patter.agentfile import AgentFile
from patter.clock import Clock
from patter.ports import CallInfo, CarrierControl
from patter.server.answers import Refused
from patter.transports.returning import ReturningLine

TOKEN_LIFE_S = 30.0  # a carrier opens the socket within a second or two of being told to
WAITING = 1_000  # more calls than this on their way are an attack or a broken carrier


@dataclass(frozen=True, slots=True)
class Arrival:
    """A call whose media socket has not come yet. `handle` is the carrier's own name for it."""

    call: CallInfo
    file: AgentFile
    handle: str
    control: CarrierControl | None = None
    voicemail: str = ""
    loopback: bool = False
    line: ReturningLine | None = None
    """The call's side that this socket is for, if the call has begun already."""
    key: object = None
    """What the call was foreseen as, if it was before it had a name."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An arrival until its time is over; `gone` is set when it waits no more for any other reason."""

    arrival: Arrival
    until: float
    gone: anyio.Event = field(default_factory=anyio.Event)


class Arrivals:
    """The calls on their way, by one-time token."""

    def __init__(self, clock: Clock, life_s: float = TOKEN_LIFE_S) -> None:
        self._clock = clock
        self._life_s = life_s
        self._waiting: dict[str, _Waiting] = {}

    @property
    def full(self) -> bool:
        """Whether no more may wait."""
        self._forget_late()
        return len(self._waiting) >= WAITING

    def expect(self, arrival: Arrival) -> str:
        """A token for this call's socket; an earlier one for the same call is void (its answer was lost)."""
        self.forget(arrival.call.call_id)
        token = secrets.token_urlsafe(24)
        self._waiting[token] = _Waiting(arrival, self._clock.now() + self._life_s)
        return token

    def token_of(self, call_id: str) -> str | None:
        """The token of a call that waits, for an answer that is asked for again; None if it waits no more."""
        self._forget_late()
        return next((token for token, one in self._waiting.items() if one.arrival.call.call_id == call_id), None)

    def take(self, token: str) -> Arrival:
        """The call of a token, which is used up by this. Raises Refused for one that is unknown, used or too old."""
        self._forget_late()
        if token not in self._waiting:
            raise Refused(403, "This stream token is unknown, used or too old.")
        return self._drop(token)

    def forget(self, call_id: str) -> Arrival | None:
        """The call is over or asked for again: its token is void. Returns it, if it was waiting."""
        found = None
        for token in [token for token, one in self._waiting.items() if one.arrival.call.call_id == call_id]:
            found = self._drop(token)
        return found

    async def lapsed(self, token: str) -> bool:
        """Return when a call waits no more: True if its time is over, False if its socket came or it was forgotten."""
        one = self._waiting.get(token)
        if one is None:
            return False
        with anyio.move_on_after(one.until - self._clock.now()):
            await one.gone.wait()
        self._waiting.pop(token, None)
        return not one.gone.is_set()

    def _drop(self, token: str) -> Arrival:
        one = self._waiting.pop(token)
        one.gone.set()
        return one.arrival

    def _forget_late(self) -> None:
        now = self._clock.now()
        for token in [token for token, one in self._waiting.items() if one.until < now]:
            del self._waiting[token]
