"""Sentences out of a stream of text, early and never torn."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.turns.sentences import SentenceCutter


def cut(*pieces: str) -> list[str]:
    cutter = SentenceCutter()
    done = [sentence for piece in pieces for sentence in cutter.push(piece)]
    return done + cutter.flush()


def test_a_sentence_is_given_with_its_last_mark() -> None:
    cutter = SentenceCutter()
    assert cutter.push("We open at eight") == []
    assert cutter.push(".") == ["We open at eight."]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Li is in. Come at 3.5 hours past.", ["Dr. Li is in.", "Come at 3.5 hours past."]),
        ("At 9 a.m. we open! Really?", ["At 9 a.m. we open!", "Really?"]),
        ('She said "yes." Then left.', ['She said "yes."', "Then left."]),
        ("One\ntwo", ["One", "two"]),
        ("No end", ["No end"]),
    ],
)
def test_borders(text: str, sentences: list[str]) -> None:
    assert cut(text) == sentences


def test_a_long_first_sentence_begins_at_its_first_clause() -> None:
    text = "Of course I can help you with that today, and if you tell me which day suits you I will look for a time"
    assert cut(text)[0] == "Of course I can help you with that today,"


@given(st.text(alphabet="ab .!?\n,3", max_size=80), st.lists(st.integers(0, 80), max_size=6))
def test_no_word_is_lost_however_the_text_is_cut(text: str, borders: list[int]) -> None:
    edges = [0, *sorted(min(border, len(text)) for border in borders), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    assert "".join("".join(cut(*pieces)).split()) == "".join(text.split())
