"""How long to wait in silence before the caller's turn is taken as complete.

It owns the rule over words and an optional turn model's opinion; it refuses to know where either comes from.
"""

from __future__ import annotations

from patter.models import TurnTaking
from patter.turns.words import sounds_complete

LIKELY = 0.5  # the turn model's own decision point
SURE_SHARE = 0.75  # words and model agree: three quarters of the usual wait


def silence_needed_ms(text: str, settings: TurnTaking, complete_likelihood: float | None = None) -> float:
    """Silence in ms after the last sound that ends the turn, given its words so far.

    A turn model (0..1, None without one) only shortens the wait when the words agree, and doubles it when it objects:
    measured on synthetic speech such models call unfinished sentences complete too often to be the sole judge.
    """
    if not sounds_complete(text):
        return settings.max_silence_ms
    if complete_likelihood is None:
        return settings.min_silence_ms
    if complete_likelihood >= LIKELY:
        return max(settings.pause_ms, settings.min_silence_ms * SURE_SHARE)
    return min(settings.max_silence_ms, settings.min_silence_ms * 2)
