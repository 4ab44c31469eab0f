"""What happened in a call, told to the world: frozen, typed, past tense, each published once on the bus.

It owns the facts and their JSON shape; it refuses to know who reads them. Times are seconds since the epoch on the call's
own clock (they never step back); `seq` is one counter for the whole engine. `to_json`/`from_json` are inverses.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

EndReason = Literal[
    "caller_hung_up",  # the caller's side ended it
    "agent_ended",  # the agent's `end_call`, after its goodbye was heard
    "operator_ended",  # somebody pressed hang up in the workbench or called the API
    "handler_ended",  # `CallControl.hangup()` in user code
    "transferred",  # handed to another number
    "engine_stopped",  # the engine is going down
    "engine_died",  # found unfinished at the next start: the process was killed
    "line_lost",  # the media socket broke without a goodbye
    "failed",  # see the FaultOccurred before it
    "no_answer",  # nobody took an outbound call in time
    "busy",
    "canceled",  # an outbound call was given up before anybody answered
    "machine_answered",  # a machine took it and there was no message to leave
    "voicemail_left",  # a machine took it and has heard the whole message
]


ReplyStageName = Literal["first_token", "first_sentence", "first_audio", "playing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of every fact. `seq` and `at` are stamped by the bus when they are left at 0."""

    call_id: str
    seq: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted(Event):
    """A call began. `line` is "text", "mulaw/8000", "pcm_s16le/16000", …; `notes` are sentences for the user."""

    caller: str = ""
    callee: str = ""
    direction: Literal["inbound", "outbound", "test"] = "inbound"
    agent: str = ""
    agent_version: str = ""
    provider_mode: str = ""
    stt: str = ""
    llm: str = ""
    tts: str = ""
    telephony: str = ""
    line: str = ""
    notes: tuple[str, ...] = ()
    custom_params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlaced(Event):
    """An outbound call was accepted by the carrier and rings. CallStarted follows when somebody answers, else CallEnded."""

    caller: str = ""
    callee: str = ""
    agent: str = ""
    telephony: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineDetected(Event):
    """The carrier's verdict on who answered: "human", "machine", "fax" or "unknown". `ready`: a machine listens now."""

    answered_by: Literal["human", "machine", "fax", "unknown"]
    ready: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded(Event):
    """A call is over, always with a reason; `detail` explains it in a sentence."""

    reason: EndReason
    detail: str = ""
    duration_s: float = 0.0


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
    """What the call has cost so far, telephony included, in USD: stt, llm, tts, telephony, total. The last one stands
    before CallEnded; `unpriced` names providers without a price row."""

    cost: dict[str, float] = field(default_factory=dict)
    unpriced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRequested(Event):
    """The call is being handed to `number` by `by` ("agent", "operator" or "handler").

    `warm`: that person is called and told a summary first, the caller stays with the agent until then."""

    number: str
    by: str
    warm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferFailed(Event):
    """Nobody took the call at `number`, or the carrier refused: the agent goes on. `problem` says why."""

    number: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierRecordingSaved(Event):
    """The carrier keeps a recording at `url` (fetching it may need the carrier's credentials). May follow CallEnded."""

    url: str
    recording_id: str = ""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentChanged(Event):
    """The agent's definition changed: used from the next turn on (`call_id` "" = seen on disk, no call)."""

    agent: str
    agent_version: str
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRejected(Event):
    """An agent file on disk cannot be used; the version before it stays in use."""

    agent: str
    problem: str
    line: int = 0
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChanged(Event):
    """The engine's phone line (`call_id` ""): "off", "starting", "open", "closing" or "problem" (see `problem`, `fix`)."""

    state: Literal["off", "starting", "open", "closing", "problem"]
    carrier: str = ""
    number: str = ""
    public_url: str = ""
    agent: str = ""
    problem: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultOccurred(Event):
    """A part failed. The call goes on unless a CallEnded follows."""

    stage: str
    provider: str
    problem: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSaved(Event):
    """The call's stereo recording is on disk (left: caller, right: agent). May follow CallEnded."""

    path: str
    duration_s: float


DROPPABLE: tuple[type[Event], ...] = (CallerPartial, ReplyHeard)
"""Facts that a slow reader may miss, because a later one says more."""

KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        CallPlaced, CallStarted, MachineDetected, CallEnded, CallerSpeechStarted, CallerSpeechStopped, CallerPartial,
        CallerSaid, CallerTranscribed, CallerAcknowledged, DigitPressed, ReplyStarted, ReplyReached, ReplyText, ReplyHeard,
        ReplyPaused,
        ReplyResumed, Interrupted, AgentSaid, ToolCalled, ToolReturned, GuardrailTripped, UsageMeasured,
        ConnectionUsed, TurnMeasured, CostMeasured, TransferRequested, TransferFailed, AgentChanged, AgentRejected,
        FaultOccurred, RecordingSaved, CarrierRecordingSaved, LineChanged,
    )
}  # fmt: skip


_NAMES = {kind: tuple(item.name for item in fields(kind)) for kind in KINDS.values()}


def to_json(event: Event) -> dict[str, Any]:
    """The event as a plain dict with its class name under "type", ready for `json.dumps`."""
    kind = type(event)
    return {"type": kind.__name__} | {name: getattr(event, name) for name in _NAMES[kind]}


def from_json(data: dict[str, Any]) -> Event | None:
    """The event of such a dict; None for a type this version does not know. Unknown keys are ignored."""
    kind = KINDS.get(str(data.get("type")))
    if kind is None:
        return None
    values = {name: data[name] for name in _NAMES[kind] if name in data}
    made: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return kind(**made)
