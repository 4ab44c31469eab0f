"""What words tell about a turn."""

from __future__ import annotations

import pytest

from patter.models import TurnTaking
from patter.turns.endpointing import silence_needed_ms
from patter.turns.words import acknowledges, plain, sounds_complete

SETTINGS = TurnTaking()


@pytest.mark.parametrize("text", ["uh-huh", "Uh huh.", "Okay, yeah.", "mm-hmm", "Right, right.", "I see.", "Got it!"])
def test_acknowledgements_take_no_floor(text: str) -> None:
    assert acknowledges(text, SETTINGS.acknowledgements)


@pytest.mark.parametrize("text", ["", "Okay, stop.", "right away please", "no", "yes", "wait", "What?"])
def test_everything_else_does(text: str) -> None:
    assert not acknowledges(text, SETTINGS.acknowledgements)


@pytest.mark.parametrize(
    "text",
    [
        "I would like to book an appointment for",
        "My phone number is five five five",
        "how much",
        "Um,",
        "Can you tell me the",
        "my name is",
        "I was wondering if...",
        "",
    ],
)
def test_a_sentence_cut_short_sounds_unfinished(text: str) -> None:
    assert not sounds_complete(text)


@pytest.mark.parametrize(
    "text",
    [
        "Is there parking near the office?",
        "Yes, that works for me, thank you very much.",
        "My phone number is five five five two three four nine eight seven six.",
        "No, I said Thursday, not Tuesday.",
        "At four",
    ],
)
def test_a_whole_sentence_sounds_complete(text: str) -> None:
    assert sounds_complete(text)


def test_complete_words_end_the_turn_sooner_than_unfinished_ones() -> None:
    assert silence_needed_ms("Is there parking?", SETTINGS) == SETTINGS.min_silence_ms
    assert silence_needed_ms("I would like to", SETTINGS) == SETTINGS.max_silence_ms


def test_a_turn_model_shortens_only_what_the_words_allow() -> None:
    assert silence_needed_ms("Is there parking?", SETTINGS, 0.9) < SETTINGS.min_silence_ms
    assert silence_needed_ms("Is there parking?", SETTINGS, 0.1) > SETTINGS.min_silence_ms
    assert silence_needed_ms("I would like to", SETTINGS, 0.99) == SETTINGS.max_silence_ms


def test_plain_words_have_no_case_and_no_punctuation() -> None:
    assert plain("  Uh-HUH, it’s  OK! ") == "uh huh it's ok"
