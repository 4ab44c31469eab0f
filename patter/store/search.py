"""The full text of calls that are over: which words stand for a call in the index, and the question that asks for them.

It owns what a word is, the index's statements and its order; it refuses to know pages and who asks. Words are cut here, not by
the databases, so that both find the same calls: lower case, without accents, letters and digits only, each kept once. The index
gets plain ASCII (any other letter as "_" and five hex digits), in which no tokenizer, locale or operator finds anything to
change. Beside what was said stand words nobody can say: the call's agent, direction, reason and carrier, its id, and its
numbers from each of their digits on, so that a question with filters, or for a part of a number, is answered by the index too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from zlib import crc32

TABLE, TERMS = "text_search", "text_terms"
WORD_LIMIT = 48  # characters of a word that count: the start of a longer one finds it as well
WORDS_LIMIT = 20_000  # different words of one call: some hours of talk
LISTED = (1, 2, 3, 5, 6)  # characters of a word's start of which SQLite's index has a list: 5 are 3 digits of a number
ASKED_LIMIT = 16  # words of one question that count
ID_LIMIT, ID_LEAST = 20, 4  # characters of a call's id that count, and how many must be given for it to be looked for
NUMBER_LIMIT, NUMBER_LEAST = 20, 3  # the same of a number; fewer are looked for without the index, many calls have them
FACETS = {"agent": "_n", "direction": "_o", "reason": "_r", "telephony": "_t"}
_ID, _NUMBER = "_i", "_p"  # no letter's escape begins so: g-z are no hex digits

_ALONE = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ffff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")  # scripts without spaces: every character is a word
_PUNCTUATION = re.compile(r"[\s().\-/\u2010-\u2015]+")  # that people write between digits


def order_key(started_at: float, call_id: str) -> int:
    """Where a call that is over stands among all: when it began, to the ms, and 22 bits of its id that make it unique.

    It is the number of the call's text, so that the index gives its finds in the order of their beginning."""
    return order_floor(started_at) | crc32(call_id.encode()) & 0x3FFFFF


def order_floor(at: float) -> int:
    """The least key of calls that began at `at` (seconds since the epoch) or later."""
    return max(1, int(min(max(at, 0.0), 2e9) * 1000)) << 22


def words(text: str) -> list[str]:
    """The words of a text in their order."""
    if not text.isascii():
        apart = unicodedata.normalize("NFKD", text.casefold())
        text = "".join(letter for letter in apart if not unicodedata.combining(letter))
    return [word[:WORD_LIMIT] for word in _WORD.findall(text.lower())]


def text_of(call: Mapping[str, Any], lines: Iterable[str]) -> str:
    """What the column `texts.words` holds for a call's row and the lines of its transcript."""
    found = {word for line in lines for word in words(line)}
    made = {_plain(word) for word in sorted(found)[:WORDS_LIMIT]}
    made.update(facet(name, str(call.get(name, ""))) for name in FACETS)
    made.add(_ID + _plain(str(call["call_id"]).lower()[:ID_LIMIT]))
    for name in ("caller", "callee"):
        made.update(_endings(str(call.get(name, "")).lower()[:64]))
    return " ".join(sorted(made))


@lru_cache(4096)
def facet(name: str, value: str) -> str:
    """The word that stands for a column's value."""
    return FACETS[name] + blake2b(value.encode("utf-8", "replace"), digest_size=6).hexdigest()


def number(text: str) -> str:
    """A part of a number as it is looked for: in lower case, digits without what people write between them."""
    bare = _PUNCTUATION.sub("", text)
    return bare if re.fullmatch(r"\+?[0-9]*", bare) else text.strip().lower()


@lru_cache(4096)
def _endings(text: str) -> tuple[str, ...]:
    return tuple(_NUMBER + _plain(text[at : at + NUMBER_LIMIT]) for at in range(len(text)))


def _plain(word: str) -> str:
    if word.isascii() and word.isalnum():
        return word
    return "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):05x}" for c in word)


class Question:
    """What is asked of the index: every word of `text` (or the start of a call's id), a part of a number, facets."""

    def __init__(self, text: str = "", part: str = "", facets: Mapping[str, str] | None = None) -> None:
        self.words = list(dict.fromkeys(words(text)))[:ASKED_LIMIT]
        start = text.strip().lower()
        self.id_start = start[:ID_LIMIT] if ID_LEAST <= len(start) <= 64 and not re.search(r"\s", start) else ""
        self.part = number(part)[:NUMBER_LIMIT]
        self.facets = dict(facets or {})
        self.nothing = bool(text.strip()) and not self.words and not self.id_start
        """Whether only punctuation was asked for: no call has that."""

    def long_starts(self) -> list[str]:
        """The starts of words that SQLite has no list of calls for: it is quicker to ask for the words that begin so."""
        asked = list(map(_plain, self.words))  # an id and a number without a character are two: listed
        asked += [_ID + _plain(self.id_start), _NUMBER + _plain(self.part)]
        return [start for start in asked if len(start) not in LISTED]

    def fts5(self, known: Mapping[str, Sequence[str]] | None = None) -> str:
        """The question in the words of SQLite's index; `known` has all words of the index that begin with some starts."""
        held = known or {}

        def term(word: str, start: bool) -> str:
            if start and held.get(word):
                return "(" + " OR ".join(f'"{one}"' for one in held[word]) + ")"
            return f'"{word}"*' if start else f'"{word}"'

        return " AND ".join(self._groups(term, " AND ", " OR "))

    def tsqueries(self) -> list[str]:
        """The question in the words of PostgreSQL's, in parts that must all hold."""

        def term(word: str, start: bool) -> str:
            return f"'{word}':*" if start else f"'{word}'"

        if self.id_start or len(self.words) < 2:
            return list(self._groups(term, " & ", " | "))
        rest = Question(part=self.part, facets=self.facets)
        return [term(_plain(word), True) for word in self.words] + rest.tsqueries()

    def finds(self, indexed: str) -> bool:
        """Whether a call's words (`text_of`) answer it; for calls that no index has."""
        held = indexed.split(" ")
        said = bool(self.words) and all(any(word.startswith(_plain(asked)) for word in held) for asked in self.words)
        return said or bool(self.id_start and any(word.startswith(_ID + _plain(self.id_start)) for word in held))

    def _groups(self, term: Any, both: str, either: str) -> Iterator[str]:
        said = both.join(term(_plain(word), True) for word in self.words)
        known = term(_ID + _plain(self.id_start), True) if self.id_start else ""
        if said or known:
            yield "(" + either.join(f"({group})" for group in (said, known) if group) + ")"
        if self.part:
            yield term(_NUMBER + _plain(self.part), True)
        yield from (term(facet(name, value), False) for name, value in self.facets.items())
