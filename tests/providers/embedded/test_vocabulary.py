"""Tokens to text, in the byte alphabet of GPT-2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from patter.providers.embedded.vocabulary import Vocabulary

SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
WORDS = ["ĠCaf", "Ã", "©", "Ġ", "!"]


def test_pieces_of_a_character_become_one() -> None:
    assert Vocabulary(WORDS + SPECIAL).text([0, 1, 2, 4]) == "Café!"


def test_special_tokens_and_broken_characters_do_not_disturb() -> None:
    assert Vocabulary(WORDS + SPECIAL).text([6, 0, 1, 5]) == "Caf\ufffd"


def test_the_prompt_of_a_multilingual_and_of_an_english_model() -> None:
    vocabulary = Vocabulary(WORDS + SPECIAL)
    assert vocabulary.prompt("en", multilingual=True) == [6, 7, 8, 9]
    assert vocabulary.prompt("en", multilingual=False) == [6, 9]
    with pytest.raises(ValueError, match="does not know the language 'xx'"):
        vocabulary.prompt("xx", multilingual=True)


def test_all_three_forms_of_the_file(tmp_path: Path) -> None:
    tokens = WORDS + SPECIAL
    (tmp_path / "vocabulary.txt").write_text("\n".join(tokens), "utf-8")
    assert Vocabulary.read(tmp_path).text([0]) == "Caf"
    for form in (tokens, {token: number for number, token in reversed(list(enumerate(tokens)))}):
        (tmp_path / "vocabulary.json").write_text(json.dumps(form), "utf-8")
        assert Vocabulary.read(tmp_path).end == 5
