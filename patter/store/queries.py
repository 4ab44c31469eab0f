"""The questions of the history to the database, for calls that are over.

It owns which index answers what; it refuses to run anything. A list is asked in two steps, for both databases: the keys of the
page and the total from an index alone, then the page's rows by their keys. An index is always enough: the search index answers
for words, parts of numbers and filters together, and each order's own index has every column that a list is filtered by. A list
without a search is counted whole; of a search's finds only the first are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Float,
    Select,
    String,
    and_,
    bindparam,
    cast,
    column,
    func,
    literal,
    literal_column,
    or_,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from patter.store.filters import Filter
from patter.store.schema import calls, day_reasons, days
from patter.store.search import TABLE, TERMS, number, order_floor
from patter.store.shapes import COSTS, PLAIN

ROW = [
    calls.c[name]
    for name in (
        *PLAIN,
        *(f"cost_{name}" for name in COSTS[:-1]),
        *("unpriced", "latency_avg_ms", "latency_p95_ms", "latency_n", "recording", "carrier_recording", "order_key"),
    )
]
"""The columns of a row of the list."""

FOUND = 1_000
"""So many finds of a search are counted and shown. Finding is what costs: a word that every call has is found as often as there
are calls."""

SAMPLE, DENSE, COMMON = 1_000, 40, 250
"""If so many of the first calls that PostgreSQL looks at have what is searched for, it finds `FOUND` of them soonest by walking
along the calls; else by its index, which gives all at once. A part of the question that is as `COMMON` is not worth asking the
index for, if there is another: it is held against the calls that are found by that. If the first few
thousand calls have all that a page shows, no more are looked at."""
REACH = 4_000, 10_000
"""The least and most of these few thousand."""

DAY_S = 86_400
TERMS_MANY = 64  # words that begin alike: with more of them, the index's own way to join their calls is the quicker one

_SORTED = {
    "started_at": calls.c.order_key,
    "cost_total": calls.c.cost_total,
    "duration_s": calls.c.duration_s,
    "p95_latency_ms": calls.c.latency_p95_ms,
}
_ROWS: Any = table(TABLE, column("rowid"))  # SQLite's
_LEXEMES: Any = table(TABLE, column("id"), column("lexemes"))  # PostgreSQL's


class part_of(FunctionElement[Any]):
    """Where a text stands in another (0: it does not), letter by letter: no wildcards, no locale."""

    inherit_cache = True


@compiles(part_of, "sqlite")
def _instr(element: part_of, compiler: Any, **more: Any) -> str:
    return f"instr({compiler.process(element.clauses, **more)})"


@compiles(part_of, "postgresql")
def _strpos(element: part_of, compiler: Any, **more: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **more)})"


class Ended:
    """The calls that are over and that a filter means, but those with the keys of `without`."""

    def __init__(
        self,
        wanted: Filter,
        without: Collection[int] = (),
        *,
        sqlite: bool,
        known: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._known = known
        self.wanted = wanted
        self._without = list(without)
        self._sqlite = sqlite
        self.dense, self._density = False, 0.0
        self._parts = [] if sqlite or not wanted.indexed else wanted.question.tsqueries()
        self._common: list[str] = []
        self.nothing = wanted.state not in ("", "ended") or (wanted.indexed and wanted.question.nothing)
        """Whether there can be none, so that nothing need be asked."""

    def count(self) -> Select[Any]:
        """How many they are, for a filter that searches for nothing."""
        counted = select(func.count()).select_from(calls).where(*self._plain())
        sums = self._sums()
        if sums is None:
            return counted
        if not self._without:
            return sums
        left_out = select(func.count()).select_from(calls)
        left_out = left_out.where(*self._plain(leave_out=False), calls.c.order_key.in_(self._without))
        return select(sums.scalar_subquery() - left_out.scalar_subquery())

    def _sums(self) -> Select[Any] | None:
        """The count from the days' sums, which have one of every call that is over; None if they do not say it."""
        facets, wanted = self.wanted.facets, self.wanted
        sums = next((sums for sums in (days, day_reasons) if all(name in sums.c for name in facets)), None)
        if sums is None or any(at is not None and at % DAY_S for at in (wanted.since, wanted.until)):
            return None
        conditions = [sums.c[name] == value for name, value in facets.items()]
        if wanted.since is not None:
            conditions.append(sums.c.day >= int(wanted.since // DAY_S))
        if wanted.until is not None:
            conditions.append(sums.c.day < int(wanted.until // DAY_S))
        return select(cast(func.coalesce(func.sum(sums.c.calls), 0), Float)).where(*conditions)

    def page(self, limit: int, offset: int) -> Select[Any]:
        """The rows of a page, in any order, for a filter that searches for nothing."""
        keys = select(calls.c.order_key).where(*self._plain()).order_by(*self._order()).limit(limit).offset(offset)
        return self.rows(keys.subquery("page"))

    def sample(self) -> Select[Any]:
        """How many of the first `SAMPLE` calls PostgreSQL's search finds, and how many by each part of the question: for
        `weigh`."""
        some = self._walk().limit(SAMPLE).subquery("some")
        asked = [self._asked(some.c.lexemes), *(self._asked(some.c.lexemes, [part]) for part in self._parts)]
        counts: list[Any] = [func.count().filter(condition) for condition in asked]
        return select(*counts)

    def weigh(self, found: int, each: Sequence[int]) -> None:
        """Choose PostgreSQL's way by what the sample has."""
        self.dense, self._density = found >= DENSE, found / SAMPLE
        if min(each, default=0) < COMMON:
            self._common = [part for part, n in zip(self._parts, each, strict=True) if n >= COMMON]

    def reach(self, rows: int) -> int:
        """Among how many of the first calls that PostgreSQL looks at so many finds are likely, by the sample; 0: too many."""
        least, most = REACH
        wanted = 3 * rows / self._density if self._density else math.inf
        return max(least, int(wanted)) if wanted <= most else 0

    def edge(self, reach: int) -> Select[Any]:
        """The key of the first call after so many; none if there are not so many."""
        return self._walk().with_only_columns(_LEXEMES.c.id).offset(literal_column(str(reach))).limit(1)

    def finds(self, *, limit: int = FOUND + 1, last: float | None = None, edge: int | None = None) -> Select[Any]:
        """The keys of the first calls that a search finds (after the one with the key `last`, before the `edge`), the newest
        first if the order is another than by age."""
        if not self.wanted.indexed:
            key = calls.c.order_key
            return select(key).where(*self._plain(), *self._past(key, last)).order_by(self._age(key)).limit(limit)
        if self._sqlite:
            key = _ROWS.c.rowid
            hits = select(key).where(self._asked(), *self._within(key), *self._past(key, last))
            return hits.order_by(self._age(key)).limit(limit)
        if self.dense or edge is not None:
            key = _LEXEMES.c.id
            before = [] if edge is None else [key < edge if self.wanted.order == "started_at" else key > edge]
            walk = self._walk(last).where(*before).subquery("walk")
            return select(walk.c.id).where(self._asked(walk.c.lexemes)).order_by(self._age(walk.c.id)).limit(limit)
        hits = self._hits(*self._past(_LEXEMES.c.id, last))
        return hits.order_by(self._age(hits.selected_columns[0])).limit(limit)

    def ranked(self, limit: int, offset: int, among: Sequence[int] | None = None, *, walk: bool = False) -> Select[Any]:
        """The keys of a search's page in another order than by age: `among` all finds if these are known, else of a `walk`
        along that order, which is the quicker way if many calls are found, else by sorting all finds."""
        key = calls.c.order_key
        if among is not None:
            condition: ColumnElement[bool] = key.in_([literal_column(str(int(one))) for one in among])
        elif not self.wanted.indexed:
            condition = and_(*self._plain())
        elif walk:
            place, at = (_ROWS, _ROWS.c.rowid) if self._sqlite else (_LEXEMES, _LEXEMES.c.id)
            one = select(literal(1)).select_from(place).where(self._asked(), *self._within(at), at == key)
            condition = one.correlate(calls).exists()
        else:
            condition = key.in_(self._hits())
        return select(key).where(condition).order_by(*self._order()).limit(limit).offset(offset)

    def after(self, last: Sequence[float] | None, limit: int) -> Select[Any]:
        """The rows after the one with these values of the order (None: the first ones): for reading all, piece by piece."""
        conditions: list[ColumnElement[bool]]
        conditions = [calls.c.order_key.in_(self._hits())] if self.wanted.indexed else self._plain()
        if last is not None:
            conditions.append(self._beyond(last))
        return select(*ROW).where(*conditions).order_by(*self._order()).limit(limit)

    def rows(self, keys: Any) -> Select[Any]:
        """The rows with these keys, in any order: a subquery, or a list."""
        if isinstance(keys, Sequence):
            return select(*ROW).where(calls.c.order_key.in_([literal_column(str(int(one))) for one in keys]))
        return select(*ROW).join_from(keys, calls, calls.c.order_key == keys.c[0])

    def values(self, row: Any) -> tuple[float, ...]:
        """A row's values of the order, for `after`."""
        key = row["order_key"]
        return (key,) if self.wanted.column == "started_at" else (row[_SORTED[self.wanted.column].name], key)

    # ------------------------------------------------------------------ parts

    def _order(self) -> list[ColumnElement[Any]]:
        key = calls.c.order_key
        if self.wanted.column == "started_at":
            return [key.asc() if self.wanted.order == "started_at" else key.desc()]
        return [_SORTED[self.wanted.column].desc(), key.desc()]

    def _beyond(self, last: Sequence[float]) -> ColumnElement[bool]:
        key = calls.c.order_key
        if self.wanted.column == "started_at":
            return key > last[0] if self.wanted.order == "started_at" else key < last[0]
        by = _SORTED[self.wanted.column]
        return and_(by <= last[0], or_(by < last[0], key < last[1]))

    def _within(self, key: ColumnElement[int], *, leave_out: bool = True) -> list[ColumnElement[bool]]:
        """The time, and what is left out. One lower bound alone: SQLite would start at the first that it is given."""
        made: list[ColumnElement[bool]] = [key >= order_floor(self.wanted.since or 0.0)]
        if self.wanted.until is not None:
            made.append(key < order_floor(self.wanted.until))
        if self._without and leave_out:
            made.append(key.not_in(self._without))
        return made

    def _plain(self, *, leave_out: bool = True) -> list[ColumnElement[bool]]:
        """Conditions on columns that every order's index has (but for a short part of a number)."""
        made: list[ColumnElement[bool]] = self._within(calls.c.order_key, leave_out=leave_out)
        made += [calls.c[name] == value for name, value in self.wanted.facets.items()]
        if part := number(self.wanted.number):
            same = (lambda text: text) if part == part.upper() else func.lower
            made.append(or_(*(part_of(same(calls.c[name]), part) > 0 for name in ("caller", "callee"))))
        return made

    def _age(self, key: ColumnElement[int]) -> ColumnElement[int]:
        return key.asc() if self.wanted.order == "started_at" else key.desc()

    def _past(self, key: ColumnElement[int], last: float | None) -> list[ColumnElement[bool]]:
        if last is None:
            return []
        return [key > last if self.wanted.order == "started_at" else key < last]

    def _asked(self, lexemes: Any = _LEXEMES.c.lexemes, parts: Sequence[str] | None = None) -> ColumnElement[bool]:
        """The condition on the search index."""
        question = self.wanted.question
        if self._sqlite:
            asked: ColumnElement[str] = bindparam("asked", question.fts5(self._known), String)
            return literal_column(TABLE, String).op("MATCH", is_comparison=True)(asked)
        made: ColumnElement[bool] = lexemes.op("@@", is_comparison=True)(_tsquery(parts or self._parts))
        return made

    def _walk(self, last: float | None = None) -> Select[Any]:
        """PostgreSQL's index row by row in the order of age; OFFSET keeps conditions on the words out of it."""
        key = _LEXEMES.c.id
        all_of_them = select(key, _LEXEMES.c.lexemes).where(*self._within(key), *self._past(key, last))
        return all_of_them.order_by(self._age(key)).offset(literal_column("0"))

    def _hits(self, *more: ColumnElement[bool]) -> Select[Any]:
        """The keys of all finds, found before anything else is looked at."""
        if self._sqlite:
            return select(_ROWS.c.rowid).where(self._asked(), *self._within(_ROWS.c.rowid), *more)
        rare = [part for part in self._parts if part not in self._common]
        hits = select(_LEXEMES.c.id).where(self._asked(parts=rare), *self._within(_LEXEMES.c.id), *more)
        if self._common:  # the function is what the operator calls, and no index knows it
            hits = hits.where(func.ts_match_vq(_LEXEMES.c.lexemes, _tsquery(self._common)))
        return select(hits.cte("hits").prefix_with("MATERIALIZED", dialect="postgresql").c.id)


def _tsquery(parts: Sequence[str]) -> ColumnElement[Any]:
    return cast(bindparam("asked", " & ".join(parts), String, unique=True), TSQUERY)


def others() -> Select[Any]:
    """How many calls of the database are not over (see `unfinished`)."""
    return select(func.count()).select_from(calls).where(calls.c.order_key == 0)


def spread() -> Select[Any]:
    """The keys of the newest and the oldest call that is over, and how many there are (None: none)."""
    key = calls.c.order_key
    ends = [select(key).where(key > 0).order_by(order).limit(1).scalar_subquery() for order in (key.desc(), key.asc())]
    return select(*ends, select(cast(func.sum(days.c.calls), Float)).scalar_subquery())


def terms_of(start: str) -> Select[Any]:
    """The words of SQLite's index that begin so, and one more than are of use. (No letter of a word comes after "~".)"""
    term: ColumnElement[str] = column("term", String)
    return select(term).select_from(table(TERMS)).where(term >= start, term < start + "~").limit(TERMS_MANY + 1)


def unfinished(limit: int) -> Select[Any]:
    """The rows of calls that are not over: of other engines, or not closed yet after an engine was killed."""
    return select(*ROW).where(calls.c.order_key == 0).order_by(calls.c.started_at.desc()).limit(limit)
