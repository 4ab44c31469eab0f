"""One call as the screen shows it: transcript entries, turns, money, who has the floor. It keeps them; it reads no events."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from patter import events as ev
from patter_tui.figures import percentile, words

TRACE_LENGTH = 400

CALM_ENDS = (
    "caller_hung_up", "agent_ended", "operator_ended", "handler_ended", "transferred", "voicemail_left",
)  # fmt: skip
"""How a call ends that went as somebody wanted."""


@dataclass(slots=True)
class Entry:
    """One thing in the transcript. `rev` grows with every change, so that a drawn copy knows when it is old.

    kind "caller": state "partial", "awaited" (its turn is answered, its words are not written down yet), "final" or
    "acknowledged". kind "agent": "making", "speaking", "paused", "done",
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
    turn: int = -1
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
    telephony: str = ""
    provider_mode: str = ""
    stt: str = ""
    llm: str = ""
    tts: str = ""
    placed_at: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0
    duration_s: float = 0.0
    reason: str = ""
    detail: str = ""
    recording: str = ""
    answered_by: str = ""
    floor: str = "connecting"
    cost_so_far: float = 0.0
    cost_measured: dict[str, float] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    turns: list[ev.TurnMeasured] = field(default_factory=list)
    usage: dict[tuple[str, str, str], dict[str, float]] = field(default_factory=dict)
    unpriced: set[str] = field(default_factory=set)
    trace: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=TRACE_LENGTH))
    whole: bool = True

    def lose_engine(self) -> None:
        """The engine died while this call was on: say so, keep what was seen."""
        self.ended_at = self.ended_at or (self.trace[-1][0] if self.trace else self.started_at or self.placed_at)
        self.reason, self.floor = "engine_died", "ended"
        self.duration_s = max(0.0, self.ended_at - (self.started_at or self.ended_at))
        self.mark(self.ended_at, "the engine stopped; what was said is kept", "bad")

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
        """USD by stage: summed over turns, or of the whole call where that was told and is more (what no turn is charged)."""
        sums: dict[str, float] = {}
        for turn in self.turns:
            for stage, value in turn.cost.items():
                sums[stage] = sums.get(stage, 0.0) + value
        told = self.cost_measured
        return {stage: max(sums.get(stage, 0.0), told.get(stage, 0.0)) for stage in sums | told}

    # ------------------------------------------------------------------ entries

    def add(self, entry: Entry) -> Entry:
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

    def mark(self, at: float, text: str, state: str = "info") -> None:
        """Remark that something happened."""
        self.add(Entry("mark", at, text, state))

    def reply(self, reply_id: int, at: float) -> Entry:
        """The agent's reply of that number, made if it is new."""
        for entry in reversed(self.entries):
            if entry.kind == "agent" and entry.reply_id == reply_id:
                return entry
        return self.add(Entry("agent", at, state="making", reply_id=reply_id))

    def partial(self) -> Entry | None:
        """What the caller is saying right now."""
        return next((entry for entry in reversed(self.entries) if entry.state == "partial"), None)


def rest_of(text: str, heard: str) -> str:
    """What of `text` comes after `heard`; counts words where the spelling differs."""
    if not heard:
        return text
    if text.startswith(heard):
        return text[len(heard) :].strip()
    return " ".join(text.split()[words(heard) :])
