"""The agent's file on the screen: saving, problems, drafts, changes on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from patter import events as ev
from patter_tui.screens.modals import AgentsPage, OverwritePage
from tests.tui.pilot.conftest import Scene, opened

pytestmark = pytest.mark.anyio


async def edited(scene: Scene) -> Path:
    """Open the editor on the demo agent."""
    await scene.up()
    await scene.press("f2")
    await scene.until(lambda: scene.editor.area is not None and scene.editor.area.has_focus, "editor")
    assert scene.editor.agent is not None
    return scene.editor.agent.path


async def test_a_change_is_saved_with_ctrl_s(home: Path) -> None:
    async with opened(home) as scene:
        path = await edited(scene)
        before = path.read_text()
        await scene.press(*"# mine", "enter")
        assert scene.editor.modified
        assert path.read_text() == before
        await scene.press("ctrl+s")
        await scene.until(lambda: path.read_text() == "# mine\n" + before, "saved")
        assert "from the next turn on" in scene.toasts()
        assert not scene.editor.modified


async def test_problems_are_shown_with_lines_and_can_be_jumped_to(home: Path) -> None:
    async with opened(home) as scene:
        scene.engine.problems = [{"problem": "unknown key voise", "line": 4, "column": 1, "fix": "Did you mean voice?"}]
        await edited(scene)
        await scene.press("x")
        await scene.until(lambda: "line 4: unknown key voise" in scene.text("#problems"), "problem")
        assert "Did you mean voice?" in scene.text("#problems")
        await scene.press("f8")
        assert scene.editor.area is not None
        assert scene.editor.area.cursor_location == (3, 0)
        scene.engine.problems = []
        await scene.press("x")
        await scene.until(lambda: not scene.editor.problems, "mended")


def kept(home: Path) -> str:
    """The unsaved text that a lost terminal would leave."""
    return "".join(draft.read_text() for draft in (home / "drafts").glob("*.toml"))


async def test_unsaved_text_comes_back_at_the_next_start(home: Path) -> None:
    async with opened(home) as scene:
        path = await edited(scene)
        await scene.press(*"draft")
        await scene.until(lambda: kept(home).startswith("draft"), "kept")
    async with opened(home) as scene:
        await edited(scene)
        assert scene.editor.text.startswith("draft# The demo agent")
        assert not path.read_text().startswith("draft")
        assert "Unsaved text of last time is back" in scene.toasts()


async def test_a_change_on_disk_is_taken_over_if_nothing_is_unsaved(home: Path) -> None:
    async with opened(home) as scene:
        path = await edited(scene)
        path.write_text("# from outside\n")
        await scene.until(lambda: scene.editor.text == "# from outside\n", "taken over")


async def test_two_changes_of_one_file_are_never_mixed_silently(home: Path) -> None:
    async with opened(home) as scene:
        path = await edited(scene)
        await scene.press(*"mine")
        path.write_text("# from outside\n")
        await scene.until(lambda: "Another program wrote this file" in scene.toasts(), "said")
        await scene.press("ctrl+s")
        assert isinstance(scene.app.screen, OverwritePage)
        assert path.read_text() == "# from outside\n"
        await scene.press("d")
        await scene.until(lambda: scene.editor.text == "# from outside\n", "theirs")
        assert any("mine" in draft.read_text() for draft in (home / "drafts").iterdir())


async def test_a_file_that_cannot_be_saved_says_so_and_keeps_the_text(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(home) as scene:
        await edited(scene)
        await scene.press(*"mine")

        def denied(agent: object, text: str) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("patter_tui.agents.save", denied)
        await scene.press("ctrl+s")
        await scene.pilot.pause(0.1)
        rows = "".join("".join(text for text, _ in row) for row in scene.app.screen.query_one("#page").rows)  # type: ignore[attr-defined]
        assert "Permission denied" in rows
        assert any("mine" in draft.read_text() for draft in (home / "drafts").iterdir())


async def test_another_agent_can_be_chosen(home: Path) -> None:
    async with opened(home) as scene:
        other = home / "agents" / "other.toml"
        other.write_text('system_prompt = "Be brief."\n')
        scene.engine.add_agent(other, name="other")
        await edited(scene)
        await scene.until(lambda: len(scene.app.desk.state.agents) == 2, "two agents")
        await scene.press("ctrl+o")
        assert isinstance(scene.app.screen, AgentsPage)
        await scene.press("down", "enter")
        await scene.until(lambda: "Be brief." in scene.editor.text, "opened")
        assert scene.app.desk.agent_name == "other"


async def test_an_agent_that_the_engine_rejected_is_said_with_its_line(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.engine.publish(
            ev.AgentRejected(
                call_id="", agent="riverside-dental", problem="system_prompt is missing.", line=1, fix="Write one."
            )
        )
        await scene.until(lambda: "system_prompt is missing." in scene.toasts(), "said")
        assert "riverside-dental line 1" in scene.toasts()


async def test_what_changed_since_the_last_call_is_shown(home: Path) -> None:
    async with opened(home) as scene:
        await scene.up()
        await scene.press("t")
        await scene.until(lambda: scene.app.desk.live_call, "call")
        await scene.press("escape", "f2")
        await scene.until(lambda: scene.editor.area is not None and scene.editor.area.has_focus, "editor")
        await scene.press(*"# news", "enter")
        await scene.until(lambda: "+ # news" in scene.text("#difference"), "difference")
