"""Actions on the agent's file: open, save, reload, check, choose another. The editor keeps the text, the engine judges it."""

from __future__ import annotations

import gc
from pathlib import Path

from patter_tui import agents
from patter_tui.safe import clean
from patter_tui.screens.modals import AgentsPage, OverwritePage, ProblemPage
from patter_tui.stage import Stage
from patter_tui.views.rows import Row, pad
from patter_tui.widgets.editor import Editor


class Editing(Stage):
    """What can be done with agent files."""

    _compared: str | None = None
    _counted: tuple[Path, tuple[int, int]] | None = None

    async def look_after_file(self) -> None:
        """Follow the chosen agent and what happens to its file."""
        desk, bench, editor = self.desk, self.bench, self.editor
        await editor.look_at_disk()
        path = desk.agent_path
        if path is not None and (editor.agent is None or editor.agent.path != path) and bench.mode != "calls":
            if bench.mode == "agent" or bench.size.width >= 150 or editor.agent is not None:
                await self.open_editor()
            else:
                self._count_lines(path)
        before = desk.rehearsal.text_at_call.get(str(path))
        if editor.agent is not None and before is not self._compared:
            self._compared = before
            editor.compare(before)

    def _count_lines(self, path: Path) -> None:
        stamp = agents.stamp(path)
        if (path, stamp) != self._counted:
            self._counted = (path, stamp)
            self.desk.rehearsal.count_caller_lines(_text(path))

    async def open_editor(self) -> None:
        path = self.desk.agent_path
        editor = self.editor
        if path is None:
            return
        problem = await editor.open(path)
        if problem:
            self.tell("Agent", problem, "error")
            return
        if editor.draft_restored:
            self.tell(
                "Draft",
                "Unsaved text of last time is back. ctrl+s saves it, ctrl+r takes the file on disk.",
                "information",
            )
        self.desk.rehearsal.count_caller_lines(editor.text)
        editor.compare(self.desk.rehearsal.text_at_call.get(str(path)))
        if self.bench.mode == "agent":
            self.bench.focus_main()
        gc.collect()
        gc.freeze()

    def do_save(self) -> None:
        """Save the agent file with all that was typed before, unless somebody else changed it meanwhile."""
        area = self.editor.area
        if area is not None:
            area.call_later(self._save_typed)  # this key has overtaken those that still wait for the text area

    def _save_typed(self) -> None:
        editor = self.editor
        if editor.overwrites:
            self.push_screen(OverwritePage(), self._overwrite)
            return
        self._save(editor)

    def _save(self, editor: Editor) -> None:
        problem = editor.save()
        if problem:
            self.push_screen(ProblemPage("Not saved", problem, "Check the disk and the file's permissions."))
            return
        path = editor.agent.path if editor.agent is not None else None
        self.desk.rehearsal.count_caller_lines(editor.text)
        editor.compare(self.desk.rehearsal.text_at_call.get(str(path)))
        self.clear_notifications()
        note = "Calls keep the version before until the problems are mended." if editor.problems else ""
        self.tell("Saved", note or "Calls use it from the next turn on.", "warning" if note else "information")

    async def _overwrite(self, answer: str | None) -> None:
        editor = self.editor
        if answer == "mine":
            self._save(editor)
        elif answer == "disk":
            await editor.reload()

    async def do_reload(self) -> None:
        """Take the file on disk."""
        await self.editor.reload()

    def do_next_problem(self) -> None:
        """Go to the next problem."""
        self.editor.next_problem()

    def do_open(self) -> None:
        """Choose another agent."""
        rows: list[tuple[str, Row]] = []
        for agent in self.desk.state.agents:
            name, good = str(agent.get("name", "")), agent.get("ok", True)
            sign = (self.glyphs.good, "good") if good else (self.glyphs.bad, "bad")
            file = Path(str(agent.get("path", ""))).name
            rows.append((name, ((f"{sign[0]} ", sign[1]), (pad(clean(name), 30), "text"), (clean(file), "muted"))))
        self.push_screen(AgentsPage(rows, self.desk.agent_name), self._opened)

    async def _opened(self, name: str | None) -> None:
        if not name or name == self.desk.agent_name:
            return
        self.desk.agent_name = self.remembered.agent = name
        self.desk.dirty |= {"agents", "top", "rungs"}
        if not self.desk.live_call:
            self.desk.state.shown = ""
        await self.open_editor()

    def on_editor_settled(self, message: Editor.Settled) -> None:
        """The text is quiet: have it checked."""
        self.editor.compare(self.desk.rehearsal.text_at_call.get(str(message.path)))
        self.work(self._check(message.path, message.text), "check")

    async def _check(self, path: Path, text: str) -> None:
        if self.desk.link is None:
            return
        answer = await self.desk.link.post("/agents/validate", text=text, path=str(path))
        found = answer.get("data", {}).get("problems") or []
        self.editor.judge(text, [item for item in found if isinstance(item, dict)])
        self.desk.dirty.add("status")

    def on_editor_changed_on_disk(self) -> None:
        """Two texts: the person decides."""
        self.tell("Changed on disk", "Another program wrote this file. ctrl+s asks which one to keep.", "warning")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
