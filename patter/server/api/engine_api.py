"""The API of the engine itself: who it is, what it has ready, and how it is stopped.

It owns these shapes; it refuses to know what is behind the engine's parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from patter.server.answers import data, json_body
from patter.server.api_port import MIN_PROTOCOL, PROTOCOL
from patter.server.auth import visitor_of
from patter.server.desk import Desk
from patter.server.endpoint import ROLES, Endpoint
from patter.server.schemas import FLAG, NUMBER, OBJECT, TEXT, WHOLE, answered, one_of, record, table

Ready = Mapping[str, Callable[[], str]]
"""Part → what is in the way of calls there; "" for nothing. Whoever asks is nobody known: no word of it may be a secret."""

_HEALTH = record(
    {"status": one_of("ok"), "version": TEXT, "protocol": WHOLE, "engine_id": TEXT, "pid": WHOLE}, title="Health"
)
_READY = record({"status": one_of("ready", "not ready"), "parts": table(TEXT)}, title="Readiness")
_RUNG = record({"name": TEXT, "state": TEXT, "note": TEXT}, title="Rung")
_ENGINE = record(
    {
        "engine_id": TEXT,
        "version": TEXT,
        "protocol": WHOLE,
        "min_protocol": WHOLE,
        "pid": WHOLE,
        "started_at": NUMBER,
        "agents_dir": TEXT,
        "calls": WHOLE,
        "stopping": FLAG,
        "watchers": WHOLE,
        "rungs": table(_RUNG),
        "role": one_of(*ROLES[1:]),
    },
    title="Engine",
)
_STOP = record({"when": one_of("now", "idle", default="now")}, optional=("when",))


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
    """/health, /ready and /engine. `rungs` says which engines are ready, `watchers` counts who follows the events."""

    identity: Identity
    desk: Desk
    rungs: Callable[[], dict[str, Any]]
    watchers: Callable[[], int]
    ready: Ready

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        return [
            Endpoint("GET", "/health", self.health, "open", "Who answers here", answer=_HEALTH),
            Endpoint(
                "GET", "/ready", self.readiness, "open", "Whether a call would go well", answer=_READY, refusals=(503,)
            ),
            self.handshake(),
        ]

    def handshake(self) -> Endpoint:
        """The entry of who this engine is."""
        summary = "What this engine is, which protocol it speaks and what it has ready"
        return Endpoint("GET", "/api/v1/engine", self.engine, "read", summary, answer=answered(_ENGINE))

    async def health(self, _: web.Request) -> web.Response:
        """Who answers here; needs no token."""
        who = self.identity
        about = {"version": who.version, "protocol": PROTOCOL, "engine_id": who.engine_id, "pid": who.pid}
        return web.json_response({"status": "ok"} | about)

    async def readiness(self, _: web.Request) -> web.Response:
        """Whether a call would go well, and what is in its way; needs no token."""
        parts = {name: problem for name, asked in self.ready.items() if (problem := asked())}
        if parts:
            return web.json_response({"status": "not ready", "parts": parts}, status=503)
        return web.json_response({"status": "ready", "parts": {}})

    async def engine(self, request: web.Request) -> web.Response:
        """What this engine is and has ready, and what whoever asks may do here."""
        who = self.identity
        return data(
            {
                "engine_id": who.engine_id,
                "version": who.version,
                "protocol": PROTOCOL,
                "min_protocol": MIN_PROTOCOL,
                "pid": who.pid,
                "started_at": who.started_at,
                "agents_dir": str(who.agents_dir),
                "calls": self.desk.count,
                "stopping": self.desk.stopping,
                "watchers": self.watchers(),
                "rungs": self.rungs(),
                "role": visitor_of(request).role,
            }
        )


@dataclass(frozen=True, slots=True)
class ShutdownApi:
    """POST /api/v1/shutdown: `shut_down("now" | "idle")` ends it all."""

    shut_down: Callable[[str], None]

    def endpoints(self) -> list[Endpoint]:
        """The entry, for the table."""
        summary = "End now, or when the last call is over (no new ones are taken)"
        done = answered(OBJECT)
        return [
            Endpoint("POST", "/api/v1/shutdown", self.shutdown, "admin", summary, body=_STOP, answer=done, status=202)
        ]

    async def shutdown(self, request: web.Request) -> web.Response:
        """End it."""
        self.shut_down((await json_body(request)).get("when", "now"))
        return data({}, status=202)
