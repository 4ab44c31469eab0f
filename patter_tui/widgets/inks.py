"""Style names turned into terminal styles under a theme. It owns which meaning has which look; it knows no row.

The looks are computed once per theme, not by the stylesheet: sixteen rules for each of twenty views would cost the start a fifth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.style import Style
from textual.color import Color, ColorParseError

_COLORS = {
    "text": "foreground", "strong": "foreground", "muted": "secondary", "accent": "accent", "caller": "accent",
    "agent": "success", "pending": "secondary", "dropped": "secondary", "good": "success", "warn": "warning", "bad": "error",
    "bar": "primary",
    "rail": "secondary", "meter": "success", "key": "accent", "chosen": "primary",
}  # fmt: skip

_WEIGHTS: dict[str, dict[str, Any]] = {
    "strong": {"bold": True}, "caller": {"bold": True}, "agent": {"bold": True}, "key": {"bold": True},
    "pending": {"italic": True}, "dropped": {"strike": True},
}  # fmt: skip

_DIM_WITHOUT_COLOURS = ("muted", "pending", "dropped", "rail", "bar")

_FADED = {"bar": 0.55, "rail": 0.35}
"""How much of the colour is left over the surface."""


def inks(variables: Mapping[str, str], *, ansi: bool) -> dict[str, Style]:
    """The style of every name, from a theme's colour variables. Terminals' own colours (`ansi`) get weights only."""
    return {name: _plain(name) if ansi else _coloured(name, variables) for name in _COLORS}


def _plain(name: str) -> Style:
    if name == "chosen":
        return Style(reverse=True)
    return Style(dim=name in _DIM_WITHOUT_COLOURS or None, **_WEIGHTS.get(name, {}))


def _coloured(name: str, variables: Mapping[str, str]) -> Style:
    surface = _color(variables, "surface", Color(20, 24, 28))
    color = _color(variables, _COLORS[name], Color(214, 220, 226))
    if name == "chosen":
        return Style(bgcolor=surface.blend(color, 0.22).rich_color)
    share = _FADED.get(name)
    if share is not None:
        color = surface.blend(color, share)
    return Style(color=color.rich_color, **_WEIGHTS.get(name, {}))


def _color(variables: Mapping[str, str], name: str, default: Color) -> Color:
    try:
        return Color.parse(variables[name])
    except (KeyError, ColorParseError):
        return default
