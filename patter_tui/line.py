"""The engine's phone line as last heard of: state, number, public address, agents. A value; it opens and closes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from patter.events import LineChanged

BUSY = ("starting", "open", "closing")
"""States in which an engine is needed by people outside."""


@dataclass(frozen=True, slots=True)
class PhoneLine:
    """A line. `state`: "off", "starting", "open", "closing" or "problem" (then `problem` and its `fix` say what happened).

    `routes` are (number, agent) pairs beside `number` and `agent`; `since` is seconds since the epoch."""

    state: str = "off"
    problem: str = ""
    fix: str = ""
    carrier: str = ""
    number: str = ""
    public_url: str = ""
    agent: str = ""
    tunnel: bool = False
    recording: bool = False
    voice_url_before: str = ""
    since: float = 0.0
    routes: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def busy(self) -> bool:
        """Whether calls can come or are still on: the engine is needed."""
        return self.state in BUSY

    @property
    def all_routes(self) -> tuple[tuple[str, str], ...]:
        """Every number with its agent, the line's own first."""
        own = ((self.number, self.agent),) if self.number else ()
        return own + tuple(route for route in self.routes if route[0] != self.number)


_TEXTS = ("state", "problem", "fix", "carrier", "number", "public_url", "agent", "voice_url_before")


def line_from_json(data: dict[str, Any]) -> PhoneLine:
    """The line of an engine's answer; missing or null fields keep their default."""
    texts = {name: str(data[name]) for name in _TEXTS if data.get(name)}
    routes = [row for row in data.get("routes") or [] if isinstance(row, dict)]
    return PhoneLine(
        **texts, tunnel=bool(data.get("tunnel")), recording=bool(data.get("recording")),
        since=float(data.get("since") or 0.0),
        routes=tuple((str(row.get("number") or ""), str(row.get("agent") or "")) for row in routes),
        notes=tuple(str(note) for note in data.get("notes") or []),
    )  # fmt: skip


def line_after(known: PhoneLine, event: LineChanged) -> PhoneLine:
    """The line after an event, which tells only a part of it: the rest stays as it was known until it is asked for."""
    told = {name: str(getattr(event, name)) for name in _TEXTS if hasattr(event, name)}
    return replace(known, **told)  # type: ignore[arg-type]
