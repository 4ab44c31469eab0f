"""What happens on all calls as numbers for Prometheus: one more reader of the stream, which counts without any library.

It owns the names of the metrics; it refuses to know who scrapes. Only their text needs prometheus-client, an optional package
that is imported when somebody asks for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeVar

from patter.events import (
    CallEnded,
    CallerSaid,
    CallPlaced,
    CallStarted,
    ConnectionUsed,
    CostMeasured,
    Event,
    FaultOccurred,
    MemoryChanged,
    ToolCalled,
    ToolReturned,
    TurnMeasured,
    UsageMeasured,
)
from patter.observe.series import LENGTH, Bounded, Histogram, Number
from patter.observe.tally import Tally

INSTALL = 'Metrics for Prometheus need an optional package: pip install "patter[telemetry]"'
REMEMBERED = 500  # ended calls of which a turn, or the price of a carrier's recording, may still be told
SECONDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
MINUTES = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
JITTER = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)

Metric = TypeVar("Metric", Number, Histogram)


@dataclass(slots=True)
class _Call:
    """One live call: its labels, its counts, and what of its cost is counted already."""

    agent: str
    direction: str
    tally: Tally = field(default_factory=Tally)
    cost: dict[str, float] = field(default_factory=dict)
    unpriced: bool = False
    spoken: set[int] = field(default_factory=set)
    tools: dict[str, str] = field(default_factory=dict)


class PrometheusReader:
    """A bus sink. `text()` is what a scraper gets."""

    def __init__(self) -> None:
        self._calls: dict[str, _Call] = {}
        self._over: OrderedDict[str, _Call] = OrderedDict()
        self._metrics: list[Number | Histogram] = []
        self._registry: Any = None
        self._agent, self._provider, self._model, self._tool = Bounded(), Bounded(), Bounded(), Bounded()
        self._make_call_metrics()
        self._make_turn_metrics()
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            CallPlaced: self._call_placed,
            CallStarted: self._call_started,
            CallEnded: self._call_ended,
            CallerSaid: self._caller_said,
            TurnMeasured: self._turn_measured,
            UsageMeasured: self._usage_measured,
            CostMeasured: self._cost_measured,
            ConnectionUsed: self._connection_used,
            ToolCalled: self._tool_called,
            ToolReturned: self._tool_returned,
            FaultOccurred: self._fault_occurred,
            MemoryChanged: self._memory_changed,
        }

    def _make_call_metrics(self) -> None:
        self.live = self._gauge("patter_calls_live", "Calls that go on or ring now.", "agent", "direction")
        self.ended = self._counter("patter_calls", "Calls that ended.", "reason", "direction", "agent")
        self.duration = self._histogram("patter_call_duration_seconds", "Length of ended calls.", MINUTES, "direction")
        self.cost = self._counter("patter_cost_usd", "What calls have cost, where prices are known.", "stage")
        self.unpriced = self._counter("patter_unpriced_calls", "Ended calls that used something without a known price.")
        self.faults = self._counter("patter_faults", "Parts that failed.", "stage", "provider")
        self.behind = self._gauge("patter_memory_behind", "1 while what happens cannot be written.", "keeper")
        self.waiting = self._gauge("patter_memory_waiting", "Lines or calls that wait to be written.", "keeper")
        self.jitter = self._histogram("patter_line_jitter_seconds", "Jitter of callers' lines.", JITTER)
        self.frames = self._counter("patter_line_frames", "Frames of callers, by what became of them.", "fate")
        self.underruns = self._counter("patter_line_underruns", "Times an agent's sound ran dry in a reply.")

    def _make_turn_metrics(self) -> None:
        self.latency = self._histogram(
            "patter_turn_latency_seconds", "Silence before answers, by segment and in total.", SECONDS, "segment"
        )
        self.greeting = self._histogram("patter_greeting_seconds", "From answering to the greeting's sound.", SECONDS)
        self.turns = self._counter("patter_turns", "Turns of callers that are over.", "interrupted")
        self.interruptions = self._counter("patter_interruptions", "Times a caller took the floor.")
        self.pauses = self._counter("patter_false_interruptions", "Times an agent stopped for a voice and went on.")
        self.usage = self._counter("patter_usage", "What was used.", "stage", "provider", "model", "amount")
        self.tools = self._counter("patter_tool_calls", "Tools that returned.", "tool", "ok")
        self.tool_time = self._histogram("patter_tool_seconds", "How long tools took.", SECONDS, "tool")
        self.connections = self._counter("patter_connections", "Connections to providers used.", "stage", "reused")

    def __call__(self, event: Event) -> None:
        """Take one event of any call."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)
        call = self._calls.get(event.call_id)
        if call is not None:
            call.tally.feed(event)

    def text(self) -> tuple[bytes, str]:
        """All metrics in Prometheus' text format, and its media type. Raises ImportError without prometheus-client."""
        import prometheus_client  # an optional package that takes its time

        if self._registry is None:
            self._registry = prometheus_client.CollectorRegistry()
            self._registry.register(self)
            prometheus_client.ProcessCollector(registry=self._registry)
        return prometheus_client.generate_latest(self._registry), prometheus_client.CONTENT_TYPE_LATEST

    @property
    def numbers(self) -> list[Number]:
        """The counters and gauges, for other ways out."""
        return [metric for metric in self._metrics if isinstance(metric, Number)]

    def collect(self) -> Iterator[Any]:
        """What is counted by now, as its library wants it."""
        for metric in self._metrics:
            yield _histogram(metric) if isinstance(metric, Histogram) else _number(metric)

    # ------------------------------------------------------------------ one method per kind of event

    def _known(self, call_id: str) -> _Call | None:
        """A live call, or one that is over: what was measured of its end comes behind it."""
        return self._calls.get(call_id) or self._over.get(call_id)

    def _call_placed(self, event: CallPlaced) -> None:
        self._begin(event.call_id, event.agent, "outbound")

    def _call_started(self, event: CallStarted) -> None:
        self._begin(event.call_id, event.agent, event.direction)

    def _begin(self, call_id: str, agent: str, direction: str) -> None:
        if self._known(call_id) is None:
            call = self._calls[call_id] = _Call(self._agent(agent), direction)
            self.live.add(call.agent, direction)

    def _call_ended(self, event: CallEnded) -> None:
        call = self._calls.pop(event.call_id, None)
        if call is None:
            return
        self._over[event.call_id] = call
        if len(self._over) > REMEMBERED:
            self._over.popitem(last=False)
        self.live.add(call.agent, call.direction, by=-1.0)
        self.ended.add(event.reason, call.direction, call.agent)
        self.duration.add(call.direction, value=event.duration_s)
        self.unpriced.add(by=float(call.unpriced))
        tally = call.tally
        self.interruptions.add(by=tally.interruptions)
        self.pauses.add(by=tally.false_interruptions)
        if tally.greeting_ms:
            self.greeting.add(value=tally.greeting_ms / 1000)
        if tally.line is not None:
            line = tally.line
            self.jitter.add(value=line.jitter_ms / 1000)
            self.underruns.add(by=line.underruns)
            for fate, count in (("came", line.frames), ("lost", line.lost), ("dropped", line.dropped)):
                self.frames.add(fate, by=count)

    def _caller_said(self, event: CallerSaid) -> None:
        if event.call_id in self._calls:
            self._calls[event.call_id].spoken.add(event.turn)

    def _turn_measured(self, event: TurnMeasured) -> None:
        call = self._known(event.call_id)
        if call is None or not event.closed or event.kind not in ("answer", "filler") or event.turn not in call.spoken:
            return
        self.turns.add("yes" if event.interrupted else "no")
        if not event.interrupted and event.total_ms > 0:
            self.latency.add("total", value=event.total_ms / 1000)
            for name, took_ms in event.segments.items():
                self.latency.add(name, value=took_ms / 1000)

    def _usage_measured(self, event: UsageMeasured) -> None:
        provider, model = self._provider(event.provider), self._model(event.model)
        for amount, quantity in event.amounts.items():
            self.usage.add(event.stage, provider, model, amount, by=quantity)

    def _cost_measured(self, event: CostMeasured) -> None:
        call = self._known(event.call_id)
        if call is None:
            return
        call.unpriced = bool(event.unpriced)
        for stage, usd in event.cost.items():
            if stage != "total" and usd > call.cost.get(stage, 0.0):
                self.cost.add(stage, by=usd - call.cost.get(stage, 0.0))
                call.cost[stage] = usd

    def _connection_used(self, event: ConnectionUsed) -> None:
        self.connections.add(event.stage, "yes" if event.reused else "no")

    def _tool_called(self, event: ToolCalled) -> None:
        if event.call_id in self._calls:
            self._calls[event.call_id].tools[event.tool_id] = event.name

    def _tool_returned(self, event: ToolReturned) -> None:
        call = self._calls.get(event.call_id)
        if call is not None and call.tools.pop(event.tool_id, None) is not None:
            tool = self._tool(event.name)
            self.tools.add(tool, "yes" if event.ok else "no")
            self.tool_time.add(tool, value=event.ms / 1000)

    def _fault_occurred(self, event: FaultOccurred) -> None:
        self.faults.add(event.stage[:LENGTH], self._provider(event.provider))

    def _memory_changed(self, event: MemoryChanged) -> None:
        self.behind.set(event.keeper, to=float(event.state == "behind"))
        self.waiting.set(event.keeper, to=event.waiting)

    # ------------------------------------------------------------------ making metrics

    def _counter(self, name: str, what: str, *labels: str) -> Number:
        return self._made(Number("counter", name, what, labels))

    def _gauge(self, name: str, what: str, *labels: str) -> Number:
        return self._made(Number("gauge", name, what, labels))

    def _histogram(self, name: str, what: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
        return self._made(Histogram(name, what, bounds, labels))

    def _made(self, metric: Metric) -> Metric:
        self._metrics.append(metric)
        return metric


def _histogram(metric: Histogram) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(metric.name, metric.what, labels=metric.labels)
    ends = [*(repr(bound) for bound in metric.bounds), "+Inf"]
    for labels, heap in metric.values.items():
        family.add_metric(labels, list(zip(ends, accumulate(heap.counts), strict=True)), heap.total)
    return family


def _number(metric: Number) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    made = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = made(metric.name, metric.what, labels=metric.labels)
    for labels, value in (metric.values or ({} if metric.labels else {(): 0.0})).items():
        family.add_metric(labels, value)
    return family
