"""How evenly a caller's frames arrive, and how the figures of two streams of one call are put together.

It owns the arithmetic (RFC 3550, 6.4.1); it refuses to know clocks, numbering and playout: moments are passed in.
"""

from __future__ import annotations

from math import nan

from patter.ports import LineStats

LEAP_MS = 1_000.0  # as for the frames' numbers: such a leap is no jitter, the carrier counts anew or the line was down


class LineMeter:
    """Frames and jitter of one stream: a handful of float operations a frame, and nothing else."""

    __slots__ = ("_jitter_ms", "_sum_ms", "_transit_ms", "_uncounted", "frames")

    def __init__(self) -> None:
        self.frames = 0
        self._transit_ms = nan  # of the frame before: when it arrived less when it was spoken
        self._jitter_ms = 0.0
        self._sum_ms = 0.0
        self._uncounted = 0  # frames without a time, or that begin to count anew; among them the first

    def arrived(self, timestamp: str, now: float) -> None:
        """A frame came at `now` (seconds); `timestamp` is the carrier's, in ms, "" where it gives none."""
        self.frames += 1
        try:
            transit = now * 1000.0 - float(timestamp)
        except ValueError:
            self._uncounted += 1
            return
        deviation = abs(transit - self._transit_ms)
        self._transit_ms = transit
        if deviation < LEAP_MS:  # never true of nan: the first frame has none before it
            self._jitter_ms += (deviation - self._jitter_ms) / 16.0
            self._sum_ms += self._jitter_ms
        else:
            self._uncounted += 1

    @property
    def jitter_ms(self) -> float:
        """The smoothed deviation, averaged over the stream: its last value alone would tell of a third of a second."""
        counted = self.frames - self._uncounted
        return round(self._sum_ms / counted, 3) if counted else 0.0


def joined(first: LineStats, then: LineStats) -> LineStats:
    """The figures of a call that had two streams, one after the other."""
    frames = first.frames + then.frames
    jitter_ms = (first.jitter_ms * first.frames + then.jitter_ms * then.frames) / frames if frames else 0.0
    return LineStats(
        frames,
        first.lost + then.lost,
        first.dropped + then.dropped,
        round(jitter_ms, 3),
        first.underruns + then.underruns,
    )
