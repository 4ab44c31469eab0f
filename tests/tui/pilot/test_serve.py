"""Serve mode: the line, its calls watched and steered by keys, and what becomes of them when the terminal goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Input

from patter import events as ev
from patter_tui.screens.forms import Form
from patter_tui.screens.modals import ClosePage, LeavePage, ProblemPage
from tests.tui.fake_engine import OFF, FakeEngine
from tests.tui.pilot.conftest import Scene, opened
from tests.tui.story import CALL, told, until

pytestmark = pytest.mark.anyio

OTHER = "CA22222222222222222222222222222222"
KEYS = {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "sesame", "TWILIO_PHONE_NUMBER": "+15550100999"}


@pytest.fixture(autouse=True)
def carrier_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    for name in (
        "TELNYX_API_KEY",
        "TELNYX_CONNECTION_ID",
        "TELNYX_PUBLIC_KEY",
        "PATTER_WEBHOOK_HOST",
        "PATTER_CARRIER_API",
    ):
        monkeypatch.delenv(name, raising=False)


def phoned(call_id: str, events: list[ev.Event], caller: str = "+15551230231") -> list[ev.Event]:
    """The story as a call from outside."""
    return [
        replace(
            event, seq=0, at=0.0, call_id=call_id, **({"caller": caller} if isinstance(event, ev.CallStarted) else {})
        )
        for event in events
    ]


async def serving(scene: Scene) -> None:
    """Serve mode with an open line."""
    await scene.up()
    scene.engine.line = OFF | {
        "state": "open", "carrier": "twilio", "number": "+15550100999", "agent": "riverside-dental",
        "public_url": "https://voice.example.com", "since": 1.0,
    }  # fmt: skip
    await scene.engine.say_line()
    await scene.press("f4")
    await scene.until(lambda: "open  Twilio +15550100999" in scene.text("#line"), "open line")


async def fill(scene: Scene, **values: str) -> None:
    """Type into the fields of a form."""
    await scene.until(lambda: isinstance(scene.app.screen, Form) and scene.app.focused is not None, "a form")
    for name, value in values.items():
        field = scene.app.screen.query_one(f"#ask-{name}", Input)
        assert field.region, name
        field.value = value
    await scene.press("enter")


async def test_the_line_is_opened_with_the_keys_of_the_environment(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.press("f4")
        await scene.until(lambda: "s  take real calls with riverside-dental" in scene.text("#line"), "off")
        await scene.press("s")
        await fill(scene, host="https://voice.example.com/")
        await scene.until(lambda: "https://voice.example.com" in scene.text("#line"), "open")
        (order,) = [body for name, body in scene.engine.commands if name == "line"]
        assert order["secret"] == "sesame"
        assert (order["carrier"], order["agent"], order["number"]) == ("twilio", "riverside-dental", "+15550100999")
        assert (order["host"], order["tunnel"], order["take_number"]) == ("voice.example.com", False, True)
        assert order["port"] == 8000
        await scene.until(
            lambda: "was answered by https://old.example.com" in scene.words("#line"), "the former webhook"
        )
        assert "serving" in scene.text("#top")
        assert "x Stop serving" in scene.text("#keys")


async def test_without_carrier_keys_it_says_which_are_needed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWILIO_AUTH_TOKEN")
    async with opened(home) as scene:
        await scene.up()
        await scene.press("f4")
        await scene.until(lambda: "TWILIO_AUTH_TOKEN" in scene.text("#line"), "what is missing")
        await scene.press("s")
        assert isinstance(scene.app.screen, ProblemPage)
        assert not [name for name, _ in scene.engine.commands if name == "line"]


async def test_a_line_that_cannot_open_shows_problem_and_fix(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.press("f4")
        scene.engine.line = OFF | {"state": "problem", "problem": "Twilio refused the keys.", "fix": "Check them."}
        await scene.engine.say_line()
        await scene.until(lambda: "✗ Twilio refused the keys." in scene.text("#line"), "problem")
        assert "fix: Check them." in scene.text("#line")
        assert "s Serve" in scene.text("#keys")


async def test_a_form_with_a_number_that_cannot_be_dialled_stays_open_and_says_why(home: Path) -> None:
    async with opened(home) as scene:
        await serving(scene)
        await scene.press("n")
        await fill(scene, number="555")
        assert isinstance(scene.app.screen, Form)
        said = "".join(text for row in scene.app.screen.query_one("#page").rows for text, _ in row)  # type: ignore[attr-defined]
        assert "written with its country" in said
        await scene.press("escape")
        assert not [name for name, _ in scene.engine.commands if name == "place"]


async def test_a_placed_call_is_watched_from_its_first_ring(home: Path) -> None:
    async with opened(home) as scene:
        await serving(scene)
        await scene.press("n")
        await fill(scene, number="+1 555 999 0000", voicemail="Please call back.")
        await scene.until(lambda: "… ringing" in scene.text("#live"), "ringing")
        (order,) = [body for name, body in scene.engine.commands if name == "place"]
        assert order == {"agent": "riverside-dental", "to": "+15559990000", "voicemail": "Please call back."}
        await scene.until(lambda: "calling +15559990000" in scene.text("#transcript"), "watched")
        assert "t Transfer" not in scene.text("#keys")
        await scene.press("b")
        await scene.until(lambda: "call ended: operator ended" in scene.text("#transcript"), "given up")


async def test_a_call_that_comes_in_is_watched_with_its_turns_and_money(home: Path) -> None:
    async with opened(home) as scene:
        await serving(scene)
        await scene.engine.publish(*phoned(CALL, until(ev.Interrupted)))
        await scene.until(lambda: "sorry do you have" in scene.text("#transcript"), "watched")
        assert "in  +15551230231" in scene.text("#live")
        assert "F4 SERVE(1)" in scene.text("#top")
        await scene.engine.publish(*phoned(CALL, told()[len(until(ev.Interrupted)) :]))
        await scene.until(lambda: "1240▲" in scene.text("#turns"), "turns")
        await scene.until(lambda: "$0.0014" in scene.text("#cost"), "money")
        await scene.until(lambda: "✓ hung up" in scene.text("#live"), "ended below")


async def test_two_calls_keep_their_transcripts_while_one_switches_between_them(home: Path) -> None:
    async with opened(home) as scene:
        await serving(scene)
        await scene.engine.publish(*phoned(CALL, until(ev.CallerSaid)))
        await scene.until(lambda: "appointment for next Tuesday" in scene.words("#transcript"), "the first")
        await scene.engine.publish(*phoned(OTHER, until(ev.ReplyHeard), "+447700900123"))
        await scene.until(lambda: "+447700900123" in scene.text("#live"), "the second")
        assert "appointment for next Tuesday" in scene.words("#transcript")
        await scene.press("up")
        await scene.until(lambda: "appointment" not in scene.words("#transcript"), "switched")
        assert "│ How can I help you today?" in scene.words("#transcript")
        await scene.press("down")
        await scene.until(lambda: "appointment for next Tuesday" in scene.words("#transcript"), "back")


async def test_a_call_that_was_just_picked_is_the_one_that_is_hung_up(home: Path) -> None:
    async with opened(home) as scene:
        scene.engine.rows += [
            {"call_id": "newer", "agent": "desk", "state": "live", "caller": "+15551", "started_at": 2000.0},
            {"call_id": "older", "agent": "desk", "state": "live", "caller": "+15552", "started_at": 1000.0},
        ]
        scene.engine.slow_journals = True
        await serving(scene)
        await scene.until(lambda: "▸ ● in call    in  +15551" in scene.text("#live"), "the first")
        await scene.press("down", "b")
        await scene.until(lambda: scene.engine.hung_up, "hung up")
        assert scene.engine.hung_up == ["older"]
        scene.engine.slow_journals = False


async def test_the_own_rehearsal_is_not_disturbed_by_watching(home: Path) -> None:
    async with opened(home) as scene:
        await serving(scene)
        await scene.press("f3", "t")
        await scene.until(lambda: scene.app.desk.rehearsal.own_call, "own call")
        await scene.press(*"hello", "enter")
        await scene.until(lambda: "You said: hello" in scene.text("#transcript"), "answered")
        await scene.engine.publish(*phoned(CALL, until(ev.ReplyHeard)))
        await scene.press("escape", "f4")
        await scene.until(lambda: "typed" in scene.text("#live") and "+15551230231" in scene.text("#live"), "listed")
        await scene.until(lambda: "│ How can I help" in scene.words("#transcript"), "watched")
        await scene.press("f3")
        await scene.until(lambda: "You said: hello" in scene.text("#transcript"), "as it was")
        await scene.press("enter", *"again", "enter")
        await scene.until(lambda: ("text", {"text": "again"}) in scene.engine.commands, "still mine")


async def test_a_call_is_spoken_into_sent_keys_and_handed_on(home: Path) -> None:
    async with opened(home) as scene:
        await serving(scene)
        await scene.engine.publish(*phoned(CALL, until(ev.ReplyHeard)))
        await scene.until(lambda: "t Transfer" in scene.text("#keys"), "watched")
        await scene.press("enter", *"One moment.", "enter")
        await scene.until(lambda: ("say", {"text": "One moment."}) in scene.engine.commands, "said")
        await scene.press("escape", "d")
        await fill(scene, digits="12#")
        await scene.until(lambda: ("digits", {"digits": "12#"}) in scene.engine.commands, "pressed")
        await scene.press("t")
        await fill(scene, number="+15557770000", summary="Ms Hill wants Tuesday.")
        wanted = {"number": "+15557770000", "summary": "Ms Hill wants Tuesday."}
        await scene.until(lambda: ("transfer", wanted) in scene.engine.commands, "transferred")
        await scene.until(lambda: "✓ handed on" in scene.text("#live"), "ended")


async def test_closing_the_line_asks_what_becomes_of_calls(home: Path) -> None:
    async with opened(home) as scene:
        await serving(scene)
        await scene.engine.publish(*phoned(CALL, until(ev.ReplyHeard)))
        await scene.until(lambda: "SERVE(1)" in scene.text("#top"), "live")
        await scene.press("x")
        assert isinstance(scene.app.screen, ClosePage)
        await scene.press("c")
        await scene.until(lambda: ("close line", {"when": "idle"}) in scene.engine.commands, "closing")
        await scene.until(lambda: "closing: no new calls" in scene.text("#line"), "said")


async def test_leaving_with_an_open_line_asks_and_leaves_everything_going_on(home: Path) -> None:
    async with opened(home, ours=True) as scene:
        await serving(scene)
        await scene.press("ctrl+q")
        assert isinstance(scene.app.screen, LeavePage)
        await scene.press("l")
        await scene.until(lambda: scene.app._exit, "left")
        assert scene.app.return_value is None
        assert not [name for name, _ in scene.engine.commands if name in ("shutdown", "close line", "hangup")]


async def test_a_closed_terminal_leaves_calls_running_and_the_next_one_finds_them(home: Path) -> None:
    async with FakeEngine(home, ours=True) as engine:
        engine.add_agent(home / "agents" / "riverside.toml")
        async with opened(home, engine=Lasting(engine)) as scene:
            await serving(scene)
            await engine.publish(*phoned(CALL, until(ev.CallerSaid)))
            await scene.until(lambda: "SERVE(1)" in scene.text("#top"), "live")
            scene.app._told_to_go()
            await scene.until(lambda: scene.app._exit, "left")
            assert scene.app.return_value is None
        async with opened(home, engine=Lasting(engine)) as scene:
            await scene.up()
            await scene.press("f4")
            await scene.until(lambda: "appointment for next Tuesday" in scene.words("#transcript"), "found")
            assert "in call" in scene.text("#live")
            await engine.publish(ev.AgentSaid(call_id=CALL, turn=1, reply_id=9, text="And on it goes."))
            await scene.until(lambda: "And on it goes." in scene.text("#transcript"), "followed")


class Lasting(FakeEngine):
    """An engine that a workbench's end does not close."""

    def __init__(self, engine: FakeEngine) -> None:
        self.__dict__ = engine.__dict__

    async def __aenter__(self) -> FakeEngine:  # type: ignore[override]
        return self

    async def __aexit__(self, *exc: object) -> None:
        return


async def test_a_closed_terminal_stops_an_engine_that_nobody_needs(home: Path) -> None:
    async with opened(home, ours=True) as scene:
        await scene.up()
        scene.app._told_to_go()
        await scene.until(lambda: scene.app._exit, "left")
        assert scene.app.return_value is not None


async def test_narrow_screens_turn_from_the_calls_to_their_turns(home: Path) -> None:
    async with opened(home, (80, 24)) as scene:
        await serving(scene)
        await scene.engine.publish(*phoned(CALL, until(ev.Interrupted)))
        await scene.until(lambda: "sorry do you have" in scene.text("#transcript"), "watched")
        assert scene.app.bench.query_one("#transcript").region.height >= 8
        await scene.press("right_square_bracket")
        await scene.until(lambda: scene.app.bench.query_one("#turns").region.width > 60, "turns")
        assert "812" in scene.text("#turns")
