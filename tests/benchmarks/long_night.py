"""`python -m tests.benchmarks.long_night [CALLS] [SEED]`: short calls of every kind on both carriers' lines, and what is left.

Everything between the carrier's webhooks and the end of a session is real, callbacks, journal and metrics too; only hearing,
thinking and speaking are faked at their ports. Afterwards nothing may have grown but what is bounded by design.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sized
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio

from patter.builders import Keys, as_text
from patter.callbacks import Callbacks
from patter.events import CallEnded, CallPlaced, CallStarted, Event
from patter.exceptions import PatterError
from patter.loopback.misbehaviour import Misbehaviour
from patter.loopback.person import Person
from patter.loopback.telnyx_carrier import LoopbackTelnyxCarrier
from patter.loopback.tones import tone
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from patter.models import Agent
from patter.observe.cost import Prices
from patter.server.arrivals import Arrivals
from patter.server.front_door import LineSettings
from patter.server.orders import Order
from patter.server.twilio_routes import TwilioRoutes
from patter.station import Plan, Station
from tests.benchmarks.faked_engine import opener
from tests.support.carriers import CARRIERS, OURS, carrier_of, credentials

HOST = "voice.example.test"
AGENT = as_text(Agent("Be brief.", first_message="Hello.", name="desk"))  # its engines need no key
AT_ONCE = 30  # calls on each line at the same time
STREAM_S = 2.0  # as long as Twilio's streams are waited for: the usual time would make the night long
PATIENCE_S = 40.0  # no call of the night takes longer
ENDS = {
    "comes in": {"caller_hung_up"},
    "comes in and leaves at once": {"caller_hung_up"},
    "is hung up by the agent": {"agent_ended"},
    "loses its socket": {"caller_hung_up"},  # where it was another stream that broke
    "is handed to nobody": {"caller_hung_up"},
    "is handed over": {"transferred"},
    "human": {"caller_hung_up"},
    "machine": {"voicemail_left"},
    "busy": {"busy"},
    "no_answer": {"no_answer"},
    "reject": {"busy"},
    "nobody's number": {"failed"},
    "is given up": {"canceled"},
}
"""The calls of a night, and how history should tell their ends. Any socket may be lost beside one that is to be."""
KEPT_OPEN = "RequestHandler.start"  # the task of a connection, which is kept for a while after its last request
BOUNDED = {
    "TwilioRoutes._seen",  # calls whose webhook is used up: a day of them, 100,000 at most
    "Replays._seen",  # Telnyx' event ids: as long as a replay could be believed, and bounded
    "Legs._past", "Legs._by_id", "Legs._by_token",  # legs of the last hour, 20,000 at most
    "Handovers._by_token",  # transfers whose late webhooks are still known, 2,000 at most
    "Bus._recent",  # the newest events, for readers who come late
}  # fmt: skip
WHOLE = {
    "Keeper._calls", "Keeper._done", "CostMeter._over", "PrometheusReader._over",  # calls that are over, for what comes late
    "Bounded._known", "Number.values", "Histogram.values", "Heap.counts",  # by label, of which there are some dozens
    "Foresight._good",  # agents that were looked at
}  # fmt: skip
"""Bounded, with all that is in them."""


@dataclass
class Line:
    """One carrier with a station on its line."""

    carrier: LoopbackTwilioCarrier | LoopbackTelnyxCarrier
    station: Station
    told: list[Event]
    ends: list[dict[str, Any]] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    numbers: int = 0

    def new_number(self) -> str:
        """Somebody who was never called before."""
        self.numbers += 1
        return f"+1555{self.numbers:07d}"

    @property
    def odd(self) -> list[str]:
        """Calls that history tells otherwise than they were, or not."""
        ends: dict[str, list[str]] = {}
        for event in self.told:
            if isinstance(event, CallEnded):
                ends.setdefault(event.call_id, []).append(event.reason)
        right = {call_id: [*ENDS[kind], "line_lost"] for call_id, kind in self.kinds.items()}
        return [
            f"{self.kinds.get(call_id, 'unknown')}: {ends.get(call_id)}"
            for call_id in {*ends, *self.kinds}
            if len(ends.get(call_id, [])) != 1 or ends[call_id][0] not in right.get(call_id, [])
        ]

    @property
    def open(self) -> set[str]:
        """The calls that have begun and not ended, as history has it."""
        ended = {event.call_id for event in self.told if isinstance(event, CallEnded)}
        return {event.call_id for event in self.told} - ended


@asynccontextmanager
async def line(name: str, home: Path, day: Misbehaviour) -> AsyncIterator[Line]:
    """A line that is open."""
    async with AsyncExitStack() as stack:
        carrier = carrier_of(name, day)
        await stack.enter_async_context(carrier)
        settings = LineSettings(credentials(carrier), OURS, HOST)
        ends: list[dict[str, Any]] = []
        callbacks = Callbacks(on_call_end=_keeper(ends))
        station = Station(Plan(settings, home / name, Keys(), Prices.load(), callbacks))
        station._open_call = opener(station._bus, station._clock)  # type: ignore[method-assign]
        told: list[Event] = []

        def note(event: Event) -> None:
            if isinstance(event, (CallPlaced, CallStarted, CallEnded)):
                told.append(event)

        station._bus.add_sink(note)
        carrier.reach[HOST] = "127.0.0.1:1"
        await stack.enter_async_context(station)
        carrier.reach[HOST] = f"127.0.0.1:{station._door.port}"
        station.answer(OURS, AGENT)
        routes = station._door._joined.routes
        if isinstance(routes, TwilioRoutes):
            routes._arrivals = Arrivals(station._clock, STREAM_S)
        yield Line(carrier, station, told, ends)


def _keeper(ends: list[dict[str, Any]]) -> Callable[[dict[str, Any]], Awaitable[None]]:
    async def keep(call: dict[str, Any]) -> None:
        ends.append(call)

    return keep


# --------------------------------------------------------------------------- one call


async def a_call(at: Line, kind: str, dice: random.Random) -> None:
    """One call of this kind, from its beginning to its end on both sides."""
    number = at.new_number()
    if kind in ("human", "machine", "busy", "no_answer", "reject", "nobody's number", "is given up"):
        await _placed(at, kind, number, dice)
    else:
        await _incoming(at, kind, number, dice)


async def _incoming(at: Line, kind: str, number: str, dice: random.Random) -> None:
    stays = dice.uniform(0.2, 0.7) if kind.startswith("comes in") else 6.0
    if kind == "loses its socket":
        at.carrier._exchange.day = replace(at.carrier._exchange.day, drop_socket_after_s=0.3)  # type: ignore[union-attr, assignment, arg-type]
    leg = at.carrier.place_call(number, OURS, Person(stays_s=stays))
    at.kinds[leg.call_id] = kind
    if kind == "comes in and leaves at once":
        await anyio.sleep(dice.uniform(0.0, 0.02))
        leg.hang_up()
    elif kind in ("is hung up by the agent", "is handed to nobody", "is handed over", "loses its socket"):
        session = await _session(at, leg)
        if kind == "loses its socket":
            at.carrier._exchange.day = replace(at.carrier._exchange.day, drop_socket_after_s=None)  # type: ignore[union-attr, assignment, arg-type]
        elif session is not None and kind == "is hung up by the agent":
            await session.hang_up("agent_ended")
        elif session is not None:
            colleague = at.new_number()
            takes = kind == "is handed over"
            at.carrier.people[colleague] = Person("human" if takes else "busy", stays_s=0.3 if takes else None)
            with suppress(PatterError):
                await session.transfer(colleague)
    await leg.over.wait()


async def _session(at: Line, leg: Any) -> Any:
    """The session of a call that has begun, or None if it is over already."""
    while not leg.over.is_set():
        live = at.station._door._desk.find(leg.call_id)
        session: Any = live.session if live else None
        if session is not None and not session.over:
            return session
        await anyio.sleep(0.01)
    return None


async def _placed(at: Line, kind: str, number: str, dice: random.Random) -> None:
    voicemail = ""
    match kind:
        case "human":
            at.carrier.people[number] = Person(stays_s=dice.uniform(0.3, 0.8))
        case "machine":
            at.carrier.people[number] = Person("machine", greeting=tone(300, 400), stays_s=8.0)
            voicemail = "Bye."
        case "is given up":
            at.carrier.people[number] = Person(rings_s=20.0)
        case "busy" | "no_answer" | "reject":
            at.carrier.people[number] = Person(kind, rings_s=0.05)
    order = Order(number, OURS, _file(at), voicemail=voicemail, detect_machine=kind == "machine", ring_timeout_s=5.0)
    call_id = await at.station.place(order, _deaf if voicemail else None)
    at.kinds[call_id] = kind
    if kind == "is given up":
        await anyio.sleep(dice.uniform(0.0, 0.1))
        await at.station._door.give_up(call_id)
    await at.station.wait_over(call_id)
    await at.carrier.legs[call_id].over.wait()


async def _deaf(_: dict[str, Any]) -> None:
    """Is told who answered."""


def _file(at: Line) -> Any:
    [file] = at.station._files.values()
    return file


async def a_night(at: Line, kinds: list[str], dice: random.Random) -> None:
    """All these calls, `AT_ONCE` of them at the same time; returns when history knows the end of each."""
    waiting = iter(kinds)

    async def caller() -> None:
        for kind in waiting:
            with anyio.move_on_after(PATIENCE_S) as patience:
                await a_call(at, kind, dice)
            if patience.cancelled_caught:
                raise AssertionError(f"a call that {kind!r} did not end")

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(caller)
    with anyio.fail_after(PATIENCE_S):
        while at.open or at.station._door._desk.count:
            await anyio.sleep(0.02)
    await anyio.sleep(3.0)  # a Telnyx leg whose end its carrier did not tell is asked to hang up after two


# --------------------------------------------------------------------------- what is left


def sizes(*roots: object) -> Counter[str]:
    """How much every container of our own objects holds, by class and attribute, as far as `roots` reach."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    todo: list[tuple[str, object]] = [("", root) for root in roots]
    while todo:
        name, thing = todo.pop()
        if name in WHOLE or id(thing) in seen or isinstance(thing, (str, bytes, bytearray, type)):
            continue
        seen.add(id(thing))
        if isinstance(thing, (dict, set, list, tuple)) or (isinstance(thing, Sized) and isinstance(thing, Mapping)):
            found[name] += len(thing)
            inside = [*thing.keys(), *thing.values()] if isinstance(thing, Mapping) else list(thing)
            todo += [(name, each) for each in inside]
        elif type(thing).__module__.startswith("patter."):
            for attribute in _attributes(thing):
                todo.append((f"{type(thing).__name__}.{attribute}", getattr(thing, attribute, None)))
    return found


def _attributes(thing: object) -> list[str]:
    slots = [slot for kind in type(thing).__mro__ for slot in getattr(kind, "__slots__", ())]
    return [*getattr(thing, "__dict__", {}), *slots]


@dataclass(frozen=True)
class Left:
    """What a process holds at one moment. `files`: beside both ends of connections that wait for another request."""

    containers: Counter[str]
    tasks: Counter[str]
    files: int

    @classmethod
    def by(cls, *roots: object) -> Left:
        """What these roots, this loop and this process hold now."""
        gc.collect()
        running = Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())
        folder = Path("/proc/self/fd")
        files = len(os.listdir(folder)) if folder.is_dir() else 0
        return cls(sizes(*roots), running, files - 2 * running[KEPT_OPEN])

    def grown_since(self, before: Left) -> dict[str, tuple[int, int]]:
        """What holds more than before, and is not known to be bounded."""
        grown = {
            name: (before.containers[name], count)
            for name, count in self.containers.items()
            if count > before.containers[name] and name not in BOUNDED
        }
        for name, count in (self.tasks - before.tasks).items():
            if name != KEPT_OPEN:
                grown[f"task {name}"] = (before.tasks[name], count + before.tasks[name])
        return grown


@dataclass
class Report:
    """What came of a night on one line."""

    calls: int
    reasons: Counter[str]
    odd: list[str]
    grown: dict[str, tuple[int, int]]
    files: int
    callbacks: int


async def long_night(home: Path, calls: int, seed: int) -> dict[str, Report]:
    """`calls` calls on each carrier's line, after a short evening that loads what is loaded once."""
    reports: dict[str, Report] = {}
    day = Misbehaviour(duplicate_webhooks=True, jitter_ms=5.0, seed=seed)
    async with AsyncExitStack() as stack:
        lines = {name: await stack.enter_async_context(line(name, home, day)) for name in CARRIERS}
        dice = {name: random.Random(f"{seed} {name}") for name in CARRIERS}
        async with anyio.create_task_group() as tasks:
            for name, at in lines.items():
                tasks.start_soon(a_night, at, list(ENDS), dice[name])
        before = {name: Left.by(at.station) for name, at in lines.items()}
        async with anyio.create_task_group() as tasks:
            for name, at in lines.items():
                kinds = [dice[name].choice(list(ENDS)) for _ in range(calls)]
                tasks.start_soon(a_night, at, kinds, dice[name])
        for name, at in lines.items():
            after = Left.by(at.station)
            ends = Counter(event.call_id for event in at.told if isinstance(event, CallEnded))
            reports[name] = Report(
                calls=len(ends),
                reasons=Counter(event.reason for event in at.told if isinstance(event, CallEnded)),
                odd=at.odd,
                grown=after.grown_since(before[name]),
                files=after.files - before[name].files,
                callbacks=len(at.ends),
            )
    return reports


def main(calls: int = 300, seed: int = 1) -> None:
    """Print what came of it."""
    with tempfile.TemporaryDirectory() as home:
        for name, report in anyio.run(long_night, Path(home), calls, seed).items():
            print(f"{name}: {report.calls} calls, {report.files:+d} files, grown: {report.grown or 'nothing'}")
            print("  odd: " + ("; ".join(report.odd) or "none"))
            print("  " + ", ".join(f"{reason} {count}" for reason, count in report.reasons.most_common()))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
