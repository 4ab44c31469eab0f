"""All entries of the API, for the port of an engine.

It owns which modules there are and what each is given; it refuses to know what they do. A new module is one line here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from patter.bus import Bus
from patter.clock import Clock
from patter.server.api.calls_api import CallsApi
from patter.server.api.control_api import ControlApi
from patter.server.api.events_api import EventsApi
from patter.server.api.listening_api import ListeningApi
from patter.server.calls import CallLog
from patter.server.desk import Desk
from patter.server.endpoint import Endpoint
from patter.server.events_ws import EventSocket
from patter.server.kept import Kept


@dataclass(frozen=True, slots=True)
class CallParts:
    """What the entries about calls are made of, on whichever port they are."""

    kept: Kept
    desk: Desk
    bus: Bus
    clock: Clock
    events: EventSocket
    calls: CallLog
    give_up: Callable[[str], Awaitable[bool]]


def call_endpoints(parts: CallParts) -> list[Endpoint]:
    """The entries that an engine's port and the port of `serve` have alike: history, live calls, their control."""
    return [
        *CallsApi(parts.calls).endpoints(),
        *ControlApi(parts.desk, parts.calls.knows, parts.give_up).endpoints(),
        *EventsApi(parts.events).endpoints(),
        *(ListeningApi(parts.kept.listening).endpoints() if parts.kept.listening is not None else ()),
    ]
