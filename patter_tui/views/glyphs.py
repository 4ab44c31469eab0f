"""The signs on screen, in Unicode and in plain ASCII (`--ascii`). Every sign stands beside a word or a column head."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Glyphs:
    """One set of signs."""

    good: str = "✓"
    bad: str = "✗"
    slow: str = "▲"
    mark: str = "·"
    cut: str = "↯"
    live: str = "●"
    idle: str = "○"
    dot: str = "·"
    prompt: str = "❯"
    pointer: str = "▸"
    block: str = "█"
    rail: str = "·"
    pause: str = "‖"
    busy: str = "…"
    caret: str = "▌"
    bar: str = "│"
    rule: str = "─"
    ascii_only: bool = False


UNICODE = Glyphs()
ASCII = Glyphs(
    good="ok", bad="x", slow="!", mark="-", cut="!", live="*", idle="o", dot="-", prompt=">", pointer=">", block="#", rail=".",
    pause="=", busy="..", caret="_", bar="|", rule="-", ascii_only=True,
)  # fmt: skip
