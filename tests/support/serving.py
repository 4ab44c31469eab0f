"""A whole engine server on a free port of this machine, with fake calls behind it and a client that holds its token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio

from patter.bus import Bus, Subscription
from patter.clock import Clock
from patter.events import Event
from patter.models import Memory
from patter.observe.prices import Prices
from patter.records import Records
from patter.server.app import Server, Setup
from patter.server.line_desk import Join, no_carriers
from patter.server.listener import listen
from patter.settings import Settings
from patter.store.database import Database
from tests.support.fake_calls import FakeCalls

TOKEN = "the-token-of-this-test"
AGENT = 'system_prompt = "You answer."\nfirst_message = "Hello, {who}."\n[variables]\nwho = "you"\n'


@dataclass
class Rig:
    """What a test works with."""

    server: Server
    bus: Bus
    calls: FakeCalls
    client: aiohttp.ClientSession
    agents: Path
    records: Records

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.client.get(self.server.url + path) as answer:
            return answer.status, await answer.json()

    async def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.client.post(self.server.url + path, json=body) as answer:
            return answer.status, await answer.json()

    async def delete(self, path: str) -> tuple[int, Any]:
        async with self.client.delete(self.server.url + path) as answer:
            return answer.status, await answer.json()

    async def rehearse(self, line: str = "text", agent: str = "desk") -> dict[str, Any]:
        status, answer = await self.post("/api/v1/rehearsals", {"agent": agent, "line": line})
        assert status == 201, answer
        data: dict[str, Any] = answer["data"]
        return data

    async def text_call(self) -> str:
        return str((await self.rehearse())["call_id"])

    def everything(self) -> Subscription:
        """A subscription that holds all that was published."""
        subscription = self.bus.subscribe()
        for event in self.bus.since(0) or []:
            subscription.push(event)
        return subscription

    async def seen(self, kind: type[Event], since: Subscription, **fields: Any) -> Event:
        """The first event of this kind with these fields that comes through the subscription."""
        with anyio.fail_after(10):
            async for event in since:
                if isinstance(event, kind) and all(getattr(event, key) == value for key, value in fields.items()):
                    return event
        raise AssertionError(f"no {kind.__name__}")


_EMPTY: list[bytes] = []  # a database with its tables, made once: making them takes longer than most tests


async def lay_database(home: Path) -> None:
    """Put an empty database into a home that has none."""
    place = home / "calls.db"
    if not _EMPTY:
        async with Database(Memory(), home):
            pass
        _EMPTY.append(place.read_bytes())
    elif not place.exists():
        place.write_bytes(_EMPTY[0])


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    capacity: int = 10,
    bus: Bus | None = None,
    join: Join = no_carriers,
    settings: Settings | None = None,
) -> AsyncIterator[Rig]:
    """A server whose home and agents (one: "desk") are under `folder`."""
    agents = folder / "agents"
    agents.mkdir(exist_ok=True)
    if not any(agents.iterdir()):
        (agents / "desk.toml").write_text(AGENT)
    await lay_database(folder)
    clock = Clock()
    bus = bus or Bus(clock)
    calls = FakeCalls(bus)
    setup = Setup(
        home=folder, agents_dir=agents, token=TOKEN, engine_id="e" * 16, version="0.0.test", capacity=capacity
    )
    async with (
        Records(folder, bus, clock, Prices.load(), settings or Settings(), recording=False) as records,
        Server(setup, listen(), bus, clock, calls.open_call, calls.rungs, join, kept=records.kept()) as server,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as client,
    ):
        yield Rig(server, bus, calls, client, agents, records)
