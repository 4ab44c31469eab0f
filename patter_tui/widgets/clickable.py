"""One line that can be clicked: top bar, tabs, keys. It reports what was clicked, and decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.message import Message

from patter_tui.views.rows import Row
from patter_tui.widgets.line_view import LineView


class ClickableLine(LineView, can_focus=False):
    """A row with named places."""

    ALLOW_SELECT = False
    ALLOW_MAXIMIZE = False

    class Chosen(Message):
        """A place was clicked."""

        def __init__(self, line: ClickableLine, name: str) -> None:
            super().__init__()
            self.line = line
            self.name = name

        @property
        def control(self) -> ClickableLine:
            """The line it happened on."""
            return self.line

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._places: Sequence[tuple[int, int, str]] = ()

    def lay(self, row: Row, places: Sequence[tuple[int, int, str]]) -> None:
        """Show a row; `places` are (first column, column after the last, name)."""
        self._places = places
        self.show([row])

    def on_click(self, event: events.Click) -> None:
        """Find the place."""
        for start, end, name in self._places:
            if start <= event.x < end:
                self.post_message(self.Chosen(self, name))
                return
