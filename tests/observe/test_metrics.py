"""What is measured of each turn, and when it is published."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from patter.bus import Bus
from patter.clock import Clock
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
from patter.observe.cost import Prices
from patter.observe.meter import CostMeter
from patter.observe.metrics import CallFold, call_metrics
from patter.observe.reader import MetricsReader

PRICES = Prices.load()
T0 = 1_700_000_000.0


def started(**values: Any) -> CallStarted:
    return CallStarted(
        call_id="c", at=T0, provider_mode="pipeline", stt="embedded", llm="script", tts="embedded", **values
    )


def said(turn: int, at: float, text: str = "hello", **values: Any) -> CallerSaid:
    times = {"speech_ended_at": at - 0.55, "recognition_at": at - 0.35, "transcript_at": at - 0.1} | values
    return CallerSaid(call_id="c", at=at, turn=turn, text=text, **times)


def reply(turn: int, reply_id: int, at: float, kind: Any = "answer") -> ReplyStarted:
    return ReplyStarted(call_id="c", at=at, turn=turn, reply_id=reply_id, kind=kind)


def reached(reply_id: int, stage: Any, at: float) -> ReplyReached:
    return ReplyReached(call_id="c", at=at, reply_id=reply_id, stage=stage, reached_at=at)


def answer(turn: int, reply_id: int, at: float, text: str = "Hi there.") -> list[Event]:
    """A whole reply that begins at `at`, is heard 350 ms later and ends after two seconds."""
    return [
        reply(turn, reply_id, at),
        reached(reply_id, "first_token", at + 0.05),
        ReplyText(call_id="c", at=at + 0.1, reply_id=reply_id, text=text),
        reached(reply_id, "first_sentence", at + 0.1),
        reached(reply_id, "first_audio", at + 0.3),
        reached(reply_id, "playing", at + 0.35),
        AgentSaid(call_id="c", at=at + 2, turn=turn, reply_id=reply_id, text=text),
    ]


def fold(*events: Event) -> list[TurnMeasured]:
    made = CallFold("c", PRICES)
    return [measured for event in events for measured in made.feed(event)]


def test_a_turn_is_measured_when_it_sounds_and_again_when_it_is_over() -> None:
    first, last = fold(started(), said(1, T0 + 5), *answer(1, 1, T0 + 5))
    assert (first.closed, last.closed) == (False, True)
    expected = {
        "endpointing": 300,
        "transcription": 250,
        "first_token": 50,
        "first_sentence": 50,
        "synthesis": 200,
        "playout": 50,
    }
    assert first.segments == pytest.approx(expected, abs=0.05)
    assert first.total_ms == sum(first.segments.values()) == pytest.approx(900, abs=0.05)
    assert (first.user_text, last.agent_text, last.turn, last.reply_id) == ("hello", "Hi there.", 1, 1)


def test_a_typed_turn_starts_when_it_was_typed() -> None:
    typed = CallerSaid(call_id="c", at=T0 + 5, turn=1, text="hi", source="typed")
    measured = fold(
        started(), typed, reply(1, 1, T0 + 5), reached(1, "first_token", T0 + 5.25), reached(1, "playing", T0 + 5.25)
    )
    assert measured[0].segments == pytest.approx(
        dict.fromkeys(measured[0].segments, 0.0) | {"first_token": 250.0}, abs=0.02
    )


def test_the_greeting_is_measured_by_itself_and_is_no_sample() -> None:
    events = [started(), reply(0, 1, T0, "greeting"), reached(1, "first_audio", T0 + 0.2), reached(1, "playing", T0 + 0.25),
              AgentSaid(call_id="c", at=T0 + 3, turn=0, reply_id=1, text="Welcome.", kind="greeting")]  # fmt: skip
    first, last = fold(*events)
    assert (first.kind, first.turn) == ("greeting", 0)
    assert first.total_ms == pytest.approx(250, abs=0.02)
    assert last.agent_text == "Welcome."
    metrics = call_metrics(events)
    assert metrics.turns == ()
    assert metrics.latency_avg.total_ms == 0


def test_a_line_of_the_operator_is_no_turn_of_the_caller() -> None:
    events = [started(), said(1, T0 + 5), *answer(1, 1, T0 + 5), reply(1, 2, T0 + 9, "say"), reached(2, "playing", T0 + 9.1),
              AgentSaid(call_id="c", at=T0 + 10, turn=1, reply_id=2, text="One moment.", kind="say")]  # fmt: skip
    measured = fold(*events)
    assert [(one.kind, one.closed) for one in measured] == [
        ("answer", False),
        ("answer", True),
        ("say", False),
        ("say", True),
    ]
    assert len(call_metrics(events).turns) == 1


def test_an_interruption_closes_the_turn_with_what_was_heard_and_is_no_sample() -> None:
    events = [
        started(), said(1, T0 + 5), *answer(1, 1, T0 + 5)[:-1],
        Interrupted(call_id="c", at=T0 + 6, turn=1, reply_id=1, heard="Hi", dropped="there.", heard_ms=300),
        AgentSaid(call_id="c", at=T0 + 6, turn=1, reply_id=1, text="Hi", interrupted=True, dropped="there."),
    ]  # fmt: skip
    measured = fold(*events)
    assert [one.closed for one in measured] == [False, True]
    assert (measured[-1].interrupted, measured[-1].agent_text) == (True, "Hi")
    metrics = call_metrics(events)
    assert metrics.turns[0].agent_text == "Hi"
    assert metrics.latency_avg.total_ms == 0


def test_a_tool_between_two_replies_is_its_own_figure_and_the_turn_closes_once() -> None:
    events = [
        said(1, T0 + 5), reply(1, 1, T0 + 5), reached(1, "first_token", T0 + 5.1), reached(1, "playing", T0 + 5.2),
        ToolCalled(call_id="c", at=T0 + 5.3, turn=1, tool_id="a", name="slots", arguments="{}"),
        ToolCalled(call_id="c", at=T0 + 5.3, turn=1, tool_id="b", name="price", arguments="{}"),
        AgentSaid(call_id="c", at=T0 + 5.4, turn=1, reply_id=1, text="Let me look."),
        ToolReturned(call_id="c", at=T0 + 5.8, tool_id="a", name="slots", ok=True, output="", ms=500),
        ToolReturned(call_id="c", at=T0 + 6.0, tool_id="b", name="price", ok=True, output="", ms=700),
        reply(1, 2, T0 + 6), reached(2, "playing", T0 + 6.4),
        AgentSaid(call_id="c", at=T0 + 8, turn=1, reply_id=2, text="At ten."),
    ]  # fmt: skip
    first, last = fold(*events)
    assert first.total_ms == last.total_ms == pytest.approx(750, abs=0.05)  # the first sound ends the silence
    assert last.tool_ms == pytest.approx(700, abs=0.01)
    assert last.agent_text == "Let me look. At ten."


def test_a_tool_inside_one_reply_closes_with_that_reply() -> None:
    events = [
        said(1, T0 + 5), reply(1, 1, T0 + 5), ToolCalled(call_id="c", at=T0 + 5.1, turn=1, tool_id="a", name="x", arguments=""),
        ToolReturned(call_id="c", at=T0 + 5.2, tool_id="a", name="x", ok=True, output="", ms=100),
        ReplyText(call_id="c", at=T0 + 5.3, reply_id=1, text="Done."), reached(1, "playing", T0 + 5.4),
        AgentSaid(call_id="c", at=T0 + 6, turn=1, reply_id=1, text="Done."),
    ]  # fmt: skip
    assert [one.closed for one in fold(*events)] == [False, True]


def test_a_turn_that_hangs_up_closes_with_its_last_words() -> None:
    events = [
        said(1, T0 + 5), *answer(1, 1, T0 + 5)[:-1],
        ToolCalled(call_id="c", at=T0 + 5.3, turn=1, tool_id="a", name="end_call", arguments="{}"),
        AgentSaid(call_id="c", at=T0 + 6, turn=1, reply_id=1, text="Bye."),
        CallEnded(call_id="c", at=T0 + 7, reason="agent_ended"),
    ]  # fmt: skip
    assert [(one.closed, one.at) for one in fold(*events)] == [(False, T0 + 5.35), (True, T0 + 6)]


def test_a_turn_without_an_answer_closes_at_the_next_one() -> None:
    measured = fold(
        said(1, T0 + 5, "hello?"),
        said(2, T0 + 9, "anyone?"),
        CallEnded(call_id="c", at=T0 + 10, reason="caller_hung_up"),
    )
    assert [(one.turn, one.closed, one.total_ms, one.user_text) for one in measured] == [
        (1, True, 0.0, "hello?"), (2, True, 0.0, "anyone?"),
    ]  # fmt: skip


def test_a_call_that_ends_in_the_middle_keeps_what_was_heard() -> None:
    events = [
        said(1, T0 + 5), *answer(1, 1, T0 + 5, "One two three.")[:-1],
        ReplyHeard(call_id="c", at=T0 + 6, reply_id=1, heard="One two", heard_ms=400),
        CallEnded(call_id="c", at=T0 + 6.1, reason="caller_hung_up"),
    ]  # fmt: skip
    assert fold(*events)[-1].agent_text == "One two"


def test_usage_belongs_to_its_turn_and_cost_adds_up() -> None:
    use = UsageMeasured(call_id="c", at=T0 + 5, turn=1, stage="llm", provider="openai", model="gpt-4o-mini",
                        amounts={"input_tokens": 1000, "cached_tokens": 400, "output_tokens": 50})  # fmt: skip
    events = [
        started(), said(1, T0 + 5), use,
        replace(use, stage="stt", provider="deepgram", model="nova-3", amounts={"audio_seconds": 3.5}),
        replace(use, stage="tts", provider="nobody", model="", amounts={"characters": 9}), *answer(1, 1, T0 + 5),
        replace(use, turn=2),
    ]  # fmt: skip
    last = fold(*events)[-1]
    assert (last.tokens_in, last.tokens_cached, last.tokens_out, last.tts_characters) == (1000, 400, 50, 9)
    assert last.stt_audio_seconds == 3.5
    assert last.cost["total"] == pytest.approx(last.cost["stt"] + last.cost["llm"])
    assert last.cost_so_far == last.cost["total"]
    assert last.unpriced == ("nobody",)
    assert call_metrics(events).cost.llm == pytest.approx(2 * last.cost["llm"])


def test_words_that_follow_a_turn_are_its_words_and_the_engines_time_is_one_segment() -> None:
    sound = CallerSaid(call_id="c", at=T0 + 5, turn=1, text="", speech_ended_at=T0 + 4.5, pending=True)
    events = [
        started(), sound, reply(1, 1, T0 + 5), reached(1, "first_token", T0 + 5.3), reached(1, "first_audio", T0 + 5.3),
        reached(1, "playing", T0 + 5.4), CallerTranscribed(call_id="c", at=T0 + 5.5, turn=1, text="when do you open"),
        AgentSaid(call_id="c", at=T0 + 7, turn=1, reply_id=1, text="At eight."),
        CallerTranscribed(call_id="c", at=T0 + 8, turn=7, text="nobody's"),
    ]  # fmt: skip
    first, last = fold(*events)
    assert (first.user_text, last.user_text) == ("", "when do you open")
    expected = dict.fromkeys(last.segments, 0.0) | {"endpointing": 500, "first_token": 300, "playout": 100}
    assert last.segments == pytest.approx(expected, abs=0.05)
    assert call_metrics(events).turns[0].user_text == "when do you open"


def test_words_that_come_after_a_turn_is_over_are_in_the_calls_metrics() -> None:
    sound = CallerSaid(call_id="c", at=T0 + 5, turn=1, text="", speech_ended_at=T0 + 4.5, pending=True)
    late = CallerTranscribed(call_id="c", at=T0 + 9, turn=1, text="hello")
    assert call_metrics([started(), sound, *answer(1, 1, T0 + 5), late]).turns[0].user_text == "hello"


def test_tokens_of_all_classes_are_one_sum() -> None:
    use = UsageMeasured(call_id="c", at=T0 + 6, turn=1, stage="llm", provider="openai", model="gpt-realtime-mini",
                        amounts={"input_text_tokens": 100, "cached_text_tokens": 40, "input_audio_tokens": 200,
                                 "cached_audio_tokens": 20, "output_text_tokens": 10, "output_audio_tokens": 80})  # fmt: skip
    last = fold(said(1, T0 + 5), *answer(1, 1, T0 + 5)[:-1], use, answer(1, 1, T0 + 5)[-1])[-1]
    assert (last.tokens_in, last.tokens_cached, last.tokens_out) == (300, 60, 90)


def test_what_opening_connections_took_is_told_by_turn_and_stage() -> None:
    use = ConnectionUsed(call_id="c", at=T0, turn=0, stage="stt", provider="acme", reused=False, ms=80.0)
    greeting = [reply(0, 1, T0 + 1, "greeting"), reached(1, "playing", T0 + 1.1),
                AgentSaid(call_id="c", at=T0 + 2, turn=0, reply_id=1, text="Hi.", kind="greeting")]  # fmt: skip
    answers = [said(1, T0 + 5), replace(use, turn=1, stage="llm", ms=30.0), replace(use, turn=1, stage="llm", ms=12.0),
               replace(use, turn=1, stage="tts", reused=True, ms=9.0), *answer(1, 2, T0 + 5)]  # fmt: skip
    measured = [one.connections for one in fold(started(), use, *greeting, *answers) if one.closed]
    assert measured == [{"stt": 80.0}, {"llm": 42.0, "tts": 0.0}]


def test_a_reply_that_a_guardrail_took_back_leaves_its_turn_open_for_the_replacement() -> None:
    taken = AgentSaid(call_id="c", at=T0 + 6, turn=1, reply_id=1, text="Well,", dropped="you are ill.")
    measured = fold(said(1, T0 + 5), *answer(1, 1, T0 + 5)[:-1], taken, *answer(1, 2, T0 + 6, "Ask the doctor."))
    assert [(one.closed, one.agent_text) for one in measured] == [
        (False, "Hi there."),
        (True, "Well, Ask the doctor."),
    ]
    assert not measured[-1].interrupted


def test_a_finished_call_in_the_form_of_the_public_api() -> None:
    ended = CallEnded(call_id="c", at=T0 + 30, reason="agent_ended", duration_s=30.0)
    metrics = call_metrics([started(telephony="twilio"), said(1, T0 + 5), *answer(1, 1, T0 + 5),
                            said(2, T0 + 10), *answer(2, 2, T0 + 10.1), ended])  # fmt: skip
    assert (metrics.duration_seconds, metrics.provider_mode, metrics.telephony_provider) == (30.0, "pipeline", "twilio")
    assert [turn.turn_index for turn in metrics.turns] == [1, 2]
    one = metrics.turns[0].latency
    assert one.stt_ms == pytest.approx(550, abs=0.05)
    assert one.llm_ms == pytest.approx(50, abs=0.05)
    assert one.tts_ms == pytest.approx(200, abs=0.05)
    assert metrics.latency_avg.total_ms == pytest.approx(950, abs=0.05)
    assert metrics.latency_p95.total_ms == metrics.turns[1].latency.total_ms
    assert metrics.turns[1].timestamp == T0 + 10


def test_a_call_that_only_rang_has_metrics_and_costs_nothing() -> None:
    metrics = call_metrics(
        [
            CallPlaced(call_id="c", at=T0, telephony="twilio"),
            CallEnded(call_id="c", at=T0 + 30, reason="no_answer"),
        ]
    )
    assert (metrics.telephony_provider, metrics.duration_seconds) == ("twilio", 0.0)
    assert (metrics.cost.total, metrics.turns) == (0.0, ())
    bus, seen = Bus(Clock()), list[Event]()
    bus.add_sink(MetricsReader(bus, PRICES))
    bus.add_sink(seen.append)
    bus.publish(CallPlaced(call_id="c"))
    bus.publish(CallEnded(call_id="c", reason="busy"))
    assert len(seen) == 2


def test_the_carriers_recording_is_paid_for_once_it_is_known() -> None:
    facts: list[Event] = [
        started(telephony="twilio"),
        CallEnded(call_id="c", at=T0 + 70, reason="caller_hung_up", duration_s=70.0),
    ]
    recorded = CarrierRecordingSaved(call_id="c", at=T0 + 75, url="https://carrier.example/RE1", duration_s=70.0)
    assert call_metrics(facts).cost.telephony == 0.0
    assert call_metrics([*facts, recorded]).cost.telephony == pytest.approx(2 * 0.0025)


@pytest.mark.anyio
async def test_the_whole_cost_stands_before_the_end() -> None:
    bus = Bus(Clock())
    seen: list[Event] = []
    meter = CostMeter(bus, bus.clock, PRICES)
    bus.add_sink(meter)
    bus.add_sink(seen.append)
    line = {"call_id": "c", "turn": 0, "stage": "telephony", "provider": "twilio"}
    bus.publish(started(telephony="twilio"))
    bus.publish(UsageMeasured(**line, model="inbound", amounts={"seconds": 61.0}))
    bus.publish(UsageMeasured(**line, model="media-stream", amounts={"seconds": 61.0}))
    bus.publish(CallEnded(call_id="c", reason="caller_hung_up"))
    meter.close()

    *_, measured, ended = seen
    assert isinstance(ended, CallEnded)
    assert isinstance(measured, CostMeasured)
    assert measured.cost["telephony"] == pytest.approx(2 * 0.0085 + 2 * 0.004)
    assert measured.cost["total"] == measured.cost["telephony"]


def test_the_reader_publishes_behind_the_fact_that_caused_it() -> None:
    bus = Bus(Clock())
    seen: list[Event] = []
    bus.add_sink(MetricsReader(bus, PRICES))
    bus.add_sink(seen.append)
    for event in (
        started(),
        said(1, T0 + 5),
        *answer(1, 1, T0 + 5),
        CallEnded(call_id="c", at=T0 + 9, reason="caller_hung_up"),
    ):
        bus.publish(event)
    assert [type(event).__name__ for event in seen[-4:]] == ["TurnMeasured", "AgentSaid", "TurnMeasured", "CallEnded"]
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
