"""The greeting's sound, kept from one call to the next, so that it is ready when a line opens.

It owns what makes two greetings the same; it refuses to know where they are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from patter.audio.format import AudioChunk, AudioFormat


@dataclass(frozen=True, slots=True)
class GreetingKey:
    """Greetings with equal keys sound the same."""

    text: str
    voice: str
    model: str
    format: AudioFormat


class GreetingStore(Protocol):
    """Keeps greetings. Both methods are quick and never raise."""

    def get(self, key: GreetingKey) -> Sequence[AudioChunk] | None:
        """The sound in playing order, if it is there."""

    def put(self, key: GreetingKey, chunks: Sequence[AudioChunk]) -> None:
        """Keep this sound, if there is room."""


def says(text: str, words: str) -> bool:
    """Whether a transcript says these very words, whatever its spelling and punctuation."""
    return _letters(text) == _letters(words)


def _letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())
