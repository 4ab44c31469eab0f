"""A workbench on an engine of the tests."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from textual.pilot import Pilot

from patter_tui import paths
from patter_tui.app import Workbench
from patter_tui.desk import Options
from patter_tui.engine import Engine
from patter_tui.views.rows import plain
from patter_tui.widgets.editor import Editor
from patter_tui.widgets.line_view import LineView
from tests.tui import fake_softphone
from tests.tui.fake_engine import FakeEngine
from tests.tui.story import CALL

LONGEST = 400
"""Pictures to wait for something at most; each is one turn of the event loop and a fiftieth of a second."""


@dataclass
class Scene:
    """The app under test, its pilot and its engine."""

    app: Workbench
    pilot: Pilot[Engine]
    engine: FakeEngine
    phone_log: Path

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Let the app go on until something is so."""
        for _ in range(LONGEST):
            if condition():
                return
            await self.pilot.pause(0.02)
        raise AssertionError(f"it never came to this: {what}\n{self.text('#transcript')}\n{self.toasts()}")

    async def press(self, *keys: str) -> None:
        """Press keys and let them work."""
        await self.pilot.press(*keys)
        await self.pilot.pause()

    def text(self, selector: str) -> str:
        """What a pane says."""
        return "\n".join(plain(row).rstrip() for row in self.app.bench.query_one(selector, LineView).rows)

    def words(self, selector: str) -> str:
        """What a pane says, as if it never wrapped."""
        return " ".join(self.text(selector).split())

    def toasts(self) -> str:
        """What was said in toasts."""
        return "\n".join(f"{note.title}: {note.message}" for note in self.app._notifications)

    @property
    def editor(self) -> Editor:
        """The agent editor."""
        return self.app.bench.query_one(Editor)

    async def up(self) -> None:
        """Until the engine is connected and its agents are known."""
        await self.until(lambda: self.engine.sockets and self.app.desk.agent_name, "engine connected")


@asynccontextmanager
async def opened(
    home: Path,
    size: tuple[int, int] = (120, 40),
    *,
    engine: FakeEngine | None = None,
    sound: str = "loud",
    ours: bool = False,
) -> AsyncIterator[Scene]:
    """A workbench of a size; the engine is made here unless one is given."""
    places = paths.find(str(home))
    paths.prepare(places)
    served = engine or FakeEngine(places.home, ours=ours)
    log = home / "softphone-was-told.jsonl"
    command = (sys.executable, fake_softphone.__file__, str(log), sound, CALL)
    async with served:
        if not served.agents:
            served.add_agent(places.agents / "riverside.toml")
        app = Workbench(places, Options(softphone_command=command, engine_command=("/nonexistent/engine",)))
        async with app.run_test(size=size, notifications=True) as pilot:
            yield Scene(app, pilot, served, log)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A fresh home."""
    return tmp_path / "home"
