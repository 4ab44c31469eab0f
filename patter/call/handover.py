"""Gives the call out of our hands: to a person at another number, or to the carrier's own voice.

It owns the one hand-over that may be under way and what becomes of it; it refuses to know who speaks meanwhile and how a
carrier joins two lines. A failed one leaves the call where it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import anyio

from patter import events
from patter.builders import check_number
from patter.bus import Bus
from patter.events import EndReason
from patter.exceptions import PatterError
from patter.ports import CallInfo, Transport

SENTENCE_LIMIT_S = 10.0  # "I put you through" is shorter; a caller who waits longer wants the person, not the sentence
REPLY_LIMIT_S = 30.0  # the same for a handler that is still writing what it wants to be said before
LOOK_EVERY_S = 0.05
SETTLED_S = 0.4  # silence after which no more sound of the sentence comes, though synthesis lags behind the ear
ANSWER_S = 3.0  # our stream ends before the carrier answers our request, by a round trip or two

Failed = Callable[[], None]


class Party(Protocol):
    """What a hand-over needs of its session."""

    call: CallInfo

    @property
    def over(self) -> bool: ...

    def spawn(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None: ...

    def finish(self, reason: EndReason, detail: str = "") -> None: ...


class Floor(Protocol):
    """What a hand-over needs of the floor."""

    @property
    def idle(self) -> bool: ...

    @property
    def all_heard(self) -> bool: ...

    async def wait_idle(self) -> None: ...


@dataclass(eq=False)
class _Pending:
    """A hand-over that is not decided. `asked`: the carrier has been asked, and may take the line at any moment."""

    what: str
    asked: bool = False
    problem: PatterError | None = field(
        default_factory=lambda: PatterError("The call ended before it was handed over.")
    )
    decided: anyio.Event = field(default_factory=anyio.Event)


class Handover:
    """The hand-overs of one call, one at a time."""

    def __init__(self, party: Party, transport: Transport, floor: Floor, bus: Bus) -> None:
        self._party = party
        self._transport = transport
        self._floor = floor
        self._bus = bus
        self._pending: _Pending | None = None
        self.left = False
        """The caller's side ended while a hand-over was under way."""

    async def transfer(self, number: str, by: str, summary: str = "", failed: Failed | None = None) -> None:
        """Hand the call to `number` (E.164): the call then ends as transferred. Works in the call's own tasks.

        Without a `summary` what the agent says now is heard first ("handler": its whole reply, which it is still writing);
        with one the conversation goes on until the person at `number` has heard the summary. Returns when it is decided;
        with `failed` at once, and `failed` is called if it comes to nothing. Raises ValueError for a wrong number,
        PatterError if another hand-over is under way, the call is over, or the carrier cannot."""
        check_number(number, "number")
        if not self._transport.abilities.transfer:
            raise PatterError("This line cannot transfer a call: there is no carrier behind it that could.")
        pending = self._begin(f"transferred to {number}")
        self._bus.publish(
            events.TransferRequested(call_id=self._party.call.call_id, number=number, by=by, warm=bool(summary))
        )
        heard = self._reply_heard if by == "handler" else self._sentence_heard
        self._party.spawn(partial(self._transfer, pending, number, summary, heard, failed))
        if failed is None:
            await pending.decided.wait()
            if pending.problem is not None:
                raise pending.problem

    async def announce(self, text: str) -> None:
        """Let the carrier say `text` in its own voice and end the call. Raises PatterError if it cannot."""
        if not self._transport.abilities.announce:
            raise PatterError("This line has no voice of its own.")
        pending = self._begin("given to the carrier's voice")
        pending.asked = True
        try:
            await self._transport.announce(text)
            pending.problem = None
        finally:
            self._decide(pending)

    @property
    def pending(self) -> bool:
        """A hand-over is under way: it is not decided whose the call will be."""
        return self._pending is not None

    async def settled(self) -> None:
        """Return when no answer of the carrier is awaited any more: the caller's side may have ended because of it."""
        pending = self._pending
        if pending is not None and pending.asked:
            self.left = True
            with anyio.move_on_after(ANSWER_S):
                await pending.decided.wait()

    def _begin(self, what: str) -> _Pending:
        if self._party.over:
            raise PatterError("The call is over.")
        if self._pending is not None:
            raise PatterError(f"The call is being {self._pending.what} already: wait until that is decided.")
        self._pending = _Pending(what)
        return self._pending

    def _decide(self, pending: _Pending) -> None:
        self._pending = None
        pending.decided.set()

    async def _transfer(
        self, pending: _Pending, number: str, summary: str, heard: Callable[[], Awaitable[None]], failed: Failed | None
    ) -> None:
        try:
            if not summary:
                await heard()
            pending.asked = True
            await self._transport.transfer(number, summary)
            pending.problem = None
        except PatterError as error:
            pending.problem = error
            self._bus.publish(
                events.TransferFailed(call_id=self._party.call.call_id, number=number, problem=str(error))
            )
            if failed is not None:
                failed()
        finally:
            self._decide(pending)
        if pending.problem is None:
            self._party.finish("transferred", f"to {number}")

    async def _sentence_heard(self) -> None:
        """Wait until the ear has what the agent has said so far: its reply cannot end while it waits for this tool."""
        quiet_s = 0.0 if self._transport.abilities.plays is not None else SETTLED_S  # what is shown is heard
        with anyio.move_on_after(SENTENCE_LIMIT_S):
            while quiet_s < SETTLED_S and not self._floor.idle:
                await anyio.sleep(LOOK_EVERY_S)
                quiet_s = quiet_s + LOOK_EVERY_S if self._floor.all_heard else 0.0

    async def _reply_heard(self) -> None:
        """Wait until the whole reply has been heard: the handler that asked may still be writing it."""
        with anyio.move_on_after(REPLY_LIMIT_S):
            await self._floor.wait_idle()
