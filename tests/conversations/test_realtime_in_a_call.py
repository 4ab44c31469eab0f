"""Whole calls with a realtime engine: a real session joins a line to a played vendor, in real time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
import pytest

from patter import events
from patter.bus import Bus
from patter.call.outfit import Outfit, Wiring
from patter.call.session import CallSession
from patter.call.toolbox import Toolbox
from patter.clock import Clock
from patter.conversations.realtime import RealtimeConversation
from patter.events import Event
from patter.guard import Guards
from patter.loopback.openai_realtime import Line, LoopbackRealtime, Manners, Prompt
from patter.models import Agent
from patter.ports import CallInfo
from patter.providers.dialer import Dialer
from patter.providers.vendor_http import new_http
from tests.support.parts import FakeLine
from tests.support.realtime_talk import KEY, realtime_agent

pytestmark = pytest.mark.anyio

Kind = TypeVar("Kind", bound=Event)
GREETING = "Tulip and Fern, good morning to you, how may we help you today?"
WAIT_S = 15.0
QUICK = {"silence_ms": 250}


class Scene:
    """A call that runs, and everything that happens in it."""

    def __init__(self, line: FakeLine, session: CallSession, vendor: LoopbackRealtime) -> None:
        self.line, self.session, self.vendor = line, session, vendor
        self.events: list[Event] = []
        self._more = anyio.Event()

    def saw(self, event: Event) -> None:
        self.events.append(event)
        self._more.set()
        self._more = anyio.Event()

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, kind: type[Kind], fits: Callable[[Kind], bool] = lambda _: True) -> Kind:
        with anyio.fail_after(WAIT_S):
            while not (found := [event for event in self.of(kind) if fits(event)]):
                await self._more.wait()
        return found[0]

    @property
    def cuts(self) -> list[str]:
        return [line for session in self.vendor.sessions for line in session.conversation.log]


@asynccontextmanager
async def calling(vendor: LoopbackRealtime, agent: Agent) -> AsyncIterator[Scene]:
    """Run a call; the caller hangs up at the end."""
    clock = Clock()
    bus, line = Bus(clock), FakeLine(clock)
    async with new_http() as http:
        dialer = Dialer(http)
        conversation = RealtimeConversation(dialer, clock, key=KEY)

        def rework(_: object, agent: Agent) -> Any:
            return Toolbox(agent.tools), Guards(agent.guardrails).screen

        wiring = Wiring(lambda _, agent: Outfit(conversation, *rework(_, agent), tts="openai/voice"), rework)
        session = CallSession(CallInfo("CA1"), agent, line, bus, clock, wiring)
        scene = Scene(line, session, vendor)
        bus.add_sink(scene.saw)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run)
            yield scene
            await session.hang_up("caller_hung_up")
        await dialer.aclose()


def vendor_that_hears(words: str, *lines: Line, manners: Manners | None = None) -> LoopbackRealtime:
    left = list(lines)

    async def transcribe(pcm: bytes) -> str:
        return words

    async def answer(prompt: Prompt) -> Line:
        return Line(prompt.dictated) if prompt.dictated else left.pop(0) if left else Line("On Fridays.")

    return LoopbackRealtime(answer=answer, transcribe=transcribe, manners=manners or Manners(), record=True)


async def test_a_caller_who_interrupts_is_answered_and_the_model_knows_what_was_heard() -> None:
    async with vendor_that_hears("do you deliver") as vendor:
        agent = realtime_agent(vendor.base_url, listening=QUICK, first_message=GREETING)
        async with calling(vendor, agent) as scene:
            await scene.until(events.ReplyHeard, lambda heard: heard.heard_ms >= 400)
            await scene.line.speaks(0.5)
            await scene.line.silent(0.4)
            answer = await scene.until(events.AgentSaid, lambda said: said.kind == "answer")
        cut = scene.of(events.Interrupted)[0]
        assert cut.dropped
        assert GREETING.startswith(cut.heard)
        assert float(scene.cuts[0].split()[2]) == pytest.approx(cut.heard_ms, abs=2)
        assert answer.text == "On Fridays."
        assert [(entry["role"], entry["text"]) for entry in scene.session.history] == [
            ("assistant", cut.heard), ("user", "do you deliver"), ("assistant", "On Fridays."),
        ]  # fmt: skip
        assert vendor.seen.refusals == []
        assert isinstance(scene.events[-1], events.CallEnded)


async def test_a_false_alarm_lets_the_reply_go_on_where_it_stopped() -> None:
    async with anyio.create_task_group() as both:  # each takes its time, so they take it together
        for words in ("", "uh-huh"):
            both.start_soon(_false_alarm, words)


async def _false_alarm(words: str) -> None:
    async with vendor_that_hears(words) as vendor:
        agent = realtime_agent(vendor.base_url, listening=QUICK, first_message="Tulip and Fern, hello.")
        async with calling(vendor, agent) as scene:
            await scene.until(events.ReplyHeard, lambda heard: heard.heard_ms >= 400)
            await scene.line.speaks(0.2)
            await scene.line.silent(0.4)
            said = await scene.until(events.AgentSaid)
        assert scene.of(events.ReplyPaused)
        assert scene.of(events.ReplyResumed)
        assert (said.text, said.interrupted) == ("Tulip and Fern, hello.", False)
        assert scene.cuts == []
        assert len(vendor.seen.prompts) == 1


async def test_a_turn_with_a_tool_is_measured_and_a_lost_session_only_a_fault_in_the_journal() -> None:
    def price_of(arguments: dict[str, Any], context: dict[str, Any]) -> str:
        return "18 euros"

    tool = {"name": "price_of", "description": "A price.", "parameters": {"type": "object"}, "handler": price_of}
    async with vendor_that_hears("how much", Line("", [("price_of", "{}")]), Line("Eighteen.")) as vendor:
        async with calling(vendor, realtime_agent(vendor.base_url, listening=QUICK, tools=[tool])) as scene:
            await scene.line.speaks(0.3)
            await scene.line.silent(0.4)
            said = await scene.until(events.AgentSaid)
            vendor.stage.cut_all()
            await scene.line.speaks(0.3)
            await scene.line.silent(0.4)
            await scene.until(events.AgentSaid, lambda said: said.text == "On Fridays.")
        assert said.text == "Eighteen."
        assert [event.output for event in scene.of(events.ToolReturned)] == ["18 euros"]
        caller = scene.of(events.CallerSaid)[0]
        words = scene.of(events.CallerTranscribed)[0].text if not caller.text else caller.text
        assert words == "how much"
        used = {(event.stage, event.provider) for event in scene.of(events.UsageMeasured)}
        assert used >= {("llm", "openai"), ("stt", "openai")}
        assert [fault.provider for fault in scene.of(events.FaultOccurred)] == ["openai"]
        assert [item["text"] for item in vendor.seen.prompts[-1].items] == [
            "how much", "{}", "18 euros", "Eighteen.", "how much",
        ]  # fmt: skip
