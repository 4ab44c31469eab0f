"""The drill: real calls through a real front door, over a loopback carrier, with a tone in the agent's place.

It owns what is tried and how it is judged; it refuses to know agents and engines. It shows that this installation speaks the
carrier's protocol; it cannot show that the carrier's account is set up (other checks do).
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

import aiohttp
import anyio

from patter.agentfile import AgentFile
from patter.audio.format import MULAW_8K
from patter.builders import KEYLESS, Carrier
from patter.bus import Bus
from patter.clock import Clock
from patter.doctor.findings import Finding, State
from patter.doctor.stand_in import ToneAgent
from patter.events import CarrierRecordingSaved, Event
from patter.exceptions import PatterError
from patter.exchange import join
from patter.loopback.person import Person
from patter.loopback.telnyx_carrier import LoopbackTelnyxCarrier
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from patter.models import Agent
from patter.ports import CallInfo, Transport
from patter.server.desk import Casting, Desk, Route
from patter.server.front_door import FrontDoor, LineSettings
from patter.server.listener import listen
from patter.server.orders import Order

OURS, CALLER, MACHINE = "+15005550006", "+15005550001", "+15005550009"
PATIENCE_S = 15.0
BUG = "This installation is at fault, not your account: please report it with the output of --json."

LoopbackCarrier = LoopbackTwilioCarrier | LoopbackTelnyxCarrier


async def examine(carrier: str) -> list[Finding]:
    """The findings for "twilio" or "telnyx"; never raises."""
    drill = _Drill(carrier)
    try:
        with anyio.fail_after(3 * PATIENCE_S):
            await drill.run()
    except (PatterError, TimeoutError, OSError) as problem:
        drill.report("calls", "problem", f"The drill broke off: {str(problem) or type(problem).__name__}", BUG)
    return drill.findings


@dataclass
class _Drill:
    carrier: str
    findings: list[Finding] = field(default_factory=list)
    agents: list[ToneAgent] = field(default_factory=list)
    came_up: anyio.Event = field(default_factory=anyio.Event)
    recorded: anyio.Event = field(default_factory=anyio.Event)

    def report(self, check: str, state: State, found: str, fix: str = "") -> None:
        self.findings.append(Finding(f"{self.carrier} {check}", state, found, fix))

    def judge(self, check: str, good: bool, found: str, otherwise: str) -> None:
        if good:
            self.report(check, "ok", found)
        else:
            self.report(check, "problem", otherwise, BUG)

    # ------------------------------------------------------------------ the house

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            clock = Clock()
            bus = Bus(clock)
            stack.callback(bus.add_sink(self._note))
            loopback: LoopbackCarrier
            if self.carrier == "twilio":
                loopback = await stack.enter_async_context(LoopbackTwilioCarrier(clock=clock))
            else:
                loopback = await stack.enter_async_context(LoopbackTelnyxCarrier(clock=clock))
            loopback.add_number(OURS)
            loopback.people[MACHINE] = Person(answers="machine", greeting=b"\\0\\0" * 4000)
            http = await stack.enter_async_context(aiohttp.ClientSession())
            desk = await stack.enter_async_context(Desk(bus, self._open_call))
            listener = listen()
            stack.callback(listener.close)
            host = f"127.0.0.1:{listener.getsockname()[1]}"
            settings = LineSettings(_account_of(loopback), OURS, host, recording=True)
            door = FrontDoor(settings, listener, join(settings, desk, self, clock, bus, http), desk)
            await stack.enter_async_context(door)
            self.report("loopback", "ok", "The line is open; calls follow over a loopback carrier on this machine.")
            door.answer(OURS, Route(Path("drill"), "phone"))
            await self._stranger(http, f"http://{host}")
            await self._inbound(loopback)
            await self._outbound(loopback, door)
            await door.close(0.0)
            complaints = "; ".join(sorted(set(loopback.violations))[:3])
            self.judge(
                "manners", not complaints, "The carrier found nothing to complain of.", f"It complains: {complaints}"
            )

    def current(self, _: Route) -> AgentFile:
        """The drill's one agent."""
        return AgentFile(Path("drill"), "drill", Agent("A tone.", provider=KEYLESS), None, (), "", "")

    def _open_call(self, call: CallInfo, agent: Agent, transport: Transport, **_: Unpack[Casting]) -> ToneAgent:
        made = ToneAgent(call, transport)
        self.agents.append(made)
        self.came_up.set()
        return made

    def _note(self, event: Event) -> None:
        if isinstance(event, CarrierRecordingSaved):
            self.recorded.set()

    # ------------------------------------------------------------------ the calls

    async def _stranger(self, http: aiohttp.ClientSession, url: str) -> None:
        """A webhook that nobody signed."""
        path = "/webhooks/twilio/voice" if self.carrier == "twilio" else "/webhooks/telnyx/voice"
        form = {"CallSid": "CA" + "0" * 32, "To": OURS} if self.carrier == "twilio" else None
        async with http.post(url + path, data=form, json=None if form else {"data": {}}) as answer:
            status = answer.status
        self.judge("strangers", status == 403, "An unsigned webhook is refused.", f"An unsigned webhook got {status}.")

    async def _inbound(self, loopback: LoopbackCarrier) -> None:
        leg = loopback.place_call(CALLER, OURS, Person())
        if not await _within_patience(self.came_up):
            self.report("signature", "problem", "A signed call did not come through.", BUG)
            return
        agent = self.agents[-1]
        self.report("signature", "ok", "A signed webhook and its media socket were let in.")
        marked = await _within_patience(agent.heard)
        sounds = bytes(leg.heard).strip(MULAW_8K.silence)
        self.judge(
            "codec",
            bool(sounds) and agent.frames > 0,
            f"Sound passes both ways ({agent.spelled}).",
            f"Sound does not pass: {len(sounds)} bytes out, {agent.frames} frames in.",
        )
        self.judge("marks", marked, "The carrier tells what was heard.", "No mark came back.")
        leg.press("5")
        pressed = await _within_patience(agent.pressed) and agent.digits == "5"
        self.judge("keys", pressed, "A key that the caller pressed came through.", "No key came through.")
        leg.hang_up()
        recorded = await _within_patience(self.recorded)
        said = "The carrier recorded the call and said where."
        self.judge("recording", recorded, said, "No recording was announced.")

    async def _outbound(self, loopback: LoopbackCarrier, door: FrontDoor) -> None:
        self.came_up = anyio.Event()
        order = Order(MACHINE, OURS, self.current(Route(Path("drill"), "phone")), detect_machine=True)
        await door.dial(order)
        found = await _within_patience(self.came_up) and await _within_patience(self.agents[-1].machine)
        self.judge("machines", found, "An answering machine was told apart.", "The machine was not told apart.")


async def _within_patience(event: anyio.Event) -> bool:
    """Whether it happened in time."""
    with anyio.move_on_after(PATIENCE_S):
        await event.wait()
    return event.is_set()


def _account_of(loopback: LoopbackCarrier) -> Carrier:
    """The credentials that this loopback carrier gave us."""
    if isinstance(loopback, LoopbackTwilioCarrier):
        return Carrier("twilio", loopback.account_sid, loopback.auth_token, api_base=loopback.api_base)
    return Carrier("telnyx", loopback.connection_id, loopback.api_key, loopback.public_key, loopback.api_base)
