"""The responses of a realtime session: one at a time, in the order in which replies want them, stopped when they must be.

It owns whose turn it is on the wire, and that nothing late of a stopped response gets through; it refuses to know what a reply
tells the call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from patter.clock import Clock
from patter.conversations.realtime_link import Link
from patter.conversations.realtime_reply import Reply
from patter.exceptions import ProviderError
from patter.providers.openai_realtime import failure
from patter.wire.openai_realtime import cancel, respond
from patter.wire.openai_realtime_events import (
    CallMade,
    ItemBegan,
    Refused,
    ResponseBegan,
    ResponseEnded,
    Sound,
    Words,
)

Piece = ItemBegan | Sound | Words | CallMade
Made = ResponseBegan | Piece | ResponseEnded

STOPPING_S = 1.0  # a response that was stopped is over within a round trip
RETRY_S = 0.25
BLOCKED_TRIES = 20
CANCEL = "cut_response"
BUSY = "conversation_already_has_active_response"
NOT_ACTIVE = "response_cancel_not_active"


class Maker(Protocol):
    """Who makes replies of responses."""

    def make(self, reply: Reply, piece: Piece) -> None:
        """More of a response."""

    def made(self, reply: Reply, end: ResponseEnded) -> None:
        """The response is over."""

    def failed(self, reply: Reply, error: ProviderError) -> None:
        """The response was refused."""

    def unwanted(self, end: ResponseEnded, reply: Reply | None) -> None:
        """A response is over that nobody wants any more; it was for `reply`, or for none."""

    def free(self) -> None:
        """No response is being made: what had to wait for that can be sent."""


@dataclass(slots=True, eq=False)
class _Response:
    """A response on the wire. `reply` None: the server answers by itself, and nobody has asked for it yet."""

    reply: Reply | None
    event_id: str = ""
    response_id: str = ""
    stopped: bool = False
    kept: list[Piece | ResponseEnded] = field(default_factory=list)


class Responses:
    """The responses of one call, over one session after the other."""

    def __init__(self, maker: Maker, clock: Clock) -> None:
        self.prompt = ""
        """The session's instructions."""
        self._maker, self._clock = maker, clock
        self._patience_s = 0.0
        self._stuck: Callable[[], None] = lambda: None
        self._link: Link | None = None
        self._queue: deque[Reply] = deque()
        self._current: _Response | None = None
        self._unasked: _Response | None = None  # a whole answer that the server gave by itself
        self._asks = 0
        self._progress_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def patient(self, seconds: float, stuck: Callable[[], None]) -> None:
        """Call `stuck` when the server has said nothing of a response for so long."""
        self._patience_s, self._stuck = seconds, stuck

    @property
    def idle(self) -> bool:
        """Nothing is being made, or waits to be made."""
        return self._current is None and not self._queue

    def busy_with(self, reply: Reply) -> bool:
        """Whether the response that is being made is for this reply."""
        return self._current is not None and self._current.reply is reply

    # ------------------------------------------------------------------ the session's life

    def join(self, link: Link) -> Reply | None:
        """Respond through this session from now on. Returns the reply whose response was cut off with the one before."""
        current, self._current, self._unasked = self._current, None, None
        self._disarm()
        self._link = link
        return None if current is None or current.stopped else current.reply

    def part(self) -> Reply | None:
        """The session is gone. Returns the reply whose response was cut off."""
        current, self._current, self._unasked, self._link = self._current, None, None, None
        self._disarm()
        return None if current is None or current.stopped else current.reply

    def close(self) -> None:
        """The call is over."""
        self.part()
        self._queue.clear()

    # ------------------------------------------------------------------ what replies want

    def ask(self, reply: Reply, *, first: bool = False) -> None:
        """Make a response for this reply, after (or `first` before) those that wait."""
        if first:
            self._queue.appendleft(reply)
        else:
            self._queue.append(reply)
        self.advance()

    def ask_again(self, reply: Reply) -> None:
        """Make another response for it in a moment."""
        self._clock.call_later(RETRY_S, lambda: None if reply.over else self.ask(reply, first=True))

    def adopt(self, reply: Reply) -> bool:
        """Take what the server answers by itself as this reply. Returns whether there is such an answer."""
        current = self._current
        unasked = current if current is not None and current.reply is None and not current.stopped else self._unasked
        self._unasked = None
        if unasked is None:
            return False
        unasked.reply = reply
        for piece in unasked.kept:
            if reply.over:
                break
            if isinstance(piece, ResponseEnded):
                self._maker.made(reply, piece)
            else:
                self._maker.make(reply, piece)
        unasked.kept.clear()
        self.advance()
        return True

    def drop(self, reply: Reply) -> None:
        """Make nothing (more) for it."""
        if reply in self._queue:
            self._queue.remove(reply)
        current = self._current
        if current is not None and current.reply is reply and not current.stopped:
            reply.broken = True
            self._stop(current)

    def overtaken(self) -> None:
        """The caller has said something else: an answer of the server's own that nobody asked for is out of date."""
        unasked, self._unasked = self._unasked, None
        for piece in unasked.kept if unasked is not None else ():
            if isinstance(piece, ResponseEnded):
                self._maker.unwanted(piece, None)
        current = self._current
        if current is not None and current.reply is None and not current.stopped:
            self._stop(current)

    def _stop(self, response: _Response) -> None:
        response.stopped = True
        if self._link is not None:
            self._link.send(cancel(response.response_id, CANCEL))
        self._disarm()
        self._timer = self._clock.call_later(STOPPING_S, lambda: self._over_after_all(response))

    def advance(self) -> None:
        """Ask for the next response, if nothing is being made."""
        if self._current is not None or self._link is None:
            return
        self._maker.free()
        if not self._queue:
            return
        reply = self._queue.popleft()
        self._asks += 1
        self._current = _Response(reply, f"ask_{self._asks}")
        instructions = reply.instructions(self.prompt)
        self._link.send(respond(instructions, tools=reply.words is None, event_id=self._current.event_id))
        self._progress_at = self._clock.now()
        self._arm(self._patience_s)

    # ------------------------------------------------------------------ what the server says

    def take(self, event: Made) -> None:
        """Something of a response."""
        self._progress_at = self._clock.now()
        current = self._current
        if isinstance(event, ResponseBegan):
            if current is None:
                self._current = _Response(None, response_id=event.response_id)
                self._arm(self._patience_s)
            elif not current.response_id:
                current.response_id = event.response_id
        elif current is None or event.response_id != current.response_id:
            return  # late: of a response that was given up
        elif isinstance(event, ResponseEnded):
            self._current = None
            self._disarm()
            self._ended(current, event)
            self.advance()
        elif current.reply is None:
            current.kept.append(event)
        elif not current.stopped:
            self._maker.make(current.reply, event)

    def _ended(self, response: _Response, end: ResponseEnded) -> None:
        reply = response.reply
        if reply is None and not response.stopped:
            response.kept.append(end)
            self._unasked = response
        elif reply is None or reply.over or response.stopped:
            self._maker.unwanted(end, reply)
        else:
            self._maker.made(reply, end)

    def refused(self, event: Refused) -> bool:
        """The server could not use something. Returns whether it was about a response, and is dealt with."""
        current = self._current
        if event.code == NOT_ACTIVE:
            if current is not None and current.stopped:
                self._over_after_all(current)
            return True
        about_it = current is not None and current.reply is not None and not current.response_id
        if event.code == BUSY:
            if about_it and current is not None and current.reply is not None:
                self._blocked(current.reply)
            return True
        if current is None or current.reply is None or not event.event_id or event.event_id != current.event_id:
            return False
        self._current = None
        self._disarm()
        if not current.stopped:
            self._maker.failed(current.reply, failure(event.kind, event.code, event.message))
        self.advance()
        return True

    def _blocked(self, reply: Reply) -> None:
        """The server still makes a response that we know nothing of: ask again in a moment."""
        self._current = None
        self._disarm()
        reply.blocked += 1
        if reply.blocked > BLOCKED_TRIES:
            self._maker.failed(reply, failure("", BUSY, "it does not stop answering"))
        elif not reply.over:
            self.ask_again(reply)

    def _over_after_all(self, response: _Response) -> None:
        if self._current is response:
            self._current = None
            self._disarm()
            self.advance()

    # ------------------------------------------------------------------ patience

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self._clock.call_later(seconds, self._impatient)

    def _impatient(self) -> None:
        left = self._progress_at + self._patience_s - self._clock.now()
        if self._current is not None and left > 0.01:
            self._arm(left)
        elif self._current is not None:
            self._stuck()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
