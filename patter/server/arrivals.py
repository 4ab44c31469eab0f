"""Calls that are on their way: answered by webhook or dialled by us, and waiting for their media socket.

It owns the one-time tokens that let a socket in; it refuses to know carriers, sockets and what a call is about.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

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


class Arrivals:
    """The calls on their way, by one-time token."""

    def __init__(self, clock: Clock, life_s: float = TOKEN_LIFE_S) -> None:
        self._clock = clock
        self._life_s = life_s
        self._waiting: dict[str, tuple[Arrival, float]] = {}

    @property
    def full(self) -> bool:
        """Whether no more may wait."""
        self._forget_late()
        return len(self._waiting) >= WAITING

    def expect(self, arrival: Arrival) -> str:
        """A token for this call's socket; an earlier one for the same call is void (its answer was lost)."""
        self.forget(arrival.call.call_id)
        token = secrets.token_urlsafe(24)
        self._waiting[token] = (arrival, self._clock.now() + self._life_s)
        return token

    def token_of(self, call_id: str) -> str | None:
        """The token of a call that waits, for an answer that is asked for again; None if it waits no more."""
        self._forget_late()
        return next((token for token, (arrival, _) in self._waiting.items() if arrival.call.call_id == call_id), None)

    def take(self, token: str) -> Arrival:
        """The call of a token, which is used up by this. Raises Refused for one that is unknown, used or too old."""
        arrival, until = self._waiting.pop(token, (None, 0.0))
        if arrival is None or until < self._clock.now():
            raise Refused(403, "This stream token is unknown, used or too old.")
        return arrival

    def forget(self, call_id: str) -> None:
        """The call is over or asked for again: its token is void."""
        for token in [token for token, (other, _) in self._waiting.items() if other.call.call_id == call_id]:
            del self._waiting[token]

    def _forget_late(self) -> None:
        now = self._clock.now()
        for token in [token for token, (_, until) in self._waiting.items() if until < now]:
            del self._waiting[token]
