"""Twilio's cold transfers: `<Dial>` takes the caller off our stream, and brings the caller back when nobody took the call.

It owns what the carrier's words on one transfer mean, and their one-time tokens; it refuses to know HTTP, TwiML and streams.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

import anyio

from patter.server.arrivals import Arrival

KEPT = 10_000  # transfers whose conversation goes on without us, and whose end the carrier still asks about

_TAKEN = ("in-progress", "answered", "completed")
_WHY = {
    "busy": "the number is busy",
    "no-answer": "nobody answered",
    "failed": "the number cannot be reached",
    "canceled": "the caller hung up before anybody answered",
}


@dataclass(slots=True, eq=False)
class ColdTransfer:
    """One transfer. `back` is how the caller comes back to the call, if that is possible."""

    call_sid: str
    back: Arrival | None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    why: str = ""
    """Why nobody took the call, as far as it is known."""
    decided: anyio.Event = field(default_factory=anyio.Event)
    open: bool = True
    """Whether somebody waits for what becomes of it."""

    def told(self, status: str) -> None:
        """The other leg was answered, or ended. That nobody came is told by `<Dial>` too, which still has the caller."""
        if status in _TAKEN or status == "canceled":
            self._decide(_WHY.get(status, ""))
        elif status in _WHY and not self.decided.is_set():
            self.why = _WHY[status]

    def dialled(self, status: str) -> bool:
        """`<Dial>` is over. True if nobody took the call and the caller is to come back to it."""
        if status in _TAKEN or status == "canceled":
            self._decide(_WHY.get(status, ""))
            return False
        line = self.back.line if self.back is not None else None
        waits = line is not None and self.open and not self.decided.is_set()
        if line is not None and waits:
            line.comes_back()
        self._decide(_WHY.get(status, "the carrier did not say why"))
        return waits

    def _decide(self, why: str) -> None:
        if not self.decided.is_set():
            self.why = why
            self.decided.set()


class ColdTransfers:
    """The transfers under way, by token, and those whose end is still to be asked about."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, ColdTransfer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def begin(self, call_sid: str, back: Arrival | None) -> ColdTransfer:
        """A new one."""
        transfer = ColdTransfer(call_sid, back)
        self._known[transfer.token] = transfer
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return transfer

    def _find(self, token: str, call_sid: str) -> ColdTransfer | None:
        transfer = self._known.get(token)
        return transfer if transfer is not None and transfer.call_sid == call_sid else None

    def take(self, token: str, call_sid: str) -> ColdTransfer | None:
        """The transfer of this call, whose token is used up by this."""
        transfer = self._find(token, call_sid)
        if transfer is not None:
            del self._known[token]
        return transfer

    def told(self, token: str, call_sid: str, status: str) -> None:
        """How the other leg of this call goes on. A call that was taken and is over needs no answer of ours any more."""
        transfer = self._find(token, call_sid)
        if transfer is not None:
            transfer.told(status)
            if status in ("completed", "canceled"):
                del self._known[token]

    def end(self, transfer: ColdTransfer) -> None:
        """Nobody waits for it any more. One that was not taken is forgotten."""
        transfer.open = False
        if transfer.why or not transfer.decided.is_set():
            self._known.pop(transfer.token, None)
