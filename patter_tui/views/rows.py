"""Rows of styled text: the plain value between the state and the screen. It owns wrapping and alignment by terminal cells.

A span is (text, style name); the style names are those of `widgets.inks`. It knows no terminal and no theme.
"""

from __future__ import annotations

from rich.cells import cell_len, chop_cells

Span = tuple[str, str]
Row = tuple[Span, ...]

BLANK: Row = ()


def cells(text: str) -> int:
    """Width of a text on the terminal."""
    return cell_len(text)


def width_of(row: Row) -> int:
    """Width of a row on the terminal."""
    return sum(cell_len(text) for text, _ in row)


def plain(row: Row) -> str:
    """A row without its styles."""
    return "".join(text for text, _ in row)


def fit(text: str, width: int) -> str:
    """Cut a text to `width` cells, with "…" where something is missing."""
    if cell_len(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    return chop_cells(text, width - 1)[0] + "…"


def pad(text: str, width: int) -> str:
    """`fit`, then filled up with spaces on the right."""
    cut = fit(text, width)
    return cut + " " * (width - cell_len(cut))


def right(text: str, width: int) -> str:
    """`fit`, then filled up with spaces on the left."""
    cut = fit(text, width)
    return " " * (width - cell_len(cut)) + cut


def cut_row(row: Row, width: int) -> Row:
    """The first `width` cells of a row, the last of them "…" if something is missing."""
    if width_of(row) <= width:
        return row
    made: list[Span] = []
    left = width
    for text, style in row:
        size = cell_len(text)
        if size >= left:
            made.append((fit(text + " ", left), style))
            break
        made.append((text, style))
        left -= size
    return tuple(made)


def spread(left: Row, right_side: Row, width: int) -> Row:
    """One row with `left` at the left edge and `right_side` at the right one; the left is cut first."""
    taken = width_of(right_side)
    if taken >= width:
        return cut_row(right_side, width)
    start = cut_row(left, width - taken - (1 if taken else 0))
    return (*start, (" " * (width - taken - width_of(start)), ""), *right_side)


def wrap(spans: Row, width: int) -> list[Row]:
    """Break styled text into rows of at most `width` cells, at spaces where there are any. Always at least one row."""
    rows: list[Row] = []
    row: list[Span] = []
    used = 0
    for text, style in _words(spans, max(1, width)):
        size = cell_len(text)
        if used and used + len(text.rstrip()) - len(text) + size > width:
            rows.append(_trimmed(row))
            row, used = [], 0
            text = text.lstrip()
            size = cell_len(text)
        if not text:
            continue
        if row and row[-1][1] == style:
            row[-1] = (row[-1][0] + text, style)
        else:
            row.append((text, style))
        used += size
    rows.append(_trimmed(row))
    return rows


def _words(spans: Row, width: int) -> list[Span]:
    """Words with the spaces after them; a word longer than `width` is chopped."""
    found: list[Span] = []
    for text, style in spans:
        start = 0
        for index, char in enumerate(text):
            if char == " " and text[index + 1 : index + 2] != " ":
                found.append((text[start : index + 1], style))
                start = index + 1
        if start < len(text):
            found.append((text[start:], style))
    pieces: list[Span] = []
    for text, style in found:
        if cell_len(text.rstrip()) > width:
            pieces.extend((piece, style) for piece in chop_cells(text, width))
        else:
            pieces.append((text, style))
    return pieces


def _trimmed(row: list[Span]) -> Row:
    if row:
        text, style = row[-1]
        row[-1] = (text.rstrip(), style)
    return tuple(span for span in row if span[0])
