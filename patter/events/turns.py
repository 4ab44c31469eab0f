"""Facts of the talk: what the caller said, what the agent made, and what was heard. It owns no call and no figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from patter.events.base import Event

ReplyStageName = Literal["first_token", "first_sentence", "first_audio", "playing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerSpeechStarted(Event):
    """The caller began to speak at `began_at` (known a little later, at `at`)."""

    began_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerSpeechStopped(Event):
    """The caller paused; the last sound was at `ended_at`."""

    ended_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerPartial(Event):
    """The caller's words so far; replaces the partial before it. May be dropped by a slow reader."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerSaid(Event):
    """The caller's turn `turn` is complete. Times tell how long it took to know (see `metrics`).

    `pending`: the engine answers the sound itself and `text` is not all known yet; all of it follows as CallerTranscribed."""

    turn: int
    text: str
    source: Literal["voice", "typed", "dtmf"] = "voice"
    speech_ended_at: float = 0.0
    recognition_at: float = 0.0
    transcript_at: float = 0.0
    pending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerTranscribed(Event):
    """The words of a turn that was `pending` ("" when there were none, or nobody could tell)."""

    turn: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerAcknowledged(Event):
    """The caller said "uh-huh" or the like while the agent spoke: heard, no turn."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitPressed(Event):
    """The caller pressed a key."""

    digit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyStarted(Event):
    """The agent began to make a reply to turn `turn` (0 = the greeting)."""

    turn: int
    reply_id: int
    kind: Literal["greeting", "answer", "say", "filler"] = "answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyReached(Event):
    """A reply passed a stage for the first time; `reached_at` is when. "playing" = its first sound is in the ear."""

    reply_id: int
    stage: ReplyStageName
    reached_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyText(Event):
    """More generated text of a reply (not heard yet). The pieces stand behind each other as they are, spaces included."""

    reply_id: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyHeard(Event):
    """How much of a reply's text the caller has heard so far. May be dropped by a slow reader."""

    reply_id: int
    heard: str
    heard_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyPaused(Event):
    """The caller began to speak: the agent's sound was stopped, not yet given up."""

    reply_id: int
    heard_ms: float
    voice_began_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyResumed(Event):
    """It was no interruption: the agent goes on where it was stopped. `why` is "no words" or "acknowledgement"."""

    reply_id: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted(Event):
    """The caller took the floor. `heard` is what the caller got, `dropped` what was never played."""

    turn: int
    reply_id: int
    heard: str
    dropped: str
    heard_ms: float
    voice_began_at: float = 0.0
    stopped_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSaid(Event):
    """A reply is closed. `text` is what the caller heard."""

    turn: int
    reply_id: int
    text: str
    interrupted: bool = False
    dropped: str = ""
    kind: Literal["greeting", "answer", "say", "filler"] = "answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalled(Event):
    """The model asked for a tool."""

    turn: int
    tool_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolReturned(Event):
    """A tool came back after `ms`; `output` is cut at 2,000 characters."""

    tool_id: str
    name: str
    ok: bool
    output: str
    ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailTripped(Event):
    """A guardrail replaced the agent's text before it was spoken."""

    guardrail: str
    reply_id: int
