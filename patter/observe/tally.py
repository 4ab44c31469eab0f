"""What is counted over a whole call rather than a turn: interruptions, connections, the greeting's wait, the line.

It owns what counts as what; it refuses to know turns, latency and a clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from patter.events import (
    CallerSaid,
    CallerSpeechStarted,
    CallStarted,
    ConnectionUsed,
    Event,
    Interrupted,
    LineMeasured,
    ReplyPaused,
    ReplyReached,
    ReplyResumed,
    ReplyStarted,
)
from patter.observe.segments import whole_ms
from patter.ports import LineStats


class Tally:
    """One call's counts. `feed` it every event of the call in order."""

    def __init__(self) -> None:
        self.interruptions = 0
        self.false_interruptions = 0
        self.connections_reused = 0
        self.connections_opened = 0
        self.connections_ms = 0.0
        self.line: LineStats | None = None
        self._answered_at: float | None = None
        self._greetings: set[int] = set()
        self._sounded: dict[int, float] = {}
        self._cuts: set[float] = set()
        self._silent_cut = False
        self._paused: set[int] = set()
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            CallStarted: self._call_started,
            ReplyStarted: self._reply_started,
            ReplyReached: self._reply_reached,
            Interrupted: self._interrupted,
            CallerSpeechStarted: self._voice_began,
            CallerSaid: self._caller_said,
            ReplyPaused: self._reply_paused,
            ReplyResumed: self._reply_resumed,
            ConnectionUsed: self._connection_used,
            LineMeasured: self._line_measured,
        }

    def feed(self, event: Event) -> None:
        """Take one event."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    @property
    def greeting_ms(self) -> float:
        """From the call's start to the first sound of its greeting; 0.0 if none was heard."""
        heard = [self._sounded[reply] for reply in self._greetings if reply in self._sounded]
        return whole_ms(min(heard) - self._answered_at) if heard and self._answered_at is not None else 0.0

    def _call_started(self, event: CallStarted) -> None:
        if self._answered_at is None:
            self._answered_at = event.at

    def _reply_started(self, event: ReplyStarted) -> None:
        if event.kind == "greeting":
            self._greetings.add(event.reply_id)

    def _reply_reached(self, event: ReplyReached) -> None:
        if event.stage == "playing":
            self._sounded.setdefault(event.reply_id, event.reached_at)

    def _interrupted(self, event: Interrupted) -> None:
        """The caller's voice cut it, or else words that follow without one. A hang-up or an operator is no interruption."""
        self._paused.discard(event.reply_id)
        cut = event.stopped_at or -float(event.reply_id)
        if cut in self._cuts:
            return  # more replies of the same moment
        self._cuts.add(cut)
        if event.voice_began_at:
            self.interruptions += 1
        else:
            self._silent_cut = True

    def _voice_began(self, _: CallerSpeechStarted) -> None:
        self._silent_cut = False  # what the caller says now is not what cut the reply

    def _caller_said(self, _: CallerSaid) -> None:
        if self._silent_cut:
            self._silent_cut = False
            self.interruptions += 1

    def _reply_paused(self, event: ReplyPaused) -> None:
        self._paused.add(event.reply_id)

    def _reply_resumed(self, event: ReplyResumed) -> None:
        if event.reply_id in self._paused:
            self._paused.discard(event.reply_id)
            self.false_interruptions += 1

    def _connection_used(self, event: ConnectionUsed) -> None:
        if event.reused:
            self.connections_reused += 1
        else:
            self.connections_opened += 1
            self.connections_ms = round(self.connections_ms + max(0.0, event.ms), 3)

    def _line_measured(self, event: LineMeasured) -> None:
        self.line = LineStats(event.frames, event.lost, event.dropped, event.jitter_ms, event.underruns)
