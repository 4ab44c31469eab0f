"""Tools of a stored agent, how it ends a call, and whole calls with it: a session over a line that plays in real time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import pytest

from patter import events
from patter.audio.format import AudioFormat
from patter.bus import Bus
from patter.call.outfit import Outfit, Steered, Wiring
from patter.call.session import CallSession
from patter.call.toolbox import Toolbox
from patter.clock import Clock
from patter.conversations.stored_agent import StoredAgent as Conversation
from patter.guard import Guards
from patter.loopback.elevenlabs_convai import LoopbackConvai, StoredAgent, Turn
from patter.loopback.elevenlabs_convai_agents import History
from patter.loopback.elevenlabs_convai_events import DEFAULT_EVENTS
from patter.models import Agent
from patter.ports import CallInfo, Screen
from patter.signals import Faulted, ReplyEnded, ReplyStarted, ReplyText, ToolAsked
from tests.conversations.stored_agent_call import AGENT_ID, PATIENCE_S, Talk, door_to, stored, talking
from tests.support.parts import FakeLine

pytestmark = pytest.mark.anyio
Kind = TypeVar("Kind", bound=events.Event)


async def hears_hello(sound: bytes, line: AudioFormat) -> str:
    return "hello there you"


async def quickly(text: str, line: AudioFormat) -> bytes:
    """10 ms of sound a letter."""
    return line.quiet(10.0 * len(text))


def agent(**settings: object) -> StoredAgent:
    given = {"transcribe": hears_hello, "speak": quickly, "aligned": True, "pause_s": 0.2} | settings
    return StoredAgent(AGENT_ID, **given)  # type: ignore[arg-type]


def text_of(talk: Talk, reply_id: int) -> str:
    return " ".join(said.text for said in talk.of(ReplyText) if said.reply_id == reply_id)


# ---------------------------------------------------------------------------------------------------- tools and the end


async def test_a_tool_is_asked_for_and_its_result_goes_back_as_text() -> None:
    async def books(history: History) -> Turn:
        if history[-1][0] == "tool":
            return Turn(f"Booked, {history[-1][1]}.")
        return Turn("Let me see.", tools=[("book", {"room": 412})])

    async with LoopbackConvai(agent(first_message="", think=books)) as vendor, talking(vendor.stage.http) as talk:
        await talk.conversation.read("Book it.")
        asked = await talk.until(ToolAsked)
        assert (asked.name, asked.arguments) == ("book", '{"room": 412}')
        await talk.conversation.answer(asked.tool_id, '{"error": "no room"}')
        await talk.until(ReplyStarted, 2)
        await talk.until(ReplyEnded, 2)
        assert text_of(talk, 1) == "Let me see."
        assert text_of(talk, 2) == 'Booked, {"error": "no room"}.'
        result = next(m for m in vendor.stage.peers[0].received if isinstance(m, dict) and "tool_call_id" in m)
        assert result["is_error"] is True


@pytest.mark.parametrize("told", [True, False])
async def test_when_the_agent_ends_the_call_the_session_is_asked_to_once(told: bool) -> None:
    async def leaves(history: History) -> Turn:
        return Turn("Goodbye.", end_call=True)

    events = DEFAULT_EVENTS | ({"agent_tool_response"} if told else set())
    leaving = agent(first_message="", think=leaves, client_events=events)
    async with LoopbackConvai(leaving) as vendor, talking(vendor.stage.http) as talk:
        await talk.conversation.read("Bye.")
        await talk.until(ReplyEnded)
        asked = await talk.until(ToolAsked)
        assert asked.name == "end_call"
        await talk.conversation.answer(asked.tool_id, "{}")
        await talk.until(ReplyEnded, 2)  # so that a session whose goodbye was heard already looks again
        assert len(talk.of(ToolAsked)) == 1
        assert talk.of(Faulted) == []
        assert talk.sound(1)


async def test_the_longest_duration_ends_the_call_with_its_reason() -> None:
    async with LoopbackConvai(agent(first_message="Hi.")) as vendor, talking(vendor.stage.http) as talk:
        await talk.until(ReplyEnded)
        await vendor.talks[0].fail(1000, "max_duration_exceeded", "The maximum duration was reached")
        asked = await talk.until(ToolAsked)
        assert "maximum duration" in asked.arguments


# ---------------------------------------------------------------------------------------------------- whole calls


@dataclass
class Call:
    """A session that runs, its line, and its events."""

    session: CallSession
    line: FakeLine
    events: list[events.Event]

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, kind: type[Kind], count: int = 1) -> Kind:
        with anyio.fail_after(PATIENCE_S):
            while len(self.of(kind)) < count:
                await anyio.sleep(0.01)
        return self.of(kind)[count - 1]


@asynccontextmanager
async def calling(base_url: str, definition: Agent) -> AsyncIterator[Call]:
    """A call with the stored agent at `base_url`."""
    clock, seen = Clock(), list[events.Event]()
    bus, line = Bus(clock), FakeLine(clock)
    bus.add_sink(seen.append)

    async with door_to(base_url) as door:

        def outfit(party: Steered, chosen: Agent) -> Outfit:
            toolbox, screen = rework(party, chosen)
            return Outfit(Conversation(door, clock), toolbox, screen, llm="elevenlabs/convai", tts="elevenlabs/convai")

        def rework(_: Steered, chosen: Agent) -> tuple[Toolbox, Screen]:
            return Toolbox(chosen.tools or []), Guards(chosen.guardrails or []).screen

        info = CallInfo("CA1", "+15550001111", "+15550002222", "inbound", "loopback")
        session = CallSession(info, definition, line, bus, clock, Wiring(outfit, rework))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run)
            yield Call(session, line, seen)
            await session.hang_up()


async def test_a_call_from_its_greeting_over_a_tool_to_the_agents_goodbye() -> None:
    async def books(history: History) -> Turn:
        if history[-1][0] == "tool":
            return Turn("Booked. Goodbye.", end_call=True)
        return Turn(tools=[("book", {"day": "Sunday"})])

    asked: list[dict[str, Any]] = []

    async def book(arguments: dict[str, Any], context: dict[str, Any]) -> str:
        asked.append(arguments)
        return "done"

    definition = stored(first_message="Hello.", tools=[{"name": "book", "handler": book}])
    async with LoopbackConvai(agent(think=books)) as vendor, calling(vendor.stage.http, definition) as call:
        await call.until(events.AgentSaid)
        await call.line.speaks(0.3)
        await call.line.silent(0.4)
        ended = await call.until(events.CallEnded)
    assert ended.reason == "agent_ended"
    assert asked == [{"day": "Sunday"}]
    assert [(said.text, said.interrupted, said.kind) for said in call.of(events.AgentSaid)] == [
        ("Hello.", False, "greeting"), ("Booked. Goodbye.", False, "answer"),
    ]  # fmt: skip
    said = call.of(events.CallerSaid)[0]
    assert (said.text, said.source, said.turn) == ("hello there you", "voice", 1)
    assert 0 < said.transcript_at - said.speech_ended_at < PATIENCE_S
    assert call.of(events.FaultOccurred) == []


async def test_a_caller_who_interrupts_hears_no_more_and_what_was_heard_is_kept() -> None:
    story = "This is a long story, and it goes on and on until somebody says something about it at last. " * 3
    async with LoopbackConvai(agent()) as vendor, calling(vendor.stage.http, stored(first_message=story)) as call:
        await call.until(events.ReplyHeard)
        await call.line.speaks(0.3)
        cut = await call.until(events.Interrupted)
        await call.line.silent(0.4)
        await call.until(events.AgentSaid, 2)
        first, second = call.of(events.AgentSaid)[:2]
    assert story.startswith(first.text)
    assert (first.interrupted, second.text) == (True, "You said: hello there you.")
    assert len(cut.heard) < len(story) / 2
    assert call.session.history[0]["text"] == first.text


async def test_an_operators_words_are_said_and_a_goodbye_ends_the_call() -> None:
    async def obeys(history: History) -> Turn:
        return Turn(history[-1][1].partition(": ")[2])

    definition = stored(first_message="Hello.")
    async with LoopbackConvai(agent(think=obeys)) as vendor, calling(vendor.stage.http, definition) as call:
        await call.until(events.AgentSaid)
        await call.session.say("A person will join us.")
        assert (await call.until(events.AgentSaid, 2)).text == "A person will join us."
        await call.session.say_goodbye("We close now. Goodbye.", "operator_ended")
        ended = await call.until(events.CallEnded)
    assert ended.reason == "operator_ended"
    assert call.of(events.AgentSaid)[-1].text == "We close now. Goodbye."
