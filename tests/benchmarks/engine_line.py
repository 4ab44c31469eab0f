"""`python -m tests.benchmarks.engine_line HOME ENGINE VENDORS`: a real phone line with one of the engines, over real sockets.

Front door, webhooks, media sockets, session, engine, providers, journal and metrics are the real ones; only the vendors' and
the carrier's addresses are this machine's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Unpack

import anyio

from patter.agentfile import AgentFile
from patter.assembly import Workshop
from patter.builders import Carrier, Keys
from patter.bus import Bus
from patter.clock import Clock
from patter.event_loop import QUICK
from patter.models import Agent, LLMConfig, STTConfig, TTSConfig, TurnTaking
from patter.observe.cost import Prices
from patter.observe.journal import Journal
from patter.observe.reader import MetricsReader
from patter.ports import CallInfo, Transport
from patter.server.desk import CallSession, Casting, Desk, Route
from patter.server.front_door import FrontDoor, Joined, LineSettings
from patter.server.host import calm_collector
from patter.server.listener import listen
from patter.server.twilio_routes import Account, TwilioRoutes
from tests.benchmarks.passthrough_server import NUMBER, SID, TOKEN, nothing

KEY = "benchmark-key"


def agent_of(engine: str, vendors: str) -> Agent:
    """The agent of an engine's name in `engines.ENGINES`."""
    if engine == "speech-to-speech":
        return Agent("You are helpful.", voice="cedar", model="gpt-realtime-2.1-mini", provider="openai_realtime")
    if engine == "stored agent":
        return Agent("", voice="", provider="elevenlabs_convai", agent_id="agent_benchmark")
    return Agent(
        "You are helpful.",
        provider="pipeline",
        stt=STTConfig("deepgram", KEY),
        llm=LLMConfig("m", f"{vendors}/v1", KEY),
        tts=TTSConfig("elevenlabs", KEY, "V" * 20),
        turn_taking=TurnTaking(
            min_silence_ms=100, pause_ms=100
        ),  # the recogniser alone decides when the caller is done
    )


class House:
    """One agent for everybody."""

    def __init__(self, agent: Agent) -> None:
        self._file = AgentFile(Path("desk"), "desk", agent, None, (), "", "")

    def current(self, route: Route) -> AgentFile:
        """The one agent."""
        return self._file


async def main(home: Path, engine: str, vendors: str) -> None:
    """Until killed."""
    clock = Clock()
    bus = Bus(clock)
    journal = Journal(home)
    bus.add_sink(journal)
    bus.add_sink(MetricsReader(bus, Prices.load()))
    keys = Keys(KEY, KEY, KEY, openai_url=f"{vendors}/v1", deepgram_url=vendors, elevenlabs_url=vendors)
    listener = listen()
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    settings = LineSettings(Carrier("twilio", SID, TOKEN), NUMBER, host, take_number=False)
    async with Workshop(bus, clock, keys=keys) as workshop:

        def open_call(call: CallInfo, agent: Agent, transport: Transport, **cast: Unpack[Casting]) -> CallSession:
            return workshop.open_call(call, agent, transport, **cast)

        agent = agent_of(engine, vendors)
        await workshop.vouch(agent)  # as a line does before it opens
        house: Any = House(agent)
        desk = Desk(bus, open_call, capacity=5_000, foresight=workshop)
        routes = TwilioRoutes(desk, house, clock, [Account(SID, TOKEN)], "", bus=bus)
        calm_collector()  # as the engine does
        async with desk, FrontDoor(settings, listener, Joined(routes, nothing, nothing), desk) as door:
            door.answer(NUMBER, Route(Path("desk"), "phone"))
            print(json.dumps({"listening": f"http://{host}"}), flush=True)
            await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), *sys.argv[2:], backend_options=QUICK)  # as the engine does
