"""What the screen knows: a fold of events into calls, transcripts and turns. It owns the state and refuses to draw, wait or ask.

`apply(state, event)` changes the state and returns which parts changed. Replaying a call's journal gives the same view as
having watched the call, so ended calls are shown by the same panes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from patter.events import (
    AgentChanged,
    AgentRejected,
    CallEnded,
    CallPlaced,
    CallStarted,
    CarrierRecordingSaved,
    CostMeasured,
    Event,
    LineChanged,
    MachineDetected,
    RecordingSaved,
    TurnMeasured,
)
from patter_tui.call import Call
from patter_tui.call_events import take
from patter_tui.line import PhoneLine, line_after

KEPT_CALLS = 40
"""Ended calls whose transcript stays in memory; older ones are read again from their journal."""

KEPT_ROWS = 500

ALL_PARTS = frozenset({"agents", "calls", "line", "transcript", "turns", "status", "trace", "rungs", "phone", "top"})
"""What a change can touch, and the screen draws anew."""

Side = Literal["rehearse", "serve"]


@dataclass(slots=True)
class CallRow:
    """One line of the list of calls; the engine's row, kept up to date by events. `state`: "ringing", "live" or "ended"."""

    call_id: str
    agent: str = ""
    caller: str = ""
    callee: str = ""
    direction: str = ""
    line: str = ""
    state: str = "live"
    started_at: float = 0.0
    ended_at: float = 0.0
    duration_s: float = 0.0
    reason: str = ""
    detail: str = ""
    turns: int = 0
    cost_total: float = 0.0
    recording: str = ""
    telephony: str = ""
    answered_by: str = ""
    carrier_recording: str = ""
    unpriced: tuple[str, ...] = ()
    """Who has no known price: the cost is at least `cost_total` then."""

    @property
    def on(self) -> bool:
        """Whether it rings or is in progress."""
        return self.state in ("ringing", "live")

    @property
    def rehearsal(self) -> bool:
        """Whether nobody outside takes part."""
        return self.direction == "test" or self.line == "text"

    @property
    def other(self) -> str:
        """The number of the person outside."""
        return self.callee if self.direction == "outbound" else self.caller


_ROW_FIELDS = {name: type(getattr(CallRow(""), name)) for name in CallRow.__slots__}


def row_from_json(data: dict[str, Any]) -> CallRow:
    """The engine's row as a value; missing or null fields keep their default, unknown ones are ignored."""
    known = {name: kind(data[name]) for name, kind in _ROW_FIELDS.items() if data.get(name) is not None}
    return CallRow(**(known | {"call_id": str(data.get("call_id", ""))}))


@dataclass(slots=True)
class State:
    """Everything the panes show. `shown` is the call they show; `seq` the last event seen of engine `engine_id`.

    The panes have two sides, "rehearse" and "serve"; `aside` is the call of the side that is not on screen."""

    calls: dict[str, Call] = field(default_factory=dict)
    rows: dict[str, CallRow] = field(default_factory=dict)
    agents: list[dict[str, Any]] = field(default_factory=list)
    rejected: dict[str, AgentRejected] = field(default_factory=dict)
    rungs: dict[str, dict[str, Any]] = field(default_factory=dict)
    line: PhoneLine = field(default_factory=PhoneLine)
    shown: str = ""
    side: Side = "rehearse"
    aside: str = ""
    seq: int = 0
    engine_id: str = ""
    calls_total: int = 0

    @property
    def call(self) -> Call | None:
        """The call on screen."""
        return self.calls.get(self.shown)

    def turn(self, side: Side) -> None:
        """Show the other side; each keeps its call."""
        if side != self.side:
            self.side, self.shown, self.aside = side, self.aside, self.shown

    def show(self, call_id: str, side: Side) -> None:
        """Choose the call of a side, whether it is on screen or not."""
        if side == self.side:
            self.shown = call_id
        else:
            self.aside = call_id

    def shown_on(self, side: Side) -> str:
        """The call of a side."""
        return self.shown if side == self.side else self.aside

    def live(self) -> list[CallRow]:
        """Calls that ring or are in progress, newest first."""
        return [row for row in self.ordered() if row.on]

    def ordered(self) -> list[CallRow]:
        """All known calls, newest first."""
        return sorted(self.rows.values(), key=lambda row: row.started_at, reverse=True)


def apply(state: State, event: Event) -> set[str]:
    """Take one event in. Returns the changed parts: "calls", "agents", and for the shown call what `Call.apply` says."""
    if event.seq and event.seq <= state.seq:
        return set()
    state.seq = max(state.seq, event.seq)
    if isinstance(event, AgentChanged):
        state.rejected.pop(event.agent, None)
    elif isinstance(event, AgentRejected):
        state.rejected[event.agent] = event
    if isinstance(event, LineChanged):
        state.line = line_after(state.line, event)
        return {"line"}
    if not event.call_id:
        return {"agents"}
    changed = _apply_to_row(state, event)
    call = state.calls.get(event.call_id)
    if call is None:
        call = state.calls[event.call_id] = Call(event.call_id)
        call.whole = isinstance(event, CallPlaced | CallStarted)
        _forget_oldest(state)
    parts = take(call, event)
    return changed | (parts if event.call_id == state.shown else set())


def _apply_to_row(state: State, event: Event) -> set[str]:
    row = state.rows.get(event.call_id)
    if isinstance(event, CallPlaced | CallStarted):
        state.rows[event.call_id] = _row_of(event)
        state.calls_total += row is None
        return {"calls"}
    if row is None:
        return set()
    if isinstance(event, TurnMeasured):
        if event.closed and event.kind == "answer":
            row.turns += 1
        row.cost_total = max(row.cost_total, event.cost_so_far)
        row.unpriced = tuple(dict.fromkeys((*row.unpriced, *event.unpriced)))
    elif isinstance(event, CostMeasured):
        row.cost_total = max(row.cost_total, event.cost.get("total", 0.0))
        row.unpriced = tuple(dict.fromkeys((*row.unpriced, *event.unpriced)))
    elif isinstance(event, CallEnded):
        row.state, row.ended_at, row.duration_s = "ended", event.at, event.duration_s
        row.reason, row.detail = event.reason, event.detail
    elif isinstance(event, MachineDetected):
        row.answered_by = event.answered_by
    elif isinstance(event, RecordingSaved):
        row.recording = event.path
    elif isinstance(event, CarrierRecordingSaved):
        row.carrier_recording = event.url
    else:
        return set()
    return {"calls"}


def _row_of(event: CallPlaced | CallStarted) -> CallRow:
    made = CallRow(
        event.call_id, event.agent, event.caller, event.callee, "outbound", "", "ringing", event.at,
        telephony=event.telephony,
    )  # fmt: skip
    if isinstance(event, CallStarted):
        made.direction, made.line, made.state = event.direction, event.line, "live"
    return made


def _forget_oldest(state: State) -> None:
    ended = [
        call_id for call_id, call in state.calls.items() if call.ended_at and call_id not in (state.shown, state.aside)
    ]
    for call_id in ended[: max(0, len(ended) - KEPT_CALLS)]:
        del state.calls[call_id]


def replay(call_id: str, events: Iterable[Event]) -> Call:
    """The view of a call from its journal."""
    call = Call(call_id)
    for event in events:
        take(call, event)
    return call


def set_rows(state: State, rows: Iterable[dict[str, Any]], total: int = 0, *, asked_with: Collection[str] = ()) -> None:
    """Replace the list of calls by the engine's own.

    What events have said since the list was asked for stays: calls that are not in `asked_with`, and endings."""
    made = {row.call_id: row for row in map(row_from_json, rows) if row.call_id}
    for call_id, known in state.rows.items():
        listed = made.get(call_id)
        if (listed is None and call_id not in asked_with) or (listed and _later(known, listed)):
            made[call_id] = known
    state.rows = dict(list(made.items())[:KEPT_ROWS])
    state.calls_total = max(total, len(state.rows))


_PROGRESS = ("ringing", "live", "ended")


def _later(known: CallRow, listed: CallRow) -> bool:
    """Whether events have told more of a call than the list has."""
    return known.state in _PROGRESS and listed.state in _PROGRESS[: _PROGRESS.index(known.state)]


def forget_engine(state: State) -> None:
    """The engine is another one (or gone): its numbers start anew, and calls it left unfinished are no longer live."""
    state.seq, state.engine_id, state.line = 0, "", PhoneLine()
    for row in state.rows.values():
        if row.on:
            row.state, row.reason = "ended", "engine_died"
    for call in state.calls.values():
        if not call.ended_at:
            call.lose_engine()


@dataclass(slots=True)
class Phone:
    """The softphone as last heard of. `state`: "off", "starting", "ringing", "in call"; levels in dBFS."""

    state: str = "off"
    device: str = ""
    sound: bool = True
    problem: str = ""
    fix: str = ""
    aec: str = ""
    input: str = ""
    output: str = ""
    mic: float = -90.0
    speaker: float = -90.0
    jitter_ms: float = 0.0
    underruns: int = 0
    dropped: int = 0
    muted: bool = False
    call_id: str = ""
    heard: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    def take(self, message: dict[str, Any]) -> None:
        """Take one line of the softphone in (see the softphone's own description of its messages)."""
        kind = message.get("is")
        if kind == "ready":
            self.sound = bool(message.get("sound"))
            if self.device == "sound":  # the others need no sound device and must not complain that there is none
                self.problem, self.fix = str(message.get("problem") or ""), str(message.get("fix") or "")
            self.input, self.output = str(message.get("input") or ""), str(message.get("output") or "")
            self.aec = str(message.get("aec") or "")
        elif kind == "ringing":
            self.state = "ringing"
        elif kind == "in_call":
            self.state, self.call_id = "in call", str(message.get("call_id") or "")
        elif kind == "levels":
            self.mic, self.speaker = _number(message, "mic", -90.0), _number(message, "speaker", -90.0)
            self.jitter_ms = _number(message, "jitter_ms", 0.0)
            self.underruns, self.dropped = int(_number(message, "underruns", 0)), int(_number(message, "dropped", 0))
            self.aec = str(message.get("aec") or self.aec)
        elif kind in ("device_lost", "error"):
            self.problem, self.fix = str(message.get("problem") or ""), str(message.get("fix") or "")
            self.sound = self.sound and kind != "device_lost"
        elif kind == "ended":
            self.state, self.mic, self.speaker, self.call_id = "off", -90.0, -90.0, ""


def _number(message: dict[str, Any], name: str, default: float) -> float:
    value = message.get(name)
    return float(value) if isinstance(value, int | float) else default
