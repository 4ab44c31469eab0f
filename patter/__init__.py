"""Patter: give an AI agent a phone number. This is the whole public face; everything else is a part behind it.

It owns the names that users import; `Patter` itself is loaded on first use, so that importing the values costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from patter.client import Patter

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


def __getattr__(name: str) -> object:
    if name != "Patter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from patter.client import Patter

    globals()["Patter"] = Patter
    return Patter


def __dir__() -> list[str]:
    return [*globals(), "Patter"]
