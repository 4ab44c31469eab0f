"""One call as rows: a fold of its events, live or from its journal, that needs no clock and no database.

It owns what is kept of a call; it refuses to measure (the fold of `observe` does) and to know how rows are written.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patter import json_text
from patter.events import (
    AgentChanged,
    AgentMuted,
    AgentSaid,
    CallEnded,
    CallerSaid,
    CallerTranscribed,
    CallPlaced,
    CallStarted,
    CarrierRecordingSaved,
    CostMeasured,
    Event,
    FaultOccurred,
    LineMeasured,
    MachineDetected,
    RecordingSaved,
    ToolCalled,
    ToolReturned,
    TurnMeasured,
)
from patter.observe.journal import CALLS, EVENTS, call_folder
from patter.observe.metrics import CallFold
from patter.observe.prices import Prices
from patter.observe.segments import rank
from patter.store.published import Published
from patter.store.schema import SEGMENTS
from patter.store.search import order_key
from patter.store.shapes import call_json, detail_json
from patter.store.values import count, flag, key, real, text

DAY_S = 86_400
FAULTS = 200  # of one call: whoever needs more has the journal
ALONE = ("greeting", "say")
"""Kinds of replies that are a turn by themselves, whatever number they carry."""


@dataclass(slots=True)
class Rows:
    """What is to be written of one call. `text` is None while it goes on; `turns` and `tools` may be the changed ones only."""

    call: dict[str, Any]
    text: dict[str, Any] | None = None
    turns: list[dict[str, Any]] = field(default_factory=list)
    usage: list[dict[str, Any]] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    spoken: tuple[str, ...] = ()
    """The lines of the transcript; their words, and their place in the search, come into `text` when they are written."""


class Record:
    """One call. `apply` it every event of the call in order, then take its rows or its JSON."""

    def __init__(self, call_id: str, prices: Prices) -> None:
        self.call_id = call_id
        self.state = ""
        self.muted = False
        self.last_seq = 0
        self._prices = prices
        self._fold = CallFold(call_id, prices)
        self._call: dict[str, Any] = _blank(call_id)
        self._published = Published()
        self._turns: dict[tuple[str, int], dict[str, Any]] = {}
        self._tools: dict[str, dict[str, Any]] = {}
        self._fresh_turns: set[tuple[str, int]] = set()
        self._fresh_tools: set[str] = set()
        self._transcript: list[dict[str, Any]] = []
        self._faults: list[dict[str, Any]] = []
        self._latencies: list[float] = []
        self._stale = True
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            CallPlaced: self._placed,
            CallStarted: self._started,
            AgentChanged: self._agent_changed,
            MachineDetected: self._machine_detected,
            AgentMuted: self._agent_muted,
            CallerSaid: self._caller_said,
            CallerTranscribed: self._caller_transcribed,
            AgentSaid: self._agent_said,
            ToolCalled: self._tool_called,
            ToolReturned: self._tool_returned,
            TurnMeasured: self._turn_measured,
            CostMeasured: self._cost_measured,
            LineMeasured: self._line_measured,
            FaultOccurred: self._fault_occurred,
            RecordingSaved: self._recording_saved,
            CarrierRecordingSaved: self._carrier_recording_saved,
            CallEnded: self._ended,
        }

    def apply(self, event: Event) -> None:
        """Take in the call's next event."""
        self.last_seq = max(self.last_seq, event.seq)
        if not self._call["started_at"]:
            self._call["started_at"] = real(event.at)
        self._fold.feed(event)
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    @property
    def started_at(self) -> float:
        """When it began, in seconds since the epoch."""
        return float(self._call["started_at"])

    @property
    def spoken(self) -> tuple[str, ...]:
        """The lines of the transcript by now."""
        return tuple(line["text"] for line in self._transcript)

    # ------------------------------------------------------------------ what comes of it

    def rows(self, *, whole: bool) -> Rows:
        """What is to be written: all of the call, or what has changed since rows were taken last."""
        turns = [row for name, row in self._turns.items() if whole or name in self._fresh_turns]
        tools = [row for name, row in self._tools.items() if whole or name in self._fresh_tools]
        self._fresh_turns.clear()
        self._fresh_tools.clear()
        over = self.state == "ended"
        rows = Rows(self._call_row(), None, turns, self._usage_rows(), tools)
        if over:
            rows.text, rows.spoken = self._text_row(), self.spoken
        return rows

    def row_json(self, home: Path, now: float) -> dict[str, Any]:
        """The call for lists; `muted` stands in it while it is not over."""
        made = call_json(self._call_row(), home, now)
        return made if self.state == "ended" else made | {"muted": self.muted}

    def detail_json(self, home: Path, now: float) -> dict[str, Any]:
        """Everything that is known of the call by now."""
        made = detail_json(
            self._call_row(),
            self._text_row(),
            self._turns.values(),
            self._usage_rows(),
            self._tools.values(),
            home,
            now,
        )
        return made if self.state == "ended" else made | {"muted": self.muted}

    def _call_row(self) -> dict[str, Any]:
        call, (cost, unpriced) = self._call, self._published.cost(self._fold.cost())
        if self._stale:
            summary = self._fold.summary()
            call["interruptions"], call["false_interruptions"] = summary.interruptions, summary.false_interruptions
            call["greeting_ms"], call["metrics"] = real(summary.greeting_ms), json_text.dumps(summary.to_json())
            self._stale = False
        for name in ("stt", "tts", "llm", "telephony", "total"):
            call[f"cost_{name}"] = real(cost.get(name))
        call["unpriced"] = json_text.dumps(unpriced)
        samples = self._latencies
        call["latency_n"] = len(samples)
        call["latency_avg_ms"] = sum(samples) / len(samples) if samples else 0.0
        call["latency_p95_ms"] = samples[rank(len(samples), 95)] if samples else 0.0
        call["state"], call["last_seq"], call["day"] = self.state, self.last_seq, int(self.started_at // DAY_S)
        call["order_key"] = order_key(self.started_at, call["call_id"]) if self.state == "ended" else 0
        return dict(call)

    def _text_row(self) -> dict[str, Any]:
        return {
            "id": order_key(self.started_at, self._call["call_id"]),
            "call_id": self._call["call_id"],
            "transcript": json_text.dumps(self._transcript),
            "words": "",
            "faults": json_text.dumps(self._faults),
        }

    def _usage_rows(self) -> list[dict[str, Any]]:
        return self._published.rows(self.call_id, self._fold.used, self._prices)

    # ------------------------------------------------------------------ one method per kind of event

    def _placed(self, event: CallPlaced) -> None:
        self.state = "ringing"
        self._call |= {
            "agent": key(event.agent),
            "direction": "outbound",
            "telephony": key(event.telephony),
            "caller": key(event.caller),
            "callee": key(event.callee),
            "started_at": real(event.at),
        }

    def _started(self, event: CallStarted) -> None:
        self.state = "live"
        names = "agent_version provider_mode stt llm tts telephony line".split()
        self._call |= {name: text(getattr(event, name)) for name in names}
        self._call |= {
            "agent": key(event.agent) or self._call["agent"],
            "direction": key(event.direction),
            "telephony": key(event.telephony),
            "caller": key(event.caller),
            "callee": key(event.callee),
            "started_at": real(event.at),
            "custom_params": text(json_text.dumps(event.custom_params)),
        }

    def _agent_changed(self, event: AgentChanged) -> None:
        self._call["agent_version"] = text(event.agent_version)

    def _machine_detected(self, event: MachineDetected) -> None:
        self._call["answered_by"] = text(event.answered_by)

    def _agent_muted(self, event: AgentMuted) -> None:
        self.muted = flag(event.muted)

    def _caller_said(self, event: CallerSaid) -> None:
        self._call["turns"] += 1
        self._line("user", event.text, event, event.source)

    def _caller_transcribed(self, event: CallerTranscribed) -> None:
        for line in reversed(self._transcript):
            if line["role"] == "user" and line["turn"] == event.turn:
                line["text"] = text(event.text)
                return

    def _agent_said(self, event: AgentSaid) -> None:
        if event.text:
            self._line("assistant", event.text, event, event.kind)
            self._transcript[-1]["interrupted"] = flag(event.interrupted)

    def _line(self, role: str, words: str, event: CallerSaid | AgentSaid, kind: str) -> None:
        self._transcript.append(
            {
                "role": role,
                "text": text(words),
                "timestamp": real(event.at),
                "turn": count(event.turn),
                "interrupted": False,
                "kind": text(kind),
            }
        )

    def _tool_called(self, event: ToolCalled) -> None:
        self._fresh_tools.add(event.tool_id)
        self._tools[event.tool_id] = {
            "call_id": self._call["call_id"],
            "tool_id": key(event.tool_id),
            "turn": count(event.turn),
            "name": text(event.name),
            "arguments": text(event.arguments),
            "returned": False,
            "ok": False,
            "output": "",
            "ms": 0.0,
            "at": real(event.at),
        }

    def _tool_returned(self, event: ToolReturned) -> None:
        if (tool := self._tools.get(event.tool_id)) is not None:
            self._fresh_tools.add(event.tool_id)
            tool |= {"returned": True, "ok": flag(event.ok), "output": text(event.output), "ms": real(event.ms)}

    def _turn_measured(self, event: TurnMeasured) -> None:
        name = ("alone", event.reply_id) if event.kind in ALONE else ("turn", event.turn)
        number = self._turns[name]["number"] if name in self._turns else len(self._turns)
        sample = event.closed and self._fold.is_sample(event)
        if sample and not self._turns.get(name, {}).get("sample"):
            insort(self._latencies, real(event.total_ms))
        self._turns[name] = _turn_row(event, self._call["call_id"], number, sample)
        self._fresh_turns.add(name)
        self._stale = True

    def _cost_measured(self, event: CostMeasured) -> None:
        self._published.tell(event, self._fold.cost())

    def _line_measured(self, _: LineMeasured) -> None:
        self._stale = True

    def _fault_occurred(self, event: FaultOccurred) -> None:
        if len(self._faults) < FAULTS:
            names = ("stage", "provider", "problem", "fix")
            self._faults.append({"at": real(event.at)} | {name: text(getattr(event, name)) for name in names})

    def _recording_saved(self, event: RecordingSaved) -> None:
        self._call |= {"recording": text(event.path), "recording_s": real(event.duration_s)}

    def _carrier_recording_saved(self, event: CarrierRecordingSaved) -> None:
        self._call["carrier_recording"] = text(event.url)

    def _ended(self, event: CallEnded) -> None:
        self.state, self._stale = "ended", True
        self._call |= {
            "ended_at": real(event.at),
            "duration_s": real(event.duration_s),
            "reason": key(event.reason),
            "detail": text(event.detail),
        }


def _blank(call_id: str) -> dict[str, Any]:
    names = (
        "engine_id agent agent_version provider_mode stt llm tts telephony line direction caller callee state "
        "answered_by reason detail recording carrier_recording"
    ).split()
    numbers = "started_at ended_at duration_s greeting_ms recording_s".split()
    counts = "turns interruptions false_interruptions journal_bytes".split()
    journal = call_folder("", call_id).relative_to(CALLS).parts
    return (
        {
            "call_id": key(call_id),
            "custom_params": "{}",
            "journal": "/".join((CALLS, *journal, EVENTS)),
            "counted": False,
        }
        | dict.fromkeys(names, "")
        | dict.fromkeys(numbers, 0.0)
        | dict.fromkeys(counts, 0)
    )


def _turn_row(event: TurnMeasured, call_id: str, number: int, sample: bool) -> dict[str, Any]:
    made = {
        "call_id": call_id,
        "number": number,
        "turn": count(event.turn),
        "reply_id": count(event.reply_id),
        "kind": text(event.kind),
        "at": real(event.at),
        "user_text": text(event.user_text),
        "agent_text": text(event.agent_text),
        "total_ms": real(event.total_ms),
        "sample": sample,
        "interrupted": flag(event.interrupted),
        "tool_ms": real(event.tool_ms),
        "stt_audio_seconds": real(event.stt_audio_seconds),
        "tts_characters": count(event.tts_characters),
        "tokens_in": count(event.tokens_in),
        "tokens_cached": count(event.tokens_cached),
        "tokens_out": count(event.tokens_out),
        "unpriced": text(json_text.dumps(event.unpriced)),
        "connections": text(json_text.dumps(event.connections)),
    }
    made |= {f"{name}_ms": real(event.segments.get(name, 0.0)) for name in SEGMENTS}
    return made | {f"cost_{name}": real(event.cost.get(name, 0.0)) for name in ("stt", "tts", "llm", "total")}
