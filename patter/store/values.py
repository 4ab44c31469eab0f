"""Values that both databases take: what a hostile journal or a vendor's odd text holds is made harmless here.

It owns what a text, a key and a number of a row may be; it refuses to know tables.
"""

from __future__ import annotations

import math
from typing import Any

KEY_LENGTH = 200  # characters of a column that is in an index: five of them fit into one entry of PostgreSQL's
TEXT_LENGTH = 400_000  # characters: more than anybody says in a day
WHOLE = 2**53


def text(value: Any) -> str:
    """A text without what PostgreSQL or UTF-8 cannot hold: zero characters and halves of character pairs."""
    made = value if isinstance(value, str) else "" if value is None else str(value)
    if "\0" in made:
        made = made.replace("\0", "")
    if not made.isascii():
        made = made.encode("utf-8", "replace").decode()
    return made[:TEXT_LENGTH]


def key(value: Any) -> str:
    """The same for columns that are looked up."""
    return text(value)[:KEY_LENGTH]


def real(value: Any) -> float:
    """A finite number; 0.0 for all else."""
    try:
        made = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return made if math.isfinite(made) else 0.0


def count(value: Any) -> int:
    """A whole number that every database and JavaScript can hold."""
    return max(-WHOLE, min(WHOLE, int(real(value))))


def flag(value: Any) -> bool:
    """Whether it is true."""
    return bool(value)
