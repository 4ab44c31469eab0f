"""One engine's server: its routes behind the gate, its calls and its watch on agent files, from opening to closing.

It owns the order in which these start and stop; it refuses to know processes, files of the home and how calls are built.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, Self

import anyio
import anyio.to_thread
from aiohttp import web

from patter.agentfile import AgentFile
from patter.bus import Bus
from patter.clock import Clock
from patter.exceptions import ended_context
from patter.server.agents import Agents
from patter.server.answers import BODY_LIMIT, sentences
from patter.server.api.agent_api import AgentApi
from patter.server.api.engine_api import EngineApi, Identity, Ready, ShutdownApi
from patter.server.api.line_api import LineApi
from patter.server.api.rehearsal_api import RehearsalApi
from patter.server.api.table import CallParts, call_endpoints
from patter.server.api_port import ApiPort
from patter.server.auth import Door
from patter.server.desk import CAPACITY, Desk, Foresight, OpenCall, Route
from patter.server.kept import Kept
from patter.server.line_desk import Join, LineDesk, no_carriers
from patter.server.listener import HOST, guarded
from patter.server.tokens import own_token
from patter.server.twilio_routes import Account, TwilioRoutes

CARRIERS = ("/webhooks/", "/ws/twilio/")
"""Paths whose handlers authenticate the carrier themselves."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What one server is told: where its home and agents are, its token, and its name."""

    home: Path
    agents_dir: Path
    token: str = field(repr=False)
    engine_id: str
    version: str
    agent_files: tuple[Path, ...] = ()
    capacity: int = CAPACITY


class Server:
    """`async with Server(…) as server:` listens on loopback until it is left; calls end first, then readers, then it."""

    def __init__(
        self,
        setup: Setup,
        listener: socket.socket,
        bus: Bus,
        clock: Clock,
        open_call: OpenCall,
        rungs: Callable[[], dict[str, Any]],
        join: Join = no_carriers,
        foresight: Foresight | None = None,
        kept: Kept | None = None,
    ) -> None:
        self.setup = setup
        self.kept = kept or Kept(home=setup.home)
        self.desk = Desk(
            bus, open_call, setup.capacity, foresight=foresight, purse=self.kept.purse, used=self.kept.agent_used
        )
        self.agents = Agents(setup.agents_dir, bus, self.desk.update)
        self.line = LineDesk(self.desk, self, bus, clock, join)
        self.port: int = listener.getsockname()[1]
        door = Door(self.port, carriers=CARRIERS)
        self.api = ApiPort(setup.home, door, own_token(setup.token, "engine"), bus, clock, setup.engine_id)
        self.events = self.api.readers
        self.app: web.Application
        self.started_at = clock.now()
        self._listener = listener
        self._bus = bus
        self._clock = clock
        self._rungs = rungs
        self._stop = anyio.Event()
        self._drain = anyio.Event()
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    def shut_down(self, when: str = "now") -> None:
        """Make `wait_stopped` return: "now", or when no call is up ("idle"; new ones are refused from now on)."""
        if when == "idle":
            self.desk.stopping = True
            self._drain.set()
        else:
            self._stop.set()

    async def wait_stopped(self) -> None:
        """Return when somebody has asked the server to stop."""
        await self._stop.wait()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self.agents.load(self.setup.agent_files)
            stack.callback(self._listener.close)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(tasks.cancel_scope.cancel)
            tasks.start_soon(self._stop_when_drained)
            tasks.start_soon(self.agents.watch)
            stack.callback(self.agents.stop)
            await stack.enter_async_context(self.api)
            runner = guarded(self._application())
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            stack.callback(self.events.close)
            await stack.enter_async_context(self.desk)
            await stack.enter_async_context(self.line)
            await web.SockSite(runner, self._listener).start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        with ended_context():
            return await self._stack.__aexit__(*error)

    def _application(self) -> web.Application:
        account = Account("AC" + token_hex(16), token_hex(16), loopback=True)
        identity = Identity(
            self.setup.engine_id, self.setup.version, os.getpid(), self.started_at, self.agents.directory
        )
        twilio = TwilioRoutes(self.desk, self, self._clock, [account], self.url)
        parts = CallParts(self.kept, self.desk, self.api, self.line.give_up, self.setup.version)
        app = self.app = web.Application(middlewares=[sentences], client_max_size=BODY_LIMIT)
        self.api.fit(
            app,
            [
                *EngineApi(
                    identity, self.desk, self._rungs, lambda: self.events.readers, self._readiness()
                ).endpoints(),
                *ShutdownApi(self.shut_down).endpoints(),
                *AgentApi(self.agents).endpoints(),
                *RehearsalApi(self.agents, self.desk, self._clock, account, self.url, self._rungs).endpoints(),
                *LineApi(self.line, self.agents).endpoints(),
                *call_endpoints(parts),
            ],
        )
        app.add_routes(twilio.routes())
        return app

    def _readiness(self) -> Ready:
        """What may be in the way of calls here, and of what is kept of them."""
        keeper = self.kept.keeper
        return {
            "engines": lambda: "loading" if any(rung["state"] == "loading" for rung in self._rungs().values()) else "",
            "calls": self.desk.refusal,
            "store": lambda: "behind: it is tried again" if keeper is not None and keeper.problem is not None else "",
            "line": lambda: "it has a problem" if self.line.status()["state"] == "problem" else "",
        }

    def current(self, route: Route) -> AgentFile | None:
        """The version of a route's agent that is in use."""
        entry = self.agents.find(str(route.agent))
        return entry.file if entry else None

    async def _stop_when_drained(self) -> None:
        await self._drain.wait()
        await self.desk.wait_idle()
        self._stop.set()
