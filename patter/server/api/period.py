"""The time that a question is about: `from` and `to` of a query or a body, as dates, date-times or seconds since the epoch.

It owns how they are written; it refuses to know what is asked. Without a zone they are UTC.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from typing import Any

from patter.server.answers import Refused
from patter.server.schemas import Schema

DAY_S = 86_400.0
LATEST = 2e9
"""Seconds since the epoch: later is nothing that anybody means (2033)."""

MOMENT: Schema = {
    "type": "string",
    "maxLength": 40,
    "description": "a date (its whole day, UTC), a date with a time, or seconds since the epoch",
}

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_SECONDS = re.compile(r"\d{1,10}(\.\d{1,6})?")


def since(given: Any, default: float = 0.0) -> float:
    """The first moment that is meant. Raises Refused (400)."""
    return _moment("from", given, default, whole_day=False)


def until(given: Any, default: float = LATEST) -> float:
    """The first moment that is not meant any more: after a date, its whole day. Raises Refused (400)."""
    return _moment("to", given, default, whole_day=True)


def _moment(name: str, given: Any, default: float, *, whole_day: bool) -> float:
    if given in (None, ""):
        return default
    text = str(given).strip()
    try:
        if _SECONDS.fullmatch(text):
            at = float(text)
        elif _DATE.fullmatch(text):
            midnight = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
            at = midnight.timestamp() + (DAY_S if whole_day else 0.0)
        else:
            moment = datetime.fromisoformat(text)
            at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        at = math.nan
    if not 0 <= at <= 1e11:
        raise Refused(400, f"{name} must be a date such as 2026-11-22, a date with a time, or seconds since the epoch.")
    return min(at, LATEST)
