"""What a scraper gets: the text is Prometheus' own, the counts are what happened, and labels stay few."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from patter.bus import Bus
from patter.clock import Clock
from patter.events import (
    AgentSaid,
    CallEnded,
    CallerSaid,
    CallPlaced,
    CallStarted,
    ConnectionUsed,
    CostMeasured,
    Event,
    FaultOccurred,
    Interrupted,
    LineMeasured,
    MemoryChanged,
    ReplyPaused,
    ReplyReached,
    ReplyResumed,
    ReplyStarted,
    ToolCalled,
    ToolReturned,
    UsageMeasured,
)
from patter.observe.prices import Prices
from patter.observe.prometheus import INSTALL, PrometheusReader
from patter.observe.reader import MetricsReader
from patter.observe.series import OTHER, VALUES, Histogram
from patter.server.answers import sentences
from patter.server.api.metrics_api import MetricsApi
from patter.server.endpoint import mount

T0 = 1_700_000_000.0


class House:
    """A bus with the readers that count."""

    def __init__(self) -> None:
        self.bus, self.reader = Bus(Clock()), PrometheusReader()
        self.bus.add_sink(MetricsReader(self.bus, Prices.load()))
        self.bus.add_sink(self.reader)

    def happened(self, *events: Event) -> None:
        for event in events:
            self.bus.publish(event)

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """What a scraper reads, by its own parser."""
        text, media_type = self.reader.text()
        assert media_type.startswith("text/plain")
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples().get((name, frozenset(labels.items())))


@pytest.fixture
def house() -> House:
    return House()


def call(call_id: str = "c") -> Iterator[Event]:
    """A call with one answered and one interrupted turn, a tool and a bad line; its end is not among it."""
    c: dict[str, Any] = {"call_id": call_id}
    yield CallStarted(**c, at=T0, agent="dental", direction="inbound")
    yield ReplyStarted(**c, at=T0, turn=0, reply_id=1, kind="greeting")
    yield ReplyReached(**c, at=T0, reply_id=1, stage="playing", reached_at=T0 + 0.25)
    yield ReplyPaused(**c, at=T0, reply_id=1, heard_ms=1, voice_began_at=T0)
    yield ReplyResumed(**c, at=T0, reply_id=1, why="no words")
    yield AgentSaid(**c, at=T0 + 1, turn=0, reply_id=1, text="Hello.", kind="greeting")
    for turn, cut in ((1, False), (2, True)):
        at = T0 + 10 * turn
        yield CallerSaid(
            **c, at=at + 0.5, turn=turn, text="hm", speech_ended_at=at, recognition_at=at, transcript_at=at + 0.5
        )
        yield UsageMeasured(
            **c, at=at, turn=turn, stage="llm", provider="acme", model="one", amounts={"input_tokens": 30.0}
        )
        yield ConnectionUsed(**c, at=at, turn=turn, stage="llm", provider="acme", reused=cut, ms=5)
        yield ToolCalled(**c, at=at, turn=turn, tool_id=f"t{turn}", name="find", arguments="{}")
        yield ToolReturned(**c, at=at + 0.1, tool_id=f"t{turn}", name="find", ok=not cut, output="", ms=100)
        yield ReplyStarted(**c, at=at + 0.5, turn=turn, reply_id=turn + 1)
        yield ReplyReached(**c, at=at, reply_id=turn + 1, stage="playing", reached_at=at + 0.75)
        if cut:
            yield Interrupted(**c, at=at + 1, turn=turn, reply_id=turn + 1, heard="a", dropped="b", heard_ms=9,
                              voice_began_at=at + 0.9, stopped_at=at + 1)  # fmt: skip
        yield AgentSaid(**c, at=at + 1, turn=turn, reply_id=turn + 1, text="a", interrupted=cut)
    yield FaultOccurred(**c, stage="tts", provider="acme", problem="gone")
    yield CostMeasured(**c, cost={"llm": 0.25, "telephony": 0.5, "total": 0.75}, unpriced=("nobody",))
    yield CostMeasured(**c, cost={"llm": 0.5, "telephony": 0.5, "total": 1.0}, unpriced=("nobody",))
    yield LineMeasured(**c, frames=100, lost=3, dropped=1, jitter_ms=4.0, underruns=2)


def end(call_id: str = "c") -> CallEnded:
    return CallEnded(call_id=call_id, at=T0 + 40, reason="caller_hung_up", duration_s=40.0)


def test_calls_are_counted_by_how_they_ended_and_those_that_go_on_are_a_gauge(house: House) -> None:
    house.happened(*call("a"), *call("b"), end("a"))
    house.happened(CallPlaced(call_id="d", agent="dental"), CallEnded(call_id="d", reason="busy"))
    assert house.value("patter_calls_live", agent="dental", direction="inbound") == 1
    assert house.value("patter_calls_live", agent="dental", direction="outbound") == 0
    assert house.value("patter_calls_total", agent="dental", direction="inbound", reason="caller_hung_up") == 1
    assert house.value("patter_calls_total", agent="dental", direction="outbound", reason="busy") == 1
    assert house.value("patter_call_duration_seconds_sum", direction="inbound") == 40
    house.happened(end("a"), end("nobody"))
    assert house.value("patter_calls_live", agent="dental", direction="inbound") == 1


def test_latency_is_that_of_answered_turns_by_segment(house: House) -> None:
    house.happened(*call(), end())
    assert house.value("patter_turn_latency_seconds_count", segment="total") == 1  # the other one was interrupted
    assert house.value("patter_turn_latency_seconds_sum", segment="total") == 0.75
    assert house.value("patter_turn_latency_seconds_sum", segment="transcription") == 0.5
    assert house.value("patter_turn_latency_seconds_bucket", segment="total", le="0.6") == 0
    assert house.value("patter_turn_latency_seconds_bucket", segment="total", le="0.8") == 1
    assert house.value("patter_turn_latency_seconds_bucket", segment="total", le="+Inf") == 1
    assert (
        house.value("patter_turns_total", interrupted="yes") == house.value("patter_turns_total", interrupted="no") == 1
    )
    assert house.value("patter_greeting_seconds_sum") == 0.25
    assert house.value("patter_interruptions_total") == house.value("patter_false_interruptions_total") == 1


def test_a_turn_that_the_end_of_the_call_closed_is_counted_too(house: House) -> None:
    house.happened(CallStarted(call_id="c", at=T0), CallerSaid(call_id="c", at=T0, turn=1, text="hello?"),
                   ReplyStarted(call_id="c", at=T0, turn=1, reply_id=1), end())  # fmt: skip
    assert house.value("patter_turns_total", interrupted="no") == 1
    assert house.value("patter_turn_latency_seconds_count", segment="total") is None


def test_money_usage_tools_faults_and_the_line_are_counted_once(house: House) -> None:
    house.happened(*call(), end())
    assert house.value("patter_cost_usd_total", stage="llm") == 0.5
    assert house.value("patter_cost_usd_total", stage="telephony") == 0.5
    assert house.value("patter_cost_usd_total", stage="total") is None
    assert house.value("patter_unpriced_calls_total") == 1
    assert house.value("patter_usage_total", stage="llm", provider="acme", model="one", amount="input_tokens") == 60
    assert house.value("patter_tool_calls_total", tool="find", ok="yes") == 1
    assert house.value("patter_tool_seconds_sum", tool="find") == pytest.approx(0.2)
    assert house.value("patter_faults_total", stage="tts", provider="acme") == 1
    assert house.value("patter_connections_total", stage="llm", reused="yes") == 1
    assert house.value("patter_line_frames_total", fate="lost") == 3
    assert house.value("patter_line_underruns_total") == 2
    assert house.value("patter_line_jitter_seconds_sum") == 0.004


def test_a_price_that_is_known_after_the_end_is_counted_too(house: House) -> None:
    house.happened(*call(), end(), CostMeasured(call_id="c", cost={"llm": 0.5, "telephony": 0.75, "total": 1.25}))
    assert house.value("patter_cost_usd_total", stage="telephony") == 0.75


def test_memory_that_lags_behind_is_a_gauge(house: House) -> None:
    house.happened(MemoryChanged(call_id="", keeper="store", state="behind", waiting=7))
    assert (
        house.value("patter_memory_behind", keeper="store"),
        house.value("patter_memory_waiting", keeper="store"),
    ) == (1, 7)
    house.happened(MemoryChanged(call_id="", keeper="store", state="current"))
    assert house.value("patter_memory_behind", keeper="store") == 0


def test_a_label_never_grows_without_end(house: House) -> None:
    for number in range(3 * VALUES):
        house.happened(CallPlaced(call_id=str(number), agent=f"agent {number}" + "x" * 500))
    live = {labels: value for (name, labels), value in house.samples().items() if name == "patter_calls_live"}
    assert len(live) == VALUES + 1
    assert house.value("patter_calls_live", agent=OTHER, direction="outbound") == 2 * VALUES
    assert all(len(value) <= 80 for labels in live for _, value in labels)


def test_odd_texts_in_labels_are_read_back_as_they_are(house: House) -> None:
    odd = 'a "quoted" \\ name\nof two lines'
    house.happened(CallPlaced(call_id="c", agent=odd))
    assert house.value("patter_calls_live", agent=odd, direction="outbound") == 1


def test_a_histogram_takes_no_negative_and_no_odd_value() -> None:
    heap = Histogram("h", "", (1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 99.0, -1.0, float("nan")):
        heap.add(value=value)
    assert heap.values[()].counts == [2, 1, 1]


@pytest.mark.anyio
async def test_the_address_gives_the_text_and_without_the_package_says_what_to_install(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = web.Application(middlewares=[sentences])
    (entry,) = MetricsApi(house.reader.text, INSTALL).endpoints()
    assert (entry.path, entry.role) == ("/metrics", "read")
    mount(app, [entry])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(url) as answer:
                assert (answer.status, answer.content_type) == (200, "text/plain")
                families = {family.name for family in text_string_to_metric_families(await answer.text())}
                assert {"patter_calls", "patter_turn_latency_seconds", "process_cpu_seconds"} <= families
            monkeypatch.setitem(sys.modules, "prometheus_client", None)  # as where the extra is not installed
            async with session.get(url) as answer:
                assert answer.status == 501
                assert 'pip install "patter[telemetry]"' in (await answer.json())["error"]
    finally:
        await runner.cleanup()
