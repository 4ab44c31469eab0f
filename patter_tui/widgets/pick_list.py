"""A list of rows with one selected. It moves the selection and reports it; what the rows mean is not its business."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from patter_tui.views.rows import Row
from patter_tui.widgets.line_view import LineView


class PickList(LineView):
    """Up, down, page keys, home, end and the mouse select; a second click opens."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "move(-10)", show=False),
        Binding("pagedown", "move(10)", show=False),
        Binding("home", "move(-100000)", show=False),
        Binding("end", "move(100000)", show=False),
    ]
    ALLOW_SELECT = False

    class Moved(Message):
        """Another row is selected."""

        def __init__(self, view: PickList, index: int) -> None:
            super().__init__()
            self.view, self.index = view, index

        @property
        def control(self) -> PickList:
            """The list it happened in."""
            return self.view

    class Opened(Moved):
        """A row was chosen."""

    def __init__(self, *, id: str, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._selectable = 0
        self.selected = 0

    def lay(self, rows: list[Row], selected: int) -> None:
        """Show rows, one of them selected."""
        self._selectable = len(rows)
        self.selected = max(0, min(selected, len(rows) - 1))
        self.show(rows, self.selected if rows else -1)

    def action_move(self, step: int) -> None:
        """Select another row."""
        self._choose(self.selected + step)

    def _choose(self, index: int) -> None:
        index = max(0, min(index, self._selectable - 1))
        if self._selectable and index != self.selected:
            self.selected = index
            self.post_message(self.Moved(self, index))

    def on_click(self, event: events.Click) -> None:
        """Select, or open what is selected."""
        index = event.y + self.scroll_offset.y
        if not 0 <= index < self._selectable:
            return
        if event.chain > 1:
            self.post_message(self.Opened(self, index))
        else:
            self._choose(index)
