"""Questions and pages that open over the workbench: help, choice of agent, problems, what to do with live calls at the end."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from patter_tui.actions import Mode
from patter_tui.figures import count
from patter_tui.safe import clean
from patter_tui.views.bars import help_rows
from patter_tui.views.rows import BLANK, Row, wrap
from patter_tui.widgets.line_view import LineView
from patter_tui.widgets.pick_list import PickList


class Page(ModalScreen[str]):
    """A box with rows; keys end it with an answer. Subclasses say which rows and which keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "answer('')", show=False)]
    TITLE_TEXT = ""
    KEYS_TEXT = "Esc closes"

    def compose(self) -> ComposeResult:
        """A titled box."""
        with Vertical(id="box") as box:
            box.border_title = self.TITLE_TEXT
            box.border_subtitle = self.KEYS_TEXT
            yield LineView(id="page")

    def on_mount(self) -> None:
        """Fill the box once its width is known."""
        self.call_after_refresh(self.fill)

    def on_resize(self) -> None:
        """Wrap again."""
        self.call_after_refresh(self.fill)

    def fill(self) -> None:
        """Lay out the rows; the box grows with them as far as the screen allows."""
        view = self.query_one("#page", LineView)
        rows = self.page_rows(max(20, view.text_width))
        view.styles.height = min(len(rows), max(4, self.size.height - 6))
        view.show(rows)
        view.focus()

    def page_rows(self, width: int) -> list[Row]:
        """The rows of this page."""
        return [BLANK] * (width > 0)

    def action_answer(self, answer: str) -> None:
        """Close with an answer."""
        self.dismiss(answer)


class HelpPage(Page):
    """The help of a mode."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("f1,question_mark", "answer('')", show=False)]
    TITLE_TEXT = "Help"
    KEYS_TEXT = "up and down scroll, Esc closes"

    def __init__(self, mode: Mode) -> None:
        super().__init__()
        self._mode: Mode = mode

    def page_rows(self, width: int) -> list[Row]:
        """Purpose, keys, how to read the screen."""
        return help_rows(self._mode, width)


class ProblemPage(Page):
    """Something failed: what, and how to mend it. Answers "copy" if the text is wanted on the clipboard."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer('copy')", show=False),
        Binding("enter", "answer('')", show=False),
    ]
    KEYS_TEXT = "y copies this, Esc closes"

    def __init__(self, title: str, problem: str, fix: str) -> None:
        super().__init__()
        self.TITLE_TEXT = title
        self._problem, self._fix = problem, fix

    def page_rows(self, width: int) -> list[Row]:
        """Cause, then fix."""
        rows = wrap(((clean(self._problem), "text"),), width)
        return [*rows, BLANK, *wrap(((clean(self._fix), "accent"),), width)] if self._fix else rows


class LeavePage(Page):
    """Calls are on or the line is open: what shall become of them? Answers "leave", "drain", "kill" or ""."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "answer('leave')", show=False),
        Binding("d", "answer('drain')", show=False),
        Binding("k,ctrl+q", "answer('kill')", show=False, priority=True),
        Binding("s", "answer('')", show=False),
    ]
    TITLE_TEXT = "Quit"
    KEYS_TEXT = "l, d, k or s"

    def __init__(self, calls: int, own: bool, number: str = "") -> None:
        super().__init__()
        self._calls, self._own, self._number = calls, own, number

    def page_rows(self, width: int) -> list[Row]:
        """What can be done."""
        verb = "is" if self._calls == 1 else "are"
        going_on = [f"{count(self._calls, 'call')} {verb} in progress."] if self._calls else []
        going_on += [f"The line {clean(self._number)} is open."] if self._number else []
        rows: list[Row] = [*wrap(((" ".join(going_on), "strong"),), width), BLANK]
        for key, what in (
            ("l", "leave: calls and the line go on, the next patter-tui finds them"),
            ("d", "drain: no new calls; after the last one the engine stops"),
            ("k", "kill: end calls now and stop the engine (or ctrl+q again)"),
            ("s", "stay"),
        ):
            lines = wrap(((what, "text"),), width - 3)
            rows += [((f"{key}  ", "accent"), *lines[0]), *[(("   ", ""), *line) for line in lines[1:]]]
        if self._own:
            rows += [BLANK, *wrap((("Your own rehearsal ends with this window in any case.", "muted"),), width)]
        return rows


class ClosePage(Page):
    """The line is to be closed while calls are on. Answers "idle", "now" or ""."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "answer('idle')", show=False),
        Binding("k", "answer('now')", show=False),
    ]
    TITLE_TEXT = "Stop serving"
    KEYS_TEXT = "c, k or Esc"

    def __init__(self, calls: int) -> None:
        super().__init__()
        self._calls = calls

    def page_rows(self, width: int) -> list[Row]:
        """What can become of the calls."""
        verb = "is" if self._calls == 1 else "are"
        return [
            *wrap(((f"{count(self._calls, 'call')} {verb} in progress.", "strong"),), width),
            BLANK,
            (("c    ", "accent"), ("close: no new calls, these go on", "text")),
            (("k    ", "accent"), ("kill: these end now, after a goodbye", "text")),
            (("Esc  ", "accent"), ("keep serving", "text")),
        ]


class OverwritePage(Page):
    """The file changed on disk while it was edited here. Answers "mine", "disk" or ""."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "answer('mine')", show=False),
        Binding("d", "answer('disk')", show=False),
    ]
    TITLE_TEXT = "The file changed on disk"
    KEYS_TEXT = "m, d or Esc"

    def page_rows(self, width: int) -> list[Row]:
        """Both texts are kept whatever is chosen."""
        return [
            *wrap((("Another program wrote this file while you were editing it.", "text"),), width),
            BLANK,
            (("m    ", "accent"), ("save mine over it", "text")),
            (("d    ", "accent"), ("take the one on disk; mine stays as a draft", "text")),
            (("Esc  ", "accent"), ("decide later", "text")),
        ]


class AgentsPage(ModalScreen[str]):
    """The agents to choose from. Answers the chosen name."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "answer('')", show=False),
        Binding("enter", "take", show=False),
    ]

    def __init__(self, rows: list[tuple[str, Row]], current: str) -> None:
        super().__init__()
        self._names = [name for name, _ in rows]
        self._rows = [row for _, row in rows]
        self._current = current

    def compose(self) -> ComposeResult:
        """A titled list."""
        with Vertical(id="box") as box:
            box.border_title = "Agents"
            box.border_subtitle = "enter opens, Esc closes"
            yield PickList(id="page")

    def on_mount(self) -> None:
        """Fill the list once its size is known."""
        view = self.query_one("#page", PickList)
        view.styles.height = max(3, min(len(self._rows), 12))
        start = self._names.index(self._current) if self._current in self._names else 0
        self.call_after_refresh(view.lay, self._rows, start)
        view.focus()

    def on_pick_list_moved(self, message: PickList.Moved) -> None:
        """Show the selection."""
        message.view.lay(self._rows, message.index)

    def on_pick_list_opened(self, message: PickList.Opened) -> None:
        """A second click chooses."""
        self.dismiss(self._names[message.index])

    def action_take(self) -> None:
        """Choose the selected one."""
        view = self.query_one("#page", PickList)
        self.dismiss(self._names[view.selected] if self._names else "")

    def action_answer(self, answer: str) -> None:
        """Close without a choice."""
        self.dismiss(answer)
