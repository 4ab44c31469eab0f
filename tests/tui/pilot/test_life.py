"""The workbench around the calls: engine coming and going, help, palette, sizes, quitting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from patter import events as ev
from patter_tui.screens.modals import HelpPage, LeavePage
from tests.tui.fake_engine import FakeEngine
from tests.tui.pilot.conftest import opened
from tests.tui.story import CALL, told, until

pytestmark = pytest.mark.anyio


async def test_a_broken_event_connection_is_resumed_without_loss_or_repetition(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        story = [replace(event, seq=0) for event in told()]
        await scene.engine.publish(*story[:12])
        await scene.until(lambda: CALL in scene.app.desk.state.calls, "first half")
        await scene.engine.drop_sockets()
        await scene.engine.publish(*story[12:])
        await scene.until(lambda: scene.app.desk.state.rows[CALL].state == "ended", "second half")
        assert len(scene.app.desk.state.calls[CALL].turns) == 3
        assert scene.app.desk.state.seq == len(story)


async def test_a_gap_in_the_events_makes_it_fetch_everything_again(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.engine.publish(*(replace(event, seq=0) for event in until(ev.ReplyHeard)))
        await scene.press("f5", "enter")
        await scene.until(lambda: scene.app.desk.state.shown == CALL, "shown")
        scene.engine.rows.append(
            {"call_id": CALL, "agent": "riverside-dental", "state": "ended", "reason": "agent_ended"}
        )
        scene.engine.journals[CALL] = told()
        scene.engine.gap = True
        await scene.engine.drop_sockets()
        await scene.until(lambda: "✗ half past nine" in scene.text("#transcript"), "journal read again")


async def test_a_dead_engine_is_noticed_and_nothing_said_is_lost(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.press("t")
        await scene.until(lambda: "How can I help" in scene.text("#transcript"), "greeting")
        await scene.engine.close()
        await scene.until(lambda: "the engine stopped; what was said is kept" in scene.words("#transcript"), "noticed")
        assert "How can I help" in scene.text("#transcript")
        await scene.until(lambda: "^e Start engine" in scene.text("#keys"), "offer")
        assert "engine stopped" in scene.text("#top")


async def test_an_engine_that_came_back_is_adopted(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.engine.close()
        await scene.until(lambda: scene.app.desk.status == "down", "down")
        async with FakeEngine(home) as second:
            second.add_agent(home / "agents" / "riverside.toml")
            await scene.press("ctrl+e")
            await scene.until(lambda: second.sockets and scene.app.desk.status == "up", "up again")
            assert scene.app.desk.state.engine_id == second.engine_id


async def test_an_engine_that_cannot_start_says_why_and_what_to_do(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.engine.close()
        await scene.until(lambda: scene.app.desk.status == "down", "down")
        await scene.press("ctrl+e")
        await scene.until(lambda: "could not be started" in scene.text("#transcript"), "why")
        await scene.until(lambda: "^e Start engine" in scene.text("#keys"), "what")


async def test_quitting_without_calls_stops_the_engine_that_a_workbench_started(home: Path) -> None:
    async with opened(home, ours=True) as scene:
        await scene.up()
        await scene.press("ctrl+q")
        await scene.until(lambda: scene.app._exit, "left")
        assert scene.app.return_value is not None
        assert scene.app.return_value.engine_id == scene.engine.engine_id


async def test_quitting_leaves_a_foreign_engine_alone(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.press("ctrl+q")
        await scene.until(lambda: scene.app._exit, "left")
        assert scene.app.return_value is None


async def test_quitting_leaves_an_engine_that_another_terminal_watches(home: Path) -> None:
    async with opened(home, ours=True) as scene:
        await scene.up()
        scene.engine.sockets.append(scene.engine.sockets[0])
        await scene.press("ctrl+q")
        await scene.until(lambda: scene.app._exit, "left")
        scene.engine.sockets.pop()
        assert scene.app.return_value is None


async def test_quitting_during_a_call_asks_first(home: Path) -> None:
    async with opened(home, ours=True) as scene:
        await scene.up()
        await scene.engine.publish(*(replace(event, seq=0) for event in until(ev.ReplyHeard)))
        await scene.until(lambda: scene.app.desk.state.live(), "live")
        await scene.press("ctrl+q")
        assert isinstance(scene.app.screen, LeavePage)
        await scene.press("s")
        assert not isinstance(scene.app.screen, LeavePage)
        await scene.press("ctrl+q", "d")
        await scene.until(lambda: scene.app._exit, "left")
        assert ("shutdown", {"when": "idle"}) in scene.engine.commands
        assert scene.app.return_value is None


async def test_help_is_about_the_mode_and_closes_again(home: Path) -> None:
    async with opened(home, (80, 24)) as scene:
        await scene.up()
        await scene.press("question_mark")
        assert isinstance(scene.app.screen, HelpPage)
        await scene.pilot.pause(0.1)
        rows = "".join("".join(text for text, _ in row) for row in scene.app.screen.query_one("#page").rows)
        assert "Here you call the agent" in rows
        await scene.press("escape")
        assert not isinstance(scene.app.screen, HelpPage)


async def test_the_palette_runs_actions(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.press("ctrl+p")
        await scene.pilot.pause(0.1)
        await scene.press(*"go to calls")
        await scene.until(lambda: scene.app.screen.query("OptionList").first().option_count > 0, "a hit")  # type: ignore[attr-defined]
        await scene.pilot.pause(0.3)
        await scene.press("enter")
        await scene.until(lambda: scene.app.bench.mode == "calls", "ran")
        await scene.until(lambda: "No calls yet." in scene.text("#calls"), "drawn")


async def test_a_terminal_that_is_too_small_says_so_and_comes_back(home: Path) -> None:
    async with opened(home, (50, 12)) as scene:
        await scene.until(lambda: "needs 60×16, this terminal has 50×12" in scene.text("#small"), "sentence")
        await scene.pilot.resize_terminal(100, 30)
        await scene.until(lambda: scene.app.bench.query_one("#transcript").region, "panes")


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 40), (160, 45)])
async def test_every_mode_fits_every_size(home: Path, size: tuple[int, int]) -> None:
    async with opened(home, size) as scene:
        await scene.up()
        await scene.engine.publish(*(replace(event, seq=0) for event in told()))
        for key, pane in (("f2", "#text"), ("f5", "#calls"), ("f4", "#live"), ("f3", "#transcript")):
            await scene.press(key)
            await scene.until(
                lambda pane=pane: scene.app.bench.query(pane) and scene.app.bench.query_one(pane).region, pane
            )  # type: ignore[misc]
            assert scene.app.bench.query_one("#top").region.y == 0
            assert scene.app.bench.query_one("#keys").region.bottom == size[1]
            assert scene.app.bench.query_one(pane).region.right <= size[0]


async def test_a_pane_can_have_the_whole_screen(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.press("f10")
        await scene.until(lambda: scene.app.bench.query_one("#transcript").region.width > 115, "wide")
        await scene.press("escape")
        await scene.until(lambda: scene.app.bench.query_one("#transcript").region.width < 80, "as before")


async def test_a_click_on_the_bar_changes_the_mode(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.until(lambda: "F5 Calls" in scene.text("#top"), "bar")
        await scene.pilot.click("#top", offset=(scene.text("#top").index("F5") + 1, 0))
        await scene.until(lambda: scene.app.bench.mode == "calls", "calls")
