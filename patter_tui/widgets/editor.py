"""The agent file as text: colours, problems with their lines, unsaved text that is never lost. It asks no engine itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.style import Style
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer

from patter_tui import agents
from patter_tui.agents import AgentText
from patter_tui.safe import clean
from patter_tui.views.glyphs import Glyphs
from patter_tui.views.rows import Row, fit, wrap
from patter_tui.widgets.line_view import LineView

if TYPE_CHECKING:
    from textual.widgets import TextArea
    from textual.widgets.text_area import TextAreaTheme

SETTLE_SECONDS = 0.4
"""The file is checked this long after the last key: often enough to help, rarely enough not to nag."""

LARGEST = 2_000_000
"""Characters; a longer file is surely no agent."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the file. Lines and columns count from 1; 0 means the whole file."""

    text: str
    line: int = 0
    column: int = 0
    fix: str = ""


def syntax(dark: bool, coloured: bool) -> TextAreaTheme:
    """Quiet colours for TOML; without colours, weight and dimness only."""
    from textual.widgets.text_area import TextAreaTheme  # its parser is not needed before a file is open

    if not coloured:
        plain = {"comment": Style(dim=True), "toml.type": Style(bold=True), "type": Style(bold=True)}
        return TextAreaTheme(name="patter", syntax_styles=plain)
    string, comment, key, number = (
        ("#9ccc9c", "#7a8490", "#7fb4e0", "#d8b37a") if dark else ("#2f6f3e", "#7a828c", "#1c5f9c", "#8a5a00")
    )
    styles = {
        "string": Style(color=string),
        "comment": Style(color=comment, italic=True),
        "toml.type": Style(color=key),
        "type": Style(color=key),
        "property": Style(color=key),
        "number": Style(color=number),
        "float": Style(color=number),
        "boolean": Style(color=number),
        "punctuation.bracket": Style(color=comment),
        "punctuation.delimiter": Style(color=comment),
        "operator": Style(color=comment),
    }
    return TextAreaTheme(name="patter", syntax_styles=styles)


class Editor(Vertical):
    """The editor pane. Messages tell when the text should be checked and when the file on disk changed under it."""

    class Settled(Message):
        """The text has not changed for a moment: have it checked."""

        def __init__(self, path: Path, text: str) -> None:
            super().__init__()
            self.path, self.text = path, text

    class ChangedOnDisk(Message):
        """Somebody else changed the file while it was being edited here."""

    def __init__(self, drafts: Path, glyphs: Glyphs, *, id: str) -> None:
        super().__init__(id=id)
        self._drafts = drafts
        self._glyphs = glyphs
        self._settle: Timer | None = None
        self._seen_on_disk: str | None = None
        self._stamp = (0, 0)
        self._next = 0
        self.agent: AgentText | None = None
        self.problems: list[Problem] = []
        self.draft_restored = False

    def compose(self) -> ComposeResult:
        """The problems and the difference; the text itself comes with the first file (its parser is slow to load)."""
        yield LineView(id="problems")
        yield LineView(id="difference")

    # ------------------------------------------------------------------ the file

    @property
    def area(self) -> TextArea | None:
        """The text widget, once a file is open."""
        found = self.query("#text")
        return cast("TextArea", found.first()) if found else None

    @property
    def text(self) -> str:
        """What is in the editor now."""
        area = self.area
        return area.text if area is not None else ""

    @property
    def modified(self) -> bool:
        """Whether there is something to save."""
        return self.agent is not None and self.area is not None and self.text != self.agent.saved

    async def open(self, path: Path) -> str:
        """Show a file, with the unsaved text of an earlier session if there is some. Returns a problem, or ""."""
        if self.agent is not None and self.agent.path == path:
            return ""
        self.keep_draft()
        try:
            agent = agents.open_file(path)
        except (OSError, UnicodeDecodeError) as error:
            return f"{path} cannot be read: {error}"
        if len(agent.saved) > LARGEST:
            return f"{path} is too long for an agent file."
        draft = agents.draft_of(self._drafts, agent)
        self.draft_restored = draft is not None
        self.agent, self._seen_on_disk, self.problems = agent, agent.saved, []
        await self._load(draft if draft is not None else agent.saved)
        return ""

    async def _load(self, text: str) -> None:
        area = self.area
        if area is None:
            from textual.widgets import TextArea  # see `syntax`

            area = TextArea.code_editor(text, language="toml", soft_wrap=True, id="text", tab_behavior="focus")
            area.register_theme(syntax(self.app.current_theme.dark, not self.app.current_theme.ansi))
            area.theme = "patter"
            area.cursor_blink = False
            await self.mount(area, before=0)
        else:
            area.load_text(text)
        self.tell()
        self._ask_to_check()

    def follow_theme(self) -> None:
        """The app's colours changed."""
        area = self.area
        if area is not None:
            area.register_theme(syntax(self.app.current_theme.dark, not self.app.current_theme.ansi))
            area.theme = "css"
            area.theme = "patter"

    def save(self) -> str:
        """Write the text. Returns a problem, or "" (also if there was nothing to write)."""
        if self.agent is None:
            return "There is no agent file open."
        try:
            agents.save(self.agent, self.text)
        except OSError as error:
            self.keep_draft()
            return (
                f"{self.agent.path.name} could not be saved: {error.strerror or error}. Your text is kept as a draft."
            )
        self._seen_on_disk = self.agent.saved
        self.draft_restored = False
        agents.keep_draft(self._drafts, self.agent, self.text)
        self.tell()
        return ""

    @property
    def overwrites(self) -> bool:
        """Whether saving would overwrite a change that somebody else made."""
        return self.agent is not None and not self.agent.missing and self.agent.on_disk not in (None, self.agent.saved)

    async def reload(self) -> None:
        """Take the file from disk; unsaved text stays as a draft file beside it."""
        if self.agent is None:
            return
        self.keep_draft()
        self.agent.saved = self.agent.on_disk or ""
        self._seen_on_disk = self.agent.saved
        await self._load(self.agent.saved)

    def keep_draft(self) -> None:
        """Put unsaved text where a crash cannot reach it."""
        if self.agent is not None and self.area is not None:
            agents.keep_draft(self._drafts, self.agent, self.text)

    async def look_at_disk(self) -> None:
        """Take over a change on disk if nothing is unsaved here; else say so, once per change."""
        if self.agent is None or self.area is None:
            return
        stamp = agents.stamp(self.agent.path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        disk = self.agent.on_disk
        if disk is None or disk in (self._seen_on_disk, self.agent.saved):
            return
        self._seen_on_disk = disk
        if self.modified:
            self.post_message(self.ChangedOnDisk())
            return
        self.agent.saved = disk
        place = self.area.cursor_location
        await self._load(disk)
        self.area.move_cursor(place)

    # ------------------------------------------------------------------ checking

    def on_text_area_changed(self) -> None:
        """A key was pressed: check and keep the draft once it is quiet."""
        self.tell()
        self._ask_to_check()

    def _ask_to_check(self) -> None:
        if self._settle is not None:
            self._settle.stop()
        self._settle = self.set_timer(SETTLE_SECONDS, self._settled)

    def _settled(self) -> None:
        self.keep_draft()
        if self.agent is not None:
            self.post_message(self.Settled(self.agent.path, self.text))

    def judge(self, text: str, found: list[dict[str, Any]]) -> None:
        """Show what the engine found wrong with `text` (ignored if the text has changed since)."""
        if text != self.text:
            return
        self.problems = [
            Problem(
                str(item.get("problem", "")),
                int(item.get("line") or 0),
                int(item.get("column") or 0),
                str(item.get("fix") or ""),
            )
            for item in found
        ]
        self._next = 0
        self.tell()

    def next_problem(self) -> None:
        """Put the cursor on the next problem."""
        area = self.area
        if not self.problems or area is None:
            return
        problem = self.problems[self._next % len(self.problems)]
        self._next += 1
        last = area.document.line_count - 1
        area.move_cursor((min(max(0, problem.line - 1), last), max(0, problem.column - 1)), center=True)
        area.focus()

    # ------------------------------------------------------------------ words around the text

    def tell(self) -> None:
        """Bring title and problem list up to date."""
        if self.agent is None:
            return
        state = "modified" if self.modified else "saved"
        if self.draft_restored and self.modified:
            state = "unsaved text of last time"
        self.border_title = Content(f"Agent {self._glyphs.rule} {clean(self.agent.path.name)}")
        self.border_subtitle = f"{self._glyphs.live} {state}" if self.modified else state
        view = self.query_one("#problems", LineView)
        view.show(self._problem_rows(self._inner))
        view.display = bool(self.problems)

    @property
    def _inner(self) -> int:
        """Cells for words inside the frame (the lists may still be hidden, and then know no width)."""
        return max(20, self.size.width - 3)

    def on_resize(self) -> None:
        """Wrap the problems anew."""
        self.tell()

    def _problem_rows(self, width: int) -> list[Row]:
        rows: list[Row] = []
        for problem in self.problems[:20]:
            place = f"line {problem.line}: " if problem.line else ""
            rows += wrap(((f"{self._glyphs.bad} {place}", "bad"), (clean(problem.text), "text")), width)
            if problem.fix:
                rows += [(("  ", ""), *row) for row in wrap(((clean(problem.fix), "muted"),), width - 2)]
        return rows

    def compare(self, before: str | None) -> None:
        """Show what changed since the text that the last call used; None if there was no call yet."""
        view = self.query_one("#difference", LineView)
        lines = agents.difference(before, self.text) if before is not None else []
        width = self._inner
        if not lines:
            text = "as in the last call" if before is not None else "no call yet"
            view.show([((f"{self._glyphs.dot} {text}", "muted"),)])
            return
        shown: list[Row] = [
            ((fit(clean(line), width), "good" if line.startswith("+") else "dropped"),) for line in lines[:4]
        ]
        more = [((f"{len(lines) - 4} more lines differ from the last call", "muted"),)] if len(lines) > 4 else []
        view.show([*shown, *more])
