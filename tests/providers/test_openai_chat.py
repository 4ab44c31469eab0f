"""The chat provider against a strict server on loopback: replies, faults, retries, and sentences that say what to do."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import date
from typing import Any

import aiohttp
import openai
import pytest

from patter.exceptions import ProviderError
from patter.loopback.openai_chat import COMPLETIONS, Exchange, LoopbackChat, ScriptBroken
from patter.loopback.stage import Stage
from patter.loopback.stage_faults import CutAfter, Fault, Garbled, Hangup, Refuse
from patter.models import Agent
from patter.ports import Ask, CallInfo
from patter.providers.address import is_loopback
from patter.providers.openai_chat import OpenAIChat
from patter.providers.retired import TABLE, Retired
from patter.signals import ConnectionUsed, Faulted, Message, ResponderPiece, TextDelta, TokensUsed, ToolRequest

pytestmark = pytest.mark.anyio

TOOL = {"name": "find", "description": "Find it", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


def ask(*texts: str, tools: tuple[dict[str, Any], ...] = ()) -> Ask:
    return Ask(
        CallInfo("c"), Agent("x"), "Be brief.", [{"role": "user", "content": text} for text in texts or ("Hi",)], tools
    )


async def all_of_it(chat: OpenAIChat, asked: Ask | None = None) -> list[ResponderPiece]:
    async with aclosing(chat.respond(asked or ask())) as pieces:  # type: ignore[type-var]
        return [piece async for piece in pieces]


async def reply(chat: OpenAIChat, asked: Ask | None = None) -> list[ResponderPiece]:
    """Without what is told of connections and faults."""
    return [piece for piece in await all_of_it(chat, asked) if not isinstance(piece, ConnectionUsed | Faulted)]


def connect(session: aiohttp.ClientSession, server: LoopbackChat, **values: Any) -> OpenAIChat:
    return OpenAIChat(session, **({"base_url": server.base_url, "model": "m"} | values))


@pytest.mark.parametrize("chunk", [0, 1, 7])
async def test_a_reply_with_text_tools_and_tokens(session: aiohttp.ClientSession, chunk: int) -> None:
    calls = (("find", '{"n": 1}'), ("find", '{"n": "zwölf"}'))
    async with LoopbackChat(Exchange(["Hal", "lo ☎."], calls, usage=(90, 12, 60), chunk=chunk)) as server:
        pieces = await reply(connect(session, server), ask(tools=(TOOL,)))
    assert pieces[:2] == [TextDelta("Hal"), TextDelta("lo ☎.")]
    assert [(piece.name, json.loads(piece.arguments)) for piece in pieces if isinstance(piece, ToolRequest)] == [
        ("find", {"n": 1}), ("find", {"n": "zwölf"}),
    ]  # fmt: skip
    assert pieces[-1] == TokensUsed(90, 12, 60)
    assert server.requests[0]["tools"][0]["function"]["name"] == "find"


async def test_the_vendors_own_client_reads_what_the_loopback_server_sends() -> None:
    exchange = Exchange(["Hello ", "there."], (("find", '{"n": 1}'),))
    script = (exchange, exchange, Exchange(["Hi"], streamed=False))
    async with LoopbackChat(*script) as server:  # noqa: SIM117  (the client needs the server's address)
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="x", max_retries=0) as client:
            message: Any = {"role": "user", "content": "hi"}
            stream = await client.chat.completions.create(
                model="m", messages=[message], stream=True, stream_options={"include_usage": True}
            )
            chunks = [one async for one in stream]
            assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == "Hello there."
            assert chunks[-1].usage is not None
            async with client.chat.completions.stream(model="m", messages=[message]) as events:
                final = await events.get_final_completion()
            assert (final.choices[0].message.tool_calls or [])[0].function.arguments == '{"n": 1}'
            whole = await client.chat.completions.create(model="m", messages=[message])
            assert whole.choices[0].message.content == "Hi"
            assert [model.id async for model in client.models.list()] == ["loopback-1"]


async def test_a_server_that_does_not_stream_or_count(session: aiohttp.ClientSession) -> None:
    async with LoopbackChat(Exchange(["All at once."], usage=None, streamed=False)) as server:
        assert await reply(connect(session, server)) == [TextDelta("All at once.")]


async def test_without_a_model_the_first_one_that_can_talk_is_used(session: aiohttp.ClientSession) -> None:
    async with LoopbackChat(Exchange(["Hi"]), Exchange(["Hi"]), models=["nomic-embed-text", "llama3.2"]) as server:
        chat = connect(session, server, model="")
        await reply(chat)
        await reply(chat)
    assert [request["model"] for request in server.requests] == ["llama3.2", "llama3.2"]
    assert (chat.model, chat.name) == ("llama3.2", "local")


async def test_names_and_defaults(session: aiohttp.ClientSession) -> None:
    assert (OpenAIChat(session, api_key="k").name, bool(OpenAIChat(session).model)) == ("openai", True)
    assert OpenAIChat(session, base_url="https://models.example.com/v1/").name == "models.example.com"
    assert OpenAIChat(session, base_url="http://localhost:1/v1").name == "local"
    assert is_loopback("http://[::1]:8/v1")
    assert not is_loopback("http://10.0.0.1/v1")


# ----------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("exchange", "says", "retryable"),
    [
        (
            Exchange(status=404, code="model_not_found", message="no such model"),
            "does not know the model 'm'.*check its name",
            False,
        ),
        (Exchange(status=429, code="insufficient_quota", message="no money"), "no credit.*look at your plan", False),
        (Exchange(status=429, headers={"Retry-After": "60"}), "too many requests.*in 60 s", True),
        (Exchange(status=400, code="context_length_exceeded", message="too long"), "status 400.*too long", False),
        (Exchange(["Hel"], ends="error"), "broke off: The server had an error", True),
    ],
)
async def test_errors_say_what_and_how_to_fix_it(
    session: aiohttp.ClientSession, exchange: Exchange, says: str, retryable: bool
) -> None:
    async with LoopbackChat(exchange) as server:
        with pytest.raises(ProviderError) as raised:
            await reply(connect(session, server))
    assert re.search(says, str(raised.value))
    assert raised.value.retryable == retryable
    assert raised.value.stage == "llm"


async def test_a_wrong_key(session: aiohttp.ClientSession) -> None:
    async with LoopbackChat(api_key="right") as server:
        with pytest.raises(ProviderError, match="refuses the key"):
            await reply(connect(session, server, api_key="wrong"))


async def test_one_more_try_before_the_first_byte(session: aiohttp.ClientSession) -> None:
    busy = Exchange(status=429, code="rate_limit_exceeded", headers={"Retry-After": "0"})
    async with LoopbackChat(busy, Exchange(["Hi"], usage=None)) as server:
        assert await reply(connect(session, server)) == [TextDelta("Hi")]


async def test_two_failures_are_enough(session: aiohttp.ClientSession) -> None:
    down = Exchange(status=503, headers={"Retry-After": "0"})
    async with LoopbackChat(down, down) as server:
        with pytest.raises(ProviderError, match="status 503") as raised:
            await reply(connect(session, server))
    assert raised.value.retryable


async def test_never_again_after_the_first_byte(session: aiohttp.ClientSession) -> None:
    async with LoopbackChat(Exchange(["Hel"], ends="broken")) as server:
        with pytest.raises(ProviderError, match="broke off"):
            await reply(connect(session, server))
    assert len(server.requests) == 1


async def test_a_stream_that_just_ends_gives_what_it_had(session: aiohttp.ClientSession) -> None:
    async with LoopbackChat(Exchange(["Hel"], ends="cut")) as server:
        assert await reply(connect(session, server)) == [TextDelta("Hel"), TokensUsed(3, 1)]


async def test_nothing_listens(session: aiohttp.ClientSession) -> None:
    async with LoopbackChat() as server:
        pass
    with pytest.raises(ProviderError, match=r"nothing answers.*start the model server"):
        await reply(connect(session, server))


async def test_a_silent_server_is_given_up(session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patter.providers.openai_chat.SILENCE_LOCAL_S", 0.05)
    async with LoopbackChat(Exchange(["Hi"], delay=30)) as server:
        with pytest.raises(ProviderError, match=r"silent for 0.05 s"):
            await reply(connect(session, server))


@pytest.mark.parametrize("message", ["Unrecognized request argument: stream_options", "m does not support tools"])
async def test_what_the_server_lacks_is_left_out_from_then_on(session: aiohttp.ClientSession, message: str) -> None:
    async with LoopbackChat(Exchange(status=400, message=message), Exchange(["Hi"]), Exchange(["Hi"])) as server:
        chat = connect(session, server)
        for _ in range(2):
            assert TextDelta("Hi") in await reply(chat, ask(tools=(TOOL,)))
    left_out = "tools" if "tools" in message else "stream_options"
    assert [left_out in request for request in server.requests] == [True, False, False]


async def test_leaving_a_reply_closes_its_connection(session: aiohttp.ClientSession) -> None:
    async with LoopbackChat(Exchange([f"word{number} " for number in range(1000)], delay_between=0.005)) as server:
        async with aclosing(connect(session, server).respond(ask())) as pieces:  # type: ignore[type-var]
            async for _ in pieces:
                break
        assert session.connector is not None
        assert not session.connector._conns
    assert server.cancelled == 1


async def test_a_server_that_is_none_or_has_no_model(session: aiohttp.ClientSession) -> None:
    async with LoopbackChat(models=None) as server:
        with pytest.raises(ProviderError, match="no server that speaks"):
            await reply(connect(session, server, model=""))
    async with LoopbackChat(models=[]) as server:
        with pytest.raises(ProviderError, match="no model"):
            await reply(connect(session, server, model=""))


# ----------------------------------------------------------------------- connections, faults on the way, tokens, old names


async def test_the_connection_is_used_again_after_a_whole_reply(session: aiohttp.ClientSession) -> None:
    calls = (("find", "{}"),)
    script = (Exchange(["Hi"]), Exchange(calls=calls), Exchange(["Hi"], streamed=False), Exchange(["Hi"]))
    async with LoopbackChat(*script) as server:
        chat = connect(session, server)
        told = [piece for _ in script for piece in await all_of_it(chat) if isinstance(piece, ConnectionUsed)]
    assert [(one.stage, one.provider, one.reused) for one in told] == [
        ("llm", "local", False), ("llm", "local", True), ("llm", "local", True), ("llm", "local", True),
    ]  # fmt: skip
    assert told[0].ms > 0


async def test_a_fault_that_was_overcome_is_told_before_the_reply(session: aiohttp.ClientSession) -> None:
    async with LoopbackChat(Exchange(["Hi"])) as server:
        server.stage.faults.put(COMPLETIONS, Refuse(503, retry_after="0"))
        faulted, used, text, _ = await all_of_it(connect(session, server, name="acme"))
    assert faulted == Faulted("llm", "acme", "it failed with status 503", "it is tried again")
    assert isinstance(used, ConnectionUsed)
    assert text == TextDelta("Hi")


@pytest.mark.parametrize(
    ("faults", "says", "retryable", "tries"),
    [
        ([Refuse(402)], "no credit left", False, 1),
        ([Refuse(403, {"error": {"message": "not this model"}})], "refuses the key.*not this model", False, 1),
        ([Refuse(302, headers={"Location": "/stolen"})], "another address", False, 1),
        ([Refuse(500, retry_after="0")] * 2, "status 500", True, 2),
        ([Hangup()] * 2, "broke off", True, 2),
        ([Garbled()], "neither a stream nor JSON", True, 1),
        ([Garbled(frame=True)] * 2, "no HTTP", True, 2),
        ([CutAfter(bytes=0)], "broke off", True, 1),
        ([CutAfter(bytes=400)], "broke off", True, 1),
    ],
)
async def test_faults_of_the_wire(
    session: aiohttp.ClientSession, faults: list[Fault], says: str, retryable: bool, tries: int
) -> None:
    broken = [Exchange(["word "] * 50)] if isinstance(faults[0], CutAfter) else []
    async with LoopbackChat(*broken) as server:
        server.stage.faults.put(COMPLETIONS, *faults)
        with pytest.raises(ProviderError, match=says) as raised:
            await reply(connect(session, server, api_key="secret-98765"))
    assert (raised.value.retryable, raised.value.tries) == (retryable, tries)
    assert "98765" not in str(raised.value)


async def test_no_certificate_that_can_be_trusted(session: aiohttp.ClientSession, self_signed: ssl.SSLContext) -> None:
    async with Stage(tls=self_signed) as stage:
        with pytest.raises(ProviderError, match="no secure connection") as raised:
            await reply(OpenAIChat(session, base_url=f"{stage.http}/v1", model="m"))
    assert not raised.value.retryable


async def test_an_error_before_the_first_word_may_be_asked_again(session: aiohttp.ClientSession) -> None:
    async with LoopbackChat(Exchange(ends="error")) as server:
        with pytest.raises(ProviderError, match="broke off: The … had an error") as raised:
            await reply(connect(session, server, api_key="server"))  # a server that repeats what it was told
    assert raised.value.retryable


@pytest.mark.parametrize("cut", ["left", "broken"])
async def test_a_reply_that_is_cut_off_is_paid_for_all_the_same(session: aiohttp.ClientSession, cut: str) -> None:
    counted: list[TokensUsed] = []
    asked = replace(ask("How do you do?"), count=counted.append)
    async with LoopbackChat(Exchange(["Hello, ", "you."] * 10, ends="broken", delay_between=0.01)) as server:
        chat = connect(session, server, name="acme")
        if cut == "left":
            async with aclosing(chat.respond(asked)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    if isinstance(piece, TextDelta):
                        break
        else:
            with pytest.raises(ProviderError):
                await reply(chat, asked)
    prompt = len("Be brief." + "How do you do?")
    spoken = len("Hello, ") if cut == "left" else len("Hello, you.") * 10
    assert counted == [TokensUsed(-(-prompt // 4), -(-spoken // 4), provider="acme", model="m")]


async def test_a_whole_reply_is_counted_once_by_the_server_alone(session: aiohttp.ClientSession) -> None:
    counted: list[TokensUsed] = []
    async with LoopbackChat(Exchange(["Hi"], usage=(7, 2, 0)), Exchange(["Hi"], usage=None)) as server:
        chat = connect(session, server)
        assert (await reply(chat, replace(ask(), count=counted.append)))[-1] == TokensUsed(7, 2)
        assert await reply(chat, replace(ask(), count=counted.append)) == [TextDelta("Hi")]
    assert counted == []


async def test_a_retired_name_gives_way_at_the_vendor_only(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TABLE, "old-1", Retired(date(2020, 1, 1), "new-1", "a test"))
    chat = OpenAIChat(session, model="old-1")
    assert chat.model == "new-1"
    assert "old-1" in chat.warning
    assert OpenAIChat(session, model="gpt-6-luna").warning == ""
    elsewhere = OpenAIChat(session, model="old-1", base_url="https://models.example.com/v1")
    assert (elsewhere.model, elsewhere.warning) == ("old-1", "")


async def test_nothing_is_asked_that_reasoning_models_refuse(session: aiohttp.ClientSession) -> None:
    async with LoopbackChat(Exchange(["Hi"])) as server:
        await reply(connect(session, server), ask(tools=(TOOL,)))
    assert server.requests[0].keys() == {"model", "messages", "stream", "stream_options", "tools"}


# ------------------------------------------------------------------------------------------- the server is strict too


async def refused(session: aiohttp.ClientSession, asked: Ask, *script: Exchange) -> None:
    """Ask something that the script does not allow; leaving the server tells."""
    async with LoopbackChat(*script) as server:
        with pytest.raises(ProviderError):
            await reply(connect(session, server), asked)


async def test_an_unexpected_request_breaks_the_script(session: aiohttp.ClientSession) -> None:
    with pytest.raises(ScriptBroken, match="does not know"):
        await refused(session, ask())


async def test_an_unused_step_breaks_the_script() -> None:
    with pytest.raises(ScriptBroken, match="1 expected"):
        async with LoopbackChat(Exchange(["Hi"])):
            pass


async def test_a_request_that_is_not_as_expected_breaks_the_script(session: aiohttp.ClientSession) -> None:
    def check(body: dict[str, Any]) -> None:
        assert body["model"] == "other"

    with pytest.raises(ScriptBroken, match="not as expected"):
        await refused(session, ask(), Exchange(["Hi"], check=check))


async def test_a_tool_call_without_its_result_is_refused_as_the_vendor_does(session: aiohttp.ClientSession) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    messages: list[Message] = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    with pytest.raises(ScriptBroken, match="without a result"):
        await refused(session, Ask(CallInfo("c"), Agent("x"), "", messages), Exchange(["Hi"]))
