"""Rehearsing: typed, simulated and own calls on the screen, driven by keys."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Input

from patter import events as ev
from tests.tui.pilot.conftest import opened
from tests.tui.story import CALL, told, until

pytestmark = pytest.mark.anyio


async def test_the_start_page_says_what_is_ready_and_which_keys_start_it(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.until(lambda: "has 6 lines to say" in scene.text("#transcript"), "caller lines")
        page = scene.text("#transcript")
        assert "Thank you for calling Riverside Dental." in page
        assert "script responder  no model" in page
        assert "d Dial" in scene.text("#keys")


async def test_a_typed_call_from_greeting_to_hang_up(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.press("t")
        await scene.until(lambda: "How can I help you today?" in scene.text("#transcript"), "greeting")
        await scene.press(*"when do you open", "enter")
        await scene.until(lambda: "You said: when do you open" in scene.text("#transcript"), "answer")
        await scene.until(lambda: "812" in scene.text("#turns"), "a turn row")
        assert ("text", {"text": "when do you open"}) in scene.engine.commands
        assert "typed" in scene.text("#transcript")
        await scene.press("escape", "b")
        await scene.until(lambda: "call ended: operator ended" in scene.text("#transcript"), "ended")
        assert "d Dial" in scene.text("#keys")


async def test_letters_are_text_while_typing_and_commands_otherwise(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.press("t")
        await scene.until(lambda: scene.app.desk.live_call, "call")
        await scene.press("b", "5", "question_mark")
        assert scene.app.bench.query_one("#say", Input).value == "b5?"
        assert not any(name in ("hangup", "digits") for name, _ in scene.engine.commands)
        await scene.press("escape", "5", "number_sign", "i")
        await scene.until(lambda: ("interrupt", {}) in scene.engine.commands, "interrupt")
        assert [body for name, body in scene.engine.commands if name == "digits"] == [{"digits": "5"}, {"digits": "#"}]


async def test_a_slash_say_line_is_the_agents(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.press("t")
        await scene.until(lambda: scene.app.desk.live_call, "call")
        await scene.press(*"/say Hold on.", "enter")
        await scene.until(lambda: ("say", {"text": "Hold on."}) in scene.engine.commands, "say")


async def test_a_line_that_was_refused_stays_in_the_input(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        scene.engine.refuse["text"] = "This call is over."
        await scene.press("t")
        await scene.until(lambda: scene.app.desk.live_call, "call")
        await scene.press(*"hello", "enter")
        await scene.until(lambda: "This call is over." in scene.toasts(), "the reason")
        assert scene.app.bench.query_one("#say", Input).value == "hello"


async def test_a_simulated_call_dials_with_the_lines_of_the_file(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.press("s")
        await scene.until(lambda: scene.app.desk.rehearsal.phone.state == "in call", "in call")
        await scene.engine.publish(*(replace(event, seq=0) for event in until(ev.ReplyHeard)))
        await scene.until(lambda: "Dental. │ How can I help" in scene.words("#transcript"), "heard and unheard")
        await scene.until(lambda: "jitter 3 ms" in scene.text("#phone"), "levels")
        told_phone = [json.loads(line) for line in scene.phone_log.read_text().splitlines()]
        assert told_phone[0]["device"] == "simulated"
        assert told_phone[0]["caller"][0] == "What time do you open on Saturday morning?"
        assert told_phone[0]["caller"][2]["after_ms"] == 1800
        await scene.press("3", "b")
        await scene.until(lambda: scene.app.desk.rehearsal.phone.state == "off", "hung up")
        told_phone = [json.loads(line) for line in scene.phone_log.read_text().splitlines()]
        assert [line["do"] for line in told_phone] == ["dial", "digit", "hang_up"]


async def test_muting_tells_the_softphone_and_shows_the_word(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.press("d")
        await scene.until(lambda: scene.app.desk.rehearsal.phone.state == "in call", "in call")
        await scene.press("m")
        await scene.until(lambda: "MUTED" in scene.text("#phone"), "muted")
        await scene.until(lambda: '"mute", "on": true' in scene.phone_log.read_text(), "the softphone knows")
        await scene.press("b")
        await scene.until(lambda: scene.app.desk.rehearsal.phone.state == "off", "hung up")


async def test_without_sound_the_reason_and_the_fix_are_shown_and_typing_still_works(home: Path) -> None:
    async with opened(home, sound="silent") as scene:
        await scene.up()
        await scene.press("d")
        await scene.until(lambda: "No sound device was found." in scene.text("#phone"), "reason")
        assert "Plug one in, or press s or t." in scene.text("#phone")
        await scene.until(lambda: scene.app.desk.rehearsal.phone.state == "off", "off")
        await scene.press("t")
        await scene.until(lambda: "How can I help you today?" in scene.text("#transcript"), "typed call")


async def test_a_refused_rehearsal_says_why(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        scene.engine.refuse["rehearse"] = "The engine is stopping."
        await scene.press("s")
        await scene.until(lambda: "The engine is stopping." in scene.toasts(), "the reason")
        assert scene.app.desk.rehearsal.phone.state == "off"


async def test_the_interrupted_call_with_turns_waterfall_and_money(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.engine.publish(*(replace(event, seq=0) for event in told()))
        await scene.press("f5")
        await scene.until(lambda: "riverside-dental" in scene.text("#calls"), "in the list")
        await scene.press("enter")
        await scene.until(lambda: "✗ half past nine" in scene.text("#transcript"), "dropped words")
        await scene.until(lambda: "1240▲" in scene.text("#turns"), "turns")
        assert "700 of" not in scene.text("#waterfall")
        assert "700 ms of 1.24 s went into the first word" in scene.words("#waterfall")
        assert "$0.0014" in scene.text("#cost")
        await scene.press("k")
        await scene.until(lambda: "812 ms" in scene.text("#waterfall"), "the turn before")
        await scene.press("escape")
        await scene.until(lambda: "call it yourself" in scene.text("#transcript"), "start page again")


async def test_an_old_call_is_shown_from_its_journal(home: Path) -> None:
    async with opened(home) as scene:
        scene.engine.rows.append(
            {"call_id": "old", "agent": "riverside-dental", "state": "ended", "reason": "agent_ended"}
        )
        scene.engine.journals["old"] = [replace(event, call_id="old") for event in told()]
        await scene.up()
        await scene.press("f5")
        await scene.until(lambda: "agent ended" in scene.text("#calls"), "in the list")
        await scene.press("enter")
        await scene.until(lambda: "✗ half past nine" in scene.text("#transcript"), "its transcript")


async def test_reading_back_is_not_disturbed_by_new_words(home: Path) -> None:
    async with opened(home, (80, 24)) as scene:
        await scene.up()
        await scene.engine.publish(*(replace(event, seq=0) for event in told()))
        await scene.until(lambda: CALL in scene.app.desk.state.rows, "known")
        await scene.press("f5", "enter")
        view = scene.app.bench.query_one("#transcript")
        await scene.until(lambda: view.max_scroll_y > 1 and view.scroll_offset.y == view.max_scroll_y, "at the end")
        view.scroll_home(animate=False)
        await scene.engine.publish(ev.DigitPressed(call_id=CALL, digit="7"))
        await scene.until(lambda: "key 7" in scene.text("#transcript"), "a new line")
        assert view.scroll_offset.y == 0
        await scene.press("f")
        await scene.until(lambda: view.scroll_offset.y == view.max_scroll_y, "followed again")


async def test_narrow_screens_turn_from_pane_to_pane(home: Path) -> None:
    async with opened(home, (80, 24)) as scene:
        await scene.up()
        assert "[Talk]" in scene.text("#tabs")
        await scene.press("right_square_bracket")
        await scene.until(lambda: scene.app.bench.query_one("#turns").region.width > 60, "turns shown")
        assert not scene.app.bench.query_one("#transcript").region
        await scene.press("right_square_bracket")
        await scene.until(lambda: scene.app.bench.query_one("#cost").region.height > 8, "cost shown")
        await scene.press("left_square_bracket", "left_square_bracket")
        await scene.until(lambda: scene.app.bench.query_one("#transcript").region, "talk again")


async def test_the_transcript_can_be_copied(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr("patter_tui.clipboard.by_program", lambda text: copied.append(text) or True)
    async with opened(home) as scene:
        await scene.up()
        await scene.press("t")
        await scene.until(lambda: "How can I help" in scene.text("#transcript"), "greeting")
        await scene.press("escape", "y")
        await scene.until(lambda: copied, "copied")
        assert "agent: Thank you for calling Riverside Dental." in copied[0]
