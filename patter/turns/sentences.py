"""Cuts a stream of text into pieces worth speaking: whole sentences, as early as they are certain.

It owns sentence borders (abbreviations, decimals, lists); it refuses to know who writes or speaks.
"""

from __future__ import annotations

import re

_ENDS = re.compile(r"[.!?…][\"')\]]*(?=\s|$)|\n+")
_ABBREVIATIONS = frozenset("mr mrs ms dr st ave prof jr sr vs etc e.g i.e a.m p.m no dept approx inc ltd co".split())
_FIRST_CLAUSE = re.compile(r"^(.{24,}?[,;:—])\s")
LONG_FIRST = 90  # characters: a first sentence longer than this is begun at its first clause, to be heard sooner


class SentenceCutter:
    """`push` pieces of text as they come, get the sentences they complete; `flush` gives the rest."""

    def __init__(self) -> None:
        self._rest = ""
        self._first = True

    def push(self, text: str) -> list[str]:
        """Sentences completed by `text`, in order."""
        self._rest += text
        done: list[str] = []
        while (cut := self._border()) is not None:
            sentence, self._rest = self._rest[:cut].strip(), self._rest[cut:].lstrip()
            if sentence:
                done.append(sentence)
                self._first = False
        return done

    def flush(self) -> list[str]:
        """What is left, as the last piece."""
        rest, self._rest = self._rest.strip(), ""
        return [rest] if rest else []

    def _border(self) -> int | None:
        for match in _ENDS.finditer(self._rest):
            if match.group().startswith("\n"):
                return match.end()
            if self._certain(match):
                return match.end()
        if self._first and len(self._rest) > LONG_FIRST and (clause := _FIRST_CLAUSE.match(self._rest)):
            return clause.end(1)
        return None

    def _certain(self, match: re.Match[str]) -> bool:
        if match.group()[0] != ".":
            return True
        before = self._rest[: match.start()]
        word = before.split()[-1].lower().lstrip("\"'([") if before.split() else ""
        if word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha()):
            return False
        # "3." may go on as "3.5" or be a list number: certain only once something follows
        return not (word.isdigit() and match.end() == len(self._rest))
