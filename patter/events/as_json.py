"""The facts as JSON and back. It owns the list of all kinds and their shape; it refuses to know who reads them."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from typing import Any

from patter.events import calls, engine, measured, turns
from patter.events.base import Event
from patter.events.turns import CallerPartial, ReplyHeard

DROPPABLE: tuple[type[Event], ...] = (CallerPartial, ReplyHeard)
"""Facts that a slow reader may miss, because a later one says more."""

KINDS: dict[str, type[Event]] = {
    name: kind
    for module in (calls, turns, measured, engine)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
}
"""All facts, by the names that they have in JSON."""

_NAMES = {kind: tuple(item.name for item in fields(kind)) for kind in KINDS.values()}
_VALUES = {kind: attrgetter(*names) for kind, names in _NAMES.items()}


def to_json(event: Event) -> dict[str, Any]:
    """The event as a plain dict with its class name under "type", ready for `json.dumps`."""
    kind = type(event)
    return {"type": kind.__name__, **dict(zip(_NAMES[kind], _VALUES[kind](event), strict=True))}


def from_json(data: dict[str, Any]) -> Event | None:
    """The event of such a dict; None for a type this version does not know. Unknown keys are ignored."""
    kind = KINDS.get(str(data.get("type")))
    if kind is None:
        return None
    values = {name: data[name] for name in _NAMES[kind] if name in data}
    made: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return kind(**made)
