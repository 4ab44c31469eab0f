"""The chat server that answers: judged by OpenAI's own client and types."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from patter.loopback.openai_chat_living import COMPLETIONS, Call, LivingChat, Messages, Tools, fault_of
from patter.loopback.stage_faults import CutAfter, Refuse
from patter.loopback.stage_script import ScriptBroken

pytestmark = pytest.mark.anyio

ORDER: dict[str, Any] = {"name": "order", "description": "Orders.", "parameters": {"type": "object", "properties": {}}}
TOOLS: Any = [{"type": "function", "function": ORDER}]
WORDS = "I would like an order of two pizzas, please."


async def waiter(messages: Messages, tools: Tools) -> AsyncIterator[str | Call]:
    """Uses every tool it is offered, twice, and tells results."""
    results = [message["content"] for message in messages if message["role"] == "tool"]
    if results or not tools:
        for word in ("It ", "takes ", f"{' and '.join(results) or 'long'}."):
            yield word
        return
    yield "One moment."
    for number in (1, 2):
        yield Call(str(tools[0]["name"]), json.dumps({"number": number, "what": "a pizza, baked for long"}))


def client_of(chat: LivingChat, key: str = "any") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=chat.base_url, api_key=key, max_retries=0)


async def test_a_whole_answer_parses_as_the_vendors() -> None:
    async with LivingChat(waiter) as chat, client_of(chat) as client:
        said: ChatCompletion = await client.chat.completions.create(
            model="gpt-6-luna", messages=[{"role": "user", "content": WORDS}]
        )
    assert said.choices[0].message.content == "It takes long."
    assert said.choices[0].finish_reason == "stop"
    assert said.usage is not None
    assert said.usage.total_tokens == said.usage.prompt_tokens + said.usage.completion_tokens
    ChatCompletion.model_validate(said.model_dump(exclude_unset=True))  # the client itself takes almost anything
    assert chat.asked == 1


async def test_a_streamed_answer_comes_word_by_word_and_is_counted_at_its_end() -> None:
    async with LivingChat(waiter) as chat, client_of(chat) as client:
        stream = await client.chat.completions.create(
            model="gpt-6-luna",
            messages=[{"role": "user", "content": WORDS}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks: list[ChatCompletionChunk] = [chunk async for chunk in stream]
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.model_dump(exclude_unset=True))
    words = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert words == ["It ", "takes ", "long."]
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert not chunks[-1].choices


async def test_tool_calls_come_in_pieces_and_their_results_are_taken() -> None:
    async with LivingChat(waiter) as chat, client_of(chat) as client:
        messages: list[Any] = [{"role": "user", "content": WORDS}]
        stream = client.chat.completions.stream(model="gpt-6-luna", messages=messages, tools=TOOLS)
        async with stream as events:
            asked = (await events.get_final_completion()).choices[0]
        assert asked.finish_reason == "tool_calls"
        assert asked.message.content == "One moment."
        calls = asked.message.tool_calls or []
        assert [json.loads(call.function.arguments)["number"] for call in calls] == [1, 2]
        assert len({call.id for call in calls}) == 2
        told = [
            {"role": "tool", "tool_call_id": call.id, "content": f"{at + 1} hours"} for at, call in enumerate(calls)
        ]
        messages += [asked.message.model_dump(exclude_none=True), *told]
        said = await client.chat.completions.create(model="gpt-6-luna", messages=messages, tools=TOOLS)
    assert said.choices[0].message.content == "It takes 1 hours and 2 hours."


async def test_tools_that_must_not_be_used_are_not_offered() -> None:
    async with LivingChat(waiter) as chat, client_of(chat) as client:
        said = await client.chat.completions.create(
            model="gpt-6-luna", messages=[{"role": "user", "content": WORDS}], tools=TOOLS, tool_choice="none"
        )
    assert said.choices[0].message.tool_calls is None


async def test_models_are_listed_looked_up_and_refused() -> None:
    async with LivingChat(models=("one", "two")) as chat, client_of(chat) as client:
        assert [model.id async for model in client.models.list()] == ["one", "two"]
        assert (await client.models.retrieve("two")).id == "two"
        with pytest.raises(openai.NotFoundError) as refused:
            await client.models.retrieve("three")
        assert refused.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="three", messages=[{"role": "user", "content": WORDS}])
    async with LivingChat(any_model=True) as chat, client_of(chat) as client:
        assert (await client.models.retrieve("three")).id == "three"


async def test_only_the_right_key_is_let_in() -> None:
    async with LivingChat(api_key="right") as chat:
        async with client_of(chat, "right") as client:
            await client.models.list()
        async with client_of(chat, "wrong") as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                await client.chat.completions.create(model="gpt-6-luna", messages=[{"role": "user", "content": "Hi"}])
    assert "wrong" not in str(refused.value)


async def test_a_request_that_the_vendor_would_refuse_breaks_the_stage() -> None:
    call: Any = {"id": "c1", "type": "function", "function": {"name": "order", "arguments": "{}"}}
    unanswered: Any = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    chat = LivingChat()
    await chat.__aenter__()
    async with client_of(chat) as client:
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="gpt-6-luna", messages=unanswered)
    with pytest.raises(ScriptBroken, match="without a result"):
        await chat.__aexit__(None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "messages"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user"}]}, "without content"),
        ({"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]}, "must follow"),
        ({"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}]}, "function with a name"),
        ({"messages": [{"role": "user", "content": "x"}], "stream_options": {"include_usage": True}}, "streamed"),
        ({"messages": [{"role": "user", "content": "x"}]}, ""),
    ],
)
async def test_what_the_vendor_objects_to(body: dict[str, Any], said: str) -> None:
    assert said in fault_of(body)
    assert bool(said) == bool(fault_of(body))


async def test_faults_meet_it_as_they_meet_all_vendors() -> None:
    async with LivingChat() as chat, client_of(chat) as client:
        ask: Any = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": WORDS}]}
        chat.stage.faults.put(COMPLETIONS, Refuse(429, {"error": {"message": "Slow down", "code": "rate_limit"}}))
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(**ask)
        chat.stage.faults.put(COMPLETIONS, CutAfter(bytes=40))
        with pytest.raises(Exception, match=r"incomplete|peer closed|Connection"):
            async for _ in await client.chat.completions.create(**ask, stream=True):
                pass
        assert (await client.chat.completions.create(**ask)).choices[0].message.content.strip() == f"You said: {WORDS}"


async def test_a_client_that_leaves_stops_the_answer() -> None:
    ended = anyio.Event()

    async def endless(messages: Messages, tools: Tools) -> AsyncIterator[str | Call]:
        try:
            while True:
                yield "and on "
                await anyio.sleep(0.005)
        finally:
            ended.set()

    async with LivingChat(endless) as chat, client_of(chat) as client:
        stream = await client.chat.completions.create(
            model="gpt-6-luna", messages=[{"role": "user", "content": WORDS}], stream=True
        )
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        with anyio.fail_after(10):
            await ended.wait()
            while not chat.left:
                await anyio.sleep(0.01)
