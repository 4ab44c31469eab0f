"""The one clock of a call: seconds since the epoch that never step back, and timers on the event loop.

It owns "now" and "later"; it refuses to know what is being timed. Tests give it a loop whose time is virtual.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Clock:
    """Wall time anchored once to a monotonic source, so that differences are durations and values are dates.

    `ticks` is the monotonic source in seconds (default `time.monotonic`, the same as an asyncio loop's time).
    """

    __slots__ = ("_anchor", "_ticks")

    def __init__(self, ticks: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._ticks = ticks
        self._anchor = wall() - ticks()

    def now(self) -> float:
        """Seconds since the epoch; strictly a duration away from every other value of this clock."""
        return self._anchor + self._ticks()

    def call_later(self, seconds: float, action: Callable[[], None]) -> asyncio.TimerHandle:
        """Run `action` on the running loop after `seconds`; the returned handle has `cancel()`."""
        return asyncio.get_running_loop().call_later(max(0.0, seconds), action)

    async def sleep_until(self, moment: float) -> None:
        """Sleep until the clock shows `moment` (returns at once if it is past)."""
        await asyncio.sleep(max(0.0, moment - self.now()))
