"""Facts in figures: usage, latency, cost, and how well the line did. It owns no price and no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from patter.events.base import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageMeasured(Event):
    """Something billable was used; keys of `amounts` are those of the price table."""

    turn: int
    stage: Literal["stt", "llm", "tts", "telephony"]
    provider: str
    model: str = ""
    amounts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnMeasured(Event):
    """Latency and cost of a turn. Published once when its sound starts (`closed` False) and once when it is over.

    `segments` in ms, in order, adding up to `total_ms`: endpointing, transcription, first_token, first_sentence,
    synthesis, playout. `cost` in USD: stt, llm, tts, total; `unpriced` names providers without a price row.
    `connections`: stage → ms that opening connections took in this turn (0.0: those that stood were used again).
    """

    turn: int
    reply_id: int
    kind: Literal["greeting", "answer", "say", "filler"]
    closed: bool
    user_text: str
    agent_text: str
    segments: dict[str, float]
    total_ms: float
    interrupted: bool = False
    tool_ms: float = 0.0
    stt_audio_seconds: float = 0.0
    tts_characters: int = 0
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    cost: dict[str, float] = field(default_factory=dict)
    cost_so_far: float = 0.0
    unpriced: tuple[str, ...] = ()
    connections: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionUsed(Event):
    """A stage reached its provider over a connection that stood already (`reused`), or one that took `ms` to open."""

    turn: int
    stage: Literal["stt", "llm", "tts"]
    provider: str
    reused: bool
    ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CostMeasured(Event):
    """What the call has cost so far in USD: stt, llm, tts, telephony, total; minutes that have begun count whole. Told when a
    turn is over, when a minute begins that is billed, and before CallEnded (again if the carrier tells of a recording later).
    `unpriced` names providers without a price row: the cost is at least that much then. `shares`: what of it each has cost by
    what was measured ("stage/provider/model" → USD), without the minutes that run."""

    cost: dict[str, float] = field(default_factory=dict)
    unpriced: tuple[str, ...] = ()
    shares: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineMeasured(Event):
    """How the caller's line did, told once before CallEnded (nothing is told of a call without sound).

    `frames` came from the caller, `lost` never came, `dropped` came but too late or twice. `jitter_ms`: smoothed deviation of
    their arrival (RFC 3550, 6.4.1), averaged over the call. `underruns`: times the agent's sound ran dry in the middle of a
    reply."""

    frames: int
    lost: int = 0
    dropped: int = 0
    jitter_ms: float = 0.0
    underruns: int = 0
