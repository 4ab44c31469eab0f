"""The script responder: the most specific rule answers, tools are called with what was said, and it never pretends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from patter.models import Agent, ScriptRule
from patter.ports import Ask, CallInfo
from patter.providers.script import NO_MODEL, ScriptResponder
from patter.signals import Message, ResponderPiece, TextDelta, ToolRequest

pytestmark = pytest.mark.anyio

SLOTS = {
    "name": "find_slots",
    "description": "",
    "parameters": {
        "type": "object",
        "properties": {"day": {"type": "string"}, "people": {"type": "integer", "description": "How many are you?"}},
        "required": ["day"],
    },
}
RULES = (
    ScriptRule(when=("book", "appointment"), say="I have {result} on {day}.", tool="find_slots"),
    ScriptRule(when=("cancel", "cancel my appointment"), say="It is cancelled."),
    ScriptRule(when=("opening hours", "open"), say="{clinic} is open from eight to six."),
    ScriptRule(when=("real person",), say="One moment.", tool="transfer_call", arguments={"number": "+15551230009"}),
    ScriptRule(when=("wrong number",), say="No problem, goodbye.", hang_up=True),
)


class Talk:
    """A text conversation with the script, kept in chat form as the pipeline does."""

    def __init__(self, *rules: ScriptRule, tools: tuple[dict[str, Any], ...] = (SLOTS,)) -> None:
        self.agent = Agent("You are helpful.", provider="pipeline", script=rules, variables={"clinic": "Riverside"})
        self.tools = tools
        self.messages: list[Message] = []

    async def respond(self) -> list[ResponderPiece]:
        ask = Ask(CallInfo("c"), self.agent, "You are helpful.", self.messages, self.tools)
        pieces = [piece async for piece in ScriptResponder().respond(ask)]
        text = "".join(piece.text for piece in pieces if isinstance(piece, TextDelta))
        calls = [piece for piece in pieces if isinstance(piece, ToolRequest)]
        if text or calls:
            self.messages.append({"role": "assistant", "content": text or None})
        if calls:
            self.messages[-1]["tool_calls"] = [
                {"id": call.tool_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
        return pieces

    async def say(self, text: str) -> list[ResponderPiece]:
        self.messages.append({"role": "user", "content": text})
        return await self.respond()

    async def hear(self, text: str) -> str:
        return "".join(piece.text for piece in await self.say(text) if isinstance(piece, TextDelta))

    async def result(self, output: str) -> list[ResponderPiece]:
        self.messages += [
            {"role": "tool", "tool_call_id": call["id"], "content": output} for call in self.messages[-1]["tool_calls"]
        ]
        return await self.respond()


def called(pieces: list[ResponderPiece]) -> list[tuple[str, dict[str, Any]]]:
    return [(piece.name, json.loads(piece.arguments)) for piece in pieces if isinstance(piece, ToolRequest)]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("What are your OPENING hours?!", "Riverside is open from eight to six."),
        ("are you opened on sunday", "Riverside is open from eight to six."),
        ("Cancel my appointment, please.", "It is cancelled."),
        ("I need to cancel", "It is cancelled."),
    ],
)
async def test_the_longest_matching_phrase_answers(words: str, answer: str) -> None:
    assert await Talk(*RULES).hear(words) == answer


async def test_words_match_whole_and_not_inside_others() -> None:
    talk = Talk(ScriptRule(when=("age",), say="no"), ScriptRule(when=("car park",), say="yes"))
    assert "did not understand" in await talk.hear("the garage")
    assert await talk.hear("is there a car park") == "yes"


async def test_a_tool_is_called_with_what_was_said_and_its_result_is_in_the_line() -> None:
    talk = Talk(*RULES)
    pieces = await talk.say("Book me in next Tuesday for two")
    assert called(pieces) == [("find_slots", {"day": "next Tuesday", "people": 2})]
    assert await talk.result('{"result": ["ten", "noon"], "day": "Tuesday"}') == [
        TextDelta("I have ten and noon on Tuesday.")
    ]


@pytest.mark.parametrize(
    ("output", "line"),
    [("ten o'clock", "It is ten o'clock."), ("[]", "It is none."), ('{"at": "ten"}', "It is ten."), ("3", "It is 3.")],
)
async def test_every_shape_of_result_is_speakable(output: str, line: str) -> None:
    talk = Talk(ScriptRule(when=("slot",), say="It is {result}.", tool="find_slots", arguments={"day": "Monday"}))
    await talk.say("slot")
    assert await talk.result(output) == [TextDelta(line)]


async def test_a_tool_that_failed_is_not_read_out() -> None:
    talk = Talk(*RULES)
    await talk.say("book Tuesday")
    (piece,) = await talk.result('{"error": "KeyError: calendar"}')
    assert isinstance(piece, TextDelta)
    assert "did not work" in piece.text


async def test_what_a_tool_requires_is_asked_for_and_remembered() -> None:
    schema = SLOTS | {"parameters": SLOTS["parameters"] | {"required": ["day", "people"]}}  # type: ignore[operator]
    talk = Talk(*RULES, tools=(schema,))
    assert await talk.hear("I want to book") == "Please tell me: day."
    assert await talk.hear("hmm, not sure") == "Please tell me: day."
    assert await talk.hear("Friday") == "How many are you?"
    assert called(await talk.say("an appointment for three")) == [("find_slots", {"day": "Friday", "people": 3})]
    assert await talk.result("noon") == [TextDelta("I have noon on Friday.")]


async def test_another_wish_ends_the_question() -> None:
    talk = Talk(*RULES)
    await talk.hear("I want to book")
    assert await talk.hear("actually, cancel") == "It is cancelled."


async def test_a_transfer_is_announced_before_it_happens() -> None:
    talk = Talk(*RULES)
    pieces = await talk.say("I would like to speak with a real person.")
    assert pieces[0] == TextDelta("One moment.")
    assert called(pieces) == [("transfer_call", {"number": "+15551230009"})]


async def test_hanging_up_comes_after_the_line_and_is_followed_by_nothing() -> None:
    talk = Talk(*RULES)
    pieces = await talk.say("sorry, wrong number")
    assert [type(piece) for piece in pieces] == [TextDelta, ToolRequest]
    assert called(pieces)[0][0] == "end_call"
    assert await talk.result("{}") == []


async def test_a_tool_and_then_hanging_up() -> None:
    talk = Talk(
        ScriptRule(when=("order",), say="{result} Bye.", tool="find_slots", arguments={"day": "x"}, hang_up=True)
    )
    assert called(await talk.say("order"))[0][0] == "find_slots"
    pieces = await talk.result("Done.")
    assert pieces[0] == TextDelta("Done. Bye.")
    assert called(pieces)[0][0] == "end_call"
    assert await talk.result("{}") == []


async def test_the_rule_without_phrases_takes_everything_else() -> None:
    talk = Talk(*RULES, ScriptRule(say="Let me take a message."))
    assert await talk.hear("what about the weather in Rome these days") == "Let me take a message."


async def test_that_rule_may_call_a_tool_too() -> None:
    talk = Talk(ScriptRule(say="Noted: {result}.", tool="find_slots", arguments={"day": "Monday"}))
    assert called(await talk.say("something about the weather in Rome")) == [("find_slots", {"day": "Monday"})]
    assert await talk.result("ok") == [TextDelta("Noted: ok.")]


async def test_a_transfer_that_failed_is_said() -> None:
    talk = Talk(*RULES)
    await talk.say("a real person please")
    assert "did not work" in str(await talk.result('{"error": "no such number"}'))


async def test_without_such_a_rule_the_script_says_what_it_knows() -> None:
    assert await Talk(*RULES).hear("the weather in Rome these days") == (
        "I'm sorry, I did not understand that. You can ask me about book, cancel, opening hours or real person."
    )


async def test_small_talk_is_built_in() -> None:
    talk = Talk()
    assert "Hello" in await talk.hear("Hi there!")
    assert "welcome" in await talk.hear("thank you very much")
    assert await talk.hear("Could you repeat that?") == "You're welcome. Is there anything else?"
    goodbye = await talk.say("Okay, goodbye.")
    assert goodbye[0] == TextDelta("Goodbye.")
    assert called(goodbye)[0][0] == "end_call"


async def test_without_a_script_it_says_that_it_is_no_model_and_how_to_get_one() -> None:
    talk = Talk()
    first = await talk.hear("Do you have rooms?")
    assert "Do you have rooms?" in first
    assert NO_MODEL in first
    assert await talk.hear("And a garden?") == "You said: And a garden?"


async def test_the_same_words_always_get_the_same_answer_and_tool_ids_differ() -> None:
    one, two = [await Talk(*RULES).say("book Monday") for _ in range(2)]
    assert called(one) == called(two)
    assert one != two


async def test_nothing_said_nothing_answered() -> None:
    assert await Talk(*RULES).respond() == []
