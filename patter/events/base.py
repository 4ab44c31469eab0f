"""What every fact carries: its call, its number in the engine's one stream, its time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of every fact. `seq` and `at` are stamped by the bus when they are left at 0."""

    call_id: str
    seq: int = 0
    at: float = 0.0
