"""Facts of a call as a whole: who, how it began, where it went, why it ended. It owns no turn and no measurement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from patter.events.base import Event

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
    "budget_spent",  # the money that a call or a day may cost was spent; the caller heard a goodbye
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlaced(Event):
    """An outbound call was accepted by the carrier and rings. CallStarted follows when somebody answers, else CallEnded."""

    caller: str = ""
    callee: str = ""
    agent: str = ""
    telephony: str = ""


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
class RecordingSaved(Event):
    """The call's stereo recording is on disk (left: caller, right: agent). May follow CallEnded."""

    path: str
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentMuted(Event):
    """The agent's sound was taken off the line by `by` (`muted`), or put back. What it says meanwhile is not heard."""

    muted: bool
    by: str = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidanceGiven(Event):
    """`by` told the model something that the caller does not hear; it counts from the next reply on."""

    text: str
    by: str = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpent(Event):
    """What a call ("call") or all calls of a day ("day", UTC) may cost is spent: the call is ended with a goodbye. USD."""

    scope: Literal["call", "day"]
    limit_usd: float
    spent_usd: float
