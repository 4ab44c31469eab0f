"""One turn as it is measured: its replies, tools and costs, and the figures that come of them.

It owns what a turn's latency, text and usage are; it refuses to know which events make a turn (the fold does) and any clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from patter.events import CallerSaid, ConnectionUsed, TurnMeasured
from patter.models import LatencyBreakdown, TurnMetrics
from patter.observe.cost import CostFold
from patter.observe.segments import NAMES, Moments, segments

Kind = Literal["greeting", "answer", "say", "filler"]
NO_REPLY = -1
"""`TurnMeasured.reply_id` of a turn that was never answered."""

TOKENS_IN = ("input_tokens", "input_text_tokens", "input_audio_tokens")
TOKENS_CACHED = ("cached_tokens", "cached_text_tokens", "cached_audio_tokens")
TOKENS_OUT = ("output_tokens", "output_text_tokens", "output_audio_tokens")
"""A model that takes and makes sound counts its tokens by class; for the turn they are one sum."""


@dataclass(slots=True)
class Reply:
    """One reply: when it passed its stages, what was made of it and what was heard."""

    reply_id: int
    kind: Kind = "answer"
    started_at: float = 0.0
    reached: dict[str, float] = field(default_factory=dict)
    generated: str = ""
    heard: str | None = None
    said: bool = False


@dataclass(slots=True)
class Turn:
    """What is measured together: a caller's turn with all replies to it, or one greeting or said line by itself."""

    number: int
    costs: CostFold
    caller: CallerSaid | None = None
    words: str = ""
    replies: list[Reply] = field(default_factory=list)
    audible: Reply | None = None
    interrupted: bool = False
    owes_reply: bool = False
    tools: set[str] = field(default_factory=set)
    tool_spans: list[tuple[float, float]] = field(default_factory=list)
    connections: dict[str, float] = field(default_factory=dict)
    closed: bool = False

    @property
    def answers_caller(self) -> bool:
        """Whether it is a turn in the sense of the public API."""
        return self.caller is not None or any(reply.kind in ("answer", "filler") for reply in self.replies)

    @property
    def happened(self) -> bool:
        """Whether there is anything to tell of it."""
        return self.caller is not None or bool(self.replies)

    @property
    def waits(self) -> bool:
        """Whether it is open with nothing left to be heard: it waits for a tool, or was never answered."""
        return not self.closed and all(reply.said for reply in self.replies)

    @property
    def sample(self) -> bool:
        """Whether its latency counts: the caller's turn was answered, the answer heard and not interrupted."""
        return self.caller is not None and self.audible is not None and not self.interrupted

    def connected(self, event: ConnectionUsed) -> None:
        """A stage used a connection: one that stood already took no time."""
        opened_ms = 0.0 if event.reused else event.ms
        self.connections[event.stage] = round(self.connections.get(event.stage, 0.0) + opened_ms, 3)

    def latency(self) -> tuple[dict[str, float], float]:
        """The segments in ms and their sum. Stages that an engine does not tell fall to the next one it does."""
        reply, caller = self.audible, self.caller
        if reply is None:
            return dict.fromkeys(NAMES, 0.0), 0.0
        stages = reply.reached
        replying = {name: stages.get(name) for name in ("first_token", "first_sentence", "first_audio")}
        if caller is None:
            return segments(Moments(began=reply.started_at, playing=stages["playing"], **replying))
        if caller.source != "voice":
            typed = caller.speech_ended_at or caller.at
            return segments(Moments(typed, stages["playing"], committed=caller.at, **replying))
        known = (caller.recognition_at or None, caller.transcript_at or None, caller.at)
        return segments(Moments(caller.speech_ended_at or caller.at, stages["playing"], *known, **replying))

    def measured(self, call_id: str, at: float, cost_so_far: float, *, closed: bool) -> TurnMeasured:
        """Its figures as an event of this time."""
        parts, total = self.latency()
        shown = self.audible or (self.replies[-1] if self.replies else Reply(NO_REPLY))
        cost = self.costs.breakdown()
        return TurnMeasured(
            call_id=call_id,
            at=at,
            turn=self.number,
            reply_id=shown.reply_id,
            kind=shown.kind,
            closed=closed,
            user_text=self.words,
            agent_text=self._agent_text(heard_only=closed),
            segments=parts,
            total_ms=total,
            interrupted=self.interrupted,
            tool_ms=covered_ms(self.tool_spans),
            stt_audio_seconds=self.costs.amount("stt", "audio_seconds"),
            tts_characters=round(self.costs.amount("tts", "characters")),
            tokens_in=self._tokens(TOKENS_IN),
            tokens_cached=self._tokens(TOKENS_CACHED),
            tokens_out=self._tokens(TOKENS_OUT),
            cost={"stt": cost.stt, "llm": cost.llm, "tts": cost.tts, "total": cost.total},
            cost_so_far=cost_so_far,
            unpriced=self.costs.unpriced(),
            connections=dict(self.connections),
        )

    def public(self) -> TurnMetrics:
        """Its figures in the form of the public API."""
        parts, total = self.latency()
        latency = LatencyBreakdown(
            stt_ms=parts["endpointing"] + parts["transcription"],
            llm_ms=parts["first_token"],
            tts_ms=parts["synthesis"],
            total_ms=total,
        )
        started = self.replies[0].started_at if self.replies else 0.0
        return TurnMetrics(
            turn_index=self.number,
            user_text=self.words,
            agent_text=self._agent_text(heard_only=self.closed),
            latency=latency,
            stt_audio_seconds=self.costs.amount("stt", "audio_seconds"),
            tts_characters=round(self.costs.amount("tts", "characters")),
            timestamp=self.caller.at if self.caller else started,
        )

    def _tokens(self, classes: tuple[str, ...]) -> int:
        return round(sum(self.costs.amount("llm", name) for name in classes))

    def _agent_text(self, *, heard_only: bool) -> str:
        """What the agent said: as heard once the turn is over, as generated while it is being said."""
        texts = (reply.heard if heard_only or reply.heard is not None else reply.generated for reply in self.replies)
        return " ".join(text.strip() for text in texts if text and text.strip())


def covered_ms(spans: list[tuple[float, float]]) -> float:
    """How many ms the spans cover together; tools that ran at the same time count once."""
    covered, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return round(covered * 1000, 3)
