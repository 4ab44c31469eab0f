"""What the recognition benchmark counts as an error."""

from __future__ import annotations

import pytest

from tests.benchmarks.recognition import SENTENCES, errors, words


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("at nine thirty", "at 9.30"),
        ("That comes to sixty two dollars and fifty cents.", "that comes to $62.50"),
        ("four one five, five five five, zero one three two", "415-555-0132"),
        ("the twelfth of June", "The 12th of June"),
        ("after four o'clock", "after 4 o'clock."),
    ],
)
def test_the_same_thing_written_otherwise_is_no_error(said: str, heard: str) -> None:
    assert errors(words(said), words(heard)) == 0


def test_every_word_too_many_too_few_or_wrong_counts_once() -> None:
    reference = words("could you say that again")
    assert errors(reference, reference) == 0
    assert errors(reference, words("could you please say that again")) == 1
    assert errors(reference, words("you say that again")) == 1
    assert errors(reference, words("could she say this again")) == 2
    assert errors(reference, []) == 5


def test_there_are_forty_different_sentences() -> None:
    assert len(set(SENTENCES)) == 40
