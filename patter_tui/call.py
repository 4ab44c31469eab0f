"""One call as the screen shows it: transcript entries, turns, money, who has the floor. It folds events and draws nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from patter import events as ev
from patter_tui.figures import count, percentile, seconds, words
from patter_tui.trace import label

TRACE_LENGTH = 400


@dataclass(slots=True)
class Entry:
    """One thing in the transcript. `rev` grows with every change, so that a drawn copy knows when it is old.

    kind "caller": state "partial", "final" or "acknowledged". kind "agent": "making", "speaking", "paused", "done",
    "interrupted"; `text` is what was generated, `heard` what the caller got, `dropped` what was never played.
    kind "tool": "running", "ok", "failed"; `detail` is its output. kind "mark": a remark, state "info", "warn" or "bad".
    """

    kind: str
    at: float
    text: str = ""
    state: str = ""
    heard: str = ""
    dropped: str = ""
    detail: str = ""
    ms: float = 0.0
    reply_id: int = -1
    tool_id: str = ""
    source: str = ""
    rev: int = 0


@dataclass(slots=True)
class Call:
    """A call in view. `whole` is False if its beginning was not seen (the journal has it)."""

    call_id: str
    agent: str = ""
    agent_version: str = ""
    caller: str = ""
    callee: str = ""
    direction: str = ""
    line: str = ""
    provider_mode: str = ""
    stt: str = ""
    llm: str = ""
    tts: str = ""
    started_at: float = 0.0
    ended_at: float = 0.0
    duration_s: float = 0.0
    reason: str = ""
    detail: str = ""
    recording: str = ""
    floor: str = "connecting"
    cost_so_far: float = 0.0
    entries: list[Entry] = field(default_factory=list)
    turns: list[ev.TurnMeasured] = field(default_factory=list)
    usage: dict[tuple[str, str, str], dict[str, float]] = field(default_factory=dict)
    unpriced: set[str] = field(default_factory=set)
    trace: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=TRACE_LENGTH))
    whole: bool = True

    def apply(self, event: ev.Event) -> set[str]:
        """Take one event of this call in; returns the parts that changed: "transcript", "turns", "status", "trace"."""
        handler = _HANDLERS.get(type(event))
        parts = handler(self, event) if handler is not None else set()
        said = label(event)
        if said:
            self.trace.append((event.at, said))
            parts = parts | {"trace"}
        return parts

    def lose_engine(self) -> None:
        """The engine died while this call was on: say so, keep what was seen."""
        self.ended_at = self.ended_at or (self.trace[-1][0] if self.trace else self.started_at)
        self.reason, self.floor = "engine_died", "ended"
        self.duration_s = max(0.0, self.ended_at - self.started_at)
        self._mark(self.ended_at, "the engine stopped; what was said is kept", "bad")

    # ------------------------------------------------------------------ figures

    def samples(self) -> list[float]:
        """Silences the caller heard, in ms: greetings, said lines and interrupted turns are no samples."""
        return [turn.total_ms for turn in self.turns if turn.kind == "answer" and not turn.interrupted]

    def typical_ms(self) -> float:
        """Median silence."""
        return percentile(self.samples(), 50)

    def slow_ms(self) -> float:
        """95th percentile of the silence."""
        return percentile(self.samples(), 95)

    def costs(self) -> dict[str, float]:
        """USD by stage, summed over turns."""
        sums: dict[str, float] = {}
        for turn in self.turns:
            for stage, value in turn.cost.items():
                sums[stage] = sums.get(stage, 0.0) + value
        return sums

    # ------------------------------------------------------------------ entries

    def _add(self, entry: Entry) -> Entry:
        """Append, but keep at the end what the caller is saying right now, and a reply that waits for this tool."""
        place = len(self.entries)
        if entry.kind != "caller" and place and self.entries[place - 1].state == "partial":
            place -= 1
        if entry.kind == "tool" and place and self._wordless(self.entries[place - 1]):
            place -= 1
        self.entries.insert(place, entry)
        return entry

    @staticmethod
    def _wordless(entry: Entry) -> bool:
        return entry.kind == "agent" and entry.state == "making" and not entry.text

    def _mark(self, at: float, text: str, state: str = "info") -> None:
        self._add(Entry("mark", at, text, state))

    def _reply(self, reply_id: int, at: float) -> Entry:
        for entry in reversed(self.entries):
            if entry.kind == "agent" and entry.reply_id == reply_id:
                return entry
        return self._add(Entry("agent", at, state="making", reply_id=reply_id))

    def _partial(self) -> Entry | None:
        return next((entry for entry in reversed(self.entries) if entry.state == "partial"), None)


def _started(call: Call, event: ev.CallStarted) -> set[str]:
    for name in (
        "agent",
        "agent_version",
        "caller",
        "callee",
        "direction",
        "line",
        "provider_mode",
        "stt",
        "llm",
        "tts",
    ):
        setattr(call, name, getattr(event, name))
    call.started_at, call.floor = event.at, "listening"
    for note in event.notes:
        call._mark(event.at, note)
    return {"transcript", "turns", "status"}


def _ended(call: Call, event: ev.CallEnded) -> set[str]:
    call.ended_at, call.duration_s = event.at, event.duration_s
    call.reason, call.detail, call.floor = event.reason, event.detail, "ended"
    partial = call._partial()
    if partial is not None:
        partial.state, partial.rev = "final", partial.rev + 1
    for entry in call.entries:
        if entry.kind == "agent" and entry.state in ("making", "speaking", "paused"):
            _close_reply(entry)
    text = f"call ended: {event.reason.replace('_', ' ')}" + (f" ({event.detail})" if event.detail else "")
    call._mark(event.at, text, "bad" if event.reason in ("failed", "engine_died", "line_lost") else "info")
    return {"transcript", "turns", "status"}


def _close_reply(entry: Entry) -> None:
    """The call ended under this reply: what was not heard stays marked as not heard."""
    entry.dropped = entry.dropped or rest_of(entry.text, entry.heard)
    entry.state, entry.rev = "interrupted" if entry.dropped else "done", entry.rev + 1


def rest_of(text: str, heard: str) -> str:
    """What of `text` comes after `heard`; counts words where the spelling differs."""
    if not heard:
        return text
    if text.startswith(heard):
        return text[len(heard) :].strip()
    return " ".join(text.split()[words(heard) :])


def _speech_started(call: Call, event: ev.CallerSpeechStarted) -> set[str]:
    call.floor = "caller speaking"
    return {"status"}


def _speech_stopped(call: Call, event: ev.CallerSpeechStopped) -> set[str]:
    call.floor = "caller paused" if call.floor == "caller speaking" else call.floor
    return {"status"}


def _partial(call: Call, event: ev.CallerPartial) -> set[str]:
    entry = call._partial()
    if entry is None:
        if not event.text:
            return set()
        entry = call._add(Entry("caller", event.at, state="partial"))
    entry.text, entry.rev = event.text, entry.rev + 1
    return {"transcript"}


def _said(call: Call, event: ev.CallerSaid) -> set[str]:
    entry = call._partial() or call._add(Entry("caller", event.at))
    entry.text, entry.state, entry.source, entry.rev = event.text, "final", event.source, entry.rev + 1
    call.floor = "thinking"
    return {"transcript", "status"}


def _acknowledged(call: Call, event: ev.CallerAcknowledged) -> set[str]:
    entry = call._partial() or call._add(Entry("caller", event.at))
    entry.text, entry.state, entry.rev = event.text, "acknowledged", entry.rev + 1
    return {"transcript"}


def _digit(call: Call, event: ev.DigitPressed) -> set[str]:
    last = call.entries[-1] if call.entries else None
    if last is not None and last.kind == "mark" and last.source == "digit":
        last.text, last.rev = last.text + event.digit, last.rev + 1
    else:
        call._add(Entry("mark", event.at, f"key {event.digit}", "info", source="digit"))
    return {"transcript"}


def _reply_started(call: Call, event: ev.ReplyStarted) -> set[str]:
    entry = call._reply(event.reply_id, event.at)
    entry.source, entry.rev = event.kind, entry.rev + 1
    if call.floor in ("listening", "caller paused"):
        call.floor = "thinking"
    return {"transcript", "status"}


def _reply_reached(call: Call, event: ev.ReplyReached) -> set[str]:
    if event.stage != "playing":
        return set()
    entry = call._reply(event.reply_id, event.at)
    entry.at, entry.state, entry.rev = event.reached_at, "speaking", entry.rev + 1
    call.floor = "agent speaking"
    return {"transcript", "status"}


def _reply_text(call: Call, event: ev.ReplyText) -> set[str]:
    entry = call._reply(event.reply_id, event.at)
    entry.text, entry.rev = entry.text + event.text, entry.rev + 1
    return {"transcript"}


def _reply_heard(call: Call, event: ev.ReplyHeard) -> set[str]:
    entry = call._reply(event.reply_id, event.at)
    if entry.heard == event.heard or entry.state in ("done", "interrupted"):
        return set()
    entry.heard, entry.rev = event.heard, entry.rev + 1
    return {"transcript"}


def _reply_paused(call: Call, event: ev.ReplyPaused) -> set[str]:
    entry = call._reply(event.reply_id, event.at)
    entry.state, entry.rev = "paused", entry.rev + 1
    call.floor = "agent paused"
    return {"transcript", "status"}


def _reply_resumed(call: Call, event: ev.ReplyResumed) -> set[str]:
    entry = call._reply(event.reply_id, event.at)
    entry.state, entry.rev = "speaking", entry.rev + 1
    call.floor = "agent speaking"
    if event.why != "acknowledgement":
        call._mark(event.at, f"paused, then went on: {event.why}")
    return {"transcript", "status"}


def _interrupted(call: Call, event: ev.Interrupted) -> set[str]:
    entry = call._reply(event.reply_id, event.at)
    entry.heard, entry.dropped = event.heard, event.dropped
    entry.state, entry.rev = "interrupted", entry.rev + 1
    unspoken = f", {count(words(event.dropped), 'word')} unspoken" if event.dropped else ""
    call._mark(event.at, f"interrupted at {seconds(event.heard_ms)}{unspoken}", "warn")
    call.floor = "caller speaking" if event.voice_began_at else "listening"
    return {"transcript", "status"}


def _agent_said(call: Call, event: ev.AgentSaid) -> set[str]:
    entry = call._reply(event.reply_id, event.at)
    entry.heard, entry.dropped, entry.source = event.text, event.dropped, event.kind
    entry.text = entry.text if event.interrupted else event.text
    entry.state, entry.rev = "interrupted" if event.interrupted else "done", entry.rev + 1
    if not event.interrupted:
        call.floor = "listening"
    return {"transcript", "status"}


def _tool_called(call: Call, event: ev.ToolCalled) -> set[str]:
    call._add(
        Entry("tool", event.at, f"{event.name}({short_arguments(event.arguments)})", "running", tool_id=event.tool_id)
    )
    call.floor = "tool running"
    return {"transcript", "status"}


def _tool_returned(call: Call, event: ev.ToolReturned) -> set[str]:
    found = next((entry for entry in reversed(call.entries) if entry.tool_id == event.tool_id), None)
    entry = found or call._add(Entry("tool", event.at, f"{event.name}()", tool_id=event.tool_id))
    entry.state, entry.detail, entry.ms = "ok" if event.ok else "failed", event.output, event.ms
    entry.rev += 1
    call.floor = "thinking" if call.floor == "tool running" else call.floor
    return {"transcript", "status"}


def _guardrail(call: Call, event: ev.GuardrailTripped) -> set[str]:
    call._mark(event.at, f"guardrail {event.guardrail} replaced the reply", "warn")
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


def _transfer(call: Call, event: ev.TransferRequested) -> set[str]:
    call._mark(event.at, f"transfer to {event.number}, asked for by the {event.by}", "warn")
    return {"transcript"}


def _agent_changed(call: Call, event: ev.AgentChanged) -> set[str]:
    call.agent_version = event.agent_version
    changed = f" ({', '.join(event.changed)})" if event.changed else ""
    call._mark(event.at, f"agent changed{changed}: used from the next turn on")
    return {"transcript"}


def _fault(call: Call, event: ev.FaultOccurred) -> set[str]:
    call._add(Entry("mark", event.at, f"{event.stage}: {event.problem}", "bad", detail=event.fix))
    return {"transcript"}


def _recording(call: Call, event: ev.RecordingSaved) -> set[str]:
    call.recording = event.path
    call._mark(event.at, f"recording: {event.path}")
    return {"transcript", "status"}


def short_arguments(arguments: str) -> str:
    """A tool's JSON arguments for one line: `{"day": "tuesday"}` → `day=tuesday`."""
    body = arguments.strip()
    if body.startswith("{") and body.endswith("}"):
        body = body[1:-1]
    return body.replace('"', "").replace(": ", "=").replace(":", "=")


_HANDLERS: dict[type[ev.Event], Callable[[Call, Any], set[str]]] = {
    ev.CallStarted: _started,
    ev.CallEnded: _ended,
    ev.CallerSpeechStarted: _speech_started,
    ev.CallerSpeechStopped: _speech_stopped,
    ev.CallerPartial: _partial,
    ev.CallerSaid: _said,
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
    ev.TransferRequested: _transfer,
    ev.AgentChanged: _agent_changed,
    ev.FaultOccurred: _fault,
    ev.RecordingSaved: _recording,
}
