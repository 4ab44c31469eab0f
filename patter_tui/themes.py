"""The workbench's own two sets of colours. Everything else takes its colours from whatever theme is chosen."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="patter-dark", primary="#7fb4e0", secondary="#9aa7b4", accent="#7fb4e0", warning="#e0b060", error="#e57373",
    success="#8cc28c", foreground="#d6dce2", background="#14181c", surface="#191e23", panel="#20262c", dark=True,
    variables={"border": "#2e363e", "border-blurred": "#2e363e", "scrollbar": "#323b44", "scrollbar-background": "#191e23",
               "footer-key-foreground": "#7fb4e0"},
)  # fmt: skip

LIGHT = Theme(
    name="patter-light", primary="#1c5f9c", secondary="#5d6873", accent="#1c5f9c", warning="#8a5a00", error="#b3261e",
    success="#2f6f3e", foreground="#23292f", background="#f4f5f6", surface="#fbfcfc", panel="#e9ecef", dark=False,
    variables={"border": "#cdd3d9", "border-blurred": "#cdd3d9", "scrollbar": "#c3cad1", "scrollbar-background": "#fbfcfc",
               "footer-key-foreground": "#1c5f9c"},
)  # fmt: skip
