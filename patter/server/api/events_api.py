"""The API of live events.

It owns their addresses; it refuses to know how events travel and what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from patter.server.endpoint import Endpoint
from patter.server.event_stream import EventStream
from patter.server.schemas import Schema, words

ROOT = "/api/v1/events"
QUERY: Mapping[str, Schema] = {
    "after": {"type": "integer", "minimum": 0, "description": "the seq of the last event you have: nothing is missed"},
    "engine": words(64, needed=False, note="the engine_id that this seq is of"),
    "call_id": words(64, needed=False, note="only the events of this call"),
}


@dataclass(frozen=True, slots=True)
class EventsApi:
    """The entries of /api/v1/events."""

    stream: EventStream

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        return [
            Endpoint(
                "GET",
                ROOT,
                self.stream.events,
                "read",
                "Live events, as Server-Sent Events; Last-Event-ID resumes",
                query=QUERY,
                content="text/event-stream",
            ),
            Endpoint(
                "GET",
                f"{ROOT}/ws",
                self.stream.socket,
                "read",
                "Live events, as a WebSocket",
                query=QUERY,
                status=101,
                refusals=(426,),
            ),
        ]
