"""Guardrails: nothing blocked is spoken, however it is cut into pieces."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.guard import Guards
from patter.models import Guardrail

SECRET = Guardrail(
    "secrets", blocked_terms=["purple elephant", "Kr0ne"], replacement="Let's talk about something else."
)


def test_without_guardrails_everything_passes() -> None:
    assert Guards(None).screen("", "Hello.") == ("Hello.", None)
    assert not Guards([])


@pytest.mark.parametrize("text", ["The PURPLE elephant.", "xkr0nex", "purple\n  elephant"])
def test_a_blocked_term_is_replaced_in_any_case_and_inside_words(text: str) -> None:
    assert Guards([SECRET]).screen("", text) == ("Let's talk about something else.", "secrets")


@pytest.mark.parametrize(
    ("spoken", "piece"),
    [
        ("It is a purple", "elephant."),
        ("It is a purple ", "elephant"),
        ("It is a purple.", "Elephant here."),
        ("purple …", "elephant"),
        ("purple ele", "phant"),
        ("Call Kr0", "ne now"),
        ("kr", " 0ne kr0ne"),
    ],
)
def test_a_term_split_across_pieces_is_caught(spoken: str, piece: str) -> None:
    assert Guards([SECRET]).screen(spoken, piece)[1] == "secrets"


def test_what_was_already_spoken_does_not_block_what_follows() -> None:
    assert Guards([SECRET]).screen("A purple elephant.", "Anything else?") == ("Anything else?", None)


@given(st.integers(min_value=1, max_value=14))
def test_wherever_the_term_is_cut(cut: int) -> None:
    term = "purple elephant"
    assert Guards([SECRET]).screen("I saw a " + term[:cut], term[cut:] + " today")[1] == "secrets"


def test_a_check_sees_the_piece_and_the_joined_reply() -> None:
    seen: list[str] = []

    def check(text: str) -> bool:
        seen.append(text)
        return "one two" in text

    guards = Guards([{"name": "count", "check": check, "replacement": "No."}])
    assert guards.screen("say one", "two") == ("No.", "count")
    assert seen == ["two", "say one two"]


def test_the_first_guardrail_that_matches_wins() -> None:
    guards = Guards(
        [
            {"name": "a", "blocked_terms": ["x"], "replacement": "A"},
            {"name": "b", "blocked_terms": ["x"], "replacement": "B"},
        ]
    )
    assert guards.screen("", "x") == ("A", "a")


def test_a_check_that_fails_blocks_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def check(text: str) -> bool:
        raise RuntimeError("the checker is broken")

    with caplog.at_level(logging.ERROR):
        text, tripped = Guards([Guardrail("fragile", check=check)]).screen("", "Hello.")
    assert (text, tripped) == ("I'm sorry, I can't respond to that.", "fragile")
    assert "the checker is broken" in caplog.text


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ("no", TypeError),
        ({"blocked_terms": ["x"]}, ValueError),
        ({"name": "n", "blocked_terms": "x"}, TypeError),
        ({"name": "n", "check": 3}, TypeError),
    ],
)
def test_a_wrong_guardrail_is_refused(entry: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        Guards([entry])
