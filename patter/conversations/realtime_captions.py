"""The words of a reply on their way beside its sound: cut at word borders, screened, and laid where they are spoken.

They own which words a stretch of sound says, as far as that can be told (the vendor writes ahead of its own voice and gives no
times); they refuse to know where sound and words come from.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from patter.turns.spoken import join

USUAL_MS = 62.0  # a character of English speech, its blanks counted, at about 160 words a minute
CREDIBLE_MS = (30.0, 200.0)
ENOUGH_MS = 1500.0  # of sound, before it says how fast this voice speaks
_BORDER = re.compile(r"\S+\s+|[^\s。！？、，；]*[。！？、，；]+\s*")


@dataclass(slots=True)
class Pace:
    """How fast the voice of this call speaks, learnt from every reply that was told to its end."""

    ms_per_character: float = USUAL_MS
    _known: bool = False

    def learn(self, text: str, ms: float) -> None:
        """A whole reply was `text`, and `ms` of sound."""
        if ms < ENOUGH_MS or not text:
            return
        pace = min(max(ms / (len(text) + 1), CREDIBLE_MS[0]), CREDIBLE_MS[1])
        self.ms_per_character = (self.ms_per_character + pace) / 2 if self._known else pace
        self._known = True


class Captions:
    """The words of one reply. `screen` is asked for each piece before it may be shown or spoken."""

    def __init__(self, pace: Pace, screen: Callable[[str, str], bool]) -> None:
        self.text = ""
        """Every word that has passed so far."""
        self.stopped = False
        """A guardrail tripped: nothing more passes."""
        self.ms = 0.0
        """Length of the sound so far."""
        self._pace = pace
        self._screen = screen
        self._rest = ""
        self._waiting: deque[str] = deque()
        self._laid = 0  # characters whose sound has been told

    def write(self, text: str) -> str:
        """More text as it comes. Returns the whole words that have passed with it; they wait for their sound."""
        self._rest += text
        cut = 0
        for border in _BORDER.finditer(self._rest):
            cut = border.end()
        whole, self._rest = self._rest[:cut], self._rest[cut:]
        return self._pass(whole)

    def close(self) -> str:
        """No more text comes (of this item): the last word is whole."""
        whole, self._rest = self._rest, ""
        return self._pass(whole)

    def _pass(self, text: str) -> str:
        words = text.split()
        piece = " ".join(words)
        if not words or self.stopped:
            return ""
        if not self._screen(self.text, piece):
            self.stopped = True
            self._waiting.clear()
            return ""
        self.text = join((self.text, piece))
        self._waiting.extend(words)
        return piece

    def sound(self, ms: float) -> str:
        """`ms` more of sound: the words that begin within it, or ""."""
        self.ms += ms
        reached = self.ms / self._pace.ms_per_character
        words: list[str] = []
        while self._waiting and self._laid < reached:
            word = self._waiting.popleft()
            self._laid += len(word) + 1
            words.append(word)
        return " ".join(words)

    def rest(self) -> str:
        """The words whose sound has not been told: at the end of the sound it has been after all."""
        words = " ".join(self._waiting)
        self._waiting.clear()
        self._laid = len(self.text) + 1
        return words

    def break_off(self) -> str:
        """The sound broke off: words that it has not reached were never said. Returns those that were."""
        words = self.text.split()
        self.text = " ".join(words[: len(words) - len(self._waiting)])
        self._waiting.clear()
        self._rest = ""
        return self.text

    def learn(self) -> None:
        """All of it was said: so fast does this voice speak."""
        self._pace.learn(self.text, self.ms)
