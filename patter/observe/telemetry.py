"""Every call as OpenTelemetry spans (call, turns, and in them hearing, thinking, speaking, tools) and GenAI metrics.

It owns the spans' names, times and attributes (the GenAI semantic conventions, where they have a word); it refuses to know who
collects. All times are those of the facts, never the moment of writing. What was said is left out unless it is asked for.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from patter.events import (
    AgentSaid,
    CallEnded,
    CallerSaid,
    CallPlaced,
    CallStarted,
    Event,
    FaultOccurred,
    ReplyReached,
    ReplyStarted,
    ReplyText,
    ToolCalled,
    ToolReturned,
    TurnMeasured,
    UsageMeasured,
)
from patter.observe.series import Number
from patter.observe.telemetry_metrics import TelemetryMetrics
from patter.observe.turn import TOKENS_CACHED, TOKENS_IN, TOKENS_OUT

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

SCOPE = "patter"
REMEMBERED = 200  # ended calls of which a turn may still be told
LATEST = 9e9  # seconds since the epoch: the year 2255
EARLY = 50  # measurements kept of turns that have not begun, or are over
BROKEN = ("failed", "line_lost", "engine_died")
"""Ends of a call that are errors."""

Attributes = dict[str, Any]


@dataclass(slots=True)
class _Reply:
    """When one reply passed what, in seconds."""

    started_at: float
    reached: dict[str, float] = field(default_factory=dict)
    text_at: float = 0.0
    said_at: float = 0.0


@dataclass(slots=True)
class _Turn:
    """One open turn: its span, and the facts that its children are made of when it is over."""

    span: Span
    context: Context
    caller: CallerSaid | None
    began: float
    replies: dict[int, _Reply] = field(default_factory=dict)
    tools_at: list[float] = field(default_factory=list)
    used: list[UsageMeasured] = field(default_factory=list)


@dataclass(slots=True)
class _Call:
    """One call: its span, its open turns by their name, and what is used in turns that have not begun. `ended_at`: its last
    fact so far."""

    span: Span
    context: Context
    began: float
    started: CallStarted | None = None
    ended_at: float = 0.0
    turns: dict[tuple[str, int], _Turn] = field(default_factory=dict)
    replies: dict[int, _Turn] = field(default_factory=dict)
    tools: dict[str, ToolCalled] = field(default_factory=dict)
    early: list[UsageMeasured] = field(default_factory=list)

    @property
    def agent(self) -> str:
        return self.started.agent if self.started else ""


class TelemetryReader:
    """A bus sink. Spans go to `tracers`, metrics to `meters`; `numbers` are counted elsewhere and observed here.

    `texts`: what was said, tools' arguments and results and telephone numbers are put into the spans too."""

    def __init__(
        self,
        tracers: TracerProvider,
        meters: MeterProvider | None = None,
        numbers: Iterable[Number] = (),
        *,
        texts: bool = False,
    ) -> None:
        from opentelemetry import context, trace  # an optional package

        self._trace = trace
        self._empty = context.Context()
        self._tracer = tracers.get_tracer(SCOPE)
        self._metrics = TelemetryMetrics(meters.get_meter(SCOPE), numbers) if meters is not None else None
        self._texts = texts
        self._calls: dict[str, _Call] = {}
        self._over: OrderedDict[str, _Call] = OrderedDict()
        self._handlers: dict[type[Event], Callable[[_Call, Any], None]] = {
            CallStarted: self._call_started,
            CallerSaid: self._caller_said,
            ReplyStarted: self._reply_started,
            ReplyReached: self._reply_reached,
            ReplyText: self._reply_text,
            AgentSaid: self._agent_said,
            ToolCalled: self._tool_called,
            ToolReturned: self._tool_returned,
            UsageMeasured: self._usage_measured,
            FaultOccurred: self._fault_occurred,
            TurnMeasured: self._turn_measured,
            CallEnded: self._call_ended,
        }

    def __call__(self, event: Event) -> None:
        """Take one event of any call."""
        if type(event) in (CallPlaced, CallStarted) and event.call_id not in self._calls:
            self._begin(event)
        handler = self._handlers.get(type(event))
        call = self._calls.get(event.call_id) or self._over.get(event.call_id)
        if handler is not None and call is not None:
            call.ended_at = max(call.ended_at, event.at)
            handler(call, event)

    def close(self) -> None:
        """No more facts come: what is open is over, as far as it is known."""
        for call in (*self._over.values(), *self._calls.values()):
            self._forget(call)
        self._calls.clear()
        self._over.clear()

    # ------------------------------------------------------------------ the call

    def _begin(self, event: Event) -> None:
        span = self._open("call", event.at, self._empty, {"gen_ai.conversation.id": event.call_id}, server=True)
        self._calls[event.call_id] = _Call(span, self._within(span), event.at, ended_at=event.at)

    def _call_started(self, call: _Call, event: CallStarted) -> None:
        call.started = event
        call.span.add_event("answered", timestamp=_ns(event.at))
        about = {
            "gen_ai.agent.name": event.agent,
            "gen_ai.agent.version": event.agent_version,
            "patter.call.direction": event.direction,
            "patter.call.telephony": event.telephony,
            "patter.call.line": event.line,
            "patter.provider_mode": event.provider_mode,
        }
        if self._texts:
            about |= {"patter.call.caller": event.caller, "patter.call.callee": event.callee}
        call.span.set_attributes({name: value for name, value in about.items() if value})

    def _call_ended(self, call: _Call, event: CallEnded) -> None:
        if self._calls.pop(event.call_id, None) is None:
            return
        call.span.set_attributes({"patter.call.reason": event.reason, "patter.call.duration_s": event.duration_s})
        if event.reason in BROKEN:
            call.span.set_attribute("error.type", event.reason)
            call.span.set_status(self._trace.StatusCode.ERROR, event.detail)
        call.span.end(_ns(max(event.at, call.began)))
        if (former := self._over.pop(event.call_id, None)) is not None:  # an id that came back
            self._forget(former)
        self._over[event.call_id] = call
        if len(self._over) > REMEMBERED:
            self._forget(self._over.popitem(last=False)[1])

    def _forget(self, call: _Call) -> None:
        for turn in call.turns.values():
            turn.span.end(_ns(max(turn.began, call.ended_at)))
        call.turns.clear()
        if call.span.is_recording():
            call.span.end(_ns(call.ended_at))

    def _fault_occurred(self, call: _Call, event: FaultOccurred) -> None:
        about = {"patter.stage": event.stage, "gen_ai.provider.name": event.provider, "patter.problem": event.problem}
        call.span.add_event("fault", about, timestamp=_ns(event.at))

    # ------------------------------------------------------------------ turns and replies

    def _caller_said(self, call: _Call, event: CallerSaid) -> None:
        if ("turn", event.turn) not in call.turns:
            began = event.speech_ended_at or event.at
            turn = self._turn(call, ("turn", event.turn), _invoked(call), began, event.turn)
            turn.caller = event

    def _turn(self, call: _Call, name: tuple[str, int], title: str, began: float, number: int) -> _Turn:
        about: Attributes = {"patter.turn": number}
        if name[0] == "turn":
            about |= {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": call.agent}
        span = self._open(title, began, call.context, about)
        turn = call.turns[name] = _Turn(span, self._within(span), None, began)
        turn.used = [used for used in call.early if used.turn == number]
        call.early = [used for used in call.early if used.turn != number]
        return turn

    def _reply_started(self, call: _Call, event: ReplyStarted) -> None:
        alone = event.kind in ("greeting", "say")
        name = ("reply", event.reply_id) if alone else ("turn", event.turn)
        turn = call.turns.get(name)
        if turn is None:
            turn = self._turn(call, name, event.kind if alone else _invoked(call), event.at, event.turn)
        call.replies[event.reply_id] = turn
        turn.replies[event.reply_id] = _Reply(event.at)

    def _reply_of(self, call: _Call, reply_id: int) -> _Reply | None:
        turn = call.replies.get(reply_id)
        return turn.replies.get(reply_id) if turn is not None else None

    def _reply_reached(self, call: _Call, event: ReplyReached) -> None:
        if (reply := self._reply_of(call, event.reply_id)) is not None:
            reply.reached.setdefault(event.stage, event.reached_at)

    def _reply_text(self, call: _Call, event: ReplyText) -> None:
        if (reply := self._reply_of(call, event.reply_id)) is not None:
            reply.text_at = event.at

    def _agent_said(self, call: _Call, event: AgentSaid) -> None:
        if (reply := self._reply_of(call, event.reply_id)) is not None:
            reply.said_at = event.at

    def _usage_measured(self, call: _Call, event: UsageMeasured) -> None:
        if event.stage == "llm" and self._metrics is not None:
            self._metrics.tokens(event, _sum(event, TOKENS_IN), _sum(event, TOKENS_OUT))
        turn = call.turns.get(("turn", event.turn))
        if turn is not None:
            turn.used.append(event)
        elif event.stage != "telephony":
            call.early = [*call.early[-EARLY:], event]

    def _tool_called(self, call: _Call, event: ToolCalled) -> None:
        call.tools[event.tool_id] = event

    def _tool_returned(self, call: _Call, event: ToolReturned) -> None:
        asked = call.tools.pop(event.tool_id, None)
        if asked is None:
            return
        turn = call.turns.get(("turn", asked.turn))
        about: Attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": event.name,
            "gen_ai.tool.call.id": event.tool_id,
            "gen_ai.tool.type": "function",
        }
        if self._texts:
            about |= {"gen_ai.tool.call.arguments": asked.arguments, "gen_ai.tool.call.result": event.output}
        if not event.ok:
            about["error.type"] = "tool_error"
        if turn is not None:
            turn.tools_at.append(event.at)
        began = event.at - max(0.0, event.ms) / 1000
        self._child(turn.context if turn else call.context, f"execute_tool {event.name}", began, event.at, about)

    def _turn_measured(self, call: _Call, event: TurnMeasured) -> None:
        if not event.closed:
            return
        name = ("reply", event.reply_id) if event.kind in ("greeting", "say") else ("turn", event.turn)
        turn = call.turns.pop(name, None)
        if turn is None:
            return
        turn.used += [used for used in call.early if used.turn == event.turn]
        call.early = [used for used in call.early if used.turn != event.turn]
        if self._metrics is not None:
            self._metrics.turn(event, answered=turn.caller is not None)
        self._hearing(call, turn, event)
        self._thinking(call, turn)
        self._speaking(call, turn, event)
        about: Attributes = {f"patter.latency.{part}_ms": ms for part, ms in event.segments.items()}
        about |= {
            "patter.latency.total_ms": event.total_ms,
            "patter.turn.kind": event.kind,
            "patter.turn.interrupted": event.interrupted,
            "patter.turn.tool_ms": event.tool_ms,
            "patter.turn.cost_usd": event.cost.get("total", 0.0),
        }
        if self._texts:
            about |= {"gen_ai.input.messages": _message("user", event.user_text)} if turn.caller else {}
            about["gen_ai.output.messages"] = _message("assistant", event.agent_text)
        turn.span.set_attributes(about)
        turn.span.end(_ns(max(event.at, turn.began)))

    # ------------------------------------------------------------------ what a turn is made of

    def _hearing(self, call: _Call, turn: _Turn, event: TurnMeasured) -> None:
        caller = turn.caller
        if caller is None or caller.source != "voice" or not 0 < caller.recognition_at <= caller.transcript_at:
            return  # typed, or the engine hears by itself and does not tell
        about = self._stage("transcription", turn, "stt", call.started.stt if call.started else "")
        about["patter.stt.audio_seconds"] = event.stt_audio_seconds
        self._operation(turn, "transcription", caller.recognition_at, caller.transcript_at, about)

    def _thinking(self, call: _Call, turn: _Turn) -> None:
        """One span for each request of the model: from the words (or the tool's result) to where its use was told."""
        began = turn.caller.at if turn.caller else turn.began
        first = min(
            (one.reached["first_token"] for one in turn.replies.values() if "first_token" in one.reached), default=0.0
        )
        requests = [used for used in turn.used if used.stage == "llm"]
        for used in requests:
            tools = [at for at in turn.tools_at if began < at <= used.at]
            began = max([began, *tools])
            about = self._stage("chat", turn, "llm", "", used)
            if first >= began:
                about["gen_ai.response.time_to_first_chunk"] = round(first - began, 6)
                first = 0.0
            self._operation(turn, "chat", began, used.at, about)
            began = max(began, used.at)
        told = max((reply.text_at for reply in turn.replies.values()), default=0.0)
        if not requests and first and turn.caller is not None:  # a script or a function: nothing is paid for
            about = self._stage("chat", turn, "llm", call.started.llm if call.started else "")
            self._operation(turn, "chat", began, max(first, told), about)

    def _speaking(self, call: _Call, turn: _Turn, event: TurnMeasured) -> None:
        replies = turn.replies.values()
        sentences = [reply.reached["first_sentence"] for reply in replies if "first_sentence" in reply.reached]
        sounds = [reply.reached["first_audio"] for reply in replies if "first_audio" in reply.reached]
        spoken = call.started.tts if call.started else ""
        made = [used.at for used in turn.used if used.stage == "tts" and used.at <= event.at]
        if sounds and (spoken or made):
            about = self._stage("synthesis", turn, "tts", spoken) | {"gen_ai.output.type": "speech"}
            about["patter.tts.characters"] = event.tts_characters
            began = min(sentences or [reply.started_at for reply in replies])
            self._operation(turn, "synthesis", began, max(sounds + made), about)
        for reply in replies:
            if "playing" in reply.reached and reply.said_at:
                self._child(turn.context, "playout", reply.reached["playing"], reply.said_at, {})

    def _stage(
        self, operation: str, turn: _Turn, stage: str, known: str, used: UsageMeasured | None = None
    ) -> Attributes:
        """Who did it: as it was billed in this turn, else as the call began with."""
        used = used or next((one for one in turn.used if one.stage == stage), None)
        provider, _, model = known.partition("/")
        if used is not None:
            provider, model = used.provider, used.model
        about: Attributes = {"gen_ai.operation.name": operation, "gen_ai.provider.name": provider or "unknown"}
        if model:
            about["gen_ai.request.model"] = model
        if used is not None and stage == "llm":
            for name, classes in (("input", TOKENS_IN), ("output", TOKENS_OUT), ("cache_read.input", TOKENS_CACHED)):
                if tokens := _sum(used, classes):
                    about[f"gen_ai.usage.{name}_tokens"] = tokens
        return about

    def _operation(self, turn: _Turn, name: str, began: float, ended: float, about: Attributes) -> None:
        """A request to a provider: a span, and how long it took among the metrics."""
        title = f"{name} {about['gen_ai.request.model']}" if "gen_ai.request.model" in about else name
        self._child(turn.context, title, began, ended, about, client=True)
        if self._metrics is not None:
            self._metrics.operation(about, max(0.0, ended - began))

    # ------------------------------------------------------------------ spans

    def _within(self, span: Span) -> Context:
        return self._trace.set_span_in_context(span, self._empty)

    def _open(self, name: str, began: float, within: Context, about: Attributes, *, server: bool = False) -> Span:
        kind = self._trace.SpanKind.SERVER if server else self._trace.SpanKind.INTERNAL
        return self._tracer.start_span(name, within, kind, about, start_time=_ns(began))

    def _child(
        self, within: Context, name: str, began: float, ended: float, about: Attributes, *, client: bool = False
    ) -> None:
        kind = self._trace.SpanKind.CLIENT if client else self._trace.SpanKind.INTERNAL
        span = self._tracer.start_span(name, within, kind, about, start_time=_ns(began))
        if "error.type" in about:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(_ns(max(began, ended)))


def _invoked(call: _Call) -> str:
    return f"invoke_agent {call.agent}".strip()


def _sum(used: UsageMeasured, classes: tuple[str, ...]) -> int:
    return round(sum(used.amounts.get(name, 0.0) for name in classes))


def _message(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}], ensure_ascii=False)


def _ns(moment: float) -> int:
    """Seconds since the epoch in ns, as OpenTelemetry counts; within what 64 bits can say."""
    return round(min(max(moment, 0.0), LATEST) * 1e9)
