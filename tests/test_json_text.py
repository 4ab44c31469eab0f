"""JSON read and written quickly means the same as with Python's own library, also where that library is generous."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from patter import json_text


@dataclass
class Note:
    text: str


@pytest.mark.parametrize(
    "value",
    [
        "ä€😀\u2028",
        "\ud83d alone",
        {"a": [1, 2.5, None, True]},
        {1: "one"},
        (1, 2),
        2**70,
        Note("n"),
        datetime(2026, 1, 2, tzinfo=UTC),
    ],
)
def test_what_is_written_is_what_python_would_write(value: Any) -> None:
    usual = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    assert json_text.encode(value) == usual.encode(errors="backslashreplace")
    assert json_text.dumps(value).encode() == json_text.encode(value)


@pytest.mark.parametrize("text", ['{"a": 1.5}', '"\\ud83d"', "-Infinity", b'["\xc3\xa4"]', "  [1]  "])
def test_what_is_read_is_what_python_would_read(text: str | bytes) -> None:
    assert json_text.loads(text) == json.loads(text)


def test_no_number_is_read_as_python_does() -> None:
    assert math.isnan(json_text.loads("NaN"))


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", b"\xff", "[1,]"])
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        json_text.loads(text)
