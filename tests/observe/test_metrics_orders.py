"""No order of events, plausible or hostile, breaks the figures; and a journal gives the same ones again, to the bit."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from patter.events import (
    AgentSaid,
    CallEnded,
    CallerSaid,
    CallerSpeechStarted,
    CallerTranscribed,
    CallStarted,
    ConnectionUsed,
    Event,
    Interrupted,
    LineMeasured,
    ReplyHeard,
    ReplyPaused,
    ReplyReached,
    ReplyResumed,
    ReplyStarted,
    ReplyText,
    ToolCalled,
    ToolReturned,
    TurnMeasured,
    UsageMeasured,
)
from patter.models import Agent, CallMetrics, LatencyBreakdown
from patter.observe.cost import Prices
from patter.observe.journal import Journal, dump, event_of, read
from patter.observe.metrics import CallFold, call_metrics
from patter.observe.prometheus import PrometheusReader
from patter.observe.reader import MetricsReader
from patter.observe.telemetry import TelemetryReader
from patter.signals import TextDelta, ToolRequest
from tests.support.parts import Cast, Stage, perform, set_stage
from tests.support.virtual_time import run_virtual

PRICES = Prices.load()
T0 = 1_700_000_000.0
STAGES = ("first_token", "first_sentence", "first_audio", "playing")
ENDED = CallEnded(call_id="c", at=T0 + 300, reason="caller_hung_up", duration_s=300.0)


def gap(longest: float = 2.0) -> st.SearchStrategy[float]:
    return st.floats(min_value=0, max_value=longest)


@st.composite
def replies(draw: Any, turn: int, reply_id: int, at: float) -> tuple[list[Event], float]:
    """One reply as it goes: some of its stages, perhaps a pause, perhaps a tool and a second reply, perhaps cut."""
    kind = "greeting" if turn == 0 else draw(st.sampled_from(["answer", "answer", "filler", "say"]))
    c: dict[str, Any] = {"call_id": "c"}
    facts: list[Event] = [ReplyStarted(**c, at=at, turn=turn, reply_id=reply_id, kind=kind)]
    for stage in STAGES:
        at += draw(gap(0.8))
        if draw(st.integers(0, 5)):
            facts.append(ReplyReached(**c, at=at, reply_id=reply_id, stage=stage, reached_at=at))
    facts.append(ReplyText(**c, at=at, reply_id=reply_id, text="Well, yes."))
    if draw(st.booleans()):
        facts.append(ReplyPaused(**c, at=at, reply_id=reply_id, heard_ms=5.0, voice_began_at=at))
        facts.append(ReplyResumed(**c, at=at + 0.3, reply_id=reply_id, why="no words"))
    if turn and draw(st.integers(0, 3)) == 0:
        tool_id = f"t{reply_id}"
        facts.append(ToolCalled(**c, at=at, turn=turn, tool_id=tool_id, name="find", arguments="{}"))
        at += draw(gap())
        facts.append(ToolReturned(**c, at=at, tool_id=tool_id, name="find", ok=True, output="", ms=draw(gap(900))))
        more, at = draw(replies(turn, reply_id + 1000, at))
        facts += more
    at += draw(gap())
    if cut := draw(st.booleans()):
        facts.append(Interrupted(**c, at=at, turn=turn, reply_id=reply_id, heard="Well,", dropped=" yes.", heard_ms=4.0,
                                 voice_began_at=draw(st.sampled_from([0.0, at - 0.1])), stopped_at=at))  # fmt: skip
    facts.append(AgentSaid(**c, at=at, turn=turn, reply_id=reply_id, text="Well,", interrupted=cut, kind=kind))
    return facts, at


@st.composite
def talks(draw: Any) -> list[Event]:
    """A call as it may really go."""
    c: dict[str, Any] = {"call_id": "c"}
    facts: list[Event] = [CallStarted(**c, at=T0, provider_mode="pipeline", telephony="twilio")]
    at = T0 + draw(gap())
    for turn in range(draw(st.integers(0, 4))):
        if turn:
            ended, recognised = at + 0.1, at + 0.1 + draw(gap(0.4))
            at = recognised + draw(gap(0.5))
            facts.append(CallerSpeechStarted(**c, at=ended, began_at=ended))
            facts.append(CallerSaid(**c, at=at, turn=turn, text="hello", speech_ended_at=ended, recognition_at=recognised,
                                    transcript_at=at - draw(gap(0.1)), pending=draw(st.booleans())))  # fmt: skip
            facts.append(UsageMeasured(**c, at=at, turn=turn, stage="stt", provider="deepgram", model="nova-3",
                                       amounts={"audio_seconds": draw(gap())}))  # fmt: skip
            facts.append(ConnectionUsed(**c, at=at, turn=turn, stage="llm", provider="acme", reused=draw(st.booleans()),
                                        ms=draw(gap(90))))  # fmt: skip
        more, at = draw(replies(turn, turn + 1, at))
        facts += more
    facts.append(LineMeasured(**c, at=at, frames=draw(st.integers(0, 9000)), jitter_ms=draw(gap(50))))
    return [*facts, CallEnded(**c, at=at + 1, reason="caller_hung_up", duration_s=at + 1 - T0)]


@st.composite
def broken_talks(draw: Any) -> list[Event]:
    """The same with facts missing, doubled and out of order."""
    facts = draw(talks())
    fates = draw(st.lists(st.sampled_from(["kept"] * 8 + ["lost", "twice", "early", "late"]),
                          min_size=len(facts), max_size=len(facts)))  # fmt: skip
    placed: list[tuple[float, Event]] = []
    for place, (fact, fate) in enumerate(zip(facts, fates, strict=True)):
        shift = draw(st.integers(1, 12)) + 0.5
        if fate != "lost":
            placed.append((place + {"early": -shift, "late": shift}.get(fate, 0.0), fact))
        if fate == "twice":
            placed.append((place + shift, fact))
    return [fact for _, fact in sorted(placed, key=lambda item: item[0])]


times = st.floats(min_value=T0, max_value=T0 + 20) | st.sampled_from([0.0, -1e300, 1e300, 5e-324])
numbers = st.integers(min_value=-1, max_value=3)
reply_ids = st.integers(min_value=0, max_value=3)
ms = st.floats(min_value=-10, max_value=900)
tool_ids = st.sampled_from("ab")
c = {"call_id": st.just("c"), "at": times}
anything = st.one_of(
    st.builds(CallStarted, **c),
    st.builds(CallerSaid, **c, turn=numbers, text=st.just("x"), speech_ended_at=times, recognition_at=times,
              transcript_at=times, source=st.sampled_from(["voice", "typed", "dtmf"]), pending=st.booleans()),
    st.builds(CallerSpeechStarted, **c, began_at=times),
    st.builds(CallerTranscribed, **c, turn=numbers, text=st.just("w")),
    st.builds(ConnectionUsed, **c, turn=numbers, stage=st.sampled_from(["stt", "llm", "tts"]), provider=st.just("acme"),
              reused=st.booleans(), ms=ms),
    st.builds(ReplyStarted, **c, turn=numbers, reply_id=reply_ids, kind=st.sampled_from(["greeting", "answer", "say", "filler"])),
    st.builds(ReplyReached, **c, reply_id=reply_ids, stage=st.sampled_from(STAGES), reached_at=times),
    st.builds(ReplyReached, **c, reply_id=reply_ids, stage=st.just("playing"), reached_at=times),
    st.builds(ReplyText, **c, reply_id=reply_ids, text=st.just("more")),
    st.builds(ReplyHeard, **c, reply_id=reply_ids, heard=st.just("mo"), heard_ms=ms),
    st.builds(ReplyPaused, **c, reply_id=reply_ids, heard_ms=ms, voice_began_at=times),
    st.builds(ReplyResumed, **c, reply_id=reply_ids, why=st.just("no words")),
    st.builds(AgentSaid, **c, turn=numbers, reply_id=reply_ids, text=st.just("y"), interrupted=st.booleans(),
              dropped=st.sampled_from(["", "rest"])),
    st.builds(Interrupted, **c, turn=numbers, reply_id=reply_ids, heard=st.just("z"), dropped=st.just(""), heard_ms=ms,
              voice_began_at=times, stopped_at=times),
    st.builds(ToolCalled, **c, turn=numbers, tool_id=tool_ids, name=st.just("t"), arguments=st.just("")),
    st.builds(ToolReturned, **c, tool_id=tool_ids, name=st.just("t"), ok=st.just(True), output=st.just(""), ms=ms),
    st.builds(UsageMeasured, **c, turn=numbers, stage=st.just("stt"), provider=st.just("deepgram"), model=st.just("nova-3"),
              amounts=st.just({"audio_seconds": 1.0})),
    st.builds(LineMeasured, **c, frames=st.integers(0, 99)),
    st.just(ENDED),
)  # fmt: skip


def run(events: list[Event]) -> tuple[list[TurnMeasured], CallFold]:
    fold = CallFold(events[0].call_id if events else "c", PRICES)
    return [one for event in events for one in fold.feed(event)], fold


def figures(events: list[Event]) -> str:
    """Everything that is measured of a call, floats written so that no bit is lost."""
    measured, fold = run(events)
    return repr((measured, fold.metrics(), fold.summary(), fold.cost()))


def check(events: list[Event]) -> None:
    """All that must hold of any call whatever."""
    measured, fold = run(events)
    for one in measured:
        assert all(part >= 0 for part in one.segments.values())
        assert sum(one.segments.values()) == one.total_ms
        assert one.tool_ms >= 0
    closed = [one for one in measured if one.closed]
    assert all(count == 1 for count in Counter((one.turn, one.reply_id) for one in closed).values())
    check_public(fold.metrics(), closed)
    check_summary(fold, events, closed)


def check_public(metrics: CallMetrics, closed: list[TurnMeasured]) -> None:
    """The public fields are the segments, put together as the reference says."""
    for turn in metrics.turns:
        told = [one for one in closed if one.turn == turn.turn_index]
        assert turn.latency in [
            LatencyBreakdown(
                stt_ms=one.segments["endpointing"] + one.segments["transcription"],
                llm_ms=one.segments["first_token"],
                tts_ms=one.segments["synthesis"],
                total_ms=one.total_ms,
            )
            for one in told
        ]
        latency = turn.latency
        assert min(latency.stt_ms, latency.llm_ms, latency.tts_ms, latency.total_ms) >= 0
        assert latency.stt_ms + latency.llm_ms + latency.tts_ms <= latency.total_ms


def check_summary(fold: CallFold, events: list[Event], closed: list[TurnMeasured]) -> None:
    """The summary counts what happened, and its latency is that of the samples and of the public metrics."""
    summary, metrics = fold.summary(), fold.metrics()
    samples = sorted(one.total_ms for one in closed if fold.is_sample(one))
    assert summary.latency.n == len(samples)
    assert (summary.latency.avg, summary.latency.p95) == (metrics.latency_avg.total_ms, metrics.latency_p95.total_ms)
    assert all(one.n == len(samples) for one in summary.segments.values())
    if samples:
        assert samples[0] <= summary.latency.p50 <= summary.latency.p90 <= summary.latency.p95 <= samples[-1]
    happened = Counter(type(event) for event in events)
    assert 0 <= summary.interruptions <= happened[Interrupted]
    assert 0 <= summary.false_interruptions <= min(happened[ReplyPaused], happened[ReplyResumed])
    assert summary.connections_reused + summary.connections_opened == happened[ConnectionUsed]
    assert summary.greeting_ms >= 0
    assert summary.tool_ms >= 0
    assert json.loads(json.dumps(summary.to_json())) == asdict(summary)


def through_a_journal(events: list[Event]) -> list[Event]:
    again = [event_of(dump(event).encode()) for event in events]
    return [event for event in again if event is not None]


@settings(max_examples=60, deadline=None)
@given(talks())
def test_a_call_that_may_really_happen(events: list[Event]) -> None:
    check(events)
    assert figures(through_a_journal(events)) == figures(events)


@settings(max_examples=60, deadline=None)
@given(broken_talks())
def test_a_call_of_which_facts_are_missing_doubled_and_out_of_order(events: list[Event]) -> None:
    check([*events, ENDED, ENDED])
    assert figures(through_a_journal(events)) == figures(events)


@settings(max_examples=120, deadline=None)
@given(st.lists(anything, max_size=40))
def test_facts_that_make_no_sense_at_all(events: list[Event]) -> None:
    check([*events, ENDED, ENDED])
    assert figures(through_a_journal(events)) == figures(events)


class _Balance(SpanProcessor):
    """Which spans were begun and not ended."""

    def __init__(self) -> None:
        self.open: set[int] = set()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.open.add(span.context.span_id)

    def on_end(self, span: Any) -> None:
        self.open.remove(span.context.span_id)
        assert 0 <= span.start_time <= span.end_time < 2**63


@settings(max_examples=60, deadline=None)
@given(st.lists(anything, max_size=40) | broken_talks())
def test_no_reader_fails_at_such_a_call_or_leaves_a_span_open(events: list[Event]) -> None:
    balance, tracers, counted = _Balance(), TracerProvider(shutdown_on_exit=False), PrometheusReader()
    tracers.add_span_processor(balance)
    telling = TelemetryReader(tracers, texts=True)
    measured, _ = run(events)
    for event in [*events, *measured, ENDED, *measured]:
        counted(event)
        telling(event)
    telling.close()
    assert balance.open == set()
    assert all(value >= 0 for number in counted.numbers for value in number.values.values())


@pytest.mark.parametrize("voice", [True, False])
def test_the_journal_of_a_real_call_gives_the_figures_that_were_seen_live(tmp_path: Path, voice: bool) -> None:
    """A greeting with a cough in it, a tool, an interruption and a hang-up, in virtual time."""
    asks = [TextDelta("One moment. "), ToolRequest("t1", "find", "{}")]
    tool = {
        "name": "find",
        "description": "",
        "parameters": {"type": "object"},
        "handler": lambda arguments, call: "nine",
    }
    cast = Cast(
        agent=Agent("Be brief.", provider="pipeline", first_message="Hello, this is Riverside Dental.", tools=[tool]),
        utterances=["", "any slots on tuesday", "and on friday"],
        lines=[asks, "Nine or ten would both be fine with us.", "On friday we are closed all day long."],
        voice=voice,
    )
    seen: list[Event] = []
    summaries: list[str] = []

    async def scene(stage: Stage) -> None:
        await stage.line.silent(0.6)
        await stage.line.speaks(0.25)  # a cough
        await stage.line.silent(4.0)
        await stage.line.speaks(0.8)
        await stage.line.silent(2.5)
        await stage.line.speaks(1.5)  # into the answer
        await stage.line.silent(4.0)

    async def call() -> None:
        stage = set_stage(cast)
        journal, reader = Journal(tmp_path), MetricsReader(stage.bus, PRICES)
        fold = CallFold(stage.session.call.call_id, PRICES)
        for sink in (journal, reader, seen.append, fold.feed):
            stage.bus.add_sink(sink)  # type: ignore[arg-type]
        await perform(stage, scene)
        summaries.append(repr(fold.summary()))
        journal.close()

    run_virtual(call)
    kept = read(Journal(tmp_path).path("CA1"))
    assert kept == seen
    measured, fold = run(kept)
    published = [event for event in seen if isinstance(event, TurnMeasured)]
    assert [repr(one) for one in measured] == [repr(_unnumbered(one)) for one in published]
    assert repr(call_metrics(kept, PRICES)) == repr(fold.metrics())
    assert [repr(fold.summary())] == summaries
    summary = fold.summary()
    if voice:
        assert (summary.interruptions, summary.false_interruptions, summary.latency.n) == (1, 1, 1)
        assert 0 < summary.greeting_ms < 500
        assert summary.line is not None
        assert summary.line.frames > 500


def _unnumbered(event: TurnMeasured) -> TurnMeasured:
    """As the fold made it: the number in the stream is the bus's."""
    return TurnMeasured(**asdict(event) | {"seq": 0})
