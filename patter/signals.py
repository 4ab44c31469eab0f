"""What the two sides of a call say to the session: small frozen messages, with times in seconds of the call's clock.

They own nothing and know no vendor; per-frame audio is not a signal (it runs straight through a callback).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from patter.audio.format import AudioChunk

# --------------------------------------------------------------------------- the caller's side (Transport)


@dataclass(frozen=True, slots=True)
class Typed:
    """The caller's side sent text instead of sound."""

    text: str


@dataclass(frozen=True, slots=True)
class DigitPressed:
    """One DTMF key: `0-9`, `*` or `#`."""

    digit: str


@dataclass(frozen=True, slots=True)
class PlayoutStarted:
    """The first sound of this stretch of a reply reached the caller's ear at `at`."""

    reply_id: int
    at: float


@dataclass(frozen=True, slots=True)
class PlayoutAdvanced:
    """The caller has now heard the reply up to `heard_ms` of its own timeline."""

    reply_id: int
    heard_ms: float
    at: float


@dataclass(frozen=True, slots=True)
class PlayoutEnded:
    """Everything of a finished reply has been heard."""

    reply_id: int
    at: float


@dataclass(frozen=True, slots=True)
class HungUp:
    """The caller's side is gone. `reason` is one of `events.EndReason`'s words."""

    reason: str = "caller_hung_up"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MachineDetected:
    """The carrier's verdict on who answered an outbound call.

    A machine is told twice where the carrier knows it early: `ready` False when it is recognised (its greeting may still
    run), True when it listens (after the beep, or when the carrier gives up waiting for one)."""

    answered_by: Literal["human", "machine", "fax", "unknown"]
    ready: bool = True


TransportSignal = Typed | DigitPressed | PlayoutStarted | PlayoutAdvanced | PlayoutEnded | MachineDetected | HungUp

# --------------------------------------------------------------------------- the agent's side (Conversation)

ReplyKind = Literal["greeting", "answer", "say", "filler"]
ReplyStage = Literal["first_token", "first_sentence", "first_audio"]


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller has spoken for the minimum time; the sound itself began at `began_at`."""

    began_at: float
    at: float


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The caller has paused; the last sound was at `ended_at`."""

    ended_at: float
    at: float


@dataclass(frozen=True, slots=True)
class CallerPartial:
    """The words of the utterance so far; each replaces the one before."""

    text: str
    at: float


@dataclass(frozen=True, slots=True)
class UtteranceEnded:
    """The caller's utterance is complete; the session decides whether it is a turn.

    Times: `speech_ended_at` last sound; `recognition_at` when the transcript was asked for; `transcript_at` when it was
    ready; `at` when the end of turn was decided. `answered` is True when the engine already answers by itself.
    An engine that hears sound itself names the `utterance`, which is answered by `Conversation.reply(utterance)`; if `text`
    is "" then, its words follow as `CallerTranscribed`.
    """

    text: str
    speech_ended_at: float
    recognition_at: float
    transcript_at: float
    at: float
    answered: bool = False
    utterance: str = ""


@dataclass(frozen=True, slots=True)
class CallerTranscribed:
    """The words of an utterance that ended without them; "" when there were none, or nobody could tell."""

    utterance: str
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class ReplyStarted:
    """The agent's side began to make a reply."""

    reply_id: int
    kind: ReplyKind
    at: float


@dataclass(frozen=True, slots=True)
class ReplyReached:
    """A reply passed a stage for the first time."""

    reply_id: int
    stage: ReplyStage
    at: float


@dataclass(frozen=True, slots=True)
class ReplyText:
    """A piece of the reply's text (a sentence or a delta), as it will be spoken, or shown on a line without sound."""

    reply_id: int
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class ReplyAudio:
    """Sound of a reply in playing order. `text` is what this stretch says, given with its first chunk, else ""."""

    reply_id: int
    chunk: AudioChunk
    text: str = ""


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    """No more text or sound will come for this reply."""

    reply_id: int
    at: float


@dataclass(frozen=True, slots=True)
class ReplyWithdrawn:
    """The agent's side takes back what has not been heard of a reply: the engine noticed an interruption by itself
    (`by` "caller") or a guardrail tripped when sound was out already (`by` "guardrail")."""

    reply_id: int
    by: Literal["caller", "guardrail"]
    at: float


@dataclass(frozen=True, slots=True)
class ConnectionUsed:
    """A request or socket of a stage went out: over a connection that stood already (`reused`), or a new one, which took
    `ms` to open."""

    stage: Literal["stt", "llm", "tts"]
    provider: str
    reused: bool
    ms: float = 0.0


@dataclass(frozen=True, slots=True)
class ToolAsked:
    """The model wants a tool to run; the session answers with `Conversation.answer(tool_id, output)`."""

    tool_id: str
    name: str
    arguments: str
    reply_id: int


@dataclass(frozen=True, slots=True)
class Used:
    """Something that costs money was used. Keys of `amounts` are those of the price table, e.g. `audio_seconds`."""

    stage: Literal["stt", "llm", "tts", "telephony"]
    provider: str
    model: str
    amounts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Guarded:
    """A guardrail replaced text before it was spoken."""

    guardrail: str
    reply_id: int


@dataclass(frozen=True, slots=True)
class Faulted:
    """A provider failed. `fatal` ends the call, otherwise the conversation goes on."""

    stage: str
    provider: str
    problem: str
    fix: str = ""
    fatal: bool = False


ConversationSignal = (
    SpeechStarted
    | SpeechStopped
    | CallerPartial
    | UtteranceEnded
    | CallerTranscribed
    | ReplyStarted
    | ReplyReached
    | ReplyText
    | ReplyAudio
    | ReplyEnded
    | ReplyWithdrawn
    | ToolAsked
    | Used
    | ConnectionUsed
    | Guarded
    | Faulted
)

# --------------------------------------------------------------------------- between the pipeline and its providers


@dataclass(frozen=True, slots=True)
class Transcribed:
    """Words of the current utterance. `final` means: this is the transcript of everything heard up to the pause.

    `requested_at`/`ready_at` are clock seconds; `audio_seconds` is what was billed for it (0.0 if counted elsewhere).
    """

    text: str
    final: bool
    requested_at: float
    ready_at: float
    audio_seconds: float = 0.0


TranscriberSignal = Transcribed | Used | ConnectionUsed | Faulted
"""What a recogniser of utterances says. `Faulted` tells of a fault that was overcome; another one is a ProviderError."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the model's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A whole tool call of the model; `arguments` is its JSON text."""

    tool_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class TokensUsed:
    """Tokens of one model request; `cached` is a subset of `input`. `provider` and `model` "": the responder's own."""

    input: int
    output: int
    cached: int = 0
    provider: str = ""
    model: str = ""


ResponderPiece = TextDelta | ToolRequest | TokensUsed | ConnectionUsed | Faulted
"""`Faulted` tells of a fault that was overcome (another try, another provider); one that was not is a ProviderError."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a piece of synthesis costs, with the keys of the price table, e.g. `characters`; {} when it is free.

    `provider` and `model` "": the synthesizer's own."""

    amounts: dict[str, float] = field(default_factory=dict)
    provider: str = ""
    model: str = ""


SynthesizerPiece = AudioChunk | Spent | ConnectionUsed | Faulted
"""Without a `Spent` among the pieces, the text's characters are counted."""


@dataclass(frozen=True, slots=True)
class Endpointed:
    """A streaming recogniser heard the caller pause: `text` is everything since the last Endpointed. Times as in
    `UtteranceEnded`. `sure`: a turn-taking model decided it, no rule over the words needs to be asked."""

    text: str
    speech_ended_at: float
    recognition_at: float
    transcript_at: float
    sure: bool = False


@dataclass(frozen=True, slots=True)
class TurnLikely:
    """The caller is probably done with `text`: an answer may be prepared, not spoken. `TurnUnlikely` takes it back."""

    text: str
    at: float


@dataclass(frozen=True, slots=True)
class TurnUnlikely:
    """The caller goes on after all."""

    at: float


ListenerSignal = (
    SpeechStarted
    | SpeechStopped
    | CallerPartial
    | Endpointed
    | TurnLikely
    | TurnUnlikely
    | Used
    | ConnectionUsed
    | Faulted
)
"""What a streaming recogniser says: see `ports.StreamingTranscriber`."""

Message = dict[str, Any]
"""One entry of a model's context in chat form: role, content, and tool_calls / tool_call_id where they apply."""
