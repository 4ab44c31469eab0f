"""Simple things in a caller's words become arguments; what is not obvious does not."""

from __future__ import annotations

from typing import Any

import pytest

from patter.providers.slots import fill, find, missing

TEXT: dict[str, Any] = {"type": "string"}


@pytest.mark.parametrize(
    ("name", "wanted", "text", "value"),
    [
        ("day", TEXT, "I would like to come next Tuesday afternoon.", "next Tuesday"),
        ("day", TEXT, "on Friday please", "Friday"),
        ("date", TEXT, "Tomorrow, if you can", "tomorrow"),
        ("day", TEXT, "I do not know", None),
        ("date", {"type": "string", "format": "date"}, "on Friday", None),
        ("time", TEXT, "at four o'clock", "04:00"),
        ("time", TEXT, "around 3 pm on Monday", "15:00"),
        ("time", TEXT, "at nine thirty", "09:30"),
        ("time", TEXT, "half past ten", "10:30"),
        ("time", TEXT, "quarter to five in the afternoon", "16:45"),
        ("time", TEXT, "at 14:05", "14:05"),
        ("time", TEXT, "on Tuesday afternoon", "afternoon"),
        ("time", TEXT, "a table for six people", None),
        ("people", {"type": "integer"}, "We are a party of six", 6),
        ("people", {"type": "integer"}, "a table for twenty-two at 8 pm", 22),
        ("people", {"type": "integer"}, "a table at 8 pm", None),
        ("people", {"type": "integer"}, "four or five of us", None),
        ("phone_number", TEXT, "it is five five five, two three four, nine eight seven six", "5552349876"),
        ("phone", TEXT, "+1 555 234 9876", "+15552349876"),
        ("phone", TEXT, "call me at noon", None),
        ("email", TEXT, "write to ann.lee@example.com please", "ann.lee@example.com"),
        ("name", TEXT, "Hi, my name is Sarah Johnson and I am calling about my order", "Sarah Johnson"),
        ("name", TEXT, "what is the name of the doctor", None),
        ("service", {"type": "string", "enum": ["cleaning", "check up"]}, "a check-up please", "check up"),
        ("service", {"type": "string", "enum": ["cleaning"]}, "something else", None),
        ("note", TEXT, "anything at all", None),
        ("urgent", {"type": "boolean"}, "yes please", None),
    ],
)  # fmt: skip
def test_what_is_found(name: str, wanted: dict[str, Any], text: str, value: Any) -> None:
    assert find(name, wanted, text) == value


@pytest.mark.parametrize(
    ("name", "wanted", "text", "value"),
    [
        ("time", TEXT, "nine thirty", "09:30"),
        ("people", {"type": "integer"}, "four or five", 4),
        ("name", TEXT, "it's ann lee.", "ann lee"),
        ("urgent", {"type": "boolean"}, "yes please", True),
        ("urgent", {"type": "boolean"}, "no", False),
        ("note", TEXT, "The left one hurts.", "The left one hurts"),
        ("day", TEXT, "I do not know", None),
    ],
)
def test_an_answer_to_its_own_question_is_read_more_freely(
    name: str, wanted: dict[str, Any], text: str, value: Any
) -> None:
    assert find(name, wanted, text, asked=True) == value


def test_given_arguments_stay_and_required_ones_are_missed() -> None:
    schema = {"properties": {"day": TEXT, "people": {"type": "integer"}}, "required": ["day", "people"]}
    found = fill(schema, "Tuesday for Wednesday", {"day": "Monday"})
    assert found == {"day": "Monday"}
    assert missing(schema, found) == ["people"]
