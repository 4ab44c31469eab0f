"""What happened in a call, told to the world: frozen, typed, past tense, each published once on the bus.

It owns the facts and their JSON shape; it refuses to know who reads them. Times are seconds since the epoch on the call's
own clock (they never step back); `seq` is one counter for the whole engine. `to_json`/`from_json` are inverses.
"""

from __future__ import annotations

from patter.events.as_json import DROPPABLE, KINDS, from_json, to_json
from patter.events.base import Event
from patter.events.calls import (
    AgentMuted,
    BudgetSpent,
    CallEnded,
    CallPlaced,
    CallStarted,
    CarrierRecordingSaved,
    EndReason,
    GuidanceGiven,
    MachineDetected,
    RecordingSaved,
    TransferFailed,
    TransferRequested,
)
from patter.events.engine import (
    AgentChanged,
    AgentRejected,
    FaultOccurred,
    LineChanged,
    MemoryChanged,
)
from patter.events.measured import (
    ConnectionUsed,
    CostMeasured,
    LineMeasured,
    TurnMeasured,
    UsageMeasured,
)
from patter.events.turns import (
    AgentSaid,
    CallerAcknowledged,
    CallerPartial,
    CallerSaid,
    CallerSpeechStarted,
    CallerSpeechStopped,
    CallerTranscribed,
    DigitPressed,
    GuardrailTripped,
    Interrupted,
    ReplyHeard,
    ReplyPaused,
    ReplyReached,
    ReplyResumed,
    ReplyStageName,
    ReplyStarted,
    ReplyText,
    ToolCalled,
    ToolReturned,
)

__all__ = [
    "DROPPABLE",
    "KINDS",
    "AgentChanged",
    "AgentMuted",
    "AgentRejected",
    "AgentSaid",
    "BudgetSpent",
    "CallEnded",
    "CallPlaced",
    "CallStarted",
    "CallerAcknowledged",
    "CallerPartial",
    "CallerSaid",
    "CallerSpeechStarted",
    "CallerSpeechStopped",
    "CallerTranscribed",
    "CarrierRecordingSaved",
    "ConnectionUsed",
    "CostMeasured",
    "DigitPressed",
    "EndReason",
    "Event",
    "FaultOccurred",
    "GuardrailTripped",
    "GuidanceGiven",
    "Interrupted",
    "LineChanged",
    "LineMeasured",
    "MachineDetected",
    "MemoryChanged",
    "RecordingSaved",
    "ReplyHeard",
    "ReplyPaused",
    "ReplyReached",
    "ReplyResumed",
    "ReplyStageName",
    "ReplyStarted",
    "ReplyText",
    "ToolCalled",
    "ToolReturned",
    "TransferFailed",
    "TransferRequested",
    "TurnMeasured",
    "UsageMeasured",
    "from_json",
    "to_json",
]
