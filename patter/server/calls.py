"""The calls of this home: live ones folded from the events as they come, ended ones read from their journals.

It owns the list and its rows; it refuses to write a journal.
"""

from __future__ import annotations

import json
import logging
import re
from bisect import insort
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread

from patter.clock import Clock
from patter.events import (
    AgentSaid,
    CallEnded,
    CallerSaid,
    CallPlaced,
    CallStarted,
    CarrierRecordingSaved,
    CostMeasured,
    Event,
    MachineDetected,
    RecordingSaved,
    TurnMeasured,
)
from patter.observe.journal import CALLS, EVENTS, dump, read

log = logging.getLogger(__name__)

CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
KEPT = 200  # rows of ended calls in memory: a few screens of the list
LINE_LIMIT = 64 * 1024  # bytes of a journal's first line that are looked at


@dataclass(slots=True)
class CallRow:
    """One call of the list: a fold of its events."""

    call_id: str
    agent: str = ""
    caller: str = ""
    callee: str = ""
    direction: str = ""
    line: str = ""
    telephony: str = ""
    ringing: bool = False
    answered_by: str = ""
    started_at: float = 0.0
    ended_at: float = 0.0
    duration_s: float = 0.0
    reason: str = ""
    detail: str = ""
    turns: int = 0
    cost_total: float = 0.0
    recording: str = ""
    carrier_recording: str = ""
    transcript: list[dict[str, Any]] = field(default_factory=list)

    def apply(self, event: Event) -> None:
        """Take in the call's next event."""
        match event:
            case CallPlaced():
                self.agent, self.direction, self.telephony = event.agent, "outbound", event.telephony
                self.caller, self.callee, self.started_at = event.caller, event.callee, event.at
                self.ringing = True
            case CallStarted():
                self.agent, self.line, self.direction = event.agent or self.agent, event.line, event.direction
                self.caller, self.callee, self.started_at = event.caller, event.callee, event.at
                self.telephony, self.ringing = event.telephony, False
            case MachineDetected():
                self.answered_by = event.answered_by
            case CallerSaid():
                self.turns += 1
                self.transcript.append({"role": "user", "text": event.text, "timestamp": event.at})
            case AgentSaid() if event.text:
                self.transcript.append({"role": "assistant", "text": event.text, "timestamp": event.at})
            case TurnMeasured():
                self.cost_total = max(self.cost_total, event.cost_so_far)
            case CostMeasured():
                self.cost_total = max(self.cost_total, event.cost.get("total", 0.0))
            case RecordingSaved():
                self.recording = event.path
            case CarrierRecordingSaved():
                self.carrier_recording = event.url
            case CallEnded():
                self.ended_at, self.duration_s = event.at, event.duration_s
                self.reason, self.detail = event.reason, event.detail

    def to_json(self, now: float) -> dict[str, Any]:
        """The row as the API gives it. Times in seconds since the epoch, cost in USD."""
        return {
            "call_id": self.call_id,
            "agent": self.agent,
            "caller": self.caller,
            "callee": self.callee,
            "direction": self.direction,
            "line": self.line,
            "telephony": self.telephony,
            "state": "ended" if self.ended_at else "ringing" if self.ringing else "live",
            "answered_by": self.answered_by,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "duration_s": self._duration_s(now),
            "reason": self.reason,
            "detail": self.detail,
            "turns": self.turns,
            "cost_total": self.cost_total,
            "recording": self.recording,
            "carrier_recording": self.carrier_recording,
        }

    def _duration_s(self, now: float) -> float:
        if self.ended_at:
            return self.duration_s
        return 0.0 if self.ringing else round(now - self.started_at, 3)


class CallLog:
    """All calls of `home` (one journal a call), newest first."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self._folder = home / CALLS
        self._clock = clock
        self._live: dict[str, CallRow] = {}
        self._ended: OrderedDict[str, CallRow] = OrderedDict()
        self._index: list[tuple[float, str]] = []
        self._known: set[str] = set()

    # ------------------------------------------------------------------ filling

    def load(self) -> None:
        """Find the calls of earlier engines (blocking: it opens every journal)."""
        for place in self._folder.iterdir() if self._folder.is_dir() else ():
            if CALL_ID.fullmatch(place.name) and (place / EVENTS).is_file():
                try:
                    self._add(place.name, _began(place / EVENTS))
                except OSError:
                    log.exception("a call's journal cannot be read", extra={"call_id": place.name})

    def _add(self, call_id: str, started_at: float) -> None:
        if call_id not in self._known:
            self._known.add(call_id)
            insort(self._index, (started_at, call_id))

    def record(self, event: Event) -> None:
        """Take in an event of the bus (a sink)."""
        call_id = event.call_id
        if isinstance(event, CallPlaced | CallStarted) and call_id not in self._live:
            self._live[call_id] = CallRow(call_id)
            self._add(call_id, event.at)
        row = self._live.get(call_id) or self._ended.get(call_id)
        if row is None:
            return
        row.apply(event)
        if isinstance(event, CallEnded):
            self._keep(call_id, self._live.pop(call_id, row))

    def _keep(self, call_id: str, row: CallRow) -> None:
        self._ended[call_id] = row
        self._ended.move_to_end(call_id)
        while len(self._ended) > KEPT:
            self._ended.popitem(last=False)

    def forget(self, call_ids: Sequence[str]) -> None:
        """These calls were deleted."""
        gone = set(call_ids)
        self._known -= gone
        self._index = [entry for entry in self._index if entry[1] not in gone]
        for call_id in gone:
            self._ended.pop(call_id, None)

    # ------------------------------------------------------------------ reading

    def is_live(self, call_id: str) -> bool:
        """Whether this call goes on or rings."""
        return call_id in self._live

    def knows(self, call_id: str) -> bool:
        """Whether there is or was such a call."""
        return call_id in self._known

    def live(self) -> list[dict[str, Any]]:
        """The rows of the calls that are going on or ringing, newest first."""
        now = self._clock.now()
        return [row.to_json(now) for row in sorted(self._live.values(), key=lambda row: -row.started_at)]

    async def page(self, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
        """`limit` rows after the newest `offset`, and how many calls there are."""
        end = max(0, len(self._index) - offset)
        ids = [call_id for _, call_id in reversed(self._index[max(0, end - limit) : end])]
        now = self._clock.now()
        return [row.to_json(now) for row in [await self._row(call_id) for call_id in ids] if row], len(self._index)

    async def call(self, call_id: str) -> dict[str, Any] | None:
        """A call's row with its transcript ({role, text, timestamp} as heard), or None."""
        row = await self._row(call_id)
        return row.to_json(self._clock.now()) | {"transcript": row.transcript} if row else None

    async def events(self, call_id: str) -> str | None:
        """A call's events as the text of a JSON array, from its journal."""
        if call_id not in self._known:
            return None
        return await anyio.to_thread.run_sync(_array, self._folder / call_id / EVENTS)

    async def _row(self, call_id: str) -> CallRow | None:
        row = self._live.get(call_id) or self._ended.get(call_id)
        if row is None and call_id in self._known:
            row = await anyio.to_thread.run_sync(_fold, self._folder / call_id / EVENTS, call_id)
            if row is not None:
                self._keep(call_id, row)
        return row


def _began(journal: Path) -> float:
    """When a call began: the date of its first event."""
    with journal.open("rb") as file:
        try:
            return float(json.loads(file.readline(LINE_LIMIT))["at"])
        except (ValueError, TypeError, KeyError):
            return journal.stat().st_mtime


def _fold(journal: Path, call_id: str) -> CallRow | None:
    row = CallRow(call_id)
    try:
        for event in read(journal):
            row.apply(event)
    except OSError:
        return None
    return row


def _array(journal: Path) -> str:
    try:
        return "[" + ",".join(dump(event) for event in read(journal)) + "]"
    except OSError:
        return "[]"
