"""The phone line's books: which transports are up, which calls we placed still ring, and what the carrier said of each.

It owns one ending for every call that was placed and never taken; it refuses to know carriers, sockets and sessions.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from patter.bus import Bus
from patter.events import CallEnded, CallPlaced, EndReason
from patter.ports import AnsweredBy
from patter.server.orders import Order

HELD = 1_000  # calls whose verdict came before their stream; more is a broken carrier
VERDICTS = 4  # a carrier gives one or two per call
EARLY = 4  # ids that one order may have by retries of its request


class Line(Protocol):
    """A transport that is told who answered."""

    def machine_detected(self, answered_by: AnsweredBy, ready: bool) -> None:
        """The carrier's verdict."""


class Lines:
    """The transports that are up, by call id, and verdicts that came before their stream."""

    def __init__(self) -> None:
        self._up: dict[str, Line] = {}
        self._held: OrderedDict[str, list[tuple[AnsweredBy, bool]]] = OrderedDict()

    def up(self, call_id: str, line: Line) -> None:
        """The call's stream has come; what was said of it before is told now."""
        self._up[call_id] = line
        for answered_by, ready in self._held.pop(call_id, ()):
            line.machine_detected(answered_by, ready)

    def down(self, call_id: str) -> None:
        """The call is over."""
        self._up.pop(call_id, None)
        self._held.pop(call_id, None)

    def find(self, call_id: str) -> Line | None:
        """The call's transport, if it is up."""
        return self._up.get(call_id)

    def machine_detected(self, call_id: str, answered_by: AnsweredBy, ready: bool = True) -> None:
        """The carrier's verdict on who answered; kept for the call if its stream has not come yet."""
        line = self._up.get(call_id)
        if line is not None:
            line.machine_detected(answered_by, ready)
            return
        verdicts = self._held.setdefault(call_id, [])
        if len(verdicts) < VERDICTS:
            verdicts.append((answered_by, ready))
        while len(self._held) > HELD:
            self._held.popitem(last=False)


@dataclass(slots=True, eq=False)
class Placed:
    """A call we asked the carrier for. `token` is ours, in every webhook of it; `call_id` is "" until it is known.

    `early`: what was told of ids before it was known which is ours. `closed` is set when it is up or over."""

    order: Order
    token: str
    call_id: str = ""
    early: dict[str, tuple[EndReason, str]] = field(default_factory=dict)
    closed: anyio.Event = field(default_factory=anyio.Event)


class Ringing:
    """Outbound calls that are on their way: each gets one CallPlaced and, if it never comes up, one CallEnded."""

    def __init__(self, bus: Bus, telephony: str) -> None:
        self._bus = bus
        self._telephony = telephony
        self._tokens: dict[str, Placed] = {}
        self._ids: dict[str, Placed] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def ids(self) -> list[str]:
        """The calls on their way that the carrier has named."""
        return list(self._ids)

    def place(self, order: Order) -> Placed:
        """A call that the carrier is being asked for."""
        placed = Placed(order, secrets.token_urlsafe(24))
        self._tokens[placed.token] = placed
        return placed

    def by_token(self, token: str) -> Placed | None:
        """The call of our token, while it is on its way."""
        return self._tokens.get(token)

    def find(self, call_id: str) -> Placed | None:
        """The call of an id, while it is on its way."""
        return self._ids.get(call_id)

    def known(self, placed: Placed, call_id: str) -> bool:
        """The carrier calls it `call_id`: CallPlaced, once. False if it has another id (a request that was retried)."""
        if placed.call_id:
            return placed.call_id == call_id
        placed.call_id = call_id
        self._ids[call_id] = placed
        order = placed.order
        self._bus.publish(
            CallPlaced(
                call_id=call_id, caller=order.caller, callee=order.to, agent=order.file.name, telephony=self._telephony
            )
        )
        if call_id in placed.early:
            self.ended(placed, call_id, *placed.early[call_id])
        return True

    def came_up(self, placed: Placed) -> None:
        """Its stream is here: from now on its session answers for its end."""
        self._forget(placed)

    def ended(self, placed: Placed, call_id: str, reason: EndReason, detail: str = "") -> None:
        """The carrier says that the call `call_id` is over: CallEnded, once, if it is this one."""
        if not placed.call_id:
            if len(placed.early) < EARLY:
                placed.early[call_id] = (reason, detail)
        elif placed.call_id == call_id and not placed.closed.is_set():
            self._forget(placed)
            self._bus.publish(CallEnded(call_id=call_id, reason=reason, detail=detail))

    def refused(self, placed: Placed) -> None:
        """The carrier did not take the order: there is no such call."""
        self._forget(placed)

    def _forget(self, placed: Placed) -> None:
        placed.closed.set()
        self._tokens.pop(placed.token, None)
        self._ids.pop(placed.call_id, None)
