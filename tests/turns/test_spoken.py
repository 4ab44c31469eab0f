"""Milliseconds to words: what was heard and what was dropped are the whole text, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from patter.turns.spoken import SpokenText, cut_words

WORDS = st.lists(st.text(alphabet="abc", min_size=1, max_size=8), min_size=1, max_size=12).map(" ".join)


def test_words_are_heard_in_proportion_to_their_sound() -> None:
    spoken = SpokenText()
    spoken.sound(1000, "one two three four")
    spoken.sound(1000, "five six seven eight")
    assert spoken.split(0) == ("", "one two three four five six seven eight")
    assert spoken.split(1500) == ("one two three four five six", "seven eight")
    assert spoken.split(2000) == ("one two three four five six seven eight", "")


def test_text_without_sound_yet_was_not_heard() -> None:
    spoken = SpokenText()
    spoken.add("First.")
    spoken.add("Second.")
    spoken.sound(500, "First.")
    assert spoken.split(500) == ("First.", "Second.")


def test_on_a_silent_line_shown_is_heard() -> None:
    spoken = SpokenText()
    spoken.show("Hello there.")
    assert spoken.split(0.0) == ("Hello there.", "")


@given(WORDS, st.floats(0, 1))
def test_a_cut_keeps_every_word_once(text: str, share: float) -> None:
    before, after = cut_words(text, share)
    assert [*before.split(), *after.split()] == text.split()


@given(WORDS, st.floats(0, 1), st.floats(0, 1))
def test_hearing_longer_never_hears_less(text: str, one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert len(cut_words(text, less)[0]) <= len(cut_words(text, more)[0])


def test_a_language_without_spaces_is_cut_between_its_characters() -> None:
    text = "สวัสดีครับวันนี้ร้านเปิดถึงสองทุ่มครับขอบคุณ"
    before, after = cut_words(text, 0.5)
    assert before + after == text
    assert 0.4 < len(before) / len(text) < 0.6
    assert cut_words(text, 0.0) == ("", text)
    assert cut_words(text, 1.0) == (text, "")
