"""Panes as rows: alignment, wrapping, and meaning without colour."""

from __future__ import annotations

import pytest

from patter import events as ev
from patter_tui import figures
from patter_tui.actions import ACTIONS, Action, by_id, in_mode
from patter_tui.call import Call, Entry, rest_of
from patter_tui.call_events import short_arguments
from patter_tui.safe import clean
from patter_tui.store import CallRow, Phone, State, apply, replay
from patter_tui.views import bars, calls, cost, phone, start, transcript, turns
from patter_tui.views.glyphs import ASCII, UNICODE
from patter_tui.views.rows import Row, cells, cut_row, fit, pad, plain, spread, width_of, wrap
from tests.tui.story import CALL, START, measured, told, until

CALLED = replay(CALL, told())


def lines(rows: list[Row]) -> list[str]:
    return [plain(row) for row in rows]


@pytest.mark.parametrize("width", [20, 44, 60, 78, 140])
def test_no_transcript_row_is_wider_than_its_pane(width: int) -> None:
    for entry in CALLED.entries:
        assert all(width_of(row) <= width for row in transcript.entry_rows(entry, width, UNICODE))


def test_dropped_words_are_marked_by_a_sign_too() -> None:
    text = " ".join(lines([row for entry in CALLED.entries for row in transcript.entry_rows(entry, 120, UNICODE)]))
    assert "On Tuesday I can offer you ✗ half past nine" in text


def test_unheard_words_stand_behind_a_bar() -> None:
    speaking = Entry("agent", START, text="One moment, please.", heard="One moment,", state="speaking")
    assert "One moment, │ please." in " ".join(lines(transcript.entry_rows(speaking, 100, UNICODE)))


def test_slow_replies_carry_a_sign() -> None:
    slow = Entry("agent", START, text="Yes.", heard="Yes.", state="done", ms=1240.0)
    quick = Entry("agent", START, text="Yes.", heard="Yes.", state="done", ms=812.0)
    assert "1.24 s ▲" in lines(transcript.entry_rows(slow, 100, UNICODE))[0]
    assert "812 ms" in lines(transcript.entry_rows(quick, 100, UNICODE))[0]


def test_ascii_signs_are_ascii() -> None:
    rows = [row for entry in CALLED.entries for row in transcript.entry_rows(entry, 100, ASCII)]
    assert all(line.isascii() for line in lines(rows))


def test_escape_codes_in_speech_never_reach_the_terminal() -> None:
    evil = Entry("caller", START, text="hello \x1b[2J\x07 there", state="final")
    assert "\x1b" not in plain(transcript.entry_rows(evil, 100, UNICODE)[0])
    assert clean("a\x1b\x9bb") == "a  b"


def test_wide_characters_count_two_cells() -> None:
    rows = wrap((("予約をお願いします、来週の火曜日です", "text"),), 10)
    assert all(width_of(row) <= 10 for row in rows)
    assert "".join(lines(rows)) == "予約をお願いします、来週の火曜日です"


def test_wrapping_keeps_every_word_and_style() -> None:
    rows = wrap((("one two ", "a"), ("three four five", "b")), 9)
    assert lines(rows) == ["one two", "three", "four five"]
    assert rows[1] == (("three", "b"),)


def test_fitting_padding_and_spreading_are_exact() -> None:
    assert (fit("abcdef", 4), pad("ab", 4), fit("abc", 0)) == ("abc…", "ab  ", "")
    assert plain(spread((("left", ""),), (("right", ""),), 12)) == "left   right"
    assert plain(cut_row((("abc", ""), ("def", "")), 5)) == "abcd…"


def test_the_turn_table_lines_up() -> None:
    rows, head, foot = turns.table(CALLED, 2, 50, UNICODE)
    assert {width_of(row) for row in rows} == {width_of(head)} == {50}
    assert plain(rows[2]).split() == ["▸", "2", "240", "70", "700", "0", "210", "20", "1240▲", "$0.0007"]
    assert "typical 1.24 s" in plain(foot)


def test_the_waterfall_shows_every_segment_once_and_in_order() -> None:
    rows = lines(turns.waterfall(measured(1, 2), 50, UNICODE))
    starts = [row.find("█") for row in rows[:6]]
    assert starts == sorted(starts)
    assert rows[6].split() == ["e2e", "812", "ms"]


def test_the_cause_names_the_largest_part_and_what_helps() -> None:
    slow = measured(1, 2, total_ms=1500.0, segments={"endpointing": 200.0, "first_token": 1300.0})
    assert turns.cause(slow) == (
        "1.30 s of 1.50 s went into the first word of the answer: a smaller or nearer model, or a shorter prompt, is faster."
    )
    assert "the tool" in turns.cause(measured(1, 2, segments={"first_token": 900.0}, tool_ms=800.0))
    assert turns.cause(measured(0, 1, kind="greeting")) == "The greeting: nobody waited for it."


def test_costs_add_up_by_stage_and_unknown_prices_are_said() -> None:
    call = replay(CALL, [*told(), measured(3, 5, unpriced=("acme",))])
    text = "\n".join(lines(cost.rows(call, 48, START + 60)))
    assert "embedded 2.2 s" in text
    assert "No price known for acme" in text


def test_the_softphone_line_names_what_is_wrong_and_how_to_mend_it() -> None:
    broken = Phone(problem="No sound device was found.", fix="Plug one in.")
    assert "No sound device was found.  Plug one in." in plain(phone.line(None, broken, 100, 0.0, UNICODE))


def test_the_softphone_line_shows_mute_and_echo_cancelling_in_words() -> None:
    live = Phone(state="in call", device="sound", muted=True, aec="half-duplex", mic=-10, speaker=-20)
    line = plain(phone.line(replay(CALL, until(ev.ReplyHeard)), live, 110, START + 42, UNICODE))
    assert "in call 00:42" in line
    assert "MUTED" in line
    assert "half-duplex" in line
    assert any("no interrupting by voice" in row for row in lines(phone.panel(None, live, 42, START, UNICODE)))


def test_levels_grow_with_loudness() -> None:
    widths = [len(figures.level(dbfs, 6).rstrip()) for dbfs in (-90, -45, -20, 0)]
    assert widths == sorted(widths)
    assert figures.level(-90, 6) == " " * 6
    assert figures.level(0, 6) == "█" * 6


def test_the_list_of_calls_says_how_each_ended() -> None:
    state = State()
    for event in told():
        apply(state, event)
    state.rows["live"] = CallRow("live", "riverside-dental", line="text", started_at=START + 100)
    rows = lines(calls.rows(state, 0, 110, START + 130, UNICODE))
    assert "● live" in rows[0]
    assert "typed" in rows[0]
    assert "caller hung up" in rows[1]


def ready(**changes: object) -> start.Ready:
    facts: dict[str, object] = {
        "agent": "riverside-dental", "greeting": "Hello.", "problem": "", "line": 0, "caller_lines": 6, "engine": "up",
        "engine_detail": "", "rungs": {"llm": {"name": "script responder", "state": "ready", "note": "no model"}}, "row": {},
    }  # fmt: skip
    return start.Ready(**(facts | changes))  # type: ignore[arg-type]


def test_the_start_page_names_the_keys_and_says_plainly_that_there_is_no_model() -> None:
    text = "\n".join(lines(start.rows(ready(), Phone(), 90, UNICODE)))
    assert "d   call it yourself" in text
    assert "has 6 lines to say" in text
    assert "script responder  no model" in text


def test_the_start_page_of_a_broken_agent_shows_line_problem_and_fix_only() -> None:
    broken = ready(problem="unknown key `voise`", line=4, row={"ok": False}, fix="did you mean `voice`?")
    text = "\n".join(lines(start.rows(broken, Phone(), 90, UNICODE)))
    assert "line 4: unknown key `voise`" in text
    assert "fix: did you mean `voice`?" in text
    assert "call it yourself" not in text


def test_the_start_page_of_an_agent_whose_newest_text_is_broken_offers_calls_with_the_version_before() -> None:
    text = "\n".join(lines(start.rows(ready(problem="unknown key `voise`", line=4), Phone(), 90, UNICODE)))
    assert "line 4: unknown key `voise`" in text
    assert "calls use the version before it" in text
    assert "call it yourself" in text


def test_the_start_page_without_engine_offers_to_start_it() -> None:
    text = "\n".join(
        lines(start.rows(ready(engine="down", engine_detail="The engine has stopped."), Phone(), 90, UNICODE))
    )
    assert "The engine has stopped." in text
    assert "ctrl+e" in text


def test_the_footer_shows_the_most_useful_keys_that_fit() -> None:
    row, places = bars.keys("rehearse", 80, lambda action: True)
    assert cells(plain(row)) <= 82
    assert [name for _, _, name in places][:3] == ["restart", "dial", "simulate"]
    for start_column, end, name in places:
        assert plain(row)[start_column:end] == f"{by_id(name).shown} {by_id(name).label}"


def test_the_top_bar_fits_at_every_width_and_its_places_match() -> None:
    for width in (60, 80, 120, 160):
        row, places = bars.top("rehearse", width, "riverside-dental", "up", {"serve": 2, "calls": 3}, START, UNICODE)
        assert width_of(row) == width
        text = plain(row)
        assert [text[a:b].upper().split()[-1][-8:] for a, b, _ in places][1] == "REHEARSE"[-8:]


def test_every_action_has_help_and_every_key_one_meaning_per_mode() -> None:
    for mode in ("agent", "rehearse", "serve", "calls"):
        seen: dict[str, Action] = {}
        for action in in_mode(mode):  # type: ignore[arg-type]
            assert action.help.endswith(".")
            for key in filter(None, action.keys.split(",")):
                assert key not in seen, (mode, key)
                seen[key] = action
    assert len({action.id for action in ACTIONS}) == len(ACTIONS)


def test_figures_are_short_and_plain() -> None:
    assert [figures.ms(value) for value in (0, 812.4, 1240, 12_400)] == ["0", "812", "1240", "12.4s"]
    assert [figures.usd(value) for value in (0, 0.00001, 0.0143, 1.2)] == ["$0", "<$.0001", "$0.0143", "$1.20"]
    assert (figures.length(42), figures.length(3723)) == ("00:42", "1:02:03")
    assert figures.percentile([], 95) == 0.0
    assert figures.percentile([1.0, 2.0, 3.0], 50) == 2.0
    assert short_arguments('{"day": "tuesday", "after_four": true}') == "day=tuesday, after_four=true"
    assert rest_of("one two three", "ONE two") == "three"
    assert Call("x").typical_ms() == 0.0


def test_a_turn_says_over_which_connections_it_went() -> None:
    turn = measured(1, 2, connections={"stt": 0.0, "llm": 41.6, "tts": 0.0})
    assert turns.connections(turn) == "Connection kept: recogniser, voice; newly connected: model (42 ms)."
    assert "newly connected" in " ".join(plain(row) for row in turns.waterfall(turn, 120, UNICODE))
    assert "onnect" not in " ".join(plain(row) for row in turns.waterfall(measured(1, 2), 120, UNICODE))


def test_spoken_words_that_nobody_wrote_down_yet_are_shown_as_such() -> None:
    awaited = transcript.entry_rows(Entry("caller", START, state="awaited", turn=1), 80, ASCII)
    unknown = transcript.entry_rows(Entry("caller", START, state="final", source="voice"), 80, ASCII)
    assert ASCII.busy in plain(awaited[0])
    assert "nobody could write it down" in plain(unknown[0])


def test_the_cost_names_classes_of_tokens_and_what_no_turn_is_charged() -> None:
    call = Call(CALL, started_at=START, ended_at=START + 60, turns=[measured(1, 2)])
    used = {"input_text_tokens": 124.0, "cached_text_tokens": 64.0, "output_audio_tokens": 40.0}
    call.usage[("llm", "openai", "m")] = used
    call.cost_measured = {"llm": 0.02, "total": 0.0206}
    call.cost_so_far = 0.0206
    shown = [plain(row) for row in cost.rows(call, 80, START + 60)]
    assert any("124 text in, 64 text cached, 40 audio out" in row and "$0.0200" in row for row in shown)
