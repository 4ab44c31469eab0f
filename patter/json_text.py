"""JSON of the way between caller and vendors, read and written quickly; odd input means what it means to Python's own library.

It owns that speed; it refuses to know any message.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

_AS_PYTHON = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS


def loads(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError; RecursionError for one that is nested too deeply."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # half a character pair and NaN are read all the same
        return json.loads(text)


def dumps(value: Any) -> str:
    """The value in one line; what JSON does not know as its `str`, half a character pair as its escape."""
    return encode(value).decode()


def encode(value: Any) -> bytes:
    """The same, ready for the network."""
    try:
        return orjson.dumps(value, str, _AS_PYTHON)
    except TypeError:  # half a character pair, or a number of more than 64 bits
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
        return text.encode(errors="backslashreplace")
