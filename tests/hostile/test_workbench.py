"""The workbench on a screen while strangers call whose names steer terminals, or are markup of the screen's own library."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from patter import events as ev
from tests.hostile.words import NASTY, is_plain
from tests.tui.pilot.conftest import Scene, opened
from tests.tui.story import until

pytestmark = pytest.mark.anyio


def call_of(number: int, word: str) -> list[ev.Event]:
    """The story as a call of somebody whose every word is this one."""
    made: list[ev.Event] = []
    for event in until(ev.Interrupted):
        changes = {"call_id": f"CA{number:032d}", "seq": 0, "at": 0.0}
        for name in ("caller", "agent", "stt", "llm", "tts", "text", "heard", "dropped", "output", "arguments", "name"):
            if hasattr(event, name):
                changes[name] = word
        made.append(replace(event, **changes))  # type: ignore[arg-type]
    return made


def on_screen(scene: Scene) -> str:
    """Every letter that the terminal is given for the whole screen."""
    strips = scene.app.screen._compositor.render_strips()
    assert len(strips) == scene.app.size.height
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


async def test_no_name_of_a_caller_steers_the_terminal_or_breaks_the_screen(tmp_path: Path) -> None:
    async with opened(tmp_path / "home") as scene:
        await scene.up()
        await scene.press("f4")
        for number, word in enumerate(NASTY, 1):
            await scene.engine.publish(*call_of(number, word))
            await scene.until(partial(scene.app.desk.state.calls.get, f"CA{number:032d}"), "call")
            scene.app.desk.state.show(f"CA{number:032d}", "serve")
            scene.app.desk.dirty |= {"transcript", "turns", "status", "calls", "trace"}
            await scene.pilot.pause(0.02)
            for line in on_screen(scene).split("\n"):
                assert is_plain(line), (ascii(word), ascii(line))
        assert scene.app.is_running
