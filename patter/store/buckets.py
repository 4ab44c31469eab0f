"""Latencies in buckets, so that those of many days add up and still give percentiles.

It owns the buckets' borders and values, and how a day's are kept; it refuses to know what is measured. Bucket i holds the values
in (G^(i-1), G^i] ms with G = (1 + E) / (1 - E); its value 2·G^i / (G + 1) differs from any of them by at most E = 2.5 % of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

ERROR = 0.025
GROWTH = (1 + ERROR) / (1 - ERROR)
NOTHING = -1_000
"""The bucket of no wait at all: 0 ms has no logarithm, and the least wait of the fold's grid (1/64 ms) is bucket -83."""

LEAST, MOST = -100, 410  # the buckets that have a place: of 7 µs to 9 days
PLACES = MOST - LEAST + 2  # of one histogram; the first is that of no wait at all
CELL = np.dtype([("cell", "<u2"), ("n", "<u4")])

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


def place(number: int) -> int:
    """Where a bucket stands in a histogram."""
    return 0 if number == NOTHING else min(max(number, LEAST), MOST) - LEAST + 1


def bucket_at(at: int) -> int:
    """The bucket of a place."""
    return NOTHING if at == 0 else at - 1 + LEAST


def packed(counts: Mapping[int, int]) -> bytes:
    """Histograms one after another as they are kept: the cells that hold any, by number, each as `CELL`.

    The cell of a histogram's place is the histogram's number × PLACES + place."""
    return np.array(sorted((cell, n) for cell, n in counts.items() if n > 0), dtype=CELL).tobytes()


def unpacked(kept: bytes) -> dict[int, int]:
    """The cells of one row, as they were given to `packed`."""
    cells = np.frombuffer(kept, dtype=CELL)
    return dict(zip(cells["cell"].tolist(), cells["n"].tolist(), strict=True))


def added_up(rows: Iterable[bytes], groups: Iterable[int], count: int, histograms: int) -> NDArray[np.int64]:
    """Many rows added up at once: an array [group, histogram, place], where each row belongs to one of `count` groups."""
    held = list(rows)
    cells = np.frombuffer(b"".join(held), dtype=CELL)
    size = histograms * PLACES
    owner = np.repeat(np.fromiter(groups, np.int64), [len(row) // CELL.itemsize for row in held])
    found = np.bincount(owner * size + cells["cell"], weights=cells["n"], minlength=count * size)
    return found.astype(np.int64).reshape(count, histograms, PLACES)
