"""An engine's server with its memory, calls of the past in it and live ones to steer, for a browser to look at.

It owns starting and seeding; it refuses to know the page. Calls are fakes that publish real events; all that keeps, measures and
serves them is the house's own.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import anyio
import numpy as np

from patter.audio.format import PCM_8K, AudioChunk
from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallEnded, CallStarted, CostMeasured, Event, UsageMeasured
from patter.observe.cost import CostFold, call_costs
from patter.observe.journal import call_folder, dump
from patter.observe.metrics import CallFold
from patter.observe.prices import Prices
from patter.ports import Abilities, AudioTap, CallInfo, Transport
from patter.records import Records
from patter.server.app import Server, Setup
from patter.server.listener import listen
from patter.settings import Settings
from patter.transports.text import TextTransport
from tests.support.fake_calls import FakeCalls, FakeSession
from tests.support.page_talk import Talk, whole
from tests.support.serving import AGENT, TOKEN

ENDS = ("caller_hung_up", "caller_hung_up", "agent_ended", "transferred", "failed")
AGENTS = ("riverside-dental", "night-desk")
SEEDED = 54  # more than one page of the history
DAY_S = 86_400.0
PRICES = Prices.load()


class SoundLine:
    """Only what watchers ask of a transport that carries sound."""

    abilities = Abilities(PCM_8K, PCM_8K)


@dataclass
class LiveCall:
    """A call that is up: its session, which notes what it is told, and the talk that goes on in it."""

    session: FakeSession
    talk: Talk


@dataclass
class House:
    """What a test works with."""

    server: Server
    bus: Bus
    clock: Clock
    records: Records
    calls: FakeCalls
    home: Path
    live: dict[str, LiveCall] = field(default_factory=dict)
    up: set[str] = field(default_factory=set)

    def note(self, event: Event) -> None:
        """Keep which calls are up (a sink of the bus)."""
        if isinstance(event, CallStarted):
            self.up.add(event.call_id)
        elif isinstance(event, CallEnded):
            self.up.discard(event.call_id)

    @property
    def url(self) -> str:
        return self.server.url

    async def call(self, call_id: str, caller: str = "+15557654321") -> LiveCall:
        """Put a call up; its greeting is said already."""
        entry = self.server.agents.find("desk")
        assert entry is not None
        assert entry.file is not None
        info = CallInfo(call_id, caller=caller, callee="+15550100", direction="inbound", telephony="twilio")
        self.server.desk.start(info, entry.file, TextTransport(self.clock))
        await until(lambda: call_id in self.up)
        talk = Talk(call_id, self.clock.now(), agent="desk", replies=1)
        self.live[call_id] = LiveCall(self.calls.sessions[call_id], talk)
        return self.live[call_id]

    def publish(self, events: Iterable[Event]) -> None:
        """Publish events as if they happened now."""
        for event in events:
            self.bus.publish(replace(event, at=0.0, seq=0))

    async def end_all(self) -> None:
        """Hang up whatever is up."""
        for live in self.live.values():
            await live.session.hang_up("caller_hung_up")
        await until(lambda: not self.up)
        self.live.clear()

    def sound(self, call_id: str) -> tuple[AudioTap, ...]:
        """The taps of a call that has sound: recording and listeners."""
        return self.records.taps(CallInfo(call_id), cast(Transport, SoundLine()))


def frame(number: int, hz: float) -> AudioChunk:
    """20 ms of a tone."""
    at = (np.arange(160) + 160 * number) / 8000
    return AudioChunk((6000 * np.sin(2 * np.pi * hz * at)).astype(np.int16).tobytes(), PCM_8K)


def journal_of(events: Iterable[Event]) -> list[Event]:
    """The events with the measurements that the engine would have published between them."""
    fold: CallFold | None = None
    costs = CostFold(PRICES)
    told: list[Event] = []
    for event in events:
        fold = fold or CallFold(event.call_id, PRICES)
        if isinstance(event, UsageMeasured):
            costs.add(event)
        if isinstance(event, CallEnded):
            cost = CostMeasured(
                call_id=event.call_id, at=event.at, cost=call_costs(costs.breakdown()), unpriced=costs.unpriced()
            )
            told.append(cost)
        told.append(event)
        told += fold.feed(event)
    return [replace(event, seq=number) for number, event in enumerate(told, 1)]


def seed(home: Path, now: float) -> None:
    """Write the journals of earlier calls, as an engine has left them."""
    chance = random.Random(7)
    for number in range(SEEDED):
        call_id = f"CA{number:04d}"
        talk = Talk(call_id, now - chance.uniform(0.05, 6.5) * DAY_S, number, agent=AGENTS[number % 2])
        write_call(home, whole(talk, 1 + number % 6, ENDS[number % len(ENDS)]))  # type: ignore[arg-type]


def write_call(home: Path, events: Iterable[Event]) -> None:
    """One journal."""
    told = journal_of(events)
    folder = call_folder(home, told[0].call_id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "events.jsonl").write_text("".join(dump(event) + "\n" for event in told), "utf-8")


@asynccontextmanager
async def house(
    folder: Path,
    *,
    port: int = 0,
    engine_id: str = "e" * 16,
    seeded: bool = False,
    capacity: int = 100,
    bus: Bus | None = None,
) -> AsyncIterator[House]:
    """A server at work; `seeded`: with a past."""
    agents = folder / "agents"
    agents.mkdir(exist_ok=True)
    (agents / "desk.toml").write_text(AGENT)
    if seeded:
        await anyio.to_thread.run_sync(seed, folder, time.time())
    clock = Clock()
    bus = bus or Bus(clock)
    calls = FakeCalls(bus)
    setup = Setup(
        home=folder, agents_dir=agents, token=TOKEN, engine_id=engine_id, version="0.0.test", capacity=capacity
    )
    async with AsyncExitStack() as stack:
        records = await stack.enter_async_context(Records(folder, bus, clock, PRICES, Settings()))
        server = await stack.enter_async_context(
            Server(setup, listen(port), bus, clock, calls.open_call, calls.rungs, kept=records.kept())
        )
        opened = House(server, bus, clock, records, calls, folder)
        stack.callback(bus.add_sink(opened.note))
        if seeded:
            assert await records.keeper.settled()  # the past is in the database
        yield opened


async def until(holds: Callable[[], object], within_s: float = 15.0) -> None:
    """Return when `holds()` is true."""
    with anyio.fail_after(within_s):
        while not holds():
            await anyio.sleep(0.02)
