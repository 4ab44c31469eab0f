"""When the next frame of a paced stream is due, on an absolute timetable that does not drift.

It owns the arithmetic and is told the time; it refuses to read a clock or to sleep.
"""

from __future__ import annotations

_LATE_MS = 60.0  # three frames of 20 ms: a carrier's jitter buffer hides less; catching up beyond it would be a burst


class Pacer:
    """Frame n is due at start + n * frame. Being more than `late_ms` behind starts a new timetable (a slip).

    All moments are seconds of whatever clock the caller uses; `slips` counts the new timetables."""

    __slots__ = ("_anchor", "_count", "_frame", "_late", "slips")

    def __init__(self, start: float, frame_ms: float = 20.0, late_ms: float = _LATE_MS) -> None:
        self._anchor, self._count = start, 0
        self._frame, self._late = frame_ms / 1000, late_ms / 1000
        self.slips = 0

    @property
    def due(self) -> float:
        """When the next frame is due."""
        return self._anchor + self._count * self._frame

    def wait(self, now: float) -> float:
        """Seconds to wait before the next frame; 0.0 when it is due."""
        return max(0.0, self.due - now)

    def sent(self, now: float) -> float:
        """The frame that was due went out at `now`; returns when the next one is due."""
        if now - self.due > self._late:
            self.slips += 1
            self._anchor, self._count = now, 0
        self._count += 1
        return self.due

    def frames_due(self, now: float) -> int:
        """How many frames should go out now to be on time (0 when early), after a slip if it is too late for all."""
        behind = now - self.due
        if behind < 0:
            return 0
        return 1 if behind > self._late else int(behind / self._frame + 1e-9) + 1
