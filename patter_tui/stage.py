"""The ground every action of the workbench stands on: desk, screen, jobs, words to the person. It starts nothing by itself."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from textual.app import App
from textual.worker import Worker, WorkerState

from patter_tui import clipboard, settings
from patter_tui.desk import Desk, Options, Severity
from patter_tui.engine import Engine
from patter_tui.link import Refused
from patter_tui.paths import Paths
from patter_tui.safe import clean
from patter_tui.screens.bench import Bench
from patter_tui.views.glyphs import ASCII, UNICODE
from patter_tui.widgets.editor import Editor


class Stage(App[Engine]):
    """What all groups of actions share."""

    def __init__(self, paths: Paths, options: Options, *, ascii_only: bool = False) -> None:
        super().__init__()
        self.paths = paths
        self.remembered, self.settings_problem = settings.load(paths.home)
        if options.line == "phone" and self.remembered.line == "wideband":
            options = replace(options, line="wideband")
        self.desk = Desk(paths, options, self.tell)
        self.desk.agent_name = self.remembered.agent
        self.glyphs = ASCII if ascii_only else UNICODE
        self._bench: Bench | None = None

    @property
    def bench(self) -> Bench:
        """The screen below all questions."""
        assert self._bench is not None
        return self._bench

    @property
    def editor(self) -> Editor:
        """The agent's file."""
        return self.bench.query_one(Editor)

    def work(self, job: Coroutine[Any, Any, Any], group: str, *, exclusive: bool = True) -> None:
        """Run a job of the app (not of a pane: it must outlive the pane)."""
        self.run_worker(job, group=group, exclusive=exclusive, exit_on_error=False)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A job that failed says so, and leaves its trace in the log."""
        if event.state is not WorkerState.ERROR:
            return
        error = event.worker.error
        if isinstance(error, Refused):
            self.tell("Not possible", str(error), "warning")
            return
        print(f"a job of the workbench failed ({event.worker.group}): {error!r}", file=sys.stderr)
        self.tell("Something failed", f"{type(error).__name__}: {error}. Details: {self.paths.screen_log}", "error")

    def tell(self, title: str, text: str, severity: Severity) -> None:
        """A toast; errors stay longer."""
        seconds = {"information": 4.0, "warning": 8.0, "error": 12.0}[severity]
        self.notify(clean(text), title=clean(title), severity=severity, timeout=seconds, markup=False)

    async def copy(self, text: str, what: str) -> None:
        if await asyncio.to_thread(clipboard.by_program, text):
            self.tell("Copied", f"{what} is on the clipboard.", "information")
        elif self._driver is not None:
            self._driver.write(clipboard.escape_code(text))
            self.tell(
                "Copied", f"{what} was given to the terminal's clipboard (some terminals ignore that).", "information"
            )
