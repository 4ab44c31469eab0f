"""Finds simple things in a caller's words for the arguments of a tool: days, times, numbers, names, addresses.

It owns these few patterns of spoken English; it refuses to guess: what is not obvious is left out, and the script asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

WORD = r"\w+"
_DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_DAY = re.compile(
    rf"\b((?:(?:this|next|on)\s+)?(?:{'|'.join(_DAYS)})|today|tonight|tomorrow|the day after tomorrow)\b", re.IGNORECASE
)
_PART = re.compile(r"\b(morning|noon|afternoon|evening|night)\b", re.IGNORECASE)
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]*\w")
_NAME = re.compile(
    r"\b(?:my name is|my name's|this is|i am|i'm|name of|under)\s+((?:[A-Z][\w'’-]+)(?:\s+[A-Z][\w'’-]+)*)"
)
_NAME_OPENER = re.compile(r"^(?:my name is|my name's|this is|it is|it's|i am|i'm)\s+", re.IGNORECASE)

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_NUMBERS = {word: value for value, word in enumerate(_ONES)} | _TENS
_DIGITS = {word: str(value) for value, word in enumerate(_ONES[:10])} | {"oh": "0", "o": "0"}
_NUMBER_WORD = "|".join(sorted((*_NUMBERS, r"\d+"), key=len, reverse=True))

_CLOCK = re.compile(
    rf"\b(?:(?P<half>half past|quarter past|quarter to)\s+)?(?P<hour>{_NUMBER_WORD})"
    rf"(?:(?::|\s+)(?P<minute>[0-5]\d|(?:{_NUMBER_WORD})(?:[\s-](?:{_NUMBER_WORD}))?))?"
    r"\s*(?P<mark>o'?clock|a\.?\s?m\b\.?|p\.?\s?m\b\.?|in the morning|in the afternoon|in the evening|at night)?",
    re.IGNORECASE,
)
_SHIFTS = {"half past": 30, "quarter past": 15, "quarter to": -15}
_CLOCK_LEAD = re.compile(r"\b(?:at|around|about|by|until|from|before|after|past|to)\s+$", re.IGNORECASE)
_COUNT = re.compile(rf"\b({_NUMBER_WORD})(?:[\s-]({_NUMBER_WORD}))?\b", re.IGNORECASE)


def fill(schema: Mapping[str, Any], text: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The properties of `schema` that `text` obviously gives, beside those already `given`."""
    found = dict(given)
    for name, wanted in schema.get("properties", {}).items():
        if name not in found and (value := find(name, wanted, text)) is not None:
            found[name] = value
    return found


def missing(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[str]:
    """The required properties that have no value yet, in order."""
    return [str(name) for name in schema.get("required", ()) if name not in arguments]


def find(name: str, wanted: Mapping[str, Any], text: str, *, asked: bool = False) -> Any:
    """The value of one property in `text`, or None. `asked`: the text answers a question for just this property."""
    text = " ".join(text.replace("’", "'").split())
    if "enum" in wanted:
        return _one_of(wanted["enum"], text)
    kind = wanted.get("type", "string")
    what = f"{name} {wanted.get('description', '')}".lower().replace("_", " ")
    if kind in ("integer", "number"):
        return _count(text, asked=asked)
    if kind == "boolean":
        return _yes_or_no(text) if asked else None
    if kind != "string" or wanted.get("format") in ("date", "date-time"):
        return None  # a date needs a calendar, which a script does not have
    for words, finder in _FINDERS:
        if any(re.search(rf"\b{word}", what) for word in words):
            return finder(text, asked)
    return text.strip(" .!?") or None if asked else None


def _day(text: str, _asked: bool) -> str | None:
    match = _DAY.search(text)
    if match is None:
        return None
    day = re.sub(r"^on\s+", "", match.group(1).lower())
    return " ".join(word.capitalize() if word in _DAYS else word for word in day.split())


def _time(text: str, asked: bool) -> str | None:
    for match in _CLOCK.finditer(text):
        mark = (match.group("mark") or "").lower().replace(" ", "").replace(".", "")
        lead = _CLOCK_LEAD.search(text[: match.start()])
        if not (mark or lead or match.group("half") or (asked and match.group("hour"))):
            continue
        hour, minute = _number(match.group("hour")), _number(match.group("minute") or "0")
        if hour > 23 or minute > 59:
            continue
        shift = {"halfpast": 30, "quarterpast": 15, "quarterto": -15}.get(
            (match.group("half") or "").replace(" ", "").lower(), 0
        )
        if mark in ("pm", "intheafternoon", "intheevening", "atnight") and hour < 12:
            hour += 12
        if mark in ("am", "inthemorning") and hour == 12:
            hour = 0
        total = (hour * 60 + minute + shift) % 1440
        return f"{total // 60:02d}:{total % 60:02d}"
    part = _PART.search(text)
    return part.group(1).lower() if part else None


def _phone(text: str, _asked: bool) -> str | None:
    best = run = ""
    for word in re.findall(r"[a-z]+|\d+|\+", text.lower().replace("-", " ")):
        digits = word if word.isdigit() else _DIGITS.get(word, "+" if word == "+" and not run else "")
        run = run + digits if digits else ""
        best = max(best, run, key=len)
    return best if len(best) >= 7 else None


def _email(text: str, _asked: bool) -> str | None:
    match = _EMAIL.search(text)
    return match.group() if match else None


def _name(text: str, asked: bool) -> str | None:
    match = _NAME.search(text)
    if match:
        return match.group(1)
    return _NAME_OPENER.sub("", text).strip(" .,!?") or None if asked else None


_FINDERS: tuple[tuple[tuple[str, ...], Callable[[str, bool], str | None]], ...] = (
    (("e ?mail",), _email),
    (("phone", "telephone", "mobile", "callback"), _phone),
    (("day\\b", "date\\b", "weekday"), _day),
    (("time\\b", "hour\\b", "o'clock"), _time),
    (("name\\b",), _name),
)
"""What a property is about, by words of its name and description, in the order they are looked for."""


def _one_of(choices: list[Any], text: str) -> Any:
    """The choice whose words stand in the text; of several the longest."""
    spoken = _padded(text)
    held = [choice for choice in choices if _padded(str(choice)) in spoken]
    return max(held, key=lambda choice: len(str(choice)), default=None)


def _padded(text: str) -> str:
    """The words of a text between blanks, so that whole words can be looked for."""
    return f" {' '.join(re.findall(WORD, text.lower()))} "


def _count(text: str, *, asked: bool) -> int | None:
    """The one number that is said and is no time of day."""
    bare = _CLOCK.sub(lambda match: match.group() if not _is_clock(text, match) else " ", text)
    numbers = [_number(match.group()) for match in _COUNT.finditer(bare)]
    if len(numbers) == 1 or (asked and numbers):
        return numbers[0]
    return None


def _is_clock(text: str, match: re.Match[str]) -> bool:
    lead = _CLOCK_LEAD.search(text[: match.start()])
    return bool(
        match.group("mark") or match.group("half") or ":" in match.group() or (lead and lead.group().strip() == "at")
    )


def _number(words: str) -> int:
    """The value of digits or of number words up to ninety-nine."""
    return sum(int(word) if word.isdigit() else _NUMBERS.get(word, 0) for word in re.findall(WORD, words.lower()))


def _yes_or_no(text: str) -> bool | None:
    words = set(re.findall(WORD, text.lower()))
    if words & {"yes", "yeah", "yep", "sure", "correct", "right", "please"}:
        return True
    return False if words & {"no", "nope", "not", "don"} else None
