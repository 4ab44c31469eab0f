"""Keys pressed in quick succession are one entry for the model: "[DTMF: 4711]", not four turns.

It owns the waiting; it refuses to know what an entry means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from patter.clock import Clock

BETWEEN_KEYS_S = 1.2  # slower than people type a known number, faster than they wait for an answer
LONGEST = 64  # keys of one entry; a caller who leans on a key types no number
TERMINATOR = "#"  # "… and press the pound key"


class DigitEntry:
    """Collects digits and hands them over when the caller stops typing or presses #."""

    def __init__(self, clock: Clock, entered: Callable[[str], None]) -> None:
        self._clock = clock
        self._entered = entered
        self._digits = ""
        self._timer: asyncio.TimerHandle | None = None

    def press(self, digit: str) -> None:
        """One key."""
        if len(self._digits) < LONGEST:
            self._digits += digit
        self.close()
        if digit == TERMINATOR:
            self._hand_over()
        else:
            self._timer = self._clock.call_later(BETWEEN_KEYS_S, self._hand_over)

    def close(self) -> None:
        """Stop waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hand_over(self) -> None:
        self._timer = None
        digits, self._digits = self._digits, ""
        self._entered(digits)
