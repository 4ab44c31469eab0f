"""The tools of the demo agent: an appointment book that lives in this file. Edit it; the next call uses the new code."""

from __future__ import annotations

from typing import Any

FREE = {
    "monday": ["two o'clock", "half past four"],
    "tuesday": ["half past nine", "ten o'clock", "half past four"],
    "wednesday": ["nine o'clock", "three o'clock"],
    "thursday": ["eleven o'clock", "five o'clock"],
    "friday": ["half past eight"],
}
LATE = {"half past four", "five o'clock"}
PLACES = {"first": 0, "second": 1, "third": 2, "last": -1}

offered: dict[str, tuple[str, list[str]]] = {}
"""What each call was offered last: day and times."""


def find_slots(arguments: dict[str, Any], context: dict[str, Any]) -> str:
    """Free times on a weekday; with `after_four`, only the late ones, of the day spoken of before if none is named."""
    before, _ = offered.get(context["call_id"], ("", []))
    day = str(arguments.get("day") or before).lower()
    if not day:
        return "Which day would suit you?"
    times = [time for time in FREE.get(day, []) if not arguments.get("after_four") or time in LATE]
    offered[context["call_id"]] = (day, times)
    if not times:
        return f"I have nothing left on {day.capitalize()}."
    if len(times) == 1:
        return f"On {day.capitalize()} I have one time left, {times[0]}. Shall I book it?"
    return f"On {day.capitalize()} I can offer you {', '.join(times[:-1])} or {times[-1]}. Which one suits you?"


def book_slot(arguments: dict[str, Any], context: dict[str, Any]) -> str:
    """Books one of the offered times. A real agent would write to a calendar here."""
    day, times = offered.get(context["call_id"], ("", []))
    if not times:
        return "Which day would suit you?"
    wanted = str(arguments["time"]).lower()
    place = PLACES.get(wanted, times.index(wanted) if wanted in times else None)
    if place is None or place >= len(times):
        return f"I can offer you {' or '.join(times)}."
    return f"You are booked for {day.capitalize()} at {times[place]}."
