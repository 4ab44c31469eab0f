"""How each event changes a call in view, one small handler a kind. It owns what events mean; it keeps and draws nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from patter import events as ev
from patter_tui.call import Call, Entry, rest_of
from patter_tui.figures import count, seconds, usd, words
from patter_tui.trace import label


def take(call: Call, event: ev.Event) -> set[str]:
    """Take one event of a call in; returns the parts that changed: "transcript", "turns", "status", "trace"."""
    handler = _HANDLERS.get(type(event))
    parts = handler(call, event) if handler is not None else set()
    said = label(event)
    if said:
        call.trace.append((event.at, said))
        parts = parts | {"trace"}
    return parts


_OF_THE_START = (
    "agent", "agent_version", "caller", "callee", "direction", "line", "telephony", "provider_mode", "stt", "llm", "tts",
)  # fmt: skip


def _placed(call: Call, event: ev.CallPlaced) -> set[str]:
    call.caller, call.callee, call.agent = event.caller, event.callee, event.agent
    call.telephony, call.direction = event.telephony, "outbound"
    call.placed_at, call.floor = event.at, "ringing"
    call.mark(event.at, f"calling {event.callee}")
    return {"transcript", "status"}


def _started(call: Call, event: ev.CallStarted) -> set[str]:
    for name in _OF_THE_START:
        setattr(call, name, getattr(event, name))
    call.started_at, call.floor = event.at, "listening"
    if call.placed_at:
        call.mark(event.at, "answered")
    for note in event.notes:
        call.mark(event.at, note)
    return {"transcript", "turns", "status"}


def _machine(call: Call, event: ev.MachineDetected) -> set[str]:
    call.answered_by = event.answered_by
    if event.answered_by in ("human", "unknown"):
        text = {"human": "a human answered", "unknown": "the carrier cannot say who answered"}[event.answered_by]
        call.mark(event.at, text)
    else:
        told = "it listens now" if event.ready else "its greeting is playing"
        call.mark(event.at, f"a {event.answered_by} answered: {told}", "warn")
    return {"transcript", "status"}


def _ended(call: Call, event: ev.CallEnded) -> set[str]:
    call.ended_at, call.duration_s = event.at, event.duration_s
    call.reason, call.detail, call.floor = event.reason, event.detail, "ended"
    partial = call.partial()
    if partial is not None:
        partial.state, partial.rev = "final", partial.rev + 1
    for entry in call.entries:
        if entry.kind == "agent" and entry.state in ("making", "speaking", "paused"):
            _close_reply(entry)
        elif entry.state == "awaited":
            entry.state, entry.rev = "final", entry.rev + 1
    text = f"call ended: {event.reason.replace('_', ' ')}" + (f" ({event.detail})" if event.detail else "")
    call.mark(event.at, text, "bad" if event.reason in ("failed", "engine_died", "line_lost") else "info")
    return {"transcript", "turns", "status"}


def _close_reply(entry: Entry) -> None:
    """The call ended under this reply: what was not heard stays marked as not heard."""
    entry.dropped = entry.dropped or rest_of(entry.text, entry.heard)
    entry.state, entry.rev = "interrupted" if entry.dropped else "done", entry.rev + 1


def _speech_started(call: Call, event: ev.CallerSpeechStarted) -> set[str]:
    call.floor = "caller speaking"
    return {"status"}


def _speech_stopped(call: Call, event: ev.CallerSpeechStopped) -> set[str]:
    call.floor = "caller paused" if call.floor == "caller speaking" else call.floor
    return {"status"}


def _partial(call: Call, event: ev.CallerPartial) -> set[str]:
    entry = call.partial()
    if entry is None:
        if not event.text:
            return set()
        entry = call.add(Entry("caller", event.at, state="partial"))
    entry.text, entry.rev = event.text, entry.rev + 1
    return {"transcript"}


def _said(call: Call, event: ev.CallerSaid) -> set[str]:
    entry = call.partial() or call.add(Entry("caller", event.at))
    state = "awaited" if event.pending else "final"
    text = event.text or (entry.text if event.pending else "")  # an engine may have told some words already
    entry.text, entry.state, entry.source, entry.rev = text, state, event.source, entry.rev + 1
    entry.turn = event.turn
    call.floor = "thinking"
    return {"transcript", "status"}


def _transcribed(call: Call, event: ev.CallerTranscribed) -> set[str]:
    for entry in reversed(call.entries):
        if entry.kind == "caller" and entry.turn == event.turn:
            entry.text, entry.state, entry.rev = event.text, "final", entry.rev + 1
            return {"transcript"}
    return set()


def _acknowledged(call: Call, event: ev.CallerAcknowledged) -> set[str]:
    entry = call.partial() or call.add(Entry("caller", event.at))
    entry.text, entry.state, entry.rev = event.text, "acknowledged", entry.rev + 1
    return {"transcript"}


def _digit(call: Call, event: ev.DigitPressed) -> set[str]:
    last = call.entries[-1] if call.entries else None
    if last is not None and last.kind == "mark" and last.source == "digit":
        last.text, last.rev = last.text + event.digit, last.rev + 1
    else:
        call.add(Entry("mark", event.at, f"key {event.digit}", "info", source="digit"))
    return {"transcript"}


def _reply_started(call: Call, event: ev.ReplyStarted) -> set[str]:
    entry = call.reply(event.reply_id, event.at)
    entry.source, entry.rev = event.kind, entry.rev + 1
    if call.floor in ("listening", "caller paused"):
        call.floor = "thinking"
    return {"transcript", "status"}


def _reply_reached(call: Call, event: ev.ReplyReached) -> set[str]:
    if event.stage != "playing":
        return set()
    entry = call.reply(event.reply_id, event.at)
    entry.at, entry.state, entry.rev = event.reached_at, "speaking", entry.rev + 1
    call.floor = "agent speaking"
    return {"transcript", "status"}


def _reply_text(call: Call, event: ev.ReplyText) -> set[str]:
    entry = call.reply(event.reply_id, event.at)
    entry.text, entry.rev = entry.text + event.text, entry.rev + 1
    return {"transcript"}


def _reply_heard(call: Call, event: ev.ReplyHeard) -> set[str]:
    entry = call.reply(event.reply_id, event.at)
    if entry.heard == event.heard or entry.state in ("done", "interrupted"):
        return set()
    entry.heard, entry.rev = event.heard, entry.rev + 1
    return {"transcript"}


def _reply_paused(call: Call, event: ev.ReplyPaused) -> set[str]:
    entry = call.reply(event.reply_id, event.at)
    entry.state, entry.rev = "paused", entry.rev + 1
    call.floor = "agent paused"
    return {"transcript", "status"}


def _reply_resumed(call: Call, event: ev.ReplyResumed) -> set[str]:
    entry = call.reply(event.reply_id, event.at)
    entry.state, entry.rev = "speaking", entry.rev + 1
    call.floor = "agent speaking"
    if event.why != "acknowledgement":
        call.mark(event.at, f"paused, then went on: {event.why}")
    return {"transcript", "status"}


def _interrupted(call: Call, event: ev.Interrupted) -> set[str]:
    entry = call.reply(event.reply_id, event.at)
    entry.heard, entry.dropped = event.heard, event.dropped
    entry.state, entry.rev = "interrupted", entry.rev + 1
    unspoken = f", {count(words(event.dropped), 'word')} unspoken" if event.dropped else ""
    call.mark(event.at, f"interrupted at {seconds(event.heard_ms)}{unspoken}", "warn")
    call.floor = "caller speaking" if event.voice_began_at else "listening"
    return {"transcript", "status"}


def _agent_said(call: Call, event: ev.AgentSaid) -> set[str]:
    entry = call.reply(event.reply_id, event.at)
    entry.heard, entry.dropped, entry.source = event.text, event.dropped, event.kind
    entry.text = entry.text if event.interrupted else event.text
    entry.state, entry.rev = "interrupted" if event.interrupted else "done", entry.rev + 1
    if not event.interrupted:
        call.floor = "listening"
    return {"transcript", "status"}


def _tool_called(call: Call, event: ev.ToolCalled) -> set[str]:
    call.add(
        Entry("tool", event.at, f"{event.name}({short_arguments(event.arguments)})", "running", tool_id=event.tool_id)
    )
    call.floor = "tool running"
    return {"transcript", "status"}


def _tool_returned(call: Call, event: ev.ToolReturned) -> set[str]:
    found = next((entry for entry in reversed(call.entries) if entry.tool_id == event.tool_id), None)
    entry = found or call.add(Entry("tool", event.at, f"{event.name}()", tool_id=event.tool_id))
    entry.state, entry.detail, entry.ms = "ok" if event.ok else "failed", event.output, event.ms
    entry.rev += 1
    call.floor = "thinking" if call.floor == "tool running" else call.floor
    return {"transcript", "status"}


def _guardrail(call: Call, event: ev.GuardrailTripped) -> set[str]:
    call.mark(event.at, f"guardrail {event.guardrail} replaced the reply", "warn")
    return {"transcript"}


def _usage(call: Call, event: ev.UsageMeasured) -> set[str]:
    sums = call.usage.setdefault((event.stage, event.provider, event.model), {})
    for name, amount in event.amounts.items():
        sums[name] = sums.get(name, 0.0) + amount
    return {"turns"}


def _turn(call: Call, event: ev.TurnMeasured) -> set[str]:
    for index, turn in enumerate(call.turns):
        if turn.reply_id == event.reply_id:
            call.turns[index] = event
            break
    else:
        call.turns.append(event)
    call.cost_so_far = max(call.cost_so_far, event.cost_so_far)
    call.unpriced |= set(event.unpriced)
    for entry in reversed(call.entries):
        if entry.kind == "agent" and entry.reply_id == event.reply_id:
            entry.ms, entry.rev = event.total_ms, entry.rev + 1
            break
    return {"transcript", "turns", "status"}


def _cost(call: Call, event: ev.CostMeasured) -> set[str]:
    call.cost_so_far = max(call.cost_so_far, event.cost.get("total", 0.0))
    call.cost_measured = event.cost
    call.unpriced |= set(event.unpriced)
    return {"status", "turns"}


def _transfer(call: Call, event: ev.TransferRequested) -> set[str]:
    told = ", who is told a summary first" if event.warm else ""
    call.mark(event.at, f"transfer to {event.number}{told}, asked for by the {event.by}", "warn")
    return {"transcript"}


def _transfer_failed(call: Call, event: ev.TransferFailed) -> set[str]:
    call.mark(event.at, f"the transfer to {event.number} failed: {event.problem}", "bad")
    return {"transcript"}


def _agent_changed(call: Call, event: ev.AgentChanged) -> set[str]:
    call.agent_version = event.agent_version
    changed = f" ({', '.join(event.changed)})" if event.changed else ""
    call.mark(event.at, f"agent changed{changed}: used from the next turn on")
    return {"transcript"}


def _fault(call: Call, event: ev.FaultOccurred) -> set[str]:
    call.add(Entry("mark", event.at, f"{event.stage}: {event.problem}", "bad", detail=event.fix))
    return {"transcript"}


def _budget_spent(call: Call, event: ev.BudgetSpent) -> set[str]:
    whose = "this call" if event.scope == "call" else "all calls of the day"
    call.mark(event.at, f"the budget of {usd(event.limit_usd)} for {whose} is spent: the call ends", "warn")
    return {"transcript"}


def _recording(call: Call, event: ev.RecordingSaved) -> set[str]:
    call.recording = event.path
    call.mark(event.at, f"recording: {event.path}")
    return {"transcript", "status"}


def _carrier_recording(call: Call, event: ev.CarrierRecordingSaved) -> set[str]:
    call.mark(event.at, f"the carrier's recording: {event.url}")
    return {"transcript"}


def short_arguments(arguments: str) -> str:
    """A tool's JSON arguments for one line: `{"day": "tuesday"}` → `day=tuesday`."""
    body = arguments.strip()
    if body.startswith("{") and body.endswith("}"):
        body = body[1:-1]
    return body.replace('"', "").replace(": ", "=").replace(":", "=")


_HANDLERS: dict[type[ev.Event], Callable[[Call, Any], set[str]]] = {
    ev.CallPlaced: _placed,
    ev.CallStarted: _started,
    ev.MachineDetected: _machine,
    ev.CallEnded: _ended,
    ev.CallerSpeechStarted: _speech_started,
    ev.CallerSpeechStopped: _speech_stopped,
    ev.CallerPartial: _partial,
    ev.CallerSaid: _said,
    ev.CallerTranscribed: _transcribed,
    ev.CallerAcknowledged: _acknowledged,
    ev.DigitPressed: _digit,
    ev.ReplyStarted: _reply_started,
    ev.ReplyReached: _reply_reached,
    ev.ReplyText: _reply_text,
    ev.ReplyHeard: _reply_heard,
    ev.ReplyPaused: _reply_paused,
    ev.ReplyResumed: _reply_resumed,
    ev.Interrupted: _interrupted,
    ev.AgentSaid: _agent_said,
    ev.ToolCalled: _tool_called,
    ev.ToolReturned: _tool_returned,
    ev.GuardrailTripped: _guardrail,
    ev.UsageMeasured: _usage,
    ev.TurnMeasured: _turn,
    ev.CostMeasured: _cost,
    ev.TransferRequested: _transfer,
    ev.TransferFailed: _transfer_failed,
    ev.AgentChanged: _agent_changed,
    ev.FaultOccurred: _fault,
    ev.BudgetSpent: _budget_spent,
    ev.RecordingSaved: _recording,
    ev.CarrierRecordingSaved: _carrier_recording,
}
