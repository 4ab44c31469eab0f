"""The questions of the history to the database, for calls that are over.

It owns which index answers what; it refuses to run anything. A list is asked in two steps, for both databases: the keys of the
page and the total from an index alone, then the page's rows by their keys. An index is always enough: the search index answers
for words, parts of numbers and filters together, and each order's own index has every column that a list is filtered by.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
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
from patter.store.schema import calls, texts
from patter.store.search import LEXEMES, TABLE, TERMS, number, order_floor
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

FOUND_MANY, NEAR = 20_000, 500
"""Of so many finds, one of the first so many places is met soon when PostgreSQL walks along the calls; with fewer finds, or
further down, sorting the finds is quicker, and is never slow."""

TERMS_MANY = 64  # words that begin alike: with more of them, the index's own way to join their calls is the quicker one

_SORTED = {
    "started_at": calls.c.order_key,
    "cost_total": calls.c.cost_total,
    "duration_s": calls.c.duration_s,
    "p95_latency_ms": calls.c.latency_p95_ms,
}
_INDEX: Any = table(TABLE, column("rowid"))


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
        self.nothing = wanted.state not in ("", "ended") or (wanted.indexed and wanted.question.nothing)
        """Whether there can be none, so that nothing need be asked."""

    def counts(self) -> Select[Any]:
        """How many they are, and how many calls of the database are not over (see `unfinished`)."""
        if self.nothing:
            found = select(literal(0))
        elif not self.wanted.indexed:
            found = select(func.count()).select_from(calls).where(*self._plain())
        else:
            found = select(func.count()).select_from(_INDEX if self._sqlite else texts).where(*self._found())
        others = select(func.count()).select_from(calls).where(calls.c.order_key == 0)
        return select(found.scalar_subquery(), others.scalar_subquery())

    def page(self, limit: int, offset: int, found: int) -> Select[Any]:
        """The rows of a page, in any order; `found` is how many there are."""
        keys = self._keys(limit, offset, found).subquery("page")
        return select(*ROW).join_from(keys, calls, calls.c.order_key == keys.c[0])

    def _keys(self, limit: int, offset: int, found: int) -> Select[Any]:
        """The keys of a page, from an index alone."""
        by_age = self.wanted.column == "started_at"
        near = found >= FOUND_MANY and offset + limit <= NEAR
        if not self.wanted.indexed or not by_age:
            conditions = self._plain() if not self.wanted.indexed else [self._is_hit(near=near)]
            return select(calls.c.order_key).where(*conditions).order_by(*self._order()).limit(limit).offset(offset)
        hits = self._hits() if near else self._all_hits()
        key = hits.selected_columns[0]
        return hits.order_by(key if self.wanted.order == "started_at" else key.desc()).limit(limit).offset(offset)

    def _is_hit(self, *, near: bool) -> ColumnElement[bool]:
        """Whether the search finds a call: looked up call by call if the page is `near`, else among all finds."""
        if not near:
            return calls.c.order_key.in_(self._all_hits())
        place, key = (_INDEX, _INDEX.c.rowid) if self._sqlite else (texts, texts.c.id)
        one = select(literal(1)).select_from(place).where(*self._found(), key == calls.c.order_key)
        return one.correlate(calls).exists()

    def after(self, last: Sequence[float] | None, limit: int) -> Select[Any]:
        """The rows after the one with these values of the order (None: the first ones): for reading all, piece by piece."""
        conditions = [self._is_hit(near=False)] if self.wanted.indexed else self._plain()
        if last is not None:
            conditions.append(self._beyond(last))
        return select(*ROW).where(*conditions).order_by(*self._order()).limit(limit)

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

    def _within(self, key: ColumnElement[int]) -> list[ColumnElement[bool]]:
        """The time, and what is left out."""
        made: list[ColumnElement[bool]] = []
        if self.wanted.since is not None:
            made.append(key >= order_floor(self.wanted.since))
        if self.wanted.until is not None:
            made.append(key < order_floor(self.wanted.until))
        if self._without:
            made.append(key.not_in(self._without))
        return made

    def _plain(self) -> list[ColumnElement[bool]]:
        """Conditions on columns that every order's index has (but for a short part of a number)."""
        made: list[ColumnElement[bool]] = [calls.c.order_key > 0, *self._within(calls.c.order_key)]
        made += [calls.c[name] == value for name, value in self.wanted.facets.items()]
        if part := number(self.wanted.number):
            same = (lambda text: text) if part == part.upper() else func.lower
            made.append(or_(*(part_of(same(calls.c[name]), part) > 0 for name in ("caller", "callee"))))
        return made

    def _found(self) -> list[ColumnElement[bool]]:
        """Conditions on the search index."""
        question = self.wanted.question
        if self._sqlite:
            asked = literal_column(TABLE, String).op("MATCH", is_comparison=True)(
                bindparam("asked", question.fts5(self._known))
            )
            return [asked, *self._within(_INDEX.c.rowid)]
        asked = literal_column(LEXEMES, String).op("@@", is_comparison=True)(
            cast(bindparam("asked", question.tsquery(), String), TSQUERY)
        )
        return [asked, *self._within(texts.c.id)]

    def _all_hits(self) -> Select[Any]:
        """The keys of all finds, found before anything else is looked at."""
        if self._sqlite:
            return self._hits()
        return select(self._hits().cte("hits").prefix_with("MATERIALIZED", dialect="postgresql").c.id)

    def _hits(self) -> Select[Any]:
        return select(_INDEX.c.rowid if self._sqlite else texts.c.id).where(*self._found())


def terms_of(start: str) -> Select[Any]:
    """The words of SQLite's index that begin so, and one more than are of use. (No letter of a word comes after "~".)"""
    term: ColumnElement[str] = column("term", String)
    return select(term).select_from(table(TERMS)).where(term >= start, term < start + "~").limit(TERMS_MANY + 1)


def unfinished(limit: int) -> Select[Any]:
    """The rows of calls that are not over: of other engines, or not closed yet after an engine was killed."""
    return select(*ROW).where(calls.c.order_key == 0).order_by(calls.c.started_at.desc()).limit(limit)
