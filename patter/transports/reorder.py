"""Puts a caller's frames back into the order they were spoken in, and tells where one is missing.

It owns the counting; it refuses to know clocks: waiting is measured in frames, so that a line in order pays nothing.
"""

from __future__ import annotations

WINDOW = 3  # frames that may overtake one of 20 ms before it counts as lost: 60 ms is what a jitter buffer would hold
FAR = 50  # a leap of a second is not a loss to be filled: the carrier counts anew, or the line was down


class Reorderer:
    """The frames of one track. A frame whose number is `due` is next: its reader just adds one to `due` and hears it.

    Every other one goes through `take`. While frames are held back nothing is `due` (it is -1)."""

    __slots__ = ("_given_up", "_held", "_next", "dropped", "due", "lost")

    def __init__(self) -> None:
        self.due = 1
        self.lost = 0
        """Frames that never came: gaps in the numbering. A leap that is `FAR` is none."""
        self.dropped = 0
        """Frames that came twice, or after they were given up."""
        self._next = 1
        self._held: dict[int, bytes] = {}
        self._given_up: set[int] = set()  # they may come yet

    def take(self, chunk: int, sound: bytes) -> list[bytes | None]:
        """What can be heard now that frame number `chunk` has come, in order; None stands for a frame that is lost.

        0 is a carrier that does not count. Frames that come twice, or after they were given up, are dropped."""
        if not chunk:
            return [sound]
        if self.due >= 0:
            self._next = self.due
        ahead = chunk - self._next
        if abs(ahead) > FAR:
            heard = [*self.rest(), sound]
            self._next = chunk + 1
        elif ahead < 0:
            self._came_late(chunk)
            return []
        else:
            self.dropped += chunk in self._held
            self._held.setdefault(chunk, sound)
            heard = self._in_order()
        self.due = -1 if self._held else self._next
        return heard

    def rest(self) -> list[bytes | None]:
        """What was held back, in order: no more frames come."""
        heard: list[bytes | None] = [self._held[chunk] for chunk in sorted(self._held)]
        if self._held:
            self.lost += max(self._held) - self._next + 1 - len(self._held)
            self._held.clear()
        self._given_up.clear()
        return heard

    def _in_order(self) -> list[bytes | None]:
        heard: list[bytes | None] = []
        while self._held and (self._next in self._held or len(self._held) > WINDOW):
            sound = self._held.pop(self._next, None)
            if sound is None:
                self._give_up(self._next)
            heard.append(sound)
            self._next += 1
        return heard

    def _give_up(self, chunk: int) -> None:
        self.lost += 1
        if len(self._given_up) > FAR:  # one that is so late would be a leap
            self._given_up = {number for number in self._given_up if chunk - number <= FAR}
        self._given_up.add(chunk)

    def _came_late(self, chunk: int) -> None:
        self.dropped += 1
        if chunk in self._given_up:
            self._given_up.discard(chunk)
            self.lost -= 1
