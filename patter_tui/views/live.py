"""Calls that are on, over those that ended last, as rows; and what stands beside them when there are none. Pure."""

from __future__ import annotations

from patter_tui.call import CALM_ENDS
from patter_tui.figures import length, usd
from patter_tui.line import PhoneLine
from patter_tui.safe import clean
from patter_tui.store import CallRow
from patter_tui.views.glyphs import Glyphs
from patter_tui.views.rows import BLANK, Row, pad, right, wrap

_WORDS = {
    "caller_hung_up": "hung up", "agent_ended": "ended", "operator_ended": "you ended", "handler_ended": "ended",
    "transferred": "handed on", "voicemail_left": "voicemail", "machine_answered": "machine", "no_answer": "no answer",
    "engine_stopped": "stopped", "engine_died": "cut off", "budget_spent": "budget",
}  # fmt: skip
"""Endings in as many letters as the column has."""


ROOMY = 62
"""From this width on, in cells, every column has room."""


def head(width: int) -> Row:
    """Column heads."""
    return ((_columns(("  state", "number", "agent", "time", "turns", "cost"), width), "muted"),)


def rows(listed: list[CallRow], selected: int, width: int, now: float, glyphs: Glyphs) -> list[Row]:
    """One row per call."""
    return [_row(row, index == selected, width, now, glyphs) for index, row in enumerate(listed)]


def _row(row: CallRow, selected: bool, width: int, now: float, glyphs: Glyphs) -> Row:
    lasted = now - row.started_at if row.on else row.duration_s
    pointer = glyphs.pointer if selected else " "
    sign, text, style = _state(row, glyphs)
    state = pad(f"{sign} {text}", 13)
    cost = usd(row.cost_total, least=bool(row.unpriced))
    rest = _columns(("", _who(row), clean(row.agent), length(lasted), str(row.turns), cost), width)[15:]
    body = "strong" if selected else "text" if row.on else "muted"
    return ((f"{pointer} ", body), (state, style), (rest, body))


def _state(row: CallRow, glyphs: Glyphs) -> tuple[str, str, str]:
    if row.state == "ringing":
        return glyphs.busy, "ringing", "warn"
    if row.on:
        machine = row.answered_by in ("machine", "fax")
        return glyphs.live, clean(row.answered_by) if machine else "in call", "warn" if machine else "good"
    calm = row.reason in CALM_ENDS
    return (
        glyphs.good if calm else glyphs.bad,
        _WORDS.get(row.reason, clean(row.reason).replace("_", " ")) or "ended",
        "muted" if calm else "warn",
    )


def _who(row: CallRow) -> str:
    if row.line == "text":
        return "typed"
    if row.rehearsal:
        return "rehearsal"
    return f"{'out' if row.direction == 'outbound' else 'in '} {clean(row.other)}"


def _columns(cells: tuple[str, ...], width: int) -> str:
    state, who, agent, lasted, turns, cost = cells
    if width < ROOMY:  # the turns stand in their own pane
        made = pad(state, 15) + pad(who, 18) + pad(agent, max(4, width - 47))
        return made + right(lasted, 6) + right(cost, 8)
    made = pad(state, 15) + pad(who, 18) + pad(agent, min(26, width - 53))
    return made + right(lasted, 6) + right(turns, 6) + right(cost, 8)


def empty(line: PhoneLine, agent: str, width: int) -> list[Row]:
    """What the transcript pane says before the first real call."""
    made: list[Row] = [BLANK]
    if line.state == "open":
        who = f"Ring {clean(line.number)} and {clean(line.agent)} answers."
        made += [*wrap(((who, "strong"),), width), BLANK]
        made.append((("n    ", "accent"), ("call somebody: your agent talks", "text")))
        made.append((("x    ", "accent"), ("stop serving", "text")))
    else:
        made += [*wrap((("Nobody can ring this machine yet.", "strong"),), width), BLANK]
        made.append((("s    ", "accent"), (f"take real calls with {clean(agent) or 'an agent'}", "text")))
    made += [
        BLANK,
        *wrap(
            (("Calls are watched here as they are spoken. They go on when this terminal is closed.", "muted"),), width
        ),
    ]
    return made
