"""What words tell about a turn: acknowledgements that take no floor, and sentences that sound unfinished.

It owns these judgements for English (and says "complete" for what it does not know); it refuses to know time or sound.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_PLAIN = re.compile(r"[^a-z0-9' ]+")
_DIGIT_WORDS = frozenset("zero oh one two three four five six seven eight nine".split())

_DANGLING = frozenset(
    # articles, prepositions, conjunctions, auxiliaries and openers after which a speaker almost always goes on
    "a an the my your his her our their of to for from with without in on at by about into between and or but because so if when "
    "while that which who is are was were am be been can could would should will i'd i'll we'd we'll i'm it's um uh er erm well "
    "like maybe than as".split()
)
_DANGLING_PAIRS = frozenset(
    {"how much", "how many", "what time", "i want", "i need", "my name", "my number", "number is"}
)


def plain(text: str) -> str:
    """Lower case, letters, digits and apostrophes only, single spaces."""
    return " ".join(_PLAIN.sub(" ", text.lower().replace("’", "'").replace("-", " ")).split())


def acknowledges(text: str, acknowledgements: Iterable[str]) -> bool:
    """Whether `text` consists only of acknowledgement words ("uh-huh", "okay, yeah")."""
    rest = f" {plain(text)} "
    if not rest.strip():
        return False
    for phrase in sorted((plain(item) for item in acknowledgements), key=len, reverse=True):
        if phrase:
            while f" {phrase} " in rest:
                rest = rest.replace(f" {phrase} ", " ", 1)
    return not rest.strip()


def sounds_complete(text: str) -> bool:
    """Whether the words could be a whole utterance: not cut after "the", "how much", "um", or inside a phone number."""
    words = plain(text).split()
    if not words:
        return False
    if text.rstrip().endswith(("...", "…", ",", "-")) or words[-1] in _DANGLING:
        return False
    if " ".join(words[-2:]) in _DANGLING_PAIRS:
        return False
    return not _inside_number(words)


def _inside_number(words: list[str]) -> bool:
    digits = 0
    for word in reversed(words):
        if word in _DIGIT_WORDS:
            digits += 1
        elif word.isdigit():
            digits += len(word)
        else:
            break
    return 3 <= digits < 7
