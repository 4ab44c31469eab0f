"""The phone line as rows: its state in words, number and agent, public address, what to do about a problem. Pure."""

from __future__ import annotations

from patter_tui.carrier import TITLES
from patter_tui.figures import length
from patter_tui.line import PhoneLine
from patter_tui.safe import clean
from patter_tui.views.glyphs import Glyphs
from patter_tui.views.rows import Row, Span, cut_row, spread, width_of, wrap

MOST_ROWS = 5
"""Of a long problem or many numbers only so much is shown: the calls below need the room."""


def rows(line: PhoneLine, width: int, now: float, glyphs: Glyphs, agent: str, keys_problem: str) -> list[Row]:
    """The line in a few rows. `agent` would serve; `keys_problem` says why no carrier can be used from here."""
    if line.state == "problem":
        made = wrap(((f"{glyphs.bad} {clean(line.problem) or 'the line is broken'}", "bad"),), width)
        made += wrap(((f"fix: {clean(line.fix)}", "text"),), width) if line.fix else []
    elif line.state == "open":
        made = _open(line, width, now, glyphs)
    elif line.state in ("starting", "closing"):
        what = "opening" if line.state == "starting" else "closing: no new calls, those that are on go on"
        made = [cut_row(((f"{glyphs.busy} {what}  ", "warn"), *_who(line)), width)]
    elif keys_problem:
        made = wrap(((f"{glyphs.idle} off   ", "strong"), (clean(keys_problem), "muted")), width)
    else:
        who = clean(agent) or "an agent"
        made = [
            cut_row(
                ((f"{glyphs.idle} off   ", "strong"), ("s", "accent"), (f"  take real calls with {who}", "muted")),
                width,
            )
        ]
    return made[:MOST_ROWS]


def _who(line: PhoneLine) -> Row:
    arrow: Span = (" to ", "muted")
    return (
        (f"{TITLES.get(line.carrier, line.carrier)} ", "muted"),
        (clean(line.number), "text"),
        arrow,
        (clean(line.agent), "text"),
    )


def _open(line: PhoneLine, width: int, now: float, glyphs: Glyphs) -> list[Row]:
    since = f"  since {length(now - line.since)}" if line.since else ""
    tail: list[Span] = [("  recording", "warn")] if line.recording else []
    tail.append((since, "muted"))
    first: Row = ((f"{glyphs.live} open  ", "good"), *_who(line))
    url: Row = ((clean(line.public_url), "accent"), (" (tunnel)" if line.tunnel else "", "muted"))
    room = width - width_of(first) - width_of(tuple(tail)) - width_of(url) - 3
    made = [spread((*first, ("   ", ""), *url) if room >= 0 else first, tuple(tail), width)]
    if room < 0:
        made.append(cut_row(url, width))
    for number, agent in line.all_routes[1:]:
        made.append(
            cut_row((("  also ", "muted"), (clean(number), "text"), (" to ", "muted"), (clean(agent), "text")), width)
        )
    for note in line.notes:
        made += wrap(((f"{glyphs.mark} {clean(note)}", "muted"),), width)
    return made


def word(line: PhoneLine) -> tuple[str, str]:
    """The line in a word for the top bar, and its style; "" where it needs no mention."""
    return {
        "starting": ("line opening", "warn"), "open": ("serving", "good"), "closing": ("line closing", "warn"),
        "problem": ("line problem", "bad"),
    }.get(line.state, ("", ""))  # fmt: skip
