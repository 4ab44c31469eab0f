"""A realtime conversation whose greeting is kept, and whose agent changes in the middle."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from patter.audio.format import MULAW_8K, AudioChunk
from patter.conversations.realtime_greeting import GreetingKey
from patter.loopback.openai_realtime import PATH, Line, LoopbackRealtime, Prompt
from patter.loopback.stage_faults import Late
from patter.signals import (
    ConnectionUsed,
    Faulted,
    ReplyEnded,
    UtteranceEnded,
)
from tests.support.realtime_talk import house, realtime_agent, sent, talking

pytestmark = pytest.mark.anyio

GREETING = "Tulip and Fern, good morning, how may I help you?"
TOOL = {"name": "price_of", "description": "A price.", "parameters": {"type": "object", "properties": {}}}


# ------------------------------------------------------------------ greetings that are kept


class Shelf:
    """Keeps greetings in a dict."""

    def __init__(self) -> None:
        self.kept: dict[GreetingKey, Sequence[AudioChunk]] = {}

    def get(self, key: GreetingKey) -> Sequence[AudioChunk] | None:
        return self.kept.get(key)

    def put(self, key: GreetingKey, chunks: Sequence[AudioChunk]) -> None:
        self.kept[key] = chunks


async def test_a_kept_greeting_is_told_at_once_and_the_model_knows_it() -> None:
    shelf = Shelf()
    async with house("Yes.") as vendor:
        agent = realtime_agent(vendor.base_url, voice="cedar")
        async with talking(agent, greetings=shelf) as talk:
            await talk.conversation.speak(GREETING, "greeting")
            await talk.until(ReplyEnded)
            first = b"".join(chunk.data for chunk in talk.sound(1))
        assert list(shelf.kept) == [GreetingKey(GREETING, "cedar", "gpt-realtime-2.1", MULAW_8K)]
        async with talking(agent, greetings=shelf) as talk:
            await talk.conversation.speak(GREETING, "greeting")
            await talk.until(ReplyEnded)
            assert b"".join(chunk.data for chunk in talk.sound(1)) == first
            assert talk.text(1) == GREETING
            assert not sent(vendor, "response.create")
            await talk.conversation.interrupt(1, "Tulip and Fern,", 900.0)
            await talk.conversation.read("hi")
            await talk.until(ReplyEnded, 2)
            assert [item["text"] for item in vendor.seen.prompts[-1].items] == ["Tulip and Fern,", "hi"]


async def test_a_greeting_that_was_said_otherwise_is_not_kept() -> None:
    async def chatty(prompt: Prompt) -> Line:
        return Line(f"Sure! {prompt.dictated}")

    shelf = Shelf()
    async with (
        LoopbackRealtime(answer=chatty) as vendor,
        talking(realtime_agent(vendor.base_url), greetings=shelf) as talk,
    ):
        await talk.conversation.speak(GREETING, "greeting")
        await talk.until(ReplyEnded)
    assert shelf.kept == {}


# ------------------------------------------------------------------ changes in the middle


async def test_new_instructions_hold_from_the_next_reply_on() -> None:
    async with house("One.", "Two.") as vendor:
        agent = realtime_agent(vendor.base_url, tools=[TOOL])
        async with talking(
            agent, tools=[TOOL, {"name": "end_call", "description": "Hang up.", "parameters": {}}]
        ) as talk:
            await talk.conversation.read("hi")
            await talk.until(ReplyEnded)
            other = [{"name": "stock", "description": "What is there.", "parameters": {"type": "object"}}]
            talk.conversation.update(realtime_agent(vendor.base_url, "You sell trees.", tools=other))
            await talk.conversation.read("and now")
            await talk.until(ReplyEnded, 2)
        assert [prompt.instructions for prompt in vendor.seen.prompts] == ["You sell flowers.", "You sell trees."]
        assert [tool["name"] for tool in vendor.seen.prompts[1].tools] == ["stock", "end_call"]
        assert len(vendor.sessions) == 1


async def test_a_new_voice_comes_with_a_new_session_that_knows_everything() -> None:
    async with house("One.", "Two.") as vendor:
        async with talking(realtime_agent(vendor.base_url, voice="ash")) as talk:
            await talk.conversation.read("hi")
            await talk.until(ReplyEnded)
            talk.conversation.update(realtime_agent(vendor.base_url, voice="coral"))
            await talk.until(ConnectionUsed, 2)
            await talk.conversation.read("and now")
            await talk.until(ReplyEnded, 2)
        assert [prompt.voice for prompt in vendor.seen.prompts] == ["ash", "coral"]
        assert [item["text"] for item in vendor.seen.prompts[1].items] == ["hi", "One.", "and now"]
        assert talk.of(Faulted) == []


async def test_what_changes_while_a_session_is_opened_holds_in_that_one() -> None:
    async with house("One.", "Two.") as vendor:
        async with talking(realtime_agent(vendor.base_url, voice="ash")) as talk:
            vendor.stage.faults.put(PATH, Late(0.5))
            vendor.stage.cut_all()
            await talk.until(Faulted)
            await anyio.sleep(0.2)
            talk.conversation.update(realtime_agent(vendor.base_url, "You sell trees.", voice="coral"))
            await talk.until(ConnectionUsed, 3)  # the voice takes one more
            await talk.conversation.read("and now")
            await talk.until(ReplyEnded)
        prompt = vendor.seen.prompts[-1]
        assert (prompt.instructions, prompt.voice) == ("You sell trees.", "coral")


async def test_closing_twice_is_closing_once() -> None:
    async with house() as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        await talk.conversation.aclose()
        await talk.conversation.aclose()
        talk.speaks()
        await talk.conversation.read("hello")
        await anyio.sleep(0.05)
        assert talk.of(UtteranceEnded) == []
