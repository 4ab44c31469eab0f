"""Numbers by label, counted with nothing but dictionaries: what a scraper may ask for, whenever it asks.

It owns counting and keeps labels few; it refuses to know what is counted and how it is written.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Literal

VALUES = 100  # of one label: more agents, tools or models than that would make a series each for ever
OTHER = "other"
LENGTH = 80  # characters of a label's value

Labels = tuple[str, ...]


class Bounded:
    """The values that one label may take: the first `VALUES`, and `OTHER` for all that come later."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value as the label shows it."""
        short = value[:LENGTH]
        if short not in self._known:
            if len(self._known) >= VALUES:
                return OTHER
            self._known.add(short)
        return short


@dataclass(frozen=True, slots=True)
class Number:
    """A counter, which only grows, or a gauge. One number for each combination of labels."""

    kind: Literal["counter", "gauge"]
    name: str
    what: str
    labels: Labels = ()
    values: dict[Labels, float] = field(default_factory=dict)

    def add(self, *labels: str, by: float = 1.0) -> None:
        """Count. A counter takes nothing negative: it is left as it is."""
        if by >= 0 or self.kind == "gauge":
            self.values[labels] = self.values.get(labels, 0.0) + by

    def set(self, *labels: str, to: float) -> None:
        """Set a gauge."""
        self.values[labels] = to


@dataclass(slots=True)
class Heap:
    """How many values fell below each bound (and above all of them), and their sum."""

    counts: list[int]
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Histogram:
    """Values sorted into buckets that end at `bounds` (ascending), for each combination of labels."""

    name: str
    what: str
    bounds: tuple[float, ...]
    labels: Labels = ()
    values: dict[Labels, Heap] = field(default_factory=dict)

    def add(self, *labels: str, value: float) -> None:
        """Count one value; a negative one is none."""
        if not value >= 0:
            return
        heap = self.values.get(labels) or self.values.setdefault(labels, Heap([0] * (len(self.bounds) + 1)))
        heap.counts[bisect_left(self.bounds, value)] += 1
        heap.total += value
