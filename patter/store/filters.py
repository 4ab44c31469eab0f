"""What a list of calls is asked for: who, which, when, with which words, in which order.

It owns the question and its answer for calls that are still in memory; it refuses to know the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from patter.store.schema import FILTERED
from patter.store.search import NUMBER_LEAST, Question, number, order_floor, order_key, text_of

Order = Literal["-started_at", "started_at", "-cost_total", "-duration_s", "-p95_latency_ms"]
ORDERS: tuple[Order, ...] = get_args(Order)
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """All that is said must hold; "" and None say nothing. `since` and `until` (exclusive) in seconds since the epoch, to the
    ms. `number` is a part of the caller's or the callee's; `q` words of the transcript, or the start of a call's id."""

    agent: str = ""
    direction: str = ""
    state: str = ""
    reason: str = ""
    telephony: str = ""
    number: str = ""
    q: str = ""
    since: float | None = None
    until: float | None = None
    order: Order = "-started_at"

    @property
    def column(self) -> str:
        """What the order is by, as a row names it."""
        return self.order.lstrip("-")

    @property
    def facets(self) -> dict[str, str]:
        """The columns whose value is given."""
        return {name: value for name in FILTERED if (value := getattr(self, name))}

    @property
    def indexed(self) -> bool:
        """Whether the search index is what finds the calls: for words, and for parts of numbers that not every call has."""
        return bool(self.q.strip()) or len(number(self.number)) >= NUMBER_LEAST

    @property
    def searches(self) -> bool:
        """Whether words or a part of a number are asked for: then it is not counted how many calls there are beyond a bound."""
        return bool(self.q.strip() or number(self.number))

    @property
    def by_age(self) -> bool:
        """Whether the order is that of their beginning."""
        return self.column == "started_at"

    @property
    def question(self) -> Question:
        """What the search index is asked."""
        return Question(self.q, number(self.number), self.facets)

    def matches(self, row: Row, lines: Iterable[str]) -> bool:
        """Whether a call of the memory is meant: its row as the API gives it, and the lines of its transcript."""
        if self.state and row["state"] != self.state:
            return False
        if any(row[name] != value for name, value in self.facets.items()):
            return False
        at = order_floor(row["started_at"])
        if self.since is not None and at < order_floor(self.since):
            return False
        if self.until is not None and at >= order_floor(self.until):
            return False
        if (part := number(self.number)) and not any(part in row[name].lower() for name in ("caller", "callee")):
            return False
        return not self.q.strip() or self.question.finds(text_of(row, lines))

    def place(self, row: Row) -> tuple[float, int]:
        """What rows are sorted by, the first one first."""
        key = order_key(row["started_at"], row["call_id"])
        if self.order == "started_at":
            return (0.0, key)
        return (0.0 if self.column == "started_at" else -float(row[self.column]), -key)
