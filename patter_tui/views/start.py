"""What the transcript pane says when there is no call: what is ready, and which key starts what. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patter_tui.safe import clean
from patter_tui.store import Phone
from patter_tui.views.glyphs import Glyphs
from patter_tui.views.rows import BLANK, Row, fit, pad, wrap

STAGES = (("stt", "Listens"), ("llm", "Answers"), ("tts", "Speaks"))


@dataclass(frozen=True)
class Ready:
    """What the start page needs to know. `caller_lines`: how many lines the simulated caller has."""

    agent: str
    greeting: str
    problem: str
    line: int
    caller_lines: int
    engine: str
    engine_detail: str
    rungs: dict[str, dict[str, Any]]
    row: dict[str, Any]
    fix: str = ""


def rows(ready: Ready, phone: Phone, width: int, glyphs: Glyphs) -> list[Row]:
    """The start page."""
    inner = max(20, width - 4)
    made: list[Row] = [BLANK]
    if ready.engine != "up":
        style = "warn" if ready.engine in ("down", "problem") else "muted"
        made += _indent(wrap(((ready.engine_detail or "Starting the engine…", style),), inner))
        if ready.engine in ("down", "problem"):
            made += [
                BLANK,
                _key("ctrl+e", "start the engine again", "calls and agents are on disk, nothing is lost", inner),
            ]
        return made
    if not ready.agent:
        return made + _indent(wrap((("No agent file here yet. ", "strong"), ("F2 opens the editor.", "muted")), inner))
    made += _indent([((fit(ready.agent, inner), "strong"),)])
    if ready.problem:
        where = f"line {ready.line}: " if ready.line else ""
        made += _indent(wrap(((f"{glyphs.bad} {where}{clean(ready.problem)}", "bad"),), inner))
        if ready.fix:
            made += _indent(wrap(((f"fix: {clean(ready.fix)}", "muted"),), inner))
        made += [BLANK, _key("F2", "mend it in the editor", "", inner)]
        if not ready.row.get("ok", True):
            return made
        made += [BLANK, *_indent(wrap((("Until then calls use the version before it.", "muted"),), inner))]
    if ready.greeting:
        made += _indent(wrap(((f"“{clean(ready.greeting)}”", "muted"),), inner))
    own = "microphone and speaker" if phone.sound else "no sound device was found"
    lines = f"has {ready.caller_lines} lines to say" if ready.caller_lines else "has no lines yet"
    made += [
        BLANK,
        _key("d", "call it yourself", own, inner),
        _key("s", "a simulated caller calls it", lines, inner),
        _key("t", "type to it", "no sound needed", inner),
        BLANK,
    ]
    if not phone.sound and phone.fix:
        made += [*_indent(wrap(((phone.fix, "muted"),), inner)), BLANK]
    for stage, verb in STAGES:
        made += _rung(stage, verb, ready, inner, glyphs)
    return made


def rung(stage: str, rungs: dict[str, dict[str, Any]], row: dict[str, Any]) -> tuple[str, str, str]:
    """Name, state and note of what the agent uses for a stage: its own choice, else the engine's default."""
    known = rungs.get(stage, {})
    name = str(row.get(stage) or known.get("name") or "")
    own = str(row.get(stage) or "")
    same = own in ("", "embedded") or str(known.get("name") or "").startswith(own)
    return (
        str(known.get("name") or name) if same else name,
        str(known.get("state") or "") if same else "",
        str(known.get("note") or "") if same else "",
    )


def _rung(stage: str, verb: str, ready: Ready, width: int, glyphs: Glyphs) -> list[Row]:
    name, state, note = rung(stage, ready.rungs, ready.row)
    if not name and not state:
        return []
    sign, style = {"missing": (glyphs.bad, "warn"), "loading": (glyphs.busy, "muted")}.get(state, (glyphs.good, "good"))
    body = wrap(((clean(name), "text"), (f"  {clean(note)}" if note else "", "muted")), max(10, width - 12))
    first: Row = (("  ", ""), (pad(verb, 9), "muted"), (f"{sign} ", style), *body[0])
    return [first, *[((" " * 13, ""), *row) for row in body[1:]]]


def _key(key: str, what: str, detail: str, width: int) -> Row:
    """A key, what it does, and a remark where there is room for a useful part of it."""
    room = width - 35
    shown = fit(detail, room) if room >= min(20, len(detail)) else ""
    return (("  ", ""), (pad(key, 4 if len(key) < 4 else 8), "accent"), (pad(what, 29), "text"), (shown, "muted"))


def _indent(rows_: list[Row]) -> list[Row]:
    return [(("  ", ""), *row) for row in rows_]
