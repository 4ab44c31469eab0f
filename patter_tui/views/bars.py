"""The lines at the edges as rows: the bar of modes at the top, the keys at the bottom, the help. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from patter_tui.actions import KEYPAD, PURPOSE, Action, Mode, in_mode
from patter_tui.figures import clock
from patter_tui.line import PhoneLine
from patter_tui.safe import clean
from patter_tui.views.glyphs import Glyphs
from patter_tui.views.line import word
from patter_tui.views.rows import BLANK, Row, Span, cells, fit, pad, spread, width_of, wrap

MODES: tuple[tuple[Mode, str, str], ...] = (
    ("agent", "2", "Agent"),
    ("rehearse", "3", "Rehearse"),
    ("serve", "4", "Serve"),
    ("calls", "5", "Calls"),
)

_ENGINE = {"starting": "engine starting", "up": "engine", "down": "engine stopped", "problem": "no engine"}


def top(
    mode: Mode,
    width: int,
    agent: str,
    status: str,
    on: Mapping[Mode, int],
    now: float,
    glyphs: Glyphs,
    line: PhoneLine | None = None,
) -> tuple[Row, list[tuple[int, int, Mode]]]:
    """The top bar, and for each mode the columns where a click chooses it. `on`: how many calls are on, by mode."""
    key = "F" if width >= 100 else ""
    spans: list[Span] = [(" patter ", "strong"), (f"{glyphs.bar} ", "rail")]
    places: list[tuple[int, int, Mode]] = []
    column = 10
    for name, number, title in MODES:
        text = f"{key}{number} {title}" if key else f"{number}{title}"
        if on.get(name):
            text += f"({on[name]})"
        text = text.upper() if name == mode else text
        places.append((column, column + cells(text), name))
        spans += [(text, "strong" if name == mode else "muted"), ("  " if key else " ", "")]
        column += cells(text) + (2 if key else 1)
    good = status == "up"
    sign = glyphs.live if good else glyphs.busy if status == "starting" else glyphs.bad
    serving, style = word(line) if line is not None and good else ("", "")
    right_side: list[Span] = [
        (f"{sign} ", style or ("good" if good else "warn")),
        (f"{serving or _ENGINE.get(status, status)}   ", style or ("muted" if good else "warn")),
        (f"{clock(now)} ", "muted"),
    ]
    who = fit(clean(agent), 26)
    if width_of((*spans, *right_side)) + cells(who) + 4 <= width:
        right_side.insert(0, (f"{who}   ", "text"))
    return spread(tuple(spans), tuple(right_side), width), places


def keys(mode: Mode, width: int, enabled: Callable[[Action], bool]) -> tuple[Row, list[tuple[int, int, str]]]:
    """The footer: what can be done now, most useful first, as many as fit; and where each can be clicked."""
    actions = sorted(
        (item for item in in_mode(mode) if item.rank and item.id != f"mode_{mode}" and enabled(item)),
        key=lambda action: action.rank,
    )
    spans: list[Span] = [(" ", "")]
    places: list[tuple[int, int, str]] = []
    column = 1
    for action in actions:
        size = cells(action.shown) + 1 + cells(action.label) + 2
        if column + size - 2 > width:
            continue
        spans += [(action.shown, "key"), (f" {action.label}  ", "muted")]
        places.append((column, column + size - 2, action.id))
        column += size
    return tuple(spans), places


def invitation(mode: Mode, *, on: bool, typing: bool) -> str:
    """What stands in the empty input line: what typing does now, or how to get there."""
    if not on:
        return {"serve": "the calls of the phone line are watched here"}.get(
            mode, "d dial   s simulated caller   t typed call"
        )
    what = "what you type, the agent says" if mode == "serve" else "type to the agent, /say TEXT to make it speak"
    return what if typing else f"enter: {what}"


def help_rows(mode: Mode, width: int) -> list[Row]:
    """The help of a mode: what it is for, its keys, and how to read the screen."""
    rows = [*wrap(((PURPOSE[mode], "strong"),), width), BLANK]
    for action in in_mode(mode):
        if not action.keys:
            continue
        lines = wrap(((action.help, "text"),), max(20, width - 10))
        rows.append(((pad(action.shown, 10), "accent"), *lines[0]))
        rows += [((" " * 10, ""), *line) for line in lines[1:]]
    if mode == "serve":
        rows += [BLANK, *_reading(width)]
    if mode == "rehearse":
        rows.append(((pad(f"{KEYPAD[0]}-9 * #", 10), "accent"), ("Telephone keys, while no text is edited.", "text")))
        rows += [BLANK, *_reading(width)]
    return rows


def _reading(width: int) -> list[Row]:
    lines = (
        ("How to read a call", "strong"),
        ("Words behind │ are made but not heard yet. Words behind ✗ were never heard: the caller interrupted.", "text"),
        ("eot  waiting to be sure the caller had finished", "muted"),
        ("stt  recognising the caller's words", "muted"),
        ("llm  until the first word of the answer", "muted"),
        ("1st  the rest of the first sentence", "muted"),
        ("tts  until its first sound was made", "muted"),
        ("play until it reached the caller's ear", "muted"),
        ("e2e  all of them together: the silence the caller heard. ▲ marks one second or more.", "muted"),
        ("In a rehearsal's input line, /say TEXT makes the agent speak TEXT word for word.", "text"),
    )
    made: list[Row] = []
    for text, style in lines:
        made += wrap(((text, style),), width)
    return made


def tabs(pane: str, width: int, following: bool) -> tuple[Row, list[tuple[int, int, str]]]:
    """The panes of a narrow screen."""
    spans: list[Span] = [(" ", "")]
    places: list[tuple[int, int, str]] = []
    column = 1
    for name, title in (("talk", "Talk"), ("turns", "Turns"), ("cost", "Cost")):
        text = f"[{title}]" if name == pane else f" {title} "
        places.append((column, column + len(text), name))
        spans.append((text, "strong" if name == pane else "muted"))
        column += len(text)
    state = "follow " if following else "f follows the end "
    return spread(tuple(spans), ((state if pane == "talk" else "", "muted"),), width), places
