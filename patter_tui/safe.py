"""Text of other people made safe for a terminal. It owns that one rule, and knows nothing of where the text stands."""

from __future__ import annotations


def clean(text: str) -> str:
    """Text that is safe to put on a terminal: control characters (escape codes too) become spaces."""
    return "".join(char if char.isprintable() else " " for char in text)
