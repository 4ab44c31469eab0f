"""The fold of events into what the screen shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from patter import events as ev
from patter_tui import store
from patter_tui.call import Call, Entry
from patter_tui.store import Phone, State, apply, replay
from tests.tui.story import CALL, DROPPED, GREETING, HEARD, START, measured, told, until


def entries(call: Call, kind: str) -> list[Entry]:
    return [entry for entry in call.entries if entry.kind == kind]


def watched(events: list[ev.Event]) -> Call:
    state = State(shown=CALL)
    for event in events:
        apply(state, event)
    return state.calls[CALL]


def test_a_replayed_journal_gives_the_same_view_as_watching() -> None:
    assert replay(CALL, told()) == watched(told())


def test_events_survive_their_json_form_on_the_way_to_the_screen() -> None:
    carried = [event for event in (ev.from_json(ev.to_json(event)) for event in told()) if event is not None]
    assert replay(CALL, carried) == replay(CALL, told())


def test_a_partial_is_replaced_by_the_next_one_and_then_by_the_final_words() -> None:
    call = watched(until(ev.CallerPartial, 2))
    assert [(entry.text, entry.state) for entry in entries(call, "caller")] == [("I would like to book an", "partial")]
    call = watched(until(ev.CallerSaid))
    assert [entry.state for entry in entries(call, "caller")] == ["final"]


def test_generated_and_heard_are_kept_apart_while_the_agent_speaks() -> None:
    call = watched(until(ev.ReplyHeard))
    reply = entries(call, "agent")[0]
    assert (reply.text, reply.heard, reply.state) == (GREETING, "Thank you for calling Riverside Dental.", "speaking")
    assert call.floor == "agent speaking"


def test_an_interruption_keeps_what_was_heard_and_marks_what_was_dropped() -> None:
    call = watched(told())
    reply = entries(call, "agent")[1]
    assert (reply.heard, reply.dropped, reply.state) == (HEARD, DROPPED, "interrupted")
    assert any("interrupted at 1.85 s, 13 words unspoken" in entry.text for entry in entries(call, "mark"))


def test_the_callers_words_stay_last_while_other_things_happen() -> None:
    call = watched(until(ev.Interrupted))
    assert call.entries[-1].text == "sorry do you have"


def test_a_false_interruption_goes_on_and_says_why() -> None:
    call = watched([*until(ev.ReplyPaused), ev.ReplyResumed(call_id=CALL, reply_id=2, why="no words", at=START + 11)])
    assert entries(call, "agent")[1].state == "speaking"
    assert call.entries[-1].text == "paused, then went on: no words"


def test_a_tool_shows_its_arguments_its_answer_and_its_time() -> None:
    tool = entries(watched(told()), "tool")[0]
    assert (tool.text, tool.state, tool.ms) == ("find_slots(day=tuesday)", "ok", 143.0)


def test_keys_pressed_in_a_row_are_one_remark() -> None:
    assert [entry.text for entry in entries(watched(told()), "mark") if entry.source == "digit"] == ["key 5#"]


def test_interrupted_turns_and_the_greeting_are_no_latency_samples() -> None:
    call = watched(told())
    assert call.samples() == [1240.0]
    assert [turn.kind for turn in call.turns] == ["greeting", "answer", "answer"]


def test_a_turn_measured_twice_is_one_row() -> None:
    call = watched([*told(), replace(measured(2, 3, total_ms=999.0), seq=99)])
    assert len(call.turns) == 3
    assert call.turns[2].total_ms == 999.0


def test_money_is_the_sum_over_turns() -> None:
    assert watched(told()).costs()["total"] == pytest.approx(0.0017)


def test_a_call_that_ends_under_a_reply_says_what_was_not_heard() -> None:
    call = watched([*until(ev.ReplyHeard), ev.CallEnded(call_id=CALL, reason="caller_hung_up", at=START + 3)])
    reply = entries(call, "agent")[0]
    assert (reply.state, reply.dropped) == ("interrupted", "How can I help you today?")


def test_an_event_that_comes_twice_counts_once() -> None:
    state = State(shown=CALL)
    for event in told():
        apply(state, event)
    before = len(state.calls[CALL].entries)
    assert apply(state, told()[5]) == set()
    assert len(state.calls[CALL].entries) == before


def test_only_the_shown_call_makes_its_panes_dirty() -> None:
    state = State(shown="another")
    parts = set().union(*(apply(state, event) for event in told()))
    assert parts == {"calls"}


def test_the_list_of_calls_follows_the_events() -> None:
    state = State()
    for event in told():
        apply(state, event)
    row = state.rows[CALL]
    assert (row.state, row.reason, row.turns, row.recording) == ("ended", "caller_hung_up", 2, "/tmp/recording.wav")
    assert state.live() == []


def test_rows_of_the_engine_tolerate_missing_and_unknown_fields() -> None:
    state = State()
    store.set_rows(state, [{"call_id": "a", "ended_at": None, "started_at": 5, "news": 1}, {"agent": "no id"}], 7)
    assert list(state.rows) == ["a"]
    assert (state.rows["a"].ended_at, state.rows["a"].started_at, state.calls_total) == (0.0, 5.0, 7)


def test_what_events_said_while_the_list_was_on_its_way_stays() -> None:
    state = State()
    store.set_rows(state, [{"call_id": "old", "state": "live"}, {"call_id": "gone"}])
    asked_with = tuple(state.rows)
    apply(state, ev.CallStarted(call_id="new"))
    apply(state, ev.CallEnded(call_id="old", reason="agent_ended"))
    store.set_rows(state, [{"call_id": "old", "state": "live"}], asked_with=asked_with)
    assert {call_id: row.state for call_id, row in state.rows.items()} == {"old": "ended", "new": "live"}


def test_a_dead_engine_ends_its_calls_and_keeps_what_was_said() -> None:
    state = State(shown=CALL, engine_id="one")
    for event in until(ev.ReplyHeard):
        apply(state, event)
    store.forget_engine(state)
    call = state.calls[CALL]
    assert (call.reason, call.floor, state.rows[CALL].state, state.seq) == ("engine_died", "ended", "ended", 0)
    assert entries(call, "agent")[0].text == GREETING


def test_old_ended_calls_are_forgotten_but_never_the_shown_one() -> None:
    state = State(shown="call-0")
    for number in range(store.KEPT_CALLS + 5):
        for event in (
            ev.CallStarted(call_id=f"call-{number}"),
            ev.CallEnded(call_id=f"call-{number}", reason="failed", at=1.0),
        ):
            apply(state, event)
    assert "call-0" in state.calls
    assert len(state.calls) <= store.KEPT_CALLS + 2


def test_an_agent_that_is_rejected_and_then_mended() -> None:
    state = State()
    assert apply(state, ev.AgentRejected(call_id="", agent="a", problem="broken", line=3)) == {"agents"}
    assert state.rejected["a"].line == 3
    apply(state, ev.AgentChanged(call_id="", agent="a", agent_version="2"))
    assert state.rejected == {}


def test_a_softphone_without_sound_says_so() -> None:
    missing = {"is": "ready", "sound": False, "problem": "No microphone.", "fix": "Plug one in."}
    phone = Phone(state="starting", device="sound")
    phone.take(missing)
    assert (phone.sound, phone.problem, phone.fix) == (False, "No microphone.", "Plug one in.")
    simulated = Phone(state="starting", device="simulated")
    simulated.take(missing)
    assert (simulated.sound, simulated.problem) == (False, "")


def test_a_softphone_reports_levels_and_its_end() -> None:
    phone = Phone(state="starting")
    phone.take({"is": "in_call", "call_id": "CA1"})
    phone.take({"is": "levels", "mic": -12, "speaker": None, "jitter_ms": 3, "dropped": 2, "aec": "half-duplex"})
    assert (phone.state, phone.mic, phone.speaker, phone.dropped, phone.aec) == (
        "in call",
        -12.0,
        -90.0,
        2,
        "half-duplex",
    )
    phone.take({"is": "ended", "reason": "caller_hung_up"})
    assert (phone.state, phone.call_id, phone.mic) == ("off", "", -90.0)


def placed() -> list[ev.Event]:
    """An outbound call that rings."""
    return [ev.CallPlaced(call_id=CALL, caller="+15550100", callee="+15559990000", agent="desk", seq=1, at=START)]


def test_a_call_rings_is_answered_and_ends() -> None:
    state = State(shown=CALL)
    apply(state, placed()[0])
    row, call = state.rows[CALL], state.calls[CALL]
    assert (row.state, row.other, row.on, call.floor) == ("ringing", "+15559990000", True, "ringing")
    assert call.whole
    apply(
        state,
        ev.CallStarted(call_id=CALL, caller="+15550100", callee="+15559990000", direction="outbound", at=START + 2),
    )
    assert (state.rows[CALL].state, call.floor) == ("live", "listening")
    assert [entry.text for entry in entries(call, "mark")] == ["calling +15559990000", "answered"]


def test_a_call_that_nobody_took_ends_with_its_reason() -> None:
    call = watched([*placed(), ev.CallEnded(call_id=CALL, reason="no_answer", seq=2, at=START + 30)])
    assert (call.reason, call.duration_s) == ("no_answer", 0.0)
    assert call.entries[-1].text == "call ended: no answer"


def test_a_machine_and_a_failed_transfer_are_remarked() -> None:
    call = watched([
        *placed(),
        ev.MachineDetected(call_id=CALL, answered_by="machine", ready=False, seq=2),
        ev.TransferRequested(call_id=CALL, number="+15557770000", by="operator", warm=True, seq=3),
        ev.TransferFailed(call_id=CALL, number="+15557770000", problem="nobody answered", seq=4),
    ])  # fmt: skip
    said = [entry.text for entry in entries(call, "mark")][1:]
    assert said[0] == "a machine answered: its greeting is playing"
    assert said[1] == "transfer to +15557770000, who is told a summary first, asked for by the operator"
    assert said[2] == "the transfer to +15557770000 failed: nobody answered"
    assert call.answered_by == "machine"


def test_the_two_sides_of_the_screen_keep_their_calls() -> None:
    state = State(shown="mine")
    state.show("theirs", "serve")
    assert (state.shown, state.shown_on("serve")) == ("mine", "theirs")
    state.turn("serve")
    state.turn("serve")
    assert (state.shown, state.shown_on("rehearse")) == ("theirs", "mine")


def test_a_list_that_was_on_its_way_does_not_make_an_answered_call_ring_again() -> None:
    state = State()
    apply(state, ev.CallStarted(call_id="a"))
    store.set_rows(state, [{"call_id": "a", "state": "ringing"}], asked_with=("a",))
    assert state.rows["a"].state == "live"


def test_words_that_follow_later_stand_where_they_were_said() -> None:
    c = {"call_id": CALL}
    said = [
        ev.CallStarted(**c, at=START, seq=1),
        ev.CallerSaid(**c, at=START + 1, seq=2, turn=1, text="", pending=True),
        ev.ReplyStarted(**c, at=START + 1.1, seq=3, turn=1, reply_id=1),
        ev.ReplyText(**c, at=START + 1.2, seq=4, reply_id=1, text="Gladly."),
    ]
    waiting = watched(said)
    assert [(entry.kind, entry.state) for entry in waiting.entries] == [("caller", "awaited"), ("agent", "making")]

    known = watched([*said, ev.CallerTranscribed(**c, at=START + 1.4, seq=5, turn=1, text="Can you help me?")])
    assert [(entry.kind, entry.text) for entry in known.entries] == [
        ("caller", "Can you help me?"),
        ("agent", "Gladly."),
    ]

    ended = watched([*said, ev.CallEnded(**c, at=START + 2, seq=5, reason="caller_hung_up")])
    assert ended.entries[0].state == "final"
