"""How often somebody may ask: a bucket of requests each, which fills up again while they wait.

It owns the buckets and their number; it refuses to know who is asking for what.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from patter.clock import Clock

MOST = 2_000  # askers that are remembered: beyond it the one that was quiet longest is forgotten, and its bucket full again


@dataclass(frozen=True, slots=True)
class Pace:
    """`burst` requests at once, then `per_s` of them a second."""

    per_s: float
    burst: float


KNOWN = Pace(per_s=50.0, burst=500.0)
"""Who has shown a token. A page asks for some thirty files and a handful of answers, however many calls are up, then follows the
events; somebody who clicks through calls asks three times a click. A dozen browsers of one token may open at once."""
STRANGERS = Pace(per_s=10.0, burst=100.0)
"""An address without a token: it loads the sign-in form (seven files) and asks whether somebody is there."""
ALL_STRANGERS = Pace(per_s=100.0, burst=1_000.0)
"""Everybody without a token who comes by one proxy, whatever addresses they say they have."""
FAILURES = Pace(per_s=0.2, burst=20.0)
"""Wrong tokens of one address: nobody mistypes twenty times, and a guesser learns twelve a minute."""
ALL_FAILURES = Pace(per_s=1.0, burst=100.0)
"""Wrong tokens of everybody who comes by one proxy: more than one guesser can use up, so that none keeps the owner out."""
STRANGERS_LINES = Pace(per_s=0.05, burst=100.0)
"""Lines of the audit about all who had no token: some 4,000 a day, so that knocking for a night washes nothing out."""


class Buckets:
    """One bucket an asker, all of the same pace."""

    def __init__(self, pace: Pace, clock: Clock) -> None:
        self._pace = pace
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what was left in it, and when

    def wait_s(self, who: str) -> float:
        """For how long there is nothing left for this asker; 0 if there is something."""
        left, _ = self._now(who)
        return 0.0 if left >= 1 else (1 - left) / self._pace.per_s

    def take(self, who: str) -> float:
        """Take one request out of the bucket; returns for how long the asker must wait (0: it was there)."""
        left, now = self._now(who)
        if left < 1:
            return (1 - left) / self._pace.per_s
        self._left[who] = left - 1, now
        self._left.move_to_end(who)
        while len(self._left) > MOST:
            self._left.popitem(last=False)
        return 0.0

    def _now(self, who: str) -> tuple[float, float]:
        now = self._clock.now()
        left, then = self._left.get(who, (self._pace.burst, now))
        return min(self._pace.burst, left + (now - then) * self._pace.per_s), now
