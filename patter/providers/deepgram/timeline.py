"""When on the call's clock each second of a caller's audio was heard, although audio pauses, comes late and in bursts.

It owns that map; it refuses to know sockets. Places are seconds of audio since the call began to be listened to.
"""

from __future__ import annotations

from collections import deque

GAP_S = 0.1  # a frame that is later than this, and stays so, follows a pause of the line
REMEMBERED = 64  # pauses; nobody asks for what is longer ago


class Timeline:
    """Feed every frame in order; ask for any place that is not too long ago."""

    __slots__ = ("_stretches", "place")

    def __init__(self) -> None:
        self.place = 0.0
        """Seconds of audio so far."""
        self._stretches: deque[list[float]] = deque(maxlen=REMEMBERED)  # [first place, clock minus place], oldest first

    def heard(self, seconds: float, now: float) -> float:
        """So much audio ended at `now`; gives the place of its end."""
        before = self.place
        self.place = before + seconds
        lag = now - self.place
        newest = self._stretches[-1] if self._stretches else None
        if newest is None or lag > newest[1] + GAP_S:
            self._stretches.append([before, lag])
        elif lag < newest[1]:  # frames are held up on their way, never ahead: the earliest one tells the time
            newest[1] = lag
        return self.place

    def at(self, place: float) -> float:
        """When the sound at `place` was heard, in seconds of the clock; 0.0 before any audio."""
        for first, lag in reversed(self._stretches):
            if first <= place:
                return place + lag
        return place + self._stretches[0][1] if self._stretches else 0.0
