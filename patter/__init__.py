"""Patter: give an AI agent a phone number. This is the whole public face; everything else is a part behind it.

It owns the names that users import; each is loaded on first use, so that a process that needs one part pays for no other.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from patter.client import Patter
    from patter.control import CallControl
    from patter.exceptions import PatterConnectionError, PatterError
    from patter.models import (
        Agent,
        CallEvent,
        CallMetrics,
        CostBreakdown,
        Guardrail,
        IncomingMessage,
        LatencyBreakdown,
        STTConfig,
        TTSConfig,
        TurnMetrics,
    )

__all__ = [
    "Agent",
    "CallControl",
    "CallEvent",
    "CallMetrics",
    "CostBreakdown",
    "Guardrail",
    "IncomingMessage",
    "LatencyBreakdown",
    "Patter",
    "PatterConnectionError",
    "PatterError",
    "STTConfig",
    "TTSConfig",
    "TurnMetrics",
]


_ELSEWHERE = {
    "CallControl": "patter.control",
    "Patter": "patter.client",
    "PatterConnectionError": "patter.exceptions",
    "PatterError": "patter.exceptions",
}  # all others are values


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(_ELSEWHERE.get(name, "patter.models")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
