"""Tools and guardrails of a realtime conversation."""

from __future__ import annotations

import json

import pytest

from patter.loopback.openai_realtime import Line, Manners
from patter.signals import (
    Guarded,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
    ToolAsked,
)
from tests.support.realtime_talk import house, judge, realtime_agent, sent, talking

pytestmark = pytest.mark.anyio

SLOW = Manners(pause_s=0.015, piece_ms=100)
TOOL = {"name": "price_of", "description": "A price.", "parameters": {"type": "object", "properties": {}}}


# ------------------------------------------------------------------ tools


async def test_several_tools_are_asked_at_once_and_the_model_goes_on_when_all_have_answered() -> None:
    calls = [("price_of", '{"stems":12}'), ("free_slots", "{}")]
    async with (
        house(Line("One moment.", calls), "Eighteen euros on Friday.") as vendor,
        talking(realtime_agent(vendor.base_url), tools=[TOOL]) as talk,
    ):
        await talk.conversation.read("how much")
        await talk.until(ToolAsked, 2)
        first, second = talk.of(ToolAsked)
        assert [(asked.name, asked.arguments, asked.reply_id) for asked in (first, second)] == [
            (*call, 1) for call in calls
        ]
        await talk.conversation.answer(second.tool_id, '["Friday"]')
        await talk.true(lambda: len(vendor.sessions[0].conversation.items) == 5)
        assert len(sent(vendor, "response.create")) == 1
        await talk.conversation.answer(first.tool_id, '{"euros":18}')
        await talk.until(ReplyEnded)
        assert talk.text(1) == "One moment. Eighteen euros on Friday."
        judge(vendor)
        assert len(sent(vendor, "response.create")) == 2
        assert [item["text"] for item in vendor.seen.prompts[1].items if item["role"] == "output"] == [
            '["Friday"]',
            '{"euros":18}',
        ]


async def test_an_interrupted_turn_loses_no_result_and_runs_nothing_twice() -> None:
    async with (
        house(Line("", [("price_of", "{}")]), "Goodbye.") as vendor,
        talking(realtime_agent(vendor.base_url), tools=[TOOL]) as talk,
    ):
        await talk.conversation.read("how much")
        asked = await talk.until(ToolAsked)
        await talk.conversation.interrupt(1, "", 0.0)
        await talk.conversation.answer(asked.tool_id, '{"euros":18}')
        await talk.true(lambda: len(vendor.sessions[0].conversation.items) == 3)
        assert len(sent(vendor, "response.create")) == 1
        await talk.conversation.read("never mind")
        await talk.until(ReplyEnded)
        assert [item["role"] for item in vendor.seen.prompts[1].items] == ["user", "call", "output", "user"]
        assert len(talk.of(ToolAsked)) == 1


async def test_what_was_heard_whole_before_a_tool_stays_whole() -> None:
    """A session keeps no words of an item that is truncated, wherever it is cut."""
    async with (
        house(
            Line("One moment, please.", [("price_of", "{}")]), "Eighteen euros a bunch. " * 9, manners=SLOW
        ) as vendor,
        talking(realtime_agent(vendor.base_url), tools=[TOOL]) as talk,
    ):
        await talk.conversation.read("how much")
        asked = await talk.until(ToolAsked)
        await talk.until(ReplyText, check=lambda said: "please" in said.text)
        before_ms = talk.ms(1)
        await talk.conversation.answer(asked.tool_id, "18")
        await talk.until(ReplyText, check=lambda said: "bunch" in said.text)
        await talk.conversation.interrupt(1, "One moment, please. Eighteen euros", before_ms + 300)
        await talk.true(lambda: vendor.sessions[0].conversation.log)
        await talk.conversation.read("stop")
        await talk.until(ReplyEnded)
        assert [line.split()[2] for line in vendor.sessions[0].conversation.log] == ["300"]


async def test_a_slow_tool_is_bridged_by_a_filler() -> None:
    async with (
        house(Line("", [("price_of", "{}")]), "Eighteen euros.") as vendor,
        talking(realtime_agent(vendor.base_url), tools=[TOOL]) as talk,
    ):
        await talk.conversation.read("how much")
        asked = await talk.until(ToolAsked)
        await talk.conversation.speak("Let me see.", "filler")
        await talk.until(ReplyEnded, check=lambda signal: signal.reply_id == 2)
        await talk.conversation.answer(asked.tool_id, '{"euros":18}')
        await talk.until(ReplyEnded, check=lambda signal: signal.reply_id == 1)
        assert (talk.text(1), talk.text(2)) == ("Eighteen euros.", "Let me see.")
        assert vendor.seen.refusals == []


async def test_after_a_goodbye_that_ends_the_call_no_more_words_are_asked_for() -> None:
    async with (
        house(Line("Goodbye.", [("end_call", "{}")])) as vendor,
        talking(realtime_agent(vendor.base_url)) as talk,
    ):
        await talk.conversation.read("bye")
        asked = await talk.until(ToolAsked)
        await talk.conversation.answer(asked.tool_id, "{}")
        await talk.until(ReplyEnded)
        assert len(sent(vendor, "response.create")) == 1


# ------------------------------------------------------------------ guardrails


def no_prices(so_far: str, text: str) -> tuple[str, str | None]:
    return ("I can't tell prices.", "prices") if "euros" in f"{so_far} {text}" else (text, None)


async def test_a_guardrail_withdraws_the_reply_and_says_its_replacement() -> None:
    async with (
        house("The red ones, which are fresh today, are eighteen euros a bunch. " * 3, manners=SLOW) as vendor,
        talking(realtime_agent(vendor.base_url), screen=no_prices) as talk,
    ):
        await talk.conversation.read("how much")
        withdrawn = await talk.until(ReplyWithdrawn)
        assert (withdrawn.reply_id, withdrawn.by) == (1, "guardrail")
        assert talk.of(Guarded) == [Guarded("prices", 1)]
        await talk.conversation.interrupt(1, "The red ones,", 700.0)
        ended = await talk.until(ReplyEnded)
        assert (ended.reply_id, talk.text(2), talk.of(ReplyStarted)[1].kind) == (2, "I can't tell prices.", "answer")
        assert "euros" not in talk.text(1)
        later = talk.said[talk.said.index(withdrawn) :]
        assert not [s for s in later if isinstance(s, ReplyAudio | ReplyText) and s.reply_id == 1]
        assert any(line.startswith("truncate") for line in vendor.sessions[0].conversation.log)


async def test_words_of_ours_that_a_guardrail_blocks_are_never_given_to_the_model() -> None:
    async with house() as vendor, talking(realtime_agent(vendor.base_url), screen=no_prices) as talk:
        await talk.conversation.speak("It costs nine euros.", "greeting")
        await talk.until(ReplyEnded)
        assert talk.text(1) == "I can't tell prices."
        assert talk.of(Guarded) == [Guarded("prices", 1)]
        assert talk.of(ReplyWithdrawn) == []
        assert "euros" not in json.dumps(sent(vendor, "response.create"))
