"""The public server of one agent on one number: a carrier's webhooks and media sockets, and nothing else.

It owns its port and the graceful end of its calls; it refuses to know how a call is put together. There is no API on this
port: whoever reaches it from outside meets only routes whose handlers demand the carrier's proofs.
"""

from __future__ import annotations

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
from patter.server.app import guarded, listen
from patter.server.desk import Desk, OpenCall, Route
from patter.server.twilio_routes import Account, TwilioRoutes

DRAIN_S = 30.0  # how long calls that are up may still take once nobody new is let in
_LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Line:
    """A number at a carrier. `host` is this machine's public name, as the carrier dials it; `port` where we listen."""

    account: Account
    number: str
    host: str
    port: int

    @property
    def public(self) -> str:
        """The address that requests are signed for: TLS ends in front of us, except on this very machine."""
        scheme = "http" if self.host.partition(":")[0] in _LOOPBACK else "https"
        return f"{scheme}://{self.host}"


class FrontDoor:
    """`async with FrontDoor(…) as door:` answers calls until it is left; `close` lets those that are up finish first."""

    def __init__(
        self,
        line: Line,
        agent: Agent,
        on_message: OnMessage | None,
        bus: Bus,
        clock: Clock,
        open_call: OpenCall,
    ) -> None:
        self._line = line
        self._route = Route(Path(agent.name or "agent"), "phone")
        self._file = AgentFile(self._route.agent, agent.name, agent, on_message, (), "", "")
        self._desk = Desk(bus, open_call)
        self._routes = TwilioRoutes(self._desk, self, clock, [line.account], line.public)
        self._stack = AsyncExitStack()
        self.port = 0
        """Where it listens, once it does."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            listener = listen(self._line.port)
            stack.callback(listener.close)
            self.port = listener.getsockname()[1]
            app = web.Application(middlewares=[sentences], client_max_size=BODY_LIMIT)
            app.add_routes([web.get("/health", self._health), *self._routes.routes()])
            runner = guarded(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            self._desk.lead(self._line.number, self._route)
            await stack.enter_async_context(self._desk)
            await web.SockSite(runner, listener).start()
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
        """No new calls; those that are up get `DRAIN_S` to finish."""
        self._desk.stopping = True
        with anyio.move_on_after(DRAIN_S):
            await self._desk.wait_idle()
