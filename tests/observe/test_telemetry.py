"""A call as spans and metrics: their shape, their true times, what is left out, and that a dead collector disturbs nobody."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.trace import SpanKind, StatusCode

from patter.bus import Bus
from patter.clock import Clock
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
    UsageMeasured,
)
from patter.exceptions import SettingsError
from patter.models import Agent
from patter.observe.collector import open_telemetry
from patter.observe.prices import Prices
from patter.observe.prometheus import PrometheusReader
from patter.observe.reader import MetricsReader
from patter.observe.telemetry import TelemetryReader
from patter.settings import Telemetry, load
from patter.signals import TextDelta, TokensUsed, ToolRequest
from tests.support.otlp_collector import Collector, attributes, collector
from tests.support.parts import Cast, Stage, perform, set_stage
from tests.support.virtual_time import run_virtual

PRICES = Prices.load()
T0 = 1_700_000_000.0
NS = 1_000_000_000


@pytest.fixture(autouse=True)
def _no_otel_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


class Room:
    """A bus whose spans and metrics stay in memory."""

    def __init__(self, *, texts: bool = False) -> None:
        self.spans, self.metrics = InMemorySpanExporter(), InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.bus, counted = Bus(Clock()), PrometheusReader()
        meters = MeterProvider([self.metrics])
        self.reader = TelemetryReader(tracers, meters, counted.numbers, texts=texts)
        for sink in (MetricsReader(self.bus, PRICES), counted, self.reader):
            self.bus.add_sink(sink)

    def happened(self, *events: Event) -> dict[str, ReadableSpan]:
        """The spans that come of these events, by name."""
        for event in events:
            self.bus.publish(event)
        return {span.name: span for span in self.spans.get_finished_spans()}

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """The data points of a metric."""
        data = self.metrics.get_metrics_data()
        assert data is not None
        return [
            (dict(point.attributes or {}), point)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


def call() -> list[Event]:
    """A call with a greeting and one turn in which a tool is asked; not ended."""
    c: dict[str, Any] = {"call_id": "c"}
    model: dict[str, Any] = {"turn": 1, "stage": "llm", "provider": "acme", "model": "wise-1"}
    return [
        CallStarted(**c, at=T0, agent="dental", agent_version="v7", direction="inbound", telephony="loopback",
                    caller="+15550001111", stt="ears/e1", llm="acme/wise-1", tts="mouth/m1"),
        ReplyStarted(**c, at=T0 + 0.1, turn=0, reply_id=1, kind="greeting"),
        ReplyReached(**c, at=T0 + 0.3, reply_id=1, stage="first_audio", reached_at=T0 + 0.25),
        ReplyReached(**c, at=T0 + 0.3, reply_id=1, stage="playing", reached_at=T0 + 0.3),
        AgentSaid(**c, at=T0 + 2, turn=0, reply_id=1, text="Hello.", kind="greeting"),
        CallerSaid(**c, at=T0 + 5.5, turn=1, text="at nine?", speech_ended_at=T0 + 5, recognition_at=T0 + 5.2,
                   transcript_at=T0 + 5.4),
        UsageMeasured(**c, at=T0 + 5.5, turn=1, stage="stt", provider="ears", model="e2", amounts={"audio_seconds": 2.0}),
        ReplyStarted(**c, at=T0 + 5.5, turn=1, reply_id=2),
        ReplyReached(**c, at=T0 + 5.75, reply_id=2, stage="first_token", reached_at=T0 + 5.75),
        UsageMeasured(**c, at=T0 + 6, **model, amounts={"input_tokens": 900.0, "cached_tokens": 500.0, "output_tokens": 20.0}),
        ToolCalled(**c, at=T0 + 6, turn=1, tool_id="t1", name="find_slots", arguments='{"at": "nine"}'),
        ToolReturned(**c, at=T0 + 6.5, tool_id="t1", name="find_slots", ok=True, output="free", ms=500),
        ReplyText(**c, at=T0 + 7, reply_id=2, text="Nine is free."),
        ReplyReached(**c, at=T0 + 7, reply_id=2, stage="first_sentence", reached_at=T0 + 7),
        UsageMeasured(**c, at=T0 + 7.25, **model, amounts={"input_tokens": 950.0, "output_tokens": 8.0}),
        ReplyReached(**c, at=T0 + 7.5, reply_id=2, stage="first_audio", reached_at=T0 + 7.5),
        ReplyReached(**c, at=T0 + 7.6, reply_id=2, stage="playing", reached_at=T0 + 7.6),
        UsageMeasured(**c, at=T0 + 8, turn=1, stage="tts", provider="mouth", model="m1", amounts={"characters": 13.0}),
        FaultOccurred(**c, at=T0 + 8, stage="tts", provider="mouth", problem="slow"),
        AgentSaid(**c, at=T0 + 9, turn=1, reply_id=2, text="Nine is free."),
    ]  # fmt: skip


END = CallEnded(call_id="c", at=T0 + 10, reason="caller_hung_up", duration_s=10.0)


def seconds(span: ReadableSpan) -> tuple[float, float]:
    """From when to when, in seconds of the call."""
    assert span.start_time is not None
    assert span.end_time is not None
    return round(span.start_time / NS - T0, 3), round(span.end_time / NS - T0, 3)


def test_a_call_is_a_tree_of_spans_at_the_times_of_its_facts() -> None:
    room = Room()
    spans = room.happened(*call(), END)
    root, turn = spans["call"], spans["invoke_agent dental"]
    assert root.parent is None
    assert (seconds(root), root.kind) == ((0, 10), SpanKind.SERVER)
    parents = {name: span.parent.span_id for name, span in spans.items() if span.parent is not None}
    assert root.context is not None
    assert turn.context is not None
    assert parents["greeting"] == parents["invoke_agent dental"] == root.context.span_id
    for name in ("transcription e2", "chat wise-1", "synthesis m1", "execute_tool find_slots"):
        assert parents[name] == turn.context.span_id
    assert seconds(turn) == (5, 9)
    assert seconds(spans["greeting"]) == (0.1, 2)
    assert seconds(spans["transcription e2"]) == (5.2, 5.4)
    assert seconds(spans["execute_tool find_slots"]) == (6, 6.5)
    assert seconds(spans["synthesis m1"]) == (7, 8)
    chats = [span for span in room.spans.get_finished_spans() if span.name == "chat wise-1"]
    assert [seconds(span) for span in chats] == [(5.5, 6), (6.5, 7.25)]
    playouts = [span for span in room.spans.get_finished_spans() if span.name == "playout"]
    assert [seconds(span) for span in playouts] == [(0.3, 2), (7.6, 9)]
    assert len({span.context.trace_id for span in spans.values() if span.context is not None}) == 1


def test_attributes_are_those_of_the_genai_conventions() -> None:
    spans = Room().happened(*call(), END)
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    used = {name for span in spans.values() for name in span.attributes or {} if name.startswith("gen_ai.")}
    assert used <= known
    chat = dict(spans["chat wise-1"].attributes or {})  # the second request
    assert chat == {
        gen_ai_attributes.GEN_AI_OPERATION_NAME: gen_ai_attributes.GenAiOperationNameValues.CHAT.value,
        gen_ai_attributes.GEN_AI_PROVIDER_NAME: "acme",
        gen_ai_attributes.GEN_AI_REQUEST_MODEL: "wise-1",
        gen_ai_attributes.GEN_AI_USAGE_INPUT_TOKENS: 950,
        gen_ai_attributes.GEN_AI_USAGE_OUTPUT_TOKENS: 8,
    }
    tool = dict(spans["execute_tool find_slots"].attributes or {})
    assert tool[gen_ai_attributes.GEN_AI_TOOL_NAME] == "find_slots"
    assert tool[gen_ai_attributes.GEN_AI_TOOL_CALL_ID] == "t1"
    turn = dict(spans["invoke_agent dental"].attributes or {})
    assert turn[gen_ai_attributes.GEN_AI_OPERATION_NAME] == "invoke_agent"
    assert turn["patter.latency.total_ms"] == pytest.approx(2600, abs=0.1)
    segments = [value for name, value in turn.items() if name.startswith("patter.latency.") and "total" not in name]
    assert sum(segments) == turn["patter.latency.total_ms"]
    root = dict(spans["call"].attributes or {})
    assert root[gen_ai_attributes.GEN_AI_CONVERSATION_ID] == "c"
    assert root[gen_ai_attributes.GEN_AI_AGENT_VERSION] == "v7"
    assert root["patter.call.reason"] == "caller_hung_up"
    assert [event.name for event in spans["call"].events] == ["answered", "fault"]


def test_the_first_request_says_how_long_the_first_word_took() -> None:
    room = Room()
    room.happened(*call(), END)
    first = next(span for span in room.spans.get_finished_spans() if span.name == "chat wise-1")
    about = dict(first.attributes or {})
    assert about[gen_ai_attributes.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] == 0.25
    assert about[gen_ai_attributes.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS] == 500


@pytest.mark.parametrize("texts", [False, True])
def test_what_was_said_is_told_only_where_that_is_asked_for(texts: bool) -> None:
    spans = Room(texts=texts).happened(*call(), END)
    everything = " ".join(span.to_json() for span in spans.values())
    for word in ("at nine?", "Nine is free.", "+15550001111", "free", "Hello."):
        assert (word in everything) == texts
    if texts:
        turn = dict(spans["invoke_agent dental"].attributes or {})
        (message,) = json.loads(str(turn[gen_ai_attributes.GEN_AI_INPUT_MESSAGES]))
        assert message == {"role": "user", "parts": [{"type": "text", "content": "at nine?"}]}


def test_a_call_that_broke_is_an_error_and_one_that_nobody_took_is_a_span_too() -> None:
    room = Room()
    lost = room.happened(*call(), CallEnded(call_id="c", at=T0 + 10, reason="line_lost", detail="gone"))["call"]
    assert (lost.status.status_code, dict(lost.attributes or {})["error.type"]) == (StatusCode.ERROR, "line_lost")
    room.spans.clear()
    busy = room.happened(CallPlaced(call_id="d", at=T0), CallEnded(call_id="d", at=T0 + 4, reason="busy"))["call"]
    assert (seconds(busy), busy.status.status_code) == ((0, 4), StatusCode.UNSET)


def test_a_tool_that_failed_is_an_error() -> None:
    events = [*call()[:6], ToolCalled(call_id="c", at=T0 + 6, turn=1, tool_id="x", name="find", arguments="{}"),
              ToolReturned(call_id="c", at=T0 + 7, tool_id="x", name="find", ok=False, output="no", ms=100), END]  # fmt: skip
    tool = Room().happened(*events)["execute_tool find"]
    assert (tool.status.status_code, seconds(tool)) == (StatusCode.ERROR, (6.9, 7))


def test_what_was_typed_and_what_the_engine_hears_itself_has_no_transcription() -> None:
    typed = CallerSaid(
        call_id="c", at=T0 + 3, turn=2, text="hi", source="typed", recognition_at=T0 + 3, transcript_at=T0 + 3
    )
    sound = CallerSaid(call_id="c", at=T0 + 4, turn=3, text="", speech_ended_at=T0 + 3.5, pending=True)
    spans = Room().happened(call()[0], typed, sound, END)
    assert set(spans) == {"call", "invoke_agent dental"}


def test_a_turn_that_only_the_end_closes_is_told_and_nothing_stays_open() -> None:
    room = Room()
    spans = room.happened(*call()[:9], END)
    assert {"call", "greeting", "invoke_agent dental"} <= set(spans)
    room.reader.close()
    room.happened(*call()[:9])  # the same again, and the process ends
    room.reader.close()
    assert len([span for span in room.spans.get_finished_spans() if span.name == "call"]) == 2
    assert len([span for span in room.spans.get_finished_spans() if span.name == "invoke_agent dental"]) == 2


def test_metrics_are_those_of_the_conventions_and_our_own_counts() -> None:
    room = Room()
    room.happened(*call(), END)
    tokens = {
        about["gen_ai.token.type"]: point.sum for about, point in room.points(gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE)
    }
    assert tokens == {"input": 1850, "output": 28}
    durations = room.points(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION)
    took = {about["gen_ai.operation.name"]: (point.count, round(point.sum, 3)) for about, point in durations}
    assert took == {"transcription": (1, 0.2), "chat": (2, 1.25), "synthesis": (2, 1.15)}
    latency = {about["segment"]: point.sum for about, point in room.points("patter.turn.latency")}
    assert latency["total"] == pytest.approx(2.6, abs=0.001)
    ended = room.points("patter.calls")
    assert [(about["reason"], point.value) for about, point in ended] == [("caller_hung_up", 1)]
    assert [point.value for _, point in room.points("patter.calls_live")] == [0]


# --------------------------------------------------------------------------------------------------- the way out


def real_call(settings: Telemetry) -> None:
    """A call in virtual time whose spans go out over a real socket."""
    asks = [TokensUsed(700, 9, 100), TextDelta("One moment. "), ToolRequest("t1", "find", "{}")]
    tool = {
        "name": "find",
        "description": "",
        "parameters": {"type": "object"},
        "handler": lambda arguments, call: "nine",
    }
    agent = Agent("Be brief.", provider="pipeline", first_message="Hello.", tools=[tool], name="dental")
    cast = Cast(agent=agent, utterances=["any slots on tuesday"], lines=[asks, "Nine or ten."])

    async def scene(stage: Stage) -> None:
        await stage.line.silent(1.5)
        await stage.line.speaks(0.8)
        await stage.line.silent(5.0)

    async def run() -> None:
        stage, counted = set_stage(cast), PrometheusReader()
        telling = open_telemetry(settings, counted.numbers)
        assert telling is not None
        for sink in (MetricsReader(stage.bus, PRICES), counted, telling.reader):
            stage.bus.add_sink(sink)
        await perform(stage, scene)
        await telling.aclose()

    run_virtual(run)


def check_came(came: Collector) -> None:
    """The spans of `real_call` are there, whole and once."""
    assert came.violations == []
    names = [span.name for span in came.spans]
    for name in ("call", "greeting", "invoke_agent dental", "execute_tool find", "playout"):
        assert name in names
    assert names.count("call") == names.count("greeting") == 1
    ids = {span.span_id for span in came.spans}
    assert [span.name for span in came.spans if span.parent_span_id not in ids] == ["call"]
    assert len({span.trace_id for span in came.spans}) == 1
    chat = next(attributes(span.attributes) for span in came.spans if span.name.startswith("chat"))
    assert (chat["gen_ai.usage.input_tokens"], chat["gen_ai.usage.cache_read.input_tokens"]) == (700, 100)
    assert all(1_700_000_000 * NS <= span.start_time_unix_nano <= span.end_time_unix_nano for span in came.spans)
    assert all(span.end_time_unix_nano < 1_700_000_060 * NS for span in came.spans)  # virtual time, never "now"


def test_a_collector_that_the_settings_name_gets_a_real_calls_spans_and_metrics() -> None:
    with collector() as came:
        real_call(Telemetry(endpoint=came.url + "/"))
    check_came(came)
    assert came.services == {"patter"}
    assert {
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
        "patter.turn.latency",
        "patter.calls",
    } <= set(came.metrics)


def test_the_standard_environment_variables_switch_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as came:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", came.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "front desk")
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
        real_call(Telemetry())
    check_came(came)
    assert came.services == {"front desk"}
    assert came.metrics == {}
    assert {headers["x-key"] for headers in came.headers} == {"abc"}


def test_nothing_is_sent_where_nobody_asked_for_it() -> None:
    assert open_telemetry(Telemetry(), (), {}) is None
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "TRUE"}
    assert open_telemetry(Telemetry(endpoint="http://127.0.0.1:9"), (), asked) is None


@pytest.mark.parametrize("death", ["nobody listens", "it refuses"])
def test_a_dead_collector_disturbs_no_call_and_is_told_once(
    death: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    with socket.socket() as unused, collector() as refusing:
        unused.bind(("127.0.0.1", 0))
        refusing.status = 400
        url = refusing.url if death == "it refuses" else f"http://127.0.0.1:{unused.getsockname()[1]}"
        with caplog.at_level(logging.DEBUG):
            real_call(Telemetry(endpoint=url))
    loud = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert sorted((record.getMessage(), record.__dict__["kind"]) for record in loud) == [
        ("the telemetry collector takes nothing, calls go on without it", "metrics"),
        ("the telemetry collector takes nothing, calls go on without it", "spans"),
    ]


class _Global:
    """OpenTelemetry's global provider for one test: it can be set only once a process, so it is put back by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tracers: TracerProvider) -> None:
        monkeypatch.setattr(trace_api, "_TRACER_PROVIDER", tracers)
        monkeypatch.setattr(metrics_api._internal, "_METER_PROVIDER", None)


def test_a_program_with_a_provider_of_its_own_gets_the_spans_there(monkeypatch: pytest.MonkeyPatch) -> None:
    spans, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    _Global(monkeypatch, tracers)
    with collector() as came:
        real_call(Telemetry(endpoint=came.url))
    assert came.spans == []
    assert "call" in _names(spans.get_finished_spans())


def _names(spans: Sequence[ReadableSpan]) -> list[str]:
    return [span.name for span in spans]


def test_the_settings_file_has_a_section_for_it(tmp_path: Path) -> None:
    (tmp_path / "engine.toml").write_text('[telemetry]\nendpoint = "http://key:secret@localhost:4318"\ntexts = true\n')
    settings = load(tmp_path, {})
    assert settings.telemetry == Telemetry(endpoint="http://key:secret@localhost:4318", texts=True)
    assert "secret" not in repr(settings)
    for wrong in ("endpoint = 'localhost:4318'", "endpiont = 'x'", "texts = 'yes'"):
        (tmp_path / "engine.toml").write_text(f"[telemetry]\n{wrong}\n")
        with pytest.raises(SettingsError, match="telemetry"):
            load(tmp_path, {})
