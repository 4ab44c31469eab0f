"""What is said of a whole call in figures: percentiles that say of how many, and how talk, tools and line went.

It owns the shape and the arithmetic of the summary; it refuses to know events and turns (the fold fills it).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from patter.observe.segments import NAMES, rank
from patter.ports import LineStats


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of `n` values in ms: their mean and nearest-rank percentiles. All are 0.0 where `n` is 0: nothing was measured."""

    n: int = 0
    avg: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0

    @classmethod
    def of(cls, values: Iterable[float]) -> Percentiles:
        """The percentiles of these values, in any order."""
        ordered = sorted(values)
        if not ordered:
            return cls()
        at = (ordered[rank(len(ordered), percent)] for percent in (50, 90, 95, 99))
        return cls(len(ordered), sum(ordered) / len(ordered), *at)


NOTHING = Percentiles()


@dataclass(frozen=True, slots=True)
class CallSummary:
    """One call in figures, all times in ms.

    `greeting_ms`: from the call's start to the first sound of the greeting (0.0: none was heard). `interruptions`: times the
    caller took the floor; `false_interruptions`: times the agent stopped for a voice and went on. `tool_ms`: time in which
    at least one tool ran. Connections of providers that were used again, that had to be opened, and what opening them took.
    `latency` and `segments` are those of the caller's turns that were answered and not interrupted. `line` is None where
    nothing was measured (no sound, or not over)."""

    greeting_ms: float = 0.0
    interruptions: int = 0
    false_interruptions: int = 0
    tool_ms: float = 0.0
    connections_reused: int = 0
    connections_opened: int = 0
    connections_ms: float = 0.0
    latency: Percentiles = NOTHING
    segments: dict[str, Percentiles] = field(default_factory=lambda: dict.fromkeys(NAMES, NOTHING))
    line: LineStats | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as plain dicts, ready for `json.dumps`."""
        return asdict(self)
