"""What is said of a whole call: what counts as an interruption, what the greeting took, and percentiles that say n."""

from __future__ import annotations

import json
from typing import Any

import pytest

from patter.events import (
    AgentSaid,
    CallEnded,
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
    ToolCalled,
    ToolReturned,
    TurnMeasured,
)
from patter.observe.cost import Prices
from patter.observe.metrics import CallFold
from patter.observe.summary import CallSummary, Percentiles
from patter.ports import LineStats

PRICES = Prices.load()
T0 = 1_700_000_000.0


def folded(*events: Event) -> CallFold:
    fold = CallFold("c", PRICES)
    for event in (CallStarted(call_id="c", at=T0), *events):
        fold.feed(event)
    return fold


def summary(*events: Event) -> CallSummary:
    return folded(*events).summary()


def turn(number: int, at: float, total_s: float, *, cut: bool = False) -> list[Event]:
    """A turn taken at `at` whose answer is heard `total_s` later; the model's first words take half of that."""
    facts: list[Event] = [
        CallerSaid(call_id="c", at=at, turn=number, text="hm", speech_ended_at=at),
        ReplyStarted(call_id="c", at=at, turn=number, reply_id=number),
        ReplyReached(call_id="c", at=at, reply_id=number, stage="first_token", reached_at=at + total_s / 2),
        ReplyReached(call_id="c", at=at, reply_id=number, stage="playing", reached_at=at + total_s),
    ]
    if cut:
        facts.append(cut_off(number, at + 1, voice=at + 0.9))
    return [*facts, AgentSaid(call_id="c", at=at + 1, turn=number, reply_id=number, text="a", interrupted=cut)]


def cut_off(reply_id: int, at: float, voice: float = 0.0) -> Interrupted:
    return Interrupted(
        call_id="c",
        at=at,
        turn=1,
        reply_id=reply_id,
        heard="",
        dropped="x",
        heard_ms=1,
        voice_began_at=voice,
        stopped_at=at,
    )


def test_percentiles_are_nearest_rank_and_say_of_how_many() -> None:
    values = [float(number) for number in range(1, 201)]
    assert Percentiles.of(reversed(values)) == Percentiles(200, 100.5, 100.0, 180.0, 190.0, 198.0)
    assert Percentiles.of([7.0]) == Percentiles(1, 7.0, 7.0, 7.0, 7.0, 7.0)
    assert Percentiles.of([]) == Percentiles()


def test_latency_is_told_of_the_turns_that_count() -> None:
    talk = [*turn(1, T0 + 1, 0.5), *turn(2, T0 + 5, 1.0), *turn(3, T0 + 9, 4.0, cut=True)]
    told = summary(*talk)
    assert (told.latency.n, told.latency.avg, told.latency.p50, told.latency.p95) == (2, 750.0, 500.0, 1_000.0)
    assert (told.segments["first_token"].n, told.segments["first_token"].p95) == (2, 500.0)
    assert told.segments["synthesis"].p50 == 0.0
    assert sum(one.avg for one in told.segments.values()) == told.latency.avg


def test_who_keeps_turns_can_ask_which_are_samples() -> None:
    fold = CallFold("c", PRICES)
    greeting = [
        ReplyStarted(call_id="c", at=T0, turn=0, reply_id=9, kind="greeting"),
        ReplyReached(call_id="c", at=T0, reply_id=9, stage="playing", reached_at=T0 + 1),
        AgentSaid(call_id="c", at=T0 + 2, turn=0, reply_id=9, text="Hello."),
    ]
    talk = [*greeting, *turn(1, T0 + 3, 0.5), *turn(2, T0 + 9, 0.5, cut=True)]
    closed = [(one, fold.is_sample(one)) for event in talk for one in fold.feed(event) if one.closed]
    assert [(one.turn, sample) for one, sample in closed] == [(0, False), (1, True), (2, False)]
    assert not fold.is_sample(TurnMeasured(call_id="c", turn=5, reply_id=-1, kind="answer", closed=True, user_text="",
                                           agent_text="", segments={}, total_ms=0.0))  # fmt: skip


def test_the_greeting_is_counted_from_the_answer_to_its_first_sound() -> None:
    begun = ReplyStarted(call_id="c", at=T0 + 0.1, turn=0, reply_id=1, kind="greeting")
    heard = ReplyReached(call_id="c", at=T0 + 0.5, reply_id=1, stage="playing", reached_at=T0 + 0.375)
    assert summary(begun, heard).greeting_ms == 375.0
    assert summary(begun).greeting_ms == 0.0
    answer = ReplyStarted(call_id="c", at=T0, turn=1, reply_id=1)
    assert summary(answer, heard).greeting_ms == 0.0


def test_a_voice_that_cuts_is_one_interruption_however_many_replies_it_cuts() -> None:
    assert summary(cut_off(1, T0 + 5, voice=T0 + 4), cut_off(2, T0 + 5, voice=T0 + 4)).interruptions == 1
    assert summary(cut_off(1, T0 + 5, voice=T0 + 4), cut_off(2, T0 + 9, voice=T0 + 8)).interruptions == 2


def test_typed_words_that_cut_a_reply_interrupt_it_and_a_hang_up_or_an_operator_does_not() -> None:
    typed = CallerSaid(call_id="c", at=T0 + 5, turn=2, text="stop", source="typed")
    over = CallEnded(call_id="c", at=T0 + 6, reason="caller_hung_up")
    assert summary(cut_off(1, T0 + 5), typed, typed).interruptions == 1
    assert summary(cut_off(1, T0 + 5), over).interruptions == 0
    voice = CallerSpeechStarted(call_id="c", at=T0 + 7, began_at=T0 + 7)
    assert (
        summary(cut_off(1, T0 + 5), voice, typed).interruptions == 0
    )  # the operator stopped it; then the caller spoke


def test_a_pause_that_was_resumed_is_a_false_interruption() -> None:
    pause = ReplyPaused(call_id="c", at=T0 + 2, reply_id=1, heard_ms=100, voice_began_at=T0 + 2)
    resume = ReplyResumed(call_id="c", at=T0 + 3, reply_id=1, why="no words")
    told = summary(pause, resume, pause, resume, pause, cut_off(1, T0 + 4, voice=T0 + 4), resume)
    assert (told.false_interruptions, told.interruptions) == (2, 1)


def test_tools_of_the_whole_call_count_the_time_in_which_one_ran() -> None:
    def ran(turn: int, tool_id: str, until: float, ms: float) -> list[Event]:
        return [ToolCalled(call_id="c", at=T0, turn=turn, tool_id=tool_id, name="t", arguments=""),
                ToolReturned(call_id="c", at=until, tool_id=tool_id, name="t", ok=True, output="", ms=ms)]  # fmt: skip

    assert summary(*ran(1, "a", T0 + 5, 500), *ran(1, "b", T0 + 5.25, 500), *ran(2, "c", T0 + 9, 100)).tool_ms == 850.0


def test_connections_and_the_line_are_counted() -> None:
    used: dict[str, Any] = {"call_id": "c", "stage": "llm", "provider": "acme"}
    told = summary(
        ConnectionUsed(turn=0, reused=False, ms=80.5, **used),
        ConnectionUsed(turn=1, reused=True, ms=3.0, **used),
        ConnectionUsed(turn=1, reused=False, ms=20.25, **used),
        LineMeasured(call_id="c", frames=500, lost=2, dropped=1, jitter_ms=1.5, underruns=3),
    )
    assert (told.connections_reused, told.connections_opened, told.connections_ms) == (1, 2, 100.75)
    assert told.line == LineStats(500, 2, 1, 1.5, 3)


def test_the_summary_is_the_metrics_object_of_the_api() -> None:
    told = summary(*turn(1, T0 + 1, 0.5), LineMeasured(call_id="c", frames=50)).to_json()
    assert json.loads(json.dumps(told)) == told
    assert told["latency"] == {"n": 1, "avg": 500.0, "p50": 500.0, "p90": 500.0, "p95": 500.0, "p99": 500.0}
    assert list(told["segments"]) == [
        "endpointing",
        "transcription",
        "first_token",
        "first_sentence",
        "synthesis",
        "playout",
    ]
    assert told["segments"]["first_token"] == {
        "n": 1,
        "avg": 250.0,
        "p50": 250.0,
        "p90": 250.0,
        "p95": 250.0,
        "p99": 250.0,
    }
    assert told["line"] == {"frames": 50, "lost": 0, "dropped": 0, "jitter_ms": 0.0, "underruns": 0}
    assert summary().to_json()["line"] is None
    assert {key for key in told if key.endswith("_ms")} == {"greeting_ms", "tool_ms", "connections_ms"}


@pytest.mark.parametrize("again", [1, 3])
def test_facts_that_are_told_twice_count_once_where_they_name_one_thing(again: int) -> None:
    pause = ReplyPaused(call_id="c", at=T0 + 2, reply_id=1, heard_ms=100, voice_began_at=T0 + 2)
    resume = ReplyResumed(call_id="c", at=T0 + 3, reply_id=1, why="no words")
    cut = cut_off(1, T0 + 5, voice=T0 + 4)
    told = summary(pause, *[resume] * again, *[cut] * again)
    assert (told.false_interruptions, told.interruptions) == (1, 1)
