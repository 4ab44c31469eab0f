"""The API of live events.

It owns their addresses; it refuses to know what the events mean.
"""

from __future__ import annotations

from dataclasses import dataclass

from patter.server.endpoint import Endpoint
from patter.server.events_ws import EventSocket


@dataclass(frozen=True, slots=True)
class EventsApi:
    """The entries of /api/v1/events."""

    events: EventSocket

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        return [
            Endpoint("GET", "/api/v1/events/ws", self.events.handle, "read", "Live events, as a WebSocket", status=101)
        ]
