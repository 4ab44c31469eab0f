"""A scrolling view of plain rows that repaints only the lines that changed. It owns drawing; it knows no call and no engine."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from patter_tui.views.rows import Row, plain
from patter_tui.widgets.inks import inks


class LineView(ScrollView, can_focus=True):
    """Shows rows. `follow` keeps the end in view while new rows come, until the reader scrolls up."""

    ALLOW_SELECT = True

    def __init__(self, *, id: str | None = None, follow: bool = False, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._rows: list[Row] = []
        self._inks: dict[str, Style] = {}
        self._cursor = -1
        self._follow = follow
        self.at_end = True
        """Whether the last row is in view, or will be as soon as there is room."""

    # ------------------------------------------------------------------ content

    @property
    def rows(self) -> Sequence[Row]:
        """What is shown."""
        return self._rows

    @property
    def text_width(self) -> int:
        """Cells of a row. The scroll bar's column is always kept free, so that its coming does not re-wrap."""
        return max(1, self.scrollable_content_region.width)

    def show(self, rows: list[Row], cursor: int = -1) -> None:
        """Replace the rows; only lines that differ are painted again. `cursor` is the highlighted row, kept in view."""
        old, self._rows = self._rows, rows
        old_cursor, self._cursor = self._cursor, cursor
        size = Size(self.text_width, len(rows))
        if size != self.virtual_size:
            self.virtual_size = size
            if self._follow and self.at_end:
                self.to_end()
        top, bottom = self.scroll_offset.y, self.scroll_offset.y + self.size.height
        for y in range(top, min(bottom, max(len(rows), len(old)))):
            before = old[y] if y < len(old) else None
            after = rows[y] if y < len(rows) else None
            if (before is not after and before != after) or (cursor != old_cursor and y in (cursor, old_cursor)):
                self.refresh(Region(0, y - top, self.size.width, 1))
        if cursor >= 0 and cursor != old_cursor:
            self.keep_in_view(cursor)

    def keep_in_view(self, y: int) -> None:
        """Scroll as little as needed for row `y` to be seen."""
        if y < self.scroll_offset.y:
            self.scroll_to(y=y, animate=False, force=True)
        elif y >= self.scroll_offset.y + self.size.height > 0:
            self.scroll_to(y=y - self.size.height + 1, animate=False, force=True)

    def to_end(self) -> None:
        """Show the last row."""
        self.at_end = True
        self.scroll_to(y=self.max_scroll_y, animate=False, force=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Whoever scrolls away from the end wants to read; whoever comes back wants to follow."""
        super().watch_scroll_y(old_value, new_value)
        self.at_end = round(new_value) >= self.max_scroll_y

    def on_resize(self) -> None:
        """More or less room: the end stays in view."""
        if self._follow and self.at_end:
            self.call_after_refresh(self.to_end)

    # ------------------------------------------------------------------ drawing

    def style_of(self, name: str) -> Style:
        """The terminal style of a style name under the current theme."""
        if not self._inks:
            self._inks = inks(self.app.theme_variables, ansi=self.app.current_theme.ansi)
        return self._inks.get(name) or self._inks["text"]

    def notify_style_update(self) -> None:
        """The theme changed: forget drawn styles."""
        self._inks = {}
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        """One line of the visible part."""
        width = self.size.width
        row_index = y + self.scroll_offset.y
        base = self.rich_style
        if not 0 <= row_index < len(self._rows):
            return Strip.blank(width, base)
        row = self._rows[row_index]
        chosen = row_index == self._cursor and self.has_focus
        over = self.style_of("chosen") if chosen else None
        segments = [
            Segment(
                text, base + self.style_of(style) + over if over else base + self.style_of(style) if style else base
            )
            for text, style in row
        ]
        strip = Strip(segments).adjust_cell_length(width, base + over if over else base)
        strip = self._with_selection(strip, row_index)
        return strip.apply_offsets(0, row_index)

    def _with_selection(self, strip: Strip, row_index: int) -> Strip:
        selection = self.text_selection
        span = selection.get_span(row_index) if selection is not None else None
        if span is None:
            return strip
        start, end = span
        length = len(plain(self._rows[row_index]).rstrip())
        end = length if end == -1 else min(end, length)
        if end <= start:
            return strip
        style = self.screen.get_component_rich_style("screen--selection")
        return Strip.join([strip.crop(0, start), strip.crop(start, end).apply_style(style), strip.crop(end)])

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text."""
        return selection.extract("\n".join(plain(row).rstrip() for row in self._rows)), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Selecting changes the look of lines only."""
        self.refresh()

    def watch_has_focus(self, value: bool) -> None:
        """The highlighted row shows only where the keys go."""
        super().watch_has_focus(value)
        self.refresh()
