"""What happens on the line and in calls, as plain lines or JSON lines. It owns the wording of both; it starts nothing.

Lines are written whole and at once, without colours or cursor movement, so that they read the same in a pipe.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from patter import events as ev
from patter_tui.call_events import short_arguments
from patter_tui.carrier import TITLES
from patter_tui.figures import clock, count, length, seconds, usd
from patter_tui.line import PhoneLine
from patter_tui.safe import clean
from patter_tui.store import CallRow, State, apply

KEPT_NUMBERS = 100
"""Calls whose number is kept: recordings are saved a little after a call's end."""


class Page(Protocol):
    """Where a command writes."""

    state: State

    def note(self, kind: str, text: str) -> None:
        """A sentence for people; `kind` is one word such as "engine"."""

    def line(self, line: PhoneLine) -> None:
        """The phone line as it is now."""

    def call_on(self, row: CallRow) -> None:
        """A call that was on before we came."""

    def event(self, event: ev.Event) -> None:
        """Something has happened."""

    def result(self, **facts: Any) -> None:
        """How a command ended, for programs."""

    def problem(self, text: str) -> None:
        """Something is wrong."""


class JsonPage:
    """One JSON object a line: events as the engine tells them, and "Note", "Line", "Problem", "Result" of our own."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.state = State()

    def note(self, kind: str, text: str) -> None:
        """See Page."""
        self._say({"type": "Note", "about": kind, "text": text})

    def line(self, line: PhoneLine) -> None:
        """See Page."""
        names = [name for name in PhoneLine.__slots__ if name not in ("routes", "notes")]
        routes = [{"number": number, "agent": agent} for number, agent in line.routes]
        facts = {name: getattr(line, name) for name in names} | {"routes": routes, "notes": list(line.notes)}
        self._say({"type": "Line"} | facts)

    def call_on(self, row: CallRow) -> None:
        """See Page."""
        self._say({"type": "CallOn"} | {name: getattr(row, name) for name in CallRow.__slots__})

    def event(self, event: ev.Event) -> None:
        """See Page."""
        apply(self.state, event)
        self._say(ev.to_json(event))

    def result(self, **facts: Any) -> None:
        """See Page."""
        self._say({"type": "Result"} | facts)

    def problem(self, text: str) -> None:
        """See Page."""
        self._say({"type": "Problem", "problem": text})

    def _say(self, data: dict[str, Any]) -> None:
        self._out.write(json.dumps(data) + "\n")
        self._out.flush()


class TextPage:
    """Lines for people. With `numbered`, lines of a call carry its number, because several may be on."""

    def __init__(self, out: TextIO, *, numbered: bool) -> None:
        self._out = out
        self._numbered = numbered
        self._numbers: dict[str, int] = {}
        self._given = 0
        self._tools: dict[str, str] = {}
        self._said_of_line: list[str] = []
        self.state = State()

    def note(self, kind: str, text: str) -> None:
        """See Page."""
        self._write(f"{kind:8} {clean(text)}")

    def line(self, line: PhoneLine) -> None:
        """See Page."""
        said, self._said_of_line = self._said_of_line, line_sentences(line)
        for text in self._said_of_line if self._said_of_line != said else ():  # several ways may tell the same
            self.note("line", text)

    def call_on(self, row: CallRow) -> None:
        """See Page."""
        self.state.rows[row.call_id] = row
        what = "ringing" if row.state == "ringing" else "in call"
        self._tell(row.call_id, row.started_at, "call", f"{what} with {_who(row)} ({row.agent}, {row.call_id})")

    def result(self, **facts: Any) -> None:
        """People have read it already."""

    def problem(self, text: str) -> None:
        """See Page."""
        print(clean(text), file=sys.stderr, flush=True)

    def event(self, event: ev.Event) -> None:
        """See Page."""
        if isinstance(event, ev.ToolCalled):
            self._tools[event.tool_id] = short_arguments(event.arguments)
        elif isinstance(event, ev.LineChanged):
            self.line(PhoneLine(**{name: getattr(event, name) for name in _OF_THE_LINE}))
        known = self.state.rows.get(event.call_id)
        before = known.state if known is not None else ""
        apply(self.state, event)
        words = _WORDS.get(type(event))
        if words is None:
            return
        who, text = words(event, self, before)
        if text:
            self._tell(event.call_id, event.at, who, text)
        if isinstance(event, ev.CallEnded):  # a line may be open for months
            self.state.rows.pop(event.call_id, None)
            self.state.calls.pop(event.call_id, None)
            for old in list(self._numbers)[:-KEPT_NUMBERS]:
                del self._numbers[old]

    def tool(self, tool_id: str) -> str:
        """The arguments a tool was called with."""
        return self._tools.pop(tool_id, "")

    def row(self, call_id: str) -> CallRow:
        """What is known of a call."""
        return self.state.rows.get(call_id) or CallRow(call_id)

    def _tell(self, call_id: str, at: float, who: str, text: str) -> None:
        mark = ""
        if self._numbered and call_id:
            if call_id not in self._numbers:
                self._given += 1
                self._numbers[call_id] = self._given
            mark = f"#{self._numbers[call_id]} "
        self._write(f"{clock(at)} {mark}{who:7} {clean(text)}")

    def _write(self, text: str) -> None:
        self._out.write(text.rstrip() + "\n")
        self._out.flush()


_OF_THE_LINE = ("state", "carrier", "number", "public_url", "agent", "problem", "fix")


def line_sentences(line: PhoneLine) -> list[str]:
    """The line in sentences, the state first."""
    carrier = TITLES.get(line.carrier, line.carrier)
    if line.state == "problem":
        return [f"problem: {line.problem}", *([f"fix: {line.fix}"] if line.fix else [])]
    if line.state == "starting":
        return [f"opening {carrier} {line.number} for {line.agent}"]
    if line.state == "open":
        made = [f"open: {carrier} {line.number} to {line.agent}, public address {line.public_url}"]
        made += [f"open: {number} to {agent}" for number, agent in line.all_routes[1:]]
        made += ["calls are recorded"] if line.recording else []
        return [*made, *line.notes]
    return ["closing: no new calls, those that are on go on"] if line.state == "closing" else ["off: nothing is served"]


def _who(row: CallRow) -> str:
    return "nobody outside" if row.rehearsal else row.other


def _started(event: ev.CallStarted, page: TextPage, before: str) -> tuple[str, str]:
    if before == "ringing":
        return "call", "answered"
    row = page.row(event.call_id)
    return "call", f"{'to' if row.direction == 'outbound' else 'from'} {_who(row)} ({event.agent}, {event.call_id})"


def _ended(event: ev.CallEnded, page: TextPage, _: str) -> tuple[str, str]:
    row = page.row(event.call_id)
    why = event.reason.replace("_", " ") + (f" ({event.detail})" if event.detail else "")
    cost = usd(row.cost_total, least=bool(row.unpriced))
    return "ended", f"{why}, {length(event.duration_s)}, {count(row.turns, 'turn')}, {cost}"


def _agent(event: ev.AgentSaid, *_: Any) -> tuple[str, str]:
    return "agent", event.text + (f" [not heard: {event.dropped}]" if event.dropped else "")


def _machine(event: ev.MachineDetected, *_: Any) -> tuple[str, str]:
    who = "nobody can say who" if event.answered_by == "unknown" else f"a {event.answered_by}"
    waits = "" if event.ready or event.answered_by in ("human", "unknown") else "; waiting for its greeting to end"
    return "call", f"{who} answered{waits}"


def _tool(event: ev.ToolReturned, page: TextPage, _: str) -> tuple[str, str]:
    how = "ok" if event.ok else f"failed: {event.output}"
    return "tool", f"{event.name}({page.tool(event.tool_id)}) {how}, {seconds(event.ms)}"


_WORDS: dict[type[ev.Event], Callable[[Any, TextPage, str], tuple[str, str]]] = {
    ev.CallPlaced: lambda event, *_: ("call", f"ringing at {event.callee} ({event.agent}, {event.call_id})"),
    ev.CallStarted: _started,
    ev.MachineDetected: _machine,
    ev.CallerSaid: lambda event, *_: ("", "") if event.pending else ("caller", event.text),
    ev.CallerTranscribed: lambda event, *_: ("caller", event.text or "(nobody could write it down)"),
    ev.AgentSaid: _agent,
    ev.ToolReturned: _tool,
    ev.GuardrailTripped: lambda event, *_: ("guard", f"{event.guardrail} replaced the reply"),
    ev.TransferRequested: lambda event, *_: ("call", f"transfer to {event.number}, asked for by the {event.by}"),
    ev.TransferFailed: lambda event, *_: ("call", f"the transfer to {event.number} failed: {event.problem}"),
    ev.FaultOccurred: lambda event, *_: ("fault", f"{event.stage}: {event.problem} {event.fix}"),
    ev.RecordingSaved: lambda event, *_: ("saved", event.path),
    ev.CarrierRecordingSaved: lambda event, *_: ("saved", event.url),
    ev.AgentRejected: lambda event, *_: ("agent", f"{event.agent} cannot be used as it is now: {event.problem}"),
    ev.CallEnded: _ended,
}
