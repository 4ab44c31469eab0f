"""`python -m tests.benchmarks.passthrough_server HOME`: a real phone line whose agent sends every frame back as it came.

Front door, webhooks, media sockets, transport, session, floor, journal and metrics are the real ones. The agent is what a
realtime engine over µ-law is: sound passes through it untouched, and its replies begin and end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup

from patter.agentfile import AgentFile
from patter.audio.format import AudioChunk
from patter.builders import Carrier
from patter.bus import Bus
from patter.call.outfit import Outfit, Steered, Wiring
from patter.call.session import CallSession
from patter.call.toolbox import Toolbox
from patter.clock import Clock
from patter.guard import Guards
from patter.mailbox import Mailbox
from patter.models import Agent
from patter.observe.cost import Prices
from patter.observe.journal import Journal
from patter.observe.reader import MetricsReader
from patter.ports import Brief, CallInfo, Screen, Transport
from patter.server.desk import Desk, Route
from patter.server.front_door import FrontDoor, Joined, LineSettings
from patter.server.host import calm_collector
from patter.server.listener import listen
from patter.server.number_setup import NumberSetup
from patter.server.twilio_routes import Account, TwilioRoutes
from patter.signals import ConversationSignal, ReplyAudio, ReplyEnded, ReplyStarted

SID, TOKEN, NUMBER = "AC" + "1" * 32, "the-auth-token-of-a-benchmark", "+15005550006"
REPLY_FRAMES = 150  # three seconds a reply


class Echo:
    """An agent's side that says what it hears."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said: Mailbox[ConversationSignal] = Mailbox()
        self._frames = 0
        self._reply = 0

    async def start(self, brief: Brief, tasks: TaskGroup) -> None:
        """Nothing to connect to."""

    def hear(self, chunk: AudioChunk) -> None:
        """Back it goes."""
        if self._frames % REPLY_FRAMES == 0:
            if self._reply:
                self._said.put(ReplyEnded(self._reply, self._clock.now()))
            self._reply += 1
            self._said.put(ReplyStarted(self._reply, "answer", self._clock.now()))
        self._frames += 1
        self._said.put(ReplyAudio(self._reply, chunk))

    async def read(self, text: str) -> None:
        """It reads nothing."""

    async def reply(self, utterance: str) -> None:
        """It names no utterances."""

    async def speak(self, text: str, kind: str = "say") -> None:
        """It has no voice of its own."""

    async def interrupt(self, reply_id: int, heard: str, heard_ms: float) -> None:
        """Nobody interrupts."""

    async def answer(self, tool_id: str, output: str) -> None:
        """It has no tools."""

    async def guide(self, text: str) -> None:
        """It takes no advice."""

    def update(self, agent: Agent) -> None:
        """It stays as it is."""

    def straight(self, play: Callable[[ReplyAudio], None]) -> None:
        """Sound takes the express lane."""
        self._said.express(ReplyAudio, play)

    def signals(self) -> AsyncIterator[ConversationSignal]:
        """What it says."""
        return aiter(self._said)

    async def aclose(self) -> None:
        """Be silent."""
        self._said.close()


class House:
    """One agent for everybody."""

    def __init__(self, home: Path) -> None:
        self.clock = Clock()
        self.bus = Bus(self.clock)
        self.journal = Journal(home)
        self.bus.add_sink(self.journal)
        self.bus.add_sink(MetricsReader(self.bus, Prices.load()))

    def current(self, route: Route) -> AgentFile:
        """The one agent."""
        return AgentFile(route.agent, "echo", Agent("Echo."), None, (), "", "")

    def open_call(self, call: CallInfo, agent: Agent, transport: Transport, **_: Any) -> CallSession:
        """A real session around the echo."""

        def rework(_: Steered, agent: Agent) -> tuple[Toolbox, Screen]:
            return Toolbox([]), Guards([]).screen

        def outfit(session: Steered, agent: Agent) -> Outfit:
            return Outfit(Echo(self.clock), *rework(session, agent))

        return CallSession(call, agent, transport, self.bus, self.clock, Wiring(outfit, rework), agent_name="echo")


async def nothing(_: object) -> NumberSetup:
    """There is no carrier's API."""
    return NumberSetup()


async def main(home: Path) -> None:
    """Until killed."""
    house = House(home)
    calm_collector()  # as the engine does
    desk = Desk(house.bus, house.open_call, capacity=5_000)
    listener = listen()
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    settings = LineSettings(Carrier("twilio", SID, TOKEN), NUMBER, host, take_number=False)
    routes = TwilioRoutes(desk, house, house.clock, [Account(SID, TOKEN)], "", bus=house.bus)
    async with desk, FrontDoor(settings, listener, Joined(routes, nothing, nothing), desk) as door:
        door.answer(NUMBER, Route(Path("echo"), "phone"))
        print(json.dumps({"listening": f"http://{host}"}), flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]))
