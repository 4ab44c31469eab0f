"""How numbers are written on screen: ms, USD, clock times, levels. It owns their form, and knows nothing of where they stand."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

SLOW_MS = 1000.0
"""From here on a reply feels late to a caller; it is marked."""

_BARS = " ▁▂▃▄▅▆▇█"
_ASCII_BARS = " .:-=+*#%@"


def ms(value: float) -> str:
    """Milliseconds in at most five characters: "812", "1240"; "12.4s" from ten seconds on."""
    return f"{value / 1000:.1f}s" if value >= 9_999.5 else f"{value:.0f}"


def seconds(value_ms: float) -> str:
    """A time for reading: "812 ms", "1.24 s"."""
    return f"{value_ms:.0f} ms" if value_ms < 999.5 else f"{value_ms / 1000:.2f} s"


def usd(value: float, *, least: bool = False) -> str:
    """US dollars: "$0", "$0.0143", "$1.20"; what is less than a hundredth of a cent says so. `least`: a part of it has no known
    price, "$0.0143+" then, or "unknown" where that is all of it."""
    if least:
        return f"{usd(value)}+" if value >= 0.00005 else "unknown"
    if value <= 0:
        return "$0"
    if value < 0.00005:
        return "<$.0001"
    return f"${value:.4f}" if value < 1 else f"${value:.2f}"


def clock(at: float) -> str:
    """Local time of day, "12:04:02"; blank for 0."""
    return time.strftime("%H:%M:%S", time.localtime(at)) if at > 0 else ""


def day_and_time(at: float, now: float) -> str:
    """Time of day if it was today ("12:04"), else with the date ("21 Nov 12:04")."""
    if at <= 0:
        return ""
    then, today = time.localtime(at), time.localtime(now)
    same_day = (then.tm_year, then.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M" if same_day else "%d %b %H:%M", then)


def length(duration_s: float) -> str:
    """A call's length: "00:42", "1:02:03"."""
    whole = max(0, int(duration_s))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60:02}:{rest % 60:02}"


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile; 0 for no values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def level(dbfs: float, width: int, *, ascii_only: bool = False) -> str:
    """A level meter of `width` cells for -60…0 dBFS: full cells, then one partial cell."""
    share = min(1.0, max(0.0, (dbfs + 60.0) / 60.0)) * width
    full = int(share)
    bars = _ASCII_BARS if ascii_only else _BARS
    partial = bars[int((share - full) * (len(bars) - 1))] if full < width else ""
    return (bars[-1] * full + partial).ljust(width)


def words(text: str) -> int:
    """How many words a text has."""
    return len(text.split())


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 word", "3 words"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
