"""Turns as a table and the selected turn as a waterfall with the reason for its silence. Pure rows and sentences."""

from __future__ import annotations

from patter.events import TurnMeasured
from patter_tui.call import Call
from patter_tui.figures import SLOW_MS, ms, seconds, usd
from patter_tui.views.glyphs import Glyphs
from patter_tui.views.rows import Row, Span, fit, pad, right, wrap

SEGMENTS = (
    ("endpointing", "eot", "waiting to be sure the caller had finished"),
    ("transcription", "stt", "recognising the caller's words"),
    ("first_token", "llm", "the first word of the answer"),
    ("first_sentence", "1st", "the rest of the first sentence"),
    ("synthesis", "tts", "making its first sound"),
    ("playout", "play", "bringing it to the caller's ear"),
)
"""Segment in the event, its column head, what it is (law: they add up to the silence the caller heard)."""

ADVICE = {
    "endpointing": "lower [turn_taking] min_silence_ms",
    "transcription": "a smaller recognition model or a streaming provider is faster",
    "first_token": "a smaller or nearer model, or a shorter prompt, is faster",
    "first_sentence": "ask in the prompt for short first sentences",
    "synthesis": "shorter first sentences are spoken sooner",
    "playout": "the line or the sound device holds the sound back",
}


def label(turn: TurnMeasured) -> str:
    """What stands in the first column: the turn's number, or what kind of line it was."""
    return {"greeting": "hi", "say": "say", "filler": "fil"}.get(turn.kind, str(turn.turn))


def table(call: Call, selected: int, width: int, glyphs: Glyphs) -> tuple[list[Row], Row, Row]:
    """Rows (one per turn), head row, foot row. `selected` is an index into `call.turns`."""
    roomy = width >= 45
    columns = SEGMENTS if roomy else tuple(item for item in SEGMENTS if item[0] not in ("first_sentence", "playout"))
    head: Row = (
        (
            pad("  #", 5) + "".join(right(head, 5) for _, head, _ in columns) + right("e2e", 6) + " " + right("$", 8),
            "muted",
        ),
    )
    rows = [_turn_row(turn, index == selected, columns, glyphs) for index, turn in enumerate(call.turns)]
    samples = call.samples()
    foot: Row = ()
    if samples:
        foot = (
            ("  typical ", "muted"), (seconds(call.typical_ms()), "strong"), ("   slowest 5 % ", "muted"),
            (seconds(call.slow_ms()) + (f" {glyphs.slow}" if call.slow_ms() >= SLOW_MS else ""), "strong"),
        )  # fmt: skip
    return rows, head, foot


def empty(width: int) -> list[Row]:
    """What stands here before the first reply."""
    return wrap((("One row for each reply, with every part of the wait in ms and its price.", "muted"),), width)


def _turn_row(turn: TurnMeasured, selected: bool, columns: tuple[tuple[str, str, str], ...], glyphs: Glyphs) -> Row:
    spans: list[Span] = [
        (pad(f"{glyphs.pointer if selected else ' '} {label(turn)}", 5), "strong" if selected else "text")
    ]
    if turn.kind != "answer" and not any(turn.segments.values()):
        blank = right(glyphs.dot, 5) * len(columns) + right(glyphs.dot, 5) + "  "
        spans.append((blank, "muted"))
    else:
        spans += [(right(ms(turn.segments.get(name, 0.0)), 5), "text") for name, _, _ in columns]
        slow = turn.total_ms >= SLOW_MS and turn.kind == "answer"
        sign = glyphs.cut if turn.interrupted else glyphs.slow if slow else " "
        spans.append((right(ms(turn.total_ms), 6) + sign, "warn" if slow else "strong"))
    cost = turn.cost.get("total", 0.0)
    spans.append((right(usd(cost, least=bool(turn.unpriced)) if turn.closed else glyphs.busy, 8), "muted"))
    return tuple(spans)


def waterfall(turn: TurnMeasured | None, width: int, glyphs: Glyphs) -> list[Row]:
    """One bar per segment, each starting where the one before ended; then the sum and the reason in a sentence."""
    if turn is None:
        return [*wrap((("Each reply shows here where its silence came from, segment by segment.", "muted"),), width)]
    room = max(6, width - 5 - 9)
    total = max(turn.total_ms, sum(turn.segments.values()), 1.0)
    largest = max(turn.segments, key=lambda name: turn.segments[name], default="")
    rows: list[Row] = []
    passed = 0.0
    for name, head, _ in SEGMENTS:
        value = max(0.0, turn.segments.get(name, 0.0))
        start = round(passed / total * room)
        passed += value
        end = max(round(passed / total * room), start + (1 if value >= 0.5 else 0))
        end, start = min(end, room), min(start, room - 1 if value >= 0.5 else room)
        bar = glyphs.block * (end - start)
        style = "accent" if name == largest and value > 0 else "bar"
        rail = (glyphs.rail * start, "rail"), (bar, style), (glyphs.rail * (room - start - len(bar)), "rail")
        rows.append(((pad(head, 5), "muted"), *rail, (right(f"{ms(value)} ms", 9), "text")))
    slow = turn.total_ms >= SLOW_MS
    rows.append(
        (
            (pad("e2e", 5), "strong"), (" " * room, ""),
            (right(seconds(turn.total_ms), 9), "warn" if slow and turn.kind == "answer" else "strong"),
        )
    )  # fmt: skip
    rows += wrap(((cause(turn), "muted"),), width)
    if turn.connections:
        rows += wrap(((connections(turn), "muted"),), width)
    return rows


STAGES = {"stt": "recogniser", "llm": "model", "tts": "voice"}


def connections(turn: TurnMeasured) -> str:
    """Over which connections the providers were reached, in one sentence."""
    kept = [STAGES.get(stage, stage) for stage, took in turn.connections.items() if took <= 0]
    new = [f"{STAGES.get(stage, stage)} ({took:.0f} ms)" for stage, took in turn.connections.items() if took > 0]
    told = [f"connection kept: {', '.join(kept)}" if kept else "", f"newly connected: {', '.join(new)}" if new else ""]
    sentence = "; ".join(part for part in told if part)
    return sentence[:1].upper() + sentence[1:] + "."


AT_ONCE_MS = 50.0  # a typed turn and a script: nobody waits that long for anything


def cause(turn: TurnMeasured) -> str:
    """Why the caller waited, in one sentence."""
    if turn.kind == "greeting":
        return "The greeting: nobody waited for it."
    if turn.kind == "say":
        return "Said by hand: nobody waited for it."
    values = {name: max(0.0, turn.segments.get(name, 0.0)) for name, _, _ in SEGMENTS}
    total = sum(values.values())
    if total < AT_ONCE_MS and (turn.closed or total > 0):
        return "Answered at once."
    if total <= 0:
        return "Being measured."
    name = max(values, key=lambda key: values[key])
    what = next(words for key, _, words in SEGMENTS if key == name)
    share = f"{seconds(values[name])} of {seconds(total)} went into {what}"
    if turn.tool_ms > 0 and turn.tool_ms >= values[name] * 0.5 and name in ("first_token", "first_sentence"):
        return f"{share}; {seconds(turn.tool_ms)} of that was the tool."
    if total < SLOW_MS:
        return f"{share}."
    return f"{share}: {ADVICE[name]}."


def summary(turn: TurnMeasured | None, call: Call, width: int, glyphs: Glyphs) -> Row:
    """The last turn and the call so far in one line, for narrow screens."""
    if turn is None:
        return ((fit(" no turn yet: latency and cost of each reply will stand here", width), "muted"),)
    parts: list[Span] = [(f" turn {label(turn)} ", "strong"), (f"{glyphs.bar} ", "rail")]
    for name, head, _ in SEGMENTS:
        if name in ("first_sentence", "playout"):
            continue
        parts += [(f"{head} ", "muted"), (f"{ms(turn.segments.get(name, 0.0))}  ", "text")]
    parts += [("e2e ", "muted"), (f"{seconds(turn.total_ms)} ", "warn" if turn.total_ms >= SLOW_MS else "strong")]
    if call.samples():
        parts += [(f"{glyphs.bar} p95 ", "muted"), (f"{seconds(call.slow_ms())} ", "text")]
    parts += [(f"{glyphs.bar} ", "rail"), (usd(call.cost_so_far, least=bool(call.unpriced)), "strong")]
    return tuple(parts)
