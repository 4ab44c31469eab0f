"""The list of calls as rows: live ones first by time, each with how it ended. Pure."""

from __future__ import annotations

from patter_tui.call import CALM_ENDS
from patter_tui.figures import day_and_time, length, usd
from patter_tui.safe import clean
from patter_tui.store import CallRow, State
from patter_tui.views.glyphs import Glyphs
from patter_tui.views.rows import Row, cut_row, pad, right, wrap


def head(width: int) -> Row:
    """Column heads."""
    return (
        (
            pad(_columns(("  when", "agent", "with", "line", "length", "turns", "cost", "how it ended"), width), width),
            "muted",
        ),
    )


def rows(state: State, selected: int, width: int, now: float, glyphs: Glyphs) -> list[Row]:
    """One row per call."""
    return [_row(row, index == selected, width, now, glyphs) for index, row in enumerate(state.ordered())]


def _row(row: CallRow, selected: bool, width: int, now: float, glyphs: Glyphs) -> Row:
    lasted = now - row.started_at if row.on else row.duration_s
    sign = glyphs.pointer if selected else " "
    cells = (
        f"{sign} {day_and_time(row.started_at, now)}", clean(row.agent), _who(row), _line(row.line), length(lasted),
        str(row.turns), usd(row.cost_total, least=bool(row.unpriced)), "",
    )  # fmt: skip
    text = _columns(cells, width)
    if row.on:
        ringing = row.state == "ringing"
        sign = f"{glyphs.busy} ringing" if ringing else f"{glyphs.live} live"
        return ((text, "strong" if selected else "text"), (sign, "warn" if ringing else "good"))
    calm = row.reason in CALM_ENDS
    ending = f"{glyphs.good if calm else glyphs.bad} {clean(row.reason).replace('_', ' ') or 'ended'}"
    ending += f": {clean(row.detail)}" if row.detail else ""
    return cut_row(((text, "strong" if selected else "text"), (ending, "muted" if calm else "warn")), width)


def _who(row: CallRow) -> str:
    if row.line == "text":
        return "typed"
    return "rehearsal" if row.rehearsal else clean(row.other)


def _line(line: str) -> str:
    if line.startswith("mulaw"):
        return "phone"
    return {"text": "text", "": ""}.get(line, "wideband")


def _columns(cells: tuple[str, ...], width: int) -> str:
    when, agent, who, line, lasted, turns, cost, ending = cells
    if width < 90:
        made = pad(when, 15 if width >= 76 else 9) + pad(agent, 17) + " " + pad(who, 9)
        return made + right(lasted, 7) + right(cost, 8) + "  " + ending
    made = pad(when, 15) + pad(agent, 26 if width >= 110 else 18) + " " + pad(who, 14) + " " + pad(line, 9)
    return made + right(lasted, 7) + right(turns, 6) + right(cost, 9) + "  " + ending


def empty(width: int) -> list[Row]:
    """What stands here before the first call."""
    return [
        (("No calls yet.", "strong"),),
        (),
        *wrap((("Every call is kept here with its transcript, latency, cost and recording.", "muted"),), width),
        (("F3", "accent"), ("  rehearse: make the first one", "muted")),
    ]
