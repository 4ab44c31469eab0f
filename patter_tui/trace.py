"""Events in two words, for the strip of last events. What is not worth a word has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from patter import events as ev


def label(event: ev.Event) -> str:
    """What happened in two words; "" for what comes too often to be read."""
    words = _LABELS.get(type(event))
    return words(event) if words is not None else ""


_LABELS: dict[type[ev.Event], Callable[[Any], str]] = {
    ev.CallPlaced: lambda event: "dialled",
    ev.CallStarted: lambda event: "call started",
    ev.MachineDetected: lambda event: str(event.answered_by),
    ev.CallEnded: lambda event: "call ended",
    ev.CallerSpeechStarted: lambda event: "voice start",
    ev.CallerSpeechStopped: lambda event: "voice end",
    ev.CallerSaid: lambda event: f"turn {event.turn} complete",
    ev.CallerTranscribed: lambda event: f"turn {event.turn} written down",
    ev.ConnectionUsed: lambda event: "" if event.reused else f"{event.stage} connected in {event.ms:.0f} ms",
    ev.CallerAcknowledged: lambda event: "acknowledged",
    ev.DigitPressed: lambda event: f"key {event.digit}",
    ev.ReplyStarted: lambda event: f"reply {event.reply_id} asked",
    ev.ReplyReached: lambda event: str(event.stage).replace("_", " "),
    ev.ReplyPaused: lambda event: "paused",
    ev.ReplyResumed: lambda event: "resumed",
    ev.Interrupted: lambda event: "interrupted",
    ev.AgentSaid: lambda event: f"reply {event.reply_id} closed",
    ev.ToolCalled: lambda event: f"tool {event.name}",
    ev.ToolReturned: lambda event: f"tool {'done' if event.ok else 'failed'}",
    ev.GuardrailTripped: lambda event: "guardrail",
    ev.FaultOccurred: lambda event: f"fault {event.stage}",
    ev.BudgetSpent: lambda event: "budget spent",
    ev.TransferRequested: lambda event: "transfer",
    ev.TransferFailed: lambda event: "transfer failed",
    ev.AgentChanged: lambda event: "agent changed",
}
