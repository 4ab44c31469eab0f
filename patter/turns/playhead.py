"""What was sent to the caller's side and how much of it the ear has heard: a ledger, corrected by marks.

It owns positions on the replies' timelines; it refuses to know the clock (time is passed in), the carrier and the loop.

House rules of the ledger:

1. Sound plays in the order it was sent, at real time. Between two marks the clock interpolates.
2. A mark that has not come back holds the playhead: nothing behind it counts as heard (but see `OVERDUE_MS`).
3. `cleared` drops what was not heard and every pending mark. Marks that come back later belong to a dead epoch and say
   nothing, because a carrier returns all pending marks at once when its buffer is cleared.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from patter.signals import PlayoutAdvanced, PlayoutEnded, PlayoutStarted

OVERDUE_MS = 2_000.0  # a mark later than this is lost, not late: real ones come back within a round trip
MAX_LEAD_MS = 500.0  # above this a slow first mark says more about the network than about the next reply
TOUCHING_MS = 0.5  # sums of float durations: stretches closer than this are one

Playout = PlayoutStarted | PlayoutAdvanced | PlayoutEnded


@dataclass(slots=True)
class _Stretch:
    """Sound of one reply, contiguous on its timeline, at `begins`..`ends` ms of the line since the call began."""

    reply_id: int
    at_ms: float
    begins: float
    ends: float
    sent_at: float


@dataclass(slots=True)
class _Mark:
    reply_id: int
    position: float
    last: bool


class Playhead:
    """The ledger of one line. Times are seconds of the call's clock; everything else is milliseconds."""

    __slots__ = (
        "_anchor", "_anchored_at", "_count", "_current", "_heard", "_lead", "_marks", "_measuring", "_opened", "_sent",
        "_started", "_stretches", "epoch",
    )  # fmt: skip

    def __init__(self) -> None:
        self.epoch = 0
        self._sent = 0.0  # ms put on the line so far; what a clear drops is taken back
        self._anchor = 0.0  # the line was at this position ...
        self._anchored_at = 0.0  # ... at this time
        self._lead = 0.0  # measured ms from sending into an empty buffer to the sound (and its mark's way back)
        self._measuring: tuple[float, float] | None = None  # (position, sent at) of the last sound into an empty buffer
        self._count = 0
        self._current = 0
        self._stretches: deque[_Stretch] = deque()
        self._marks: dict[str, _Mark] = {}  # in sending order
        self._opened: dict[int, _Stretch] = {}  # replies with sound since the last clear, not yet known to have started
        self._started: set[int] = set()  # replies known to have started since the last clear
        self._heard: dict[int, float] = {}

    def sent(self, reply_id: int, at_ms: float, ms: float, now: float) -> float:
        """`ms` of sound, standing at `at_ms` of the reply's timeline, were put on the line.

        Returns when its first sample is expected at the ear (clock seconds)."""
        waiting = self._sent - self._position(now)
        if waiting <= 0.0:
            self._anchor, self._anchored_at = self._sent, now + self._lead / 1000
            self._measuring = (self._sent, now)
            waiting = self._lead
        begins, self._sent = self._sent, self._sent + ms
        self._current = reply_id
        last = self._stretches[-1] if self._stretches else None
        if (
            last is not None
            and last.reply_id == reply_id
            and abs(last.at_ms + (last.ends - last.begins) - at_ms) < TOUCHING_MS
        ):
            last.ends = self._sent
        else:
            stretch = _Stretch(reply_id, at_ms, begins, self._sent, now)
            self._stretches.append(stretch)
            if reply_id not in self._started:
                self._opened.setdefault(reply_id, stretch)
        return now + max(0.0, waiting) / 1000

    def mark(self, reply_id: int, *, last: bool = False) -> str:
        """The name for a mark behind everything sent so far. `last`: no more sound comes for this reply."""
        self._count += 1
        name = f"{self.epoch}.{self._count}"
        self._marks[name] = _Mark(reply_id, self._sent, last)
        return name

    def marked(self, name: str, now: float) -> tuple[Playout, ...]:
        """A mark came back at `now`: what that says about playout. Nothing for unknown marks and dead epochs."""
        if name not in self._marks:
            return ()
        passed: list[_Mark] = []
        while True:  # sound plays in order: marks before this one were passed too, even if they got lost
            first = next(iter(self._marks))
            passed.append(self._marks.pop(first))
            if first == name:
                break
        position = passed[-1].position
        if self._measuring is not None and position > self._measuring[0]:
            begins, sent_at = self._measuring
            self._lead = min(MAX_LEAD_MS, max(0.0, (now - sent_at) * 1000 - (position - begins)))
            self._measuring = None
        self._anchor, self._anchored_at = position, now
        said: list[Playout] = []
        for mark in passed:
            said += self._said(mark, now)
        return tuple(said)

    def _said(self, mark: _Mark, now: float) -> list[Playout]:
        said: list[Playout] = []
        opening = self._opened.get(mark.reply_id)
        if opening is not None and mark.position > opening.begins:
            del self._opened[mark.reply_id]
            self._started.add(mark.reply_id)
            started_at = now - (mark.position - opening.begins) / 1000
            said.append(PlayoutStarted(mark.reply_id, max(opening.sent_at, started_at)))
        heard = self.heard_ms(mark.reply_id, now)
        if mark.reply_id in self._started:
            said.append(PlayoutAdvanced(mark.reply_id, heard, now))
        if mark.last:
            said.append(PlayoutEnded(mark.reply_id, now))
        return said

    def overdue(self, now: float) -> tuple[Playout, ...]:
        """Gives up on marks that are lost (see `OVERDUE_MS`): what they would have said, as if they came now."""
        name = ""
        for pending, mark in self._marks.items():
            if self._clocked(now) - mark.position < OVERDUE_MS:
                break
            name = pending
        return self.marked(name, now) if name else ()

    def cleared(self, now: float) -> tuple[int, float]:
        """The carrier's buffer is being dropped. Returns the reply at the playhead and how much of it was heard."""
        self._settle(now)
        reply_id = self._stretches[0].reply_id if self._stretches else self._current
        heard = self.heard_ms(reply_id, now)
        self.epoch += 1
        self._sent = self._anchor = self._position(now)
        self._anchored_at, self._measuring = now, None
        for forgotten in (self._stretches, self._marks, self._opened, self._started):
            forgotten.clear()
        return reply_id, heard

    def heard_ms(self, reply_id: int, now: float) -> float:
        """How far the ear has come on the reply's timeline; 0.0 for an unknown reply."""
        self._settle(now)
        return self._heard.get(reply_id, 0.0)

    def queued_ms(self, now: float) -> float:
        """How much sound is still before the ear."""
        return max(0.0, self._sent - self._position(now))

    def dry_ms(self, now: float) -> float:
        """How long the ear has had nothing left to play; 0.0 while there is something, as far as the clock can tell."""
        return max(0.0, self._clocked(now) - self._sent)

    @property
    def waiting(self) -> bool:
        """Whether marks are still out."""
        return bool(self._marks)

    def _clocked(self, now: float) -> float:
        """Where the line would be if only the clock counted."""
        return self._anchor + max(0.0, (now - self._anchored_at) * 1000)

    def _position(self, now: float) -> float:
        """Where the ear is on the line: by the clock, held by pending marks, never beyond what was sent."""
        clocked = self._clocked(now)
        for mark in self._marks.values():
            if clocked - mark.position < OVERDUE_MS:
                return min(clocked, mark.position)
        return min(clocked, self._sent)

    def _settle(self, now: float) -> None:
        """Book what has been heard, and forget stretches that are wholly behind the ear."""
        position = self._position(now)
        while self._stretches:
            stretch = self._stretches[0]
            if position > stretch.begins:
                heard = stretch.at_ms + min(position, stretch.ends) - stretch.begins
                self._heard[stretch.reply_id] = max(heard, self._heard.get(stretch.reply_id, 0.0))
            if position < stretch.ends:
                return
            self._stretches.popleft()
