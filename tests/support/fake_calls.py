"""Calls that are put together without any engine: they publish real events, echo what they read and count what they hear.

A test fake of `OpenCall`; whoever is in the call is played by the test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Unpack

import anyio

from patter.audio.format import AudioChunk
from patter.bus import Bus
from patter.events import AgentChanged, AgentSaid, CallEnded, CallerSaid, CallStarted, EndReason, TurnMeasured
from patter.exceptions import PatterError
from patter.models import Agent, OnMessage
from patter.ports import CallInfo, Transport
from patter.server.desk import Casting
from patter.signals import DigitPressed, HungUp, MachineDetected

GREETING = "Hello from the fake."


class FakeSession:
    """One scripted call."""

    def __init__(self, bus: Bus, call: CallInfo, agent: Agent, transport: Transport, name: str, version: str) -> None:
        self.call = call
        self.agent = agent
        self.transport = transport
        self.name, self.version = name, version
        self.said: list[str] = []
        self.digits: list[str] = []
        self.heard: list[bytes] = []
        self.verdicts: list[MachineDetected] = []
        self.interrupted = 0
        self.guidance: list[str] = []
        self.muted = False
        self.stubborn = False
        """A stubborn call ignores every wish to end it."""
        self.breaks = False
        """A breaking call raises instead of ending."""
        self._bus = bus
        self._turn = 0
        self._over = anyio.Event()
        self._end: tuple[EndReason, str] = ("engine_stopped", "")

    async def run(self) -> CallEnded:
        plays = self.transport.abilities.plays
        self._bus.publish(
            CallStarted(
                call_id=self.call.call_id,
                caller=self.call.caller,
                callee=self.call.callee,
                direction=self.call.direction if self.call.direction in ("inbound", "outbound") else "test",  # type: ignore[arg-type]
                agent=self.name,
                agent_version=self.version,
                line=f"{plays.encoding}/{plays.rate}" if plays else "text",
                custom_params=self.call.custom_params,
            )
        )
        self.transport.listen(self._hear)
        self._bus.publish(AgentSaid(call_id=self.call.call_id, turn=0, reply_id=1, text=GREETING, kind="greeting"))
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._follow)
                await self._over.wait()
                tasks.cancel_scope.cancel()
            if self.breaks:
                raise RuntimeError("this session was told to break")
        finally:
            with anyio.CancelScope(shield=True):
                await self.transport.aclose()
        ended = CallEnded(call_id=self.call.call_id, reason=self._end[0], detail=self._end[1], duration_s=1.5)
        self._bus.publish(ended)
        return ended

    def _hear(self, chunk: AudioChunk) -> None:
        self.heard.append(chunk.data)

    async def _follow(self) -> None:
        async for signal in self.transport.signals():
            match signal:
                case DigitPressed(digit):
                    self.digits.append(digit)
                case MachineDetected():
                    self.verdicts.append(signal)
                case HungUp(reason, detail):
                    self._finish(reason if reason in ("line_lost", "transferred") else "caller_hung_up", detail)  # type: ignore[arg-type]

    def _finish(self, reason: EndReason, detail: str) -> None:
        if not self.stubborn and not self._over.is_set():  # the first reason stays
            self._end = (reason, detail)
            self._over.set()

    async def say(self, text: str) -> None:
        self.said.append(text)
        plays = self.transport.abilities.plays
        if plays is not None:
            self.transport.play(AudioChunk(plays.quiet(20), plays), 1, 0.0)

    async def read(self, text: str) -> None:
        self._turn += 1
        call_id, turn = self.call.call_id, self._turn
        self._bus.publish(CallerSaid(call_id=call_id, turn=turn, text=text, source="typed"))
        self._bus.publish(AgentSaid(call_id=call_id, turn=turn, reply_id=turn + 1, text=f"You said {text}"))
        self._bus.publish(
            TurnMeasured(
                call_id=call_id, turn=turn, reply_id=turn + 1, kind="answer", closed=True, user_text=text,
                agent_text="", segments={}, total_ms=1.0, cost_so_far=0.01 * turn,
            )
        )  # fmt: skip

    async def interrupt(self) -> None:
        self.interrupted += 1

    async def guide(self, text: str, by: str = "operator") -> None:
        self.guidance.append(text)

    async def mute(self, muted: bool, by: str = "operator") -> None:
        self.muted = muted

    async def hang_up(self, reason: EndReason = "operator_ended", detail: str = "") -> None:
        self._finish(reason, detail)

    async def say_goodbye(self, text: str, reason: EndReason, detail: str = "") -> None:
        await self.say(text)
        self._finish(reason, detail)

    async def transfer(self, number: str, by: str = "operator", summary: str = "", *, failed: object = None) -> None:
        await self.transport.transfer(number, summary)
        self._finish("transferred", f"to {number}")

    async def send_digits(self, digits: str) -> None:
        await self.transport.send_digits(digits)
        self.digits.append(digits)

    def update(self, agent: Agent, version: str = "") -> None:
        self.agent, self.version = agent, version
        self._bus.publish(AgentChanged(call_id=self.call.call_id, agent=self.name, agent_version=version))


@dataclass
class FakeCalls:
    """Opens fake sessions and keeps them. `refusal` makes the next one fail as an agent that cannot be run."""

    bus: Bus
    refusal: str = ""
    sessions: dict[str, FakeSession] = field(default_factory=dict)
    on_messages: list[OnMessage | None] = field(default_factory=list)
    voicemails: list[str] = field(default_factory=list)

    def open_call(self, call: CallInfo, agent: Agent, transport: Transport, **cast: Unpack[Casting]) -> FakeSession:
        if self.refusal:
            raise PatterError(self.refusal)
        self.on_messages.append(cast.get("on_message"))
        self.voicemails.append(cast.get("voicemail", ""))
        name, version = cast.get("agent_name", ""), cast.get("agent_version", "")
        session = FakeSession(self.bus, call, agent, transport, name, version)
        self.sessions[call.call_id] = session
        return session

    def rungs(self) -> dict[str, Any]:
        return {"llm": {"name": "fake", "state": "ready", "note": "There is no model here."}}
