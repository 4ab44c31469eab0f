"""The API of the engine itself: who it is, what it has ready, and how it is stopped.

It owns these shapes and the protocol's number; it refuses to know what is behind the engine's parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from patter.server.answers import Refused, data, json_body, text_in
from patter.server.desk import Desk
from patter.server.endpoint import Endpoint

PROTOCOL = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """Which engine this is. `started_at` in seconds since the epoch."""

    engine_id: str
    version: str
    pid: int
    started_at: float
    agents_dir: Path


@dataclass(frozen=True, slots=True)
class EngineApi:
    """/health, /engine and /shutdown. `rungs` says which engines are ready, `shut_down("now" | "idle")` ends it all,
    `watchers` counts who follows the events."""

    identity: Identity
    desk: Desk
    rungs: Callable[[], dict[str, Any]]
    shut_down: Callable[[str], None]
    watchers: Callable[[], int]

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        root = "/api/v1"
        return [
            Endpoint("GET", "/health", self.health, "open", "Who answers here"),
            Endpoint("GET", f"{root}/engine", self.engine, "read", "What this engine is and has ready"),
            Endpoint("POST", f"{root}/shutdown", self.shutdown, "admin", "Stop the engine", status=202),
        ]

    async def health(self, _: web.Request) -> web.Response:
        """Who answers here; needs no token."""
        who = self.identity
        about = {"version": who.version, "protocol": PROTOCOL, "engine_id": who.engine_id, "pid": who.pid}
        return web.json_response({"status": "ok"} | about)

    async def engine(self, _: web.Request) -> web.Response:
        """What this engine is and has ready."""
        who = self.identity
        return data(
            {
                "engine_id": who.engine_id,
                "version": who.version,
                "protocol": PROTOCOL,
                "pid": who.pid,
                "started_at": who.started_at,
                "agents_dir": str(who.agents_dir),
                "calls": self.desk.count,
                "stopping": self.desk.stopping,
                "watchers": self.watchers(),
                "rungs": self.rungs(),
            }
        )

    async def shutdown(self, request: web.Request) -> web.Response:
        """End now, or when the last call is over (no new ones are taken)."""
        when = text_in(await json_body(request), "when", default="now")
        if when not in ("now", "idle"):
            raise Refused(422, '"when" must be "now" or "idle".')
        self.shut_down(when)
        return data({}, status=202)
