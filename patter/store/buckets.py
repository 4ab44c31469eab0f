"""Latencies in buckets, so that those of many days add up and still give percentiles.

It owns the buckets' borders and values; it refuses to know what is measured. Bucket i holds the values in (G^(i-1), G^i] ms
with G = (1 + E) / (1 - E); its value 2·G^i / (G + 1) differs from any of them by at most E = 2.5 % of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

ERROR = 0.025
GROWTH = (1 + ERROR) / (1 - ERROR)
NOTHING = -1_000
"""The bucket of no wait at all: 0 ms has no logarithm, and the least wait of the fold's grid (1/64 ms) is bucket -83."""

_LOG = math.log(GROWTH)


def bucket(ms: float) -> int:
    """The bucket of a latency."""
    return math.ceil(math.log(ms) / _LOG - 1e-9) if ms > 1e-6 else NOTHING


def value(number: int) -> float:
    """The latency that a bucket stands for, in ms."""
    return 0.0 if number == NOTHING else 2 * GROWTH**number / (GROWTH + 1)


def percentile(counts: Mapping[int, int], percent: int) -> float:
    """The nearest-rank percentile in ms of what the buckets hold (bucket → how many); 0.0 for nothing."""
    left = -(-sum(counts.values()) * percent // 100)
    for number in sorted(counts):
        left -= counts[number]
        if counts[number] > 0 and left <= 0:
            return value(number)
    return 0.0
