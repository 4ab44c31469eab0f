"""A front door at a loopback carrier, with sessions that speak in tones behind it, and what is left when it has closed.

It owns how the parts are joined for a test; it refuses to know what is tested.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio

from patter.agentfile import AgentFile
from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallEnded, Event
from patter.exchange import join
from patter.loopback.misbehaviour import GOOD_DAY, Misbehaviour
from patter.loopback.telnyx_carrier import LoopbackTelnyxCarrier
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from patter.models import Agent
from patter.server.desk import Desk, Route
from patter.server.front_door import FrontDoor, LineSettings
from patter.server.listener import listen
from patter.server.orders import Order
from tests.benchmarks.faked_engine import opener
from tests.support.carriers import OURS, THEIRS, carrier_of, credentials

HOST = "voice.example.test"
FILE = AgentFile(
    Path("desk"), "desk", Agent("Be brief.", first_message="Hello.", provider="pipeline"), None, (), "", ""
)


class Files:
    """One agent for everything."""

    def current(self, _: Route) -> AgentFile:
        return FILE


@dataclass
class House:
    """A carrier, a desk and a door that is open."""

    carrier: LoopbackTwilioCarrier | LoopbackTelnyxCarrier
    desk: Desk
    door: FrontDoor
    bus: Bus
    routes: Any
    events: list[Event]

    async def until(self, holds: Callable[[], Any], seconds: float = 20.0) -> Any:
        """Look again until `holds()` gives something."""
        with anyio.fail_after(seconds):
            while not (found := holds()):
                await anyio.sleep(0.01)
        return found

    async def dial(self, to: str = THEIRS, **options: Any) -> Any:
        """Place a call; the carrier's leg."""
        return self.carrier.legs[await self.door.dial(Order(to, OURS, FILE, **options))]

    async def event(self, kind: type[Event], **fields: Any) -> Any:
        """The first event of its kind with these fields."""

        def found() -> Event | None:
            matching = (event for event in self.events if isinstance(event, kind))
            return next((e for e in matching if all(getattr(e, key) == value for key, value in fields.items())), None)

        return await self.until(found)

    def story(self, call_id: str) -> list[str]:
        """What was told of one call: the kinds of its events, and of its end the reason."""
        mine = [event for event in self.events if event.call_id == call_id]
        return [event.reason if isinstance(event, CallEnded) else type(event).__name__ for event in mine]


@asynccontextmanager
async def open_door(name: str, day: Misbehaviour = GOOD_DAY, *, clean: bool = True) -> AsyncIterator[House]:
    """Everything open. With `clean` nothing may happen that the real carrier would complain of."""
    async with AsyncExitStack() as stack:
        clock = Clock()
        bus = Bus(clock)
        carrier = carrier_of(name, day)
        await stack.enter_async_context(carrier)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        events: list[Event] = []
        stack.callback(bus.add_sink(events.append))
        desk = await stack.enter_async_context(Desk(bus, opener(bus, clock)))
        listener = listen()
        stack.callback(listener.close)
        carrier.reach[HOST] = f"127.0.0.1:{listener.getsockname()[1]}"
        settings = LineSettings(credentials(carrier), OURS, HOST)
        joined = join(settings, desk, Files(), clock, bus, http)
        door = await stack.enter_async_context(FrontDoor(settings, listener, joined, desk))
        door.answer(OURS, Route(Path("desk"), "phone"))
        yield House(carrier, desk, door, bus, joined.routes, events)
    if clean:
        assert carrier.violations == []


def open_files() -> dict[str, int]:
    """What this process has open, by kind of thing (Linux)."""
    gc.collect()
    count: dict[str, int] = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            kind = os.readlink(link).partition(":")[0]
        except OSError:  # the directory's own
            continue
        count[kind] = count.get(kind, 0) + 1
    return count


def tasks() -> set[str]:
    """The tasks of this loop but the one that asks, by name and code."""
    return {
        f"{task.get_name()} {getattr(task.get_coro(), '__qualname__', '')}"
        for task in asyncio.all_tasks()
        if task is not asyncio.current_task()
    }
