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


def find_slots(arguments: dict[str, Any], context: dict[str, Any]) -> str:
    """Free times on a weekday; with `after_four`, only the late ones."""
    day = str(arguments.get("day", "tuesday")).lower()
    times = [time for time in FREE.get(day, []) if not arguments.get("after_four") or time in LATE]
    if not times:
        return f"I have nothing left on {day.capitalize()}."
    if len(times) == 1:
        return f"On {day.capitalize()} I have one time left, {times[0]}."
    return f"On {day.capitalize()} I can offer you {', '.join(times[:-1])} or {times[-1]}."


def book_slot(arguments: dict[str, Any], context: dict[str, Any]) -> str:
    """Books a time. A real agent would write to a calendar here."""
    day = str(arguments.get("day", "tuesday")).capitalize()
    time = str(arguments.get("time", "ten o'clock"))
    return f"You are booked for {day} at {time}."
