"""Whisper's vocabulary: which number is which piece of text, spelled in the byte alphabet of GPT-2.

It owns reading the file and turning numbers into text; it refuses to know sound or models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path


def _byte_alphabet() -> dict[str, int]:
    """Printable bytes stand for themselves, the others for the characters from 256 on, in order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


class Vocabulary:
    """The tokens of one model, as `vocabulary.json` (a list or an object) or `vocabulary.txt` gives them."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.ids = {token: number for number, token in enumerate(tokens)}
        self.end = self.ids["<|endoftext|>"]
        alphabet = _byte_alphabet()
        self._bytes = [bytes(alphabet[character] for character in token) for token in tokens[: self.end]]

    @classmethod
    def read(cls, directory: Path) -> Vocabulary:
        """Raises OSError when there is no vocabulary file, ValueError or KeyError when it is not one."""
        listed = directory / "vocabulary.json"
        if not listed.is_file():
            return cls((directory / "vocabulary.txt").read_text("utf-8").splitlines())
        tokens = json.loads(listed.read_text("utf-8"))
        return cls(tokens if isinstance(tokens, list) else sorted(tokens, key=tokens.__getitem__))

    def prompt(self, language: str, multilingual: bool) -> list[int]:
        """The tokens that ask for a transcript without timestamps. Raises ValueError for a language it does not know."""
        names = ["<|startoftranscript|>", "<|notimestamps|>"]
        if multilingual:
            names[1:1] = [f"<|{language}|>", "<|transcribe|>"]
        unknown = [name for name in names if name not in self.ids]
        if unknown:
            raise ValueError(f"the model does not know the language {language!r}")
        return [self.ids[name] for name in names]

    def text(self, ids: Sequence[int]) -> str:
        """The words of `ids`, without special tokens."""
        return b"".join(self._bytes[number] for number in ids if number < self.end).decode("utf-8", "replace").strip()
