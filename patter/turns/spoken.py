"""Which words of a reply were heard: text laid along the reply's sound.

It owns the mapping of milliseconds to words; it refuses to know how the sound travels or who listens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class _Stretch:
    text: str
    start_ms: float
    end_ms: float | None = None  # None: its sound is still being made


class SpokenText:
    """Pieces of text in order, each with the stretch of sound that says it. Without sound, shown is heard."""

    def __init__(self) -> None:
        self._stretches: list[_Stretch] = []
        self.ms = 0.0
        """Length of the sound so far."""

    @property
    def text(self) -> str:
        """All of the reply's text so far."""
        return join(stretch.text for stretch in self._stretches)

    def show(self, text: str) -> None:
        """Text on a silent line: heard as soon as it stands there."""
        self._stretches.append(_Stretch(text, self.ms, self.ms))

    def add(self, text: str) -> None:
        """Text whose sound will follow."""
        self._stretches.append(_Stretch(text, self.ms))

    def sound(self, ms: float, text: str = "") -> None:
        """`ms` more of sound; a non-empty `text` tells that a new piece begins with it."""
        if text:
            self._begin(text)
        self.ms += ms
        current = self._speaking()
        if current is not None:
            current.end_ms = self.ms

    def _begin(self, text: str) -> None:
        for stretch in self._stretches:
            if stretch.end_ms is None and stretch.text == text:
                stretch.start_ms = self.ms
                stretch.end_ms = self.ms
                return
        self._stretches.append(_Stretch(text, self.ms, self.ms))

    def _speaking(self) -> _Stretch | None:
        for stretch in reversed(self._stretches):
            if stretch.end_ms is not None:
                return stretch
        return None

    def split(self, heard_ms: float) -> tuple[str, str]:
        """(heard, not heard) after `heard_ms`: whole pieces, and inside a piece words in proportion to its sound.

        A word counts as heard when most of it sounded; proportion by characters is within a word or two of the truth.
        """
        heard: list[str] = []
        missed: list[str] = []
        for stretch in self._stretches:
            if stretch.end_ms is None:
                missed.append(stretch.text)
            elif heard_ms >= stretch.end_ms:
                heard.append(stretch.text)
            elif heard_ms <= stretch.start_ms:
                missed.append(stretch.text)
            else:
                share = (heard_ms - stretch.start_ms) / (stretch.end_ms - stretch.start_ms)
                before, after = cut_words(stretch.text, share)
                heard.append(before)
                missed.append(after)
        return join(heard), join(missed)


NO_WORD = 30  # characters: longer than this is no word but a sentence, as Thai or Chinese write it


def cut_words(text: str, share: float) -> tuple[str, str]:
    """Cut `text` after `share` (0..1) of its characters, at a word border, or anywhere in a run as long as only texts of
    languages without spaces have."""
    words = text.split()
    budget = share * sum(len(word) + 1 for word in words)
    used = 0.0
    for index, word in enumerate(words):
        inside = min(len(word), max(0, int(budget - used))) if len(word) > NO_WORD else 0
        if 0 < inside < len(word):
            return " ".join([*words[:index], word[:inside]]), " ".join([word[inside:], *words[index + 1 :]])
        if not inside and used + len(word) / 2 > budget:
            return " ".join(words[:index]), " ".join(words[index:])
        used += len(word) + 1
    return " ".join(words), ""


def join(pieces: Iterable[str]) -> str:
    """Pieces of text as one line, single-spaced."""
    return " ".join(piece.strip() for piece in pieces if piece.strip())
