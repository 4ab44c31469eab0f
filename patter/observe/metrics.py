"""Latency, usage and cost of every turn as a pure fold over the event stream, and the reader that publishes them.

It owns which facts belong to which turn; it refuses to look at a clock, so that a journal gives the same numbers again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from patter.events import (
    AgentSaid,
    CallEnded,
    CallerSaid,
    CallerTranscribed,
    CallPlaced,
    CallStarted,
    CarrierRecordingSaved,
    ConnectionUsed,
    CostMeasured,
    Event,
    Interrupted,
    ReplyHeard,
    ReplyReached,
    ReplyStarted,
    ReplyText,
    ToolCalled,
    ToolReturned,
    TurnMeasured,
    UsageMeasured,
)
from patter.models import CallMetrics, LatencyBreakdown, TurnMetrics
from patter.observe.cost import CostFold, Prices, Used, call_costs
from patter.observe.segments import NAMES, nearest_rank
from patter.observe.summary import CallSummary, Percentiles
from patter.observe.tally import Tally
from patter.observe.turn import Reply, Turn, covered_ms

LAST_WORDS = ("end_call",)
"""Tools after which the agent says nothing more: the reply that asked for them is the turn's last. (A transfer that fails
is something to talk about, and one that succeeds ends the call.)"""


class CallFold:
    """One call's metrics. `feed` it every event of the call in order; it returns what is to be published."""

    def __init__(self, call_id: str, prices: Prices) -> None:
        self.call_id = call_id
        self._prices = prices
        self._costs = CostFold(prices)
        self._tally = Tally()
        self._telephony = ""
        self._started: CallStarted | None = None
        self._ended: CallEnded | None = None
        self._turns: list[Turn] = []
        self._by_number: dict[int, Turn] = {}
        self._by_reply: dict[int, Turn] = {}
        self._replies: dict[int, Reply] = {}
        self._early: list[ConnectionUsed] = []  # connections that were opened before there was a greeting to belong to
        self._handlers: dict[type[Event], Callable[[Any], list[TurnMeasured]]] = {
            CallPlaced: self._call_placed,
            CallStarted: self._call_started,
            CarrierRecordingSaved: self._recording_saved,
            CallerSaid: self._caller_said,
            CallerTranscribed: self._caller_transcribed,
            ReplyStarted: self._reply_started,
            ReplyReached: self._reply_reached,
            ReplyText: self._reply_text,
            ReplyHeard: self._reply_heard,
            AgentSaid: self._agent_said,
            Interrupted: self._interrupted,
            ToolCalled: self._tool_called,
            ToolReturned: self._tool_returned,
            UsageMeasured: self._usage_measured,
            ConnectionUsed: self._connection_used,
            CallEnded: self._call_ended,
        }

    def feed(self, event: Event) -> list[TurnMeasured]:
        """Take one event; the measurements it completes carry its time. Measurements themselves are not read."""
        self._tally.feed(event)
        handler = self._handlers.get(type(event))
        return handler(event) if handler else []

    def turn_metrics(self, number: int) -> TurnMetrics | None:
        """A caller's turn in the form of the public API, as known by now."""
        turn = self._by_number.get(number)
        return turn.public() if turn is not None and turn.answers_caller else None

    def metrics(self) -> CallMetrics:
        """The call in the form of the public API, as known by now."""
        turns = [turn for turn in self._turns if turn.answers_caller]
        public = tuple(turn.public() for turn in turns)
        samples = [metrics.latency for turn, metrics in zip(turns, public, strict=True) if turn.sample]
        start = self._started or CallStarted(call_id=self.call_id)
        duration = self._ended.duration_s if self._ended else 0.0
        if self._ended and self._started:
            duration = duration or max(0.0, self._ended.at - start.at)
        return CallMetrics(
            call_id=self.call_id,
            duration_seconds=duration,
            turns=public,
            cost=self._costs.breakdown(),
            latency_avg=_each(samples, lambda values: sum(values) / len(values) if values else 0.0),
            latency_p95=_each(samples, lambda values: nearest_rank(values, 95)),
            provider_mode=start.provider_mode,
            stt_provider=start.stt,
            tts_provider=start.tts,
            llm_provider=start.llm,
            telephony_provider=self._telephony,
        )

    def is_sample(self, measured: TurnMeasured) -> bool:
        """Whether this turn of the call counts for its percentiles, as known by now: answered, heard, not interrupted."""
        turn = self._by_reply.get(measured.reply_id)
        return turn is not None and turn.sample

    def summary(self) -> CallSummary:
        """The whole call in figures, as known by now."""
        tally = self._tally
        latencies = [turn.latency() for turn in self._turns if turn.sample]
        return CallSummary(
            greeting_ms=tally.greeting_ms,
            interruptions=tally.interruptions,
            false_interruptions=tally.false_interruptions,
            tool_ms=covered_ms([span for turn in self._turns for span in turn.tool_spans]),
            connections_reused=tally.connections_reused,
            connections_opened=tally.connections_opened,
            connections_ms=tally.connections_ms,
            latency=Percentiles.of(total for _, total in latencies),
            segments={name: Percentiles.of(parts[name] for parts, _ in latencies) for name in NAMES},
            line=tally.line,
        )

    # ------------------------------------------------------------------ one method per kind of event

    def _call_placed(self, event: CallPlaced) -> list[TurnMeasured]:
        self._telephony = event.telephony
        return []

    def _call_started(self, event: CallStarted) -> list[TurnMeasured]:
        self._started, self._telephony = event, event.telephony
        return []

    def _recording_saved(self, event: CarrierRecordingSaved) -> list[TurnMeasured]:
        self._costs.recorded(event, self._telephony)
        return []

    def _caller_said(self, event: CallerSaid) -> list[TurnMeasured]:
        stale = [turn for turn in self._turns if turn.happened and turn.number < event.turn and turn.waits]
        turn = self._turn(event.turn)
        if not turn.closed:
            turn.caller, turn.words = event, event.text
        return [self._close(turn, event.at) for turn in stale]

    def _caller_transcribed(self, event: CallerTranscribed) -> list[TurnMeasured]:
        turn = self._by_number.get(event.turn)
        if turn is not None and turn.caller is not None and turn.caller.pending:
            turn.words = event.text
        return []

    def _reply_started(self, event: ReplyStarted) -> list[TurnMeasured]:
        reply = self._reply(event.reply_id)
        if event.reply_id in self._by_reply:
            return []
        reply.kind, reply.started_at = event.kind, event.at
        alone = event.kind in ("greeting", "say")
        turn = self._new_turn(event.turn) if alone else self._turn(event.turn)
        turn.replies.append(reply)
        turn.owes_reply = False
        self._by_reply[event.reply_id] = turn
        if alone and event.turn == 0:
            self._by_number.setdefault(0, turn)
            while self._early:
                turn.connected(self._early.pop(0))
        return self._sounding(turn, reply, event.at)

    def _reply_reached(self, event: ReplyReached) -> list[TurnMeasured]:
        turn, reply = self._by_reply.get(event.reply_id), self._reply(event.reply_id)
        if turn is not None and turn.closed:
            return []  # its latency was told
        reply.reached.setdefault(event.stage, event.reached_at)
        return self._sounding(turn, reply, event.at) if turn is not None else []

    def _reply_text(self, event: ReplyText) -> list[TurnMeasured]:
        reply = self._reply(event.reply_id)
        reply.generated += event.text
        turn = self._by_reply.get(event.reply_id)
        if turn is not None and not turn.tools:
            turn.owes_reply = False
        return []

    def _reply_heard(self, event: ReplyHeard) -> list[TurnMeasured]:
        self._reply(event.reply_id).heard = event.heard
        return []

    def _agent_said(self, event: AgentSaid) -> list[TurnMeasured]:
        reply = self._reply(event.reply_id)
        reply.heard, reply.said = event.text, True
        turn = self._by_reply.get(event.reply_id)
        if turn is None or turn.closed:
            return []
        turn.interrupted = turn.interrupted or event.interrupted
        taken_back = bool(event.dropped) and not event.interrupted  # by a guardrail: its replacement follows
        turn.owes_reply = turn.owes_reply or taken_back
        done = turn.replies[-1] is reply and not turn.owes_reply
        return [self._close(turn, event.at)] if done or event.interrupted else []

    def _interrupted(self, event: Interrupted) -> list[TurnMeasured]:
        self._reply(event.reply_id).heard = event.heard
        turn = self._by_reply.get(event.reply_id)
        if turn is None or turn.closed:
            return []
        turn.interrupted = True
        return [self._close(turn, event.at)]

    def _tool_called(self, event: ToolCalled) -> list[TurnMeasured]:
        turn = self._turn(event.turn)
        turn.tools.add(event.tool_id)
        turn.owes_reply = turn.owes_reply or event.name not in LAST_WORDS
        return []

    def _tool_returned(self, event: ToolReturned) -> list[TurnMeasured]:
        for turn in self._turns:
            if event.tool_id in turn.tools:
                turn.tools.discard(event.tool_id)
                turn.tool_spans.append((event.at - max(0.0, event.ms) / 1000, event.at))
        return []

    def _usage_measured(self, event: UsageMeasured) -> list[TurnMeasured]:
        self._costs.add(event)
        if event.stage != "telephony" and (event.turn > 0 or 0 in self._by_number):
            self._turn(event.turn).costs.add(event)
        return []

    def _connection_used(self, event: ConnectionUsed) -> list[TurnMeasured]:
        if event.turn > 0 or 0 in self._by_number:
            self._turn(event.turn).connected(event)
        else:
            self._early.append(event)
        return []

    def cost(self) -> CostMeasured:
        """What was measured of the call's cost so far."""
        costs = self._costs
        return CostMeasured(
            call_id=self.call_id,
            cost=call_costs(costs.breakdown()),
            unpriced=costs.unpriced(),
            shares=costs.shares(),
        )

    @property
    def used(self) -> Mapping[Used, Mapping[str, float]]:
        """What was used so far, by stage, provider and model."""
        return self._costs.used

    def _call_ended(self, event: CallEnded) -> list[TurnMeasured]:
        self._ended = event
        return [self._close(turn, event.at) for turn in self._turns if not turn.closed and turn.happened]

    # ------------------------------------------------------------------ turns and replies

    def _new_turn(self, number: int) -> Turn:
        turn = Turn(number, CostFold(self._prices))
        self._turns.append(turn)
        return turn

    def _turn(self, number: int) -> Turn:
        if number not in self._by_number:
            self._by_number[number] = self._new_turn(number)
        return self._by_number[number]

    def _reply(self, reply_id: int) -> Reply:
        return self._replies.setdefault(reply_id, Reply(reply_id))

    def _sounding(self, turn: Turn, reply: Reply, at: float) -> list[TurnMeasured]:
        """The first sound of a turn: publish how long the caller waited for it."""
        if turn.closed or turn.audible is not None or "playing" not in reply.reached:
            return []
        turn.audible = reply
        return [turn.measured(self.call_id, at, self._costs.breakdown().total, closed=False)]

    def _close(self, turn: Turn, at: float) -> TurnMeasured:
        turn.closed = True
        return turn.measured(self.call_id, at, self._costs.breakdown().total, closed=True)


def call_metrics(source: CallFold | Iterable[Event], prices: Prices | None = None) -> CallMetrics:
    """The metrics of one call, from its fold or from its events (priced by `prices`, default: the shipped list)."""
    if isinstance(source, CallFold):
        return source.metrics()
    fold: CallFold | None = None
    for event in source:
        fold = fold or CallFold(event.call_id, prices or Prices.load())
        fold.feed(event)
    if fold is None:
        raise ValueError("a call without events has no metrics")
    return fold.metrics()


def _each(samples: list[LatencyBreakdown], pick: Callable[[list[float]], float]) -> LatencyBreakdown:
    """One figure for each field of the samples."""
    names = ("stt_ms", "llm_ms", "tts_ms", "total_ms")
    return LatencyBreakdown(**{name: pick([getattr(sample, name) for sample in samples]) for name in names})
