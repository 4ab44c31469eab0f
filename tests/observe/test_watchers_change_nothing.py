"""Watchers only watch: a call sends the same bytes at the same moments with all of them, with none, and with broken ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NoReturn

import anyio
import anyio.to_thread
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from patter.audio.format import AudioFormat
from patter.bus import Bus
from patter.clock import Clock
from patter.events import Event, Interrupted, ReplyResumed, ToolReturned, TurnMeasured
from patter.loopback.misbehaviour import Misbehaviour
from patter.models import Agent
from patter.observe.journal import Journal
from patter.observe.meter import CostMeter
from patter.observe.prices import Prices
from patter.observe.prometheus import PrometheusReader
from patter.observe.reader import MetricsReader
from patter.observe.recordings import Recordings
from patter.observe.telemetry import TelemetryReader
from patter.ports import AudioTap, CallInfo, Transport
from patter.signals import TextDelta, ToolRequest
from tests.support.lines import TELNYX, TWILIO, LineKind
from tests.support.loopback_line import Line
from tests.support.parts import Cast, set_stage
from tests.support.virtual_time import run_virtual

SPEAKS = ((0.6, 0.85), (5.0, 5.9), (8.6, 10.2))  # a cough, a question, and words into the answer
LASTS_S = 15.0
Sent = list[tuple[float, str]]
Watch = Callable[[Bus, Clock], None]


class Caller(Line):
    """A caller who speaks at set times on a bad line; what goes over the wire is kept with its moment."""

    def __init__(self, kind: LineKind) -> None:
        self.sent: Sent = []
        super().__init__(kind, Misbehaviour(jitter_ms=30, loss=0.02, reorder=0.05, late_marks_ms=40, seed=7))
        self.began = self.clock.now()

    def mouth(self) -> bytes:
        at, hears = self.clock.now() - self.began, self.kind.hears
        return _loud(hears) if any(begins <= at < ends for begins, ends in SPEAKS) else hears.quiet(20)

    def send(self, text: str) -> None:
        self.sent.append((self.clock.now(), text))
        super().send(text)

    def close(self) -> None:
        self.sent.append((self.clock.now(), "closed"))
        super().close()


def _loud(line: AudioFormat) -> bytes:
    return (b"\x00\x40" if line.sample_bytes == 2 else b"\x20") * (line.rate // 50)


def cast(taps: Callable[[CallInfo, Transport, Bus, Clock], Sequence[AudioTap]]) -> Cast:
    asks = [TextDelta("One moment. "), ToolRequest("t1", "find", "{}")]
    tool = {
        "name": "find",
        "description": "",
        "parameters": {"type": "object"},
        "handler": lambda arguments, call: "nine",
    }
    return Cast(
        agent=Agent("Be brief.", provider="pipeline", first_message="Hello, this is Riverside Dental.", tools=[tool]),
        utterances=["", "any slots on tuesday", "and on friday"],
        lines=[asks, "Nine or ten would both be fine with us, or any time after noon.", "On friday we are closed."],
        taps=taps,
    )


def traffic(
    kind: LineKind,
    watch: Watch | None = None,
    taps: Callable[[CallInfo, Transport, Bus, Clock], Sequence[AudioTap]] = lambda *_: (),
    finish: Callable[[], object] = lambda: None,
) -> tuple[Sent, list[object], list[Event]]:
    """What one call sent to the carrier and asked of its engines, and what happened in it."""
    kept: list[tuple[Sent, list[object], list[Event]]] = []

    async def call() -> None:
        line = Caller(kind)
        stage = set_stage(cast(taps), line.transport)
        if watch is not None:
            watch(stage.bus, stage.clock)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(line.leg.run, line.to_server)
            tasks.start_soon(stage.session.run)
            await anyio.sleep(LASTS_S)
            line.leg.hang_up()
        await anyio.to_thread.run_sync(finish)
        asked: list[object] = [list(ask.messages) for ask in stage.responder.asked]
        kept.append((line.sent, [*asked, *stage.synthesizer.spoken], stage.events))

    run_virtual(call)
    return kept[0]


@cache
def bare(kind: LineKind) -> tuple[Sent, list[object], list[Event]]:
    """The call that nobody watches."""
    return traffic(kind)


@pytest.mark.parametrize("kind", [TWILIO, TELNYX], ids=str)
def test_all_watchers_together_change_no_byte_of_a_call(kind: LineKind, tmp_path: Path) -> None:
    bare_sent, bare_asked, bare_events = bare(kind)
    happened = {type(event) for event in bare_events}
    assert {ReplyResumed, ToolReturned, Interrupted} <= happened  # it is a call in which something goes on
    assert TurnMeasured not in happened
    journal, prices, houses = Journal(tmp_path), Prices.load(), list[Recordings]()

    def watch(bus: Bus, clock: Clock) -> None:
        counted = PrometheusReader()
        tell = TelemetryReader(TracerProvider(), MeterProvider(), counted.numbers, texts=True)
        for sink in (journal, MetricsReader(bus, prices), CostMeter(bus, clock, prices), counted, tell):
            bus.add_sink(sink)

    def taps(call: CallInfo, transport: Transport, bus: Bus, clock: Clock) -> Sequence[AudioTap]:
        houses.append(Recordings(tmp_path, bus, clock))
        return houses[0].taps(call, transport)

    sent, asked, events = traffic(kind, watch, taps, journal.close)
    anyio.run(houses[0].aclose)
    assert any(isinstance(event, TurnMeasured) and event.closed for event in events)
    assert (tmp_path / "calls" / "CA1" / "recording.wav").stat().st_size > 100_000
    assert len(bare_sent) > 20
    assert sent == bare_sent
    assert asked == bare_asked


def test_a_watcher_that_breaks_at_every_fact_changes_no_byte_either(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Event) -> NoReturn:
        raise ZeroDivisionError

    with caplog.at_level(logging.CRITICAL + 1):
        watched = traffic(TWILIO, lambda bus, clock: bus.add_sink(broken) and None)
    assert watched[:2] == bare(TWILIO)[:2]
