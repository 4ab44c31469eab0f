"""The public server of one agent on one number: a carrier's webhooks and media sockets, and nothing else.

It owns its port and the graceful end of its calls; it refuses to know how a call is put together. There is no API on this
port: whoever reaches it from outside meets only routes whose handlers demand the carrier's proofs.
"""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import anyio
from aiohttp import web

from patter.agentfile import AgentFile
from patter.bus import Bus
from patter.clock import Clock
from patter.models import Agent, OnMessage
from patter.server.answers import BODY_LIMIT, sentences
from patter.server.app import guarded
from patter.server.desk import Desk, OpenCall, Route
from patter.server.twilio_routes import Account, TwilioRoutes

DRAIN_S = 30.0  # how long calls that are up may still take once nobody new is let in
_LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Line:
    """A number at a carrier. `host` is this machine's public name, as the carrier dials it."""

    account: Account
    number: str
    host: str

    @property
    def public(self) -> str:
        """The address that requests are signed for: TLS ends in front of us, except on this very machine."""
        scheme = "http" if self.host.partition(":")[0] in _LOOPBACK else "https"
        return f"{scheme}://{self.host}"


class FrontDoor:
    """`async with FrontDoor(…) as door:` answers calls on `listener`, which becomes its own, until it is left."""

    def __init__(
        self,
        line: Line,
        listener: socket.socket,
        agent: Agent,
        on_message: OnMessage | None,
        bus: Bus,
        clock: Clock,
        open_call: OpenCall,
    ) -> None:
        self._line = line
        self._listener = listener
        self._route = Route(Path(agent.name or "agent"), "phone")
        self._file = AgentFile(self._route.agent, agent.name, agent, on_message, (), "", "")
        self._desk = Desk(bus, open_call)
        self._routes = TwilioRoutes(self._desk, self, clock, [line.account], line.public)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.callback(self._listener.close)
            app = web.Application(middlewares=[sentences], client_max_size=BODY_LIMIT)
            app.add_routes([web.get("/health", self._health), *self._routes.routes()])
            runner = guarded(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            self._desk.lead(self._line.number, self._route)
            await stack.enter_async_context(self._desk)
            await web.SockSite(runner, self._listener).start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._stack.__aexit__(*error)

    def current(self, route: Route) -> AgentFile:
        """The one agent."""
        return self._file

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def close(self) -> None:
        """Let no new call in and return when those that are up have finished, or after `DRAIN_S`."""
        self._desk.stopping = True
        with anyio.move_on_after(DRAIN_S):
            await self._desk.wait_idle()
