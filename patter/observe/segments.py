"""The latency of one turn, cut into six segments that add up to the silence the caller heard.

Owns the arithmetic of law "segments add up"; refuses to know events, turns or what is done with the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

NAMES = ("endpointing", "transcription", "first_token", "first_sentence", "synthesis", "playout")
GRID = 64
"""Segments are whole 1/64 ms: such binary fractions add up exactly, in any order, with no residue."""
EXACT = 2.0**52
"""Steps beyond this (two thousand years) would no longer be exact."""


@dataclass(frozen=True, slots=True)
class Moments:
    """When a turn passed its stages, in seconds of the call's clock; None is a stage nobody reported.

    `began` is the caller's last sound (or the typed line), `committed` when the turn was taken, `playing` when the
    first sound of the answer reached the ear."""

    began: float
    playing: float
    recognition: float | None = None
    transcript: float | None = None
    committed: float | None = None
    first_token: float | None = None
    first_sentence: float | None = None
    first_audio: float | None = None


def segments(moments: Moments) -> tuple[dict[str, float], float]:
    """The six segments in ms, in order, and their exact sum: `playing - began` to within 1/128 ms, never negative.

    A moment out of order is moved to the one before it, and a missing one too: its time falls to the next stage that
    was reported. Endpointing is waiting for silence plus waiting after the transcript was ready."""
    total = max(0, _ticks(moments.playing - moments.began))
    at = 0
    passed = []
    for moment in (
        moments.recognition,
        moments.transcript,
        moments.committed,
        moments.first_token,
        moments.first_sentence,
        moments.first_audio,
    ):
        if moment is not None:
            at = min(total, max(at, _ticks(moment - moments.began)))
        passed.append(at)
    recognition, transcript, committed, first_token, first_sentence, first_audio = passed
    parts = (
        recognition + (committed - transcript),
        transcript - recognition,
        first_token - committed,
        first_sentence - first_token,
        first_audio - first_sentence,
        total - first_audio,
    )
    return {name: part / GRID for name, part in zip(NAMES, parts, strict=True)}, total / GRID


def whole_ms(seconds: float) -> float:
    """A duration in ms on the same grid, never negative."""
    return max(0, _ticks(seconds)) / GRID


def _ticks(seconds: float) -> int:
    """Seconds as steps of the grid; what no clock can have shown (a hostile journal's numbers) counts as nothing."""
    ticks = seconds * 1000 * GRID
    return round(ticks) if abs(ticks) < EXACT else 0


def rank(count: int, percent: int) -> int:
    """Where the nearest-rank percentile stands among `count` (1 or more) sorted values, from 0."""
    return max(0, -(-count * percent // 100) - 1)


def nearest_rank(values: list[float], percent: int) -> float:
    """The nearest-rank percentile: the smallest value that at least `percent` of all do not exceed; 0.0 for none."""
    return sorted(values)[rank(len(values), percent)] if values else 0.0
