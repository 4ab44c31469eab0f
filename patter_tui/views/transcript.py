"""The transcript as rows: who said what, what was heard of it, and what happened in between. Pure; wraps to a width.

Not by colour alone: unheard words are dim behind "│", dropped words are struck through behind "✗".
"""

from __future__ import annotations

from patter_tui.call import Call, Entry, rest_of
from patter_tui.figures import SLOW_MS, clock, seconds
from patter_tui.safe import clean
from patter_tui.views.glyphs import Glyphs
from patter_tui.views.rows import Row, Span, cells, fit, spread, wrap

PROSE = 100
"""Longest line of speech in cells: longer ones are hard to follow."""

NAME = 7


def entry_rows(entry: Entry, width: int, glyphs: Glyphs) -> list[Row]:
    """The rows of one entry at `width` cells."""
    timed = width >= 56
    lead = 9 if timed else 0
    tail = 9 if width >= 44 else 0
    name, style = _name(entry)
    first: list[Span] = [(clock(entry.at).ljust(lead), "muted")] if timed else []
    indent = lead + NAME + 1
    room = max(8, min(PROSE, width - indent - tail))
    body, figure = _body(entry, room, glyphs)
    if entry.kind in ("tool", "mark"):
        first = [(" " * lead, "")]
    first.append((name.ljust(NAME) + " ", style))
    lines = wrap(body, room)
    rows = [spread((*first, *lines[0]), figure if tail else (), width)]
    rows += [((" " * indent, ""), *line) for line in lines[1:]]
    return rows


def _name(entry: Entry) -> tuple[str, str]:
    if entry.kind == "caller":
        return "caller", "caller"
    if entry.kind == "agent":
        return "agent", "agent"
    if entry.kind == "tool":
        return "tool", "muted"
    return "", "muted"


def _body(entry: Entry, room: int, glyphs: Glyphs) -> tuple[Row, Row]:
    if entry.kind == "caller":
        return _caller(entry, glyphs), ()
    if entry.kind == "agent":
        return _agent(entry, glyphs), _silence(entry, glyphs)
    if entry.kind == "tool":
        sign, style = {"ok": (glyphs.good, "good"), "failed": (glyphs.bad, "bad")}.get(
            entry.state, (glyphs.busy, "muted")
        )
        spans: list[Span] = [(f"{sign} ", style), (clean(entry.text), "text")]
        if entry.state == "failed":
            spans.append((f"  {fit(clean(entry.detail), 300)}", "bad"))
        elif entry.detail:  # the agent mostly says it again: what fits in the line is enough
            left = room - cells(entry.text) - 4
            spans.append((f"  {fit(clean(entry.detail), left)}" if left >= 12 else "", "muted"))
        took = f"{seconds(entry.ms)} {' ' * cells(glyphs.slow)}"  # in one column with the replies' silences
        return tuple(spans), ((took, "muted"),) if entry.state != "running" else ()
    sign = {"warn": glyphs.cut, "bad": glyphs.bad}.get(entry.state, glyphs.mark)
    style = {"warn": "warn", "bad": "bad"}.get(entry.state, "muted")
    remark: list[Span] = [(f"{sign} {clean(entry.text)}", style)]
    if entry.detail:
        remark.append((f"  fix: {clean(entry.detail)}", "muted"))
    return tuple(remark), ()


def _caller(entry: Entry, glyphs: Glyphs) -> Row:
    text = clean(entry.text)
    if entry.state == "awaited":
        return ((text, "pending"), (" " if text else "", ""), (glyphs.busy, "pending"))
    if entry.state == "final" and not text and entry.source == "voice":
        return (("(spoken; nobody could write it down)", "muted"),)
    if entry.state == "partial":
        return ((text, "pending"), (f" {glyphs.caret}", "accent"))
    if entry.state == "acknowledged":
        return ((text, "pending"), ("  (heard, no turn)", "muted"))
    suffix = "  (typed)" if entry.source == "typed" else "  (keys)" if entry.source == "dtmf" else ""
    return ((text, "text"), (suffix, "muted")) if suffix else ((text, "text"),)


def _agent(entry: Entry, glyphs: Glyphs) -> Row:
    heard, text = clean(entry.heard), clean(entry.text)
    if entry.state == "done":
        return ((heard or text, "text"),)
    if entry.state == "interrupted":
        dropped = clean(entry.dropped)
        spans: list[Span] = [(heard, "text")] if heard else []
        if dropped:
            spans += [(" " if heard else "", ""), (f"{glyphs.bad} ", "bad"), (dropped, "dropped")]
        return tuple(spans) or (("(nothing was heard)", "muted"),)
    rest = rest_of(text, heard)
    spans = [(heard, "text")] if heard else []
    if entry.state == "paused":
        spans.append((f" {glyphs.pause} ", "warn"))
    elif heard and rest:
        spans.append((f" {glyphs.bar} ", "accent"))
    spans.append((rest, "pending"))
    if not text and not heard:
        return ((glyphs.busy, "pending"),)
    return tuple(span for span in spans if span[0])


def _silence(entry: Entry, glyphs: Glyphs) -> Row:
    """How long the caller waited for this reply; slow ones carry a sign."""
    if entry.ms <= 0 or entry.source in ("greeting", "say", "filler"):
        return ()
    if entry.ms >= SLOW_MS:
        return ((f"{seconds(entry.ms)} {glyphs.slow}", "warn"),)
    return ((f"{seconds(entry.ms)} {' ' * cells(glyphs.slow)}", "muted"),)


def text_of(entry: Entry) -> str:
    """One entry as a line of plain text, for copying."""
    if entry.kind == "agent":
        said = entry.heard or entry.text
        unheard = f" [not heard: {entry.dropped}]" if entry.dropped else ""
        return clean(f"{clock(entry.at)} agent: {said}{unheard}")
    if entry.kind == "caller":
        return clean(f"{clock(entry.at)} caller: {entry.text}")
    if entry.kind == "tool":
        return clean(f"{clock(entry.at)} tool {entry.state}: {entry.text} -> {entry.detail}")
    return clean(f"{clock(entry.at)} [{entry.text}]")


def text_of_call(call: Call) -> str:
    """The whole transcript as plain text."""
    head = clean(f"{call.call_id}  {call.agent}  {clock(call.started_at)}")
    return "\n".join([head, *(text_of(entry) for entry in call.entries)])


def trace_rows(call: Call, width: int, height: int) -> list[Row]:
    """The last events with their times (seconds since the call began), as many as fit, newest last."""
    rows: list[Row] = []
    row: list[Span] = []
    used = 0
    for at, label in list(call.trace)[-height * 8 :]:
        stamp = f"{max(0.0, at - call.started_at):.2f} "
        size = cells(stamp) + cells(label) + 3
        if row and used + size > width:
            rows.append(tuple(row))
            row, used = [], 0
        row += [(stamp, "muted"), (clean(label) + "   ", "text")]
        used += size
    if row:
        rows.append(tuple(row))
    return rows[-height:]
