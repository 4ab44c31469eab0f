"""The softphone as rows: state of the call, level meters, echo cancellation, lost sound. Pure."""

from __future__ import annotations

from patter_tui.call import Call
from patter_tui.figures import length, level
from patter_tui.safe import clean
from patter_tui.store import Phone
from patter_tui.views.glyphs import Glyphs
from patter_tui.views.rows import Row, Span, fit, pad, spread, wrap

_AEC = {
    "on": ("echo cancelling on", "AEC on", "good"),
    "half-duplex": ("half-duplex: no interrupting by voice", "half-duplex", "warn"),
    "off": ("echo cancelling off: use headphones", "AEC off", "warn"),
}


def _aec(phone: Phone) -> tuple[str, str, str]:
    """Echo cancelling in words; a simulated caller has no loudspeaker to hear."""
    return _AEC.get(phone.aec if phone.device == "sound" else "", ("", "", "muted"))


def floor(call: Call | None, phone: Phone, now: float, glyphs: Glyphs) -> Row:
    """Whether a call is on, for how long, and who has the floor."""
    if call is not None and call.placed_at and not (call.started_at or call.ended_at):
        return ((f"{glyphs.live} ringing {length(now - call.placed_at)}", "warn"), (f"  {clean(call.callee)}", "text"))
    if call is None or not (call.started_at or call.ended_at):
        if phone.state in ("starting", "ringing"):
            return ((f"{glyphs.live} {phone.state}", "warn"),)
        return ((f"{glyphs.idle} no call", "muted"),)
    if call.ended_at:
        return (
            (f"{glyphs.idle} ended {length(call.duration_s)}", "muted"),
            (f"  {clean(call.reason).replace('_', ' ')}", "muted"),
        )
    return ((f"{glyphs.live} in call {length(now - call.started_at)}", "good"), (f"  {call.floor}", "strong"))


def line(call: Call | None, phone: Phone, width: int, now: float, glyphs: Glyphs) -> Row:
    """The whole softphone in one line."""
    left = [(" ", ""), *floor(call, phone, now, glyphs)]
    if phone.state == "off" or (call is not None and call.line == "text"):
        if phone.problem:
            return cut((*left, ("  ", ""), (clean(phone.problem), "warn"), (f"  {clean(phone.fix)}", "muted")), width)
        kind = "  text call: no sound" if call is not None and call.line == "text" and not call.ended_at else ""
        return cut((*left, (kind, "muted")), width)
    size = 6 if width >= 100 else 5
    meters = meter("mic", phone.mic, size, phone.muted, glyphs) + meter("spk", phone.speaker, size, False, glyphs)
    _, short, style = _aec(phone)
    health: list[Span] = [(f" {short}" if short else "", style)]
    health.append((f" jitter {phone.jitter_ms:.0f} ms drop {phone.dropped + phone.underruns} ", "muted"))
    return spread(tuple(left), tuple(meters + health), width)


def meter(name: str, dbfs: float, size: int, muted: bool, glyphs: Glyphs) -> list[Span]:
    """A labelled level meter; a muted one says so instead."""
    if muted:
        return [(f" {name} ", "muted"), (pad("MUTED", size), "warn")]
    return [(f" {name} ", "muted"), (level(dbfs, size, ascii_only=glyphs.ascii_only), "meter")]


def panel(call: Call | None, phone: Phone, width: int, now: float, glyphs: Glyphs) -> list[Row]:
    """The softphone as a pane of five rows, for wide screens."""
    bar = max(8, min(16, width - 30))
    rows: list[Row] = [floor(call, phone, now, glyphs)]
    if phone.state == "off":
        idle = "It starts with your call and dials the agent as a carrier would."
        watching = "Not your call: you are watching it." if call is not None and not call.ended_at else idle
        text = phone.problem or ("A typed call: no sound." if call is not None and call.line == "text" else watching)
        rows += wrap(((clean(text), "warn" if phone.problem else "muted"),), width)
        if phone.fix:
            rows += wrap(((f"fix: {clean(phone.fix)}", "muted"),), width)
        return rows
    source = {"simulated": "simulated caller", "wav": "sound file"}.get(phone.device, phone.input or "no microphone")
    long, _, style = _aec(phone)
    muted: Span = ("MUTED ", "warn") if phone.muted else ("", "")
    rows.append(
        (
            *meter("mic", phone.mic, bar, False, glyphs),
            ("  ", ""),
            muted,
            (fit(clean(source), width - bar - 14), "muted"),
        )
    )
    rows.append(
        (*meter("spk", phone.speaker, bar, False, glyphs), (f"  {fit(clean(phone.output), width - bar - 8)}", "muted"))
    )
    rows.append(((long, style),))
    rows.append(
        ((f"jitter {phone.jitter_ms:.0f} ms   underruns {phone.underruns}   dropped {phone.dropped}", "muted"),)
    )
    if phone.problem:
        rows += wrap(((f"{clean(phone.problem)} {clean(phone.fix)}", "warn"),), width)
    return rows


def cut(row: Row, width: int) -> Row:
    """A row that ends at the edge."""
    return spread(row, (), width)
