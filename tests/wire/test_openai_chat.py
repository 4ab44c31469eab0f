"""OpenAI's chat protocol: what is sent is what the vendor's own types accept, and every way to stream is read alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import TypeAdapter

from patter.exceptions import ProviderError
from patter.models import Agent
from patter.ports import Ask, CallInfo
from patter.signals import Message, ResponderPiece, TextDelta, TokensUsed, ToolRequest
from patter.wire.openai_chat import ReplyReader, call_ids, estimated, lacking, model_names, request_body

TOOL = {
    "name": "get_hours",
    "description": "Opening hours",
    "parameters": {"type": "object", "properties": {"day": {"type": "string"}}},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_hours", "arguments": "{}"}}
MESSAGES: list[Message] = [
    {"role": "user", "content": "When do you open on Sunday?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "nine"},
]


def ask(**values: Any) -> Ask:
    return Ask(CallInfo("c"), Agent("x"), "You are brief.", MESSAGES, (TOOL,), **values)


def chunk(delta: dict[str, Any], finish: str | None = None, **values: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    data = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": None,
    }
    ChatCompletionChunk.model_validate(data | values)  # the judge: what these tests read is what the vendor sends
    return b"data: " + json.dumps(data | values, ensure_ascii=False).encode() + b"\n\n"


USAGE = chunk({}, choices=[], usage={"prompt_tokens": 71, "completion_tokens": 16, "total_tokens": 87,
              "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0}})  # fmt: skip
DONE = b"data: [DONE]\n\n"


def fragment(index: int, arguments: str, **values: Any) -> dict[str, Any]:
    name = values.pop("name", None)
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"tool_calls": [{"index": index, "function": function} | values]}


PARALLEL = b"".join(
    (
        chunk({"role": "assistant", "content": None, "refusal": None}),
        chunk(fragment(0, "", id="a", type="function", name="get_hours")),
        chunk(fragment(1, "", id="b", type="function", name="book")),
        chunk(fragment(0, '{"day":')),
        chunk(fragment(1, '{"at": "zehn')),
        chunk(fragment(0, '"sun"}')),
        chunk(fragment(1, ' Uhr früh ☀"}')),
        chunk({}, "tool_calls"),
        USAGE,
        DONE,
    )
)


def read(data: bytes, *, cut: int = 0, **values: Any) -> list[ResponderPiece]:
    reader = ReplyReader("acme", **values)
    step = cut or max(1, len(data))
    pieces = [piece for at in range(0, len(data), step) for piece in reader.feed(data[at : at + step])]
    return pieces + reader.close()


def text(pieces: list[ResponderPiece]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, TextDelta))


# --------------------------------------------------------------------------------------------------------- requests


def test_the_request_is_what_the_vendors_own_types_accept() -> None:
    body = request_body(ask(), "gpt-6-luna")
    TypeAdapter(CompletionCreateParamsStreaming).validate_python(body)
    assert body["messages"] == [{"role": "system", "content": "You are brief."}, *MESSAGES]
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert body["tools"] == [{"type": "function", "function": TOOL}]


def test_what_a_server_does_not_know_can_be_left_out() -> None:
    body = request_body(ask(), "m", usage=False, tools=False)
    assert body.keys() == {"model", "messages", "stream"}


# ---------------------------------------------------------------------------------------------------------- replies


def test_text_comes_as_it_is_sent_and_tokens_at_the_end() -> None:
    stream = (
        chunk({"role": "assistant", "content": ""})
        + chunk({"content": "We open "})
        + chunk({"content": "at nine."})
        + chunk({}, "stop")
    )
    assert read(stream + USAGE + DONE) == [TextDelta("We open "), TextDelta("at nine."), TokensUsed(71, 16, 64)]


def test_parallel_tool_calls_are_put_together_by_index() -> None:
    assert read(PARALLEL) == [
        ToolRequest("a", "get_hours", '{"day":"sun"}'),
        ToolRequest("b", "book", '{"at": "zehn Uhr früh ☀"}'),
        TokensUsed(71, 16, 64),
    ]


@given(st.integers(min_value=1, max_value=60))
def test_it_does_not_matter_where_the_bytes_are_cut(cut: int) -> None:
    assert read(PARALLEL, cut=cut) == read(PARALLEL)
    assert read(PARALLEL.replace(b"\n", b"\r\n"), cut=cut) == read(PARALLEL)


def test_comments_events_and_unknown_fields_are_ignored() -> None:
    stream = (
        b": ping\n\nevent: message\nid: 3\n"
        + chunk({"content": "Hi", "reasoning_content": "hm"})
        + b"retry: 5\n\n"
        + DONE
    )
    assert read(stream) == [TextDelta("Hi")]


def test_a_stream_without_usage_or_end_gives_what_it_has() -> None:
    assert read(chunk({"content": "Hi"}).rstrip()) == [TextDelta("Hi")]


def test_an_object_over_several_lines_of_one_event() -> None:
    assert read(b'data: {"choices":\ndata: [{"delta": {"content": "Hi"}}]}\n\n') == [TextDelta("Hi")]


def test_an_error_inside_the_stream_is_raised() -> None:
    with pytest.raises(ProviderError, match="acme: it broke off: overloaded") as raised:
        read(b'data: {"error": {"message": "overloaded", "type": "server_error", "code": null}}\n\n')
    assert (raised.value.stage, raised.value.retryable) == ("llm", True)
    with pytest.raises(ProviderError) as raised:
        read(b'data: {"error": {"message": "too long", "type": "invalid_request_error", "code": null}}\n\n')
    assert not raised.value.retryable


@pytest.mark.parametrize("data", [b"", b": ping\n\n", b"data: {oops\n\n", b"<html>hello</html>", b"data: [DONE]\n\n"])
def test_an_answer_without_a_reply_is_an_error(data: bytes) -> None:
    with pytest.raises(ProviderError, match="no chat completion") as raised:
        read(data)
    assert raised.value.retryable


def test_what_a_reply_that_was_cut_off_has_cost_is_estimated() -> None:
    reader = ReplyReader("acme")
    reader.feed(chunk({"content": "We open "}) + chunk(fragment(0, '{"day":', id="a", type="function", name="book")))
    request = {"messages": [{"role": "system", "content": "x" * 41}, {"role": "assistant", "content": None}]}
    assert -(-(8 + 4 + 7) // 4) == 5  # the text, the call's name, its arguments so far
    assert reader.owed(request, left=True) == reader.owed(request, left=False) == TokensUsed(11, 5)
    with_tools = estimated(request_body(ask(), "m"), 0)
    assert with_tools.input > estimated(request_body(ask(), "m", tools=False), 0).input > 10


@pytest.mark.parametrize(
    ("end", "left", "read_to_the_end"),
    [
        (chunk({}, "stop"), TokensUsed(1, 1), None),
        (DONE, TokensUsed(1, 1), None),
        (USAGE, TokensUsed(71, 16, 64), None),
    ],
)
def test_what_is_owed_for_a_whole_reply(end: bytes, left: TokensUsed, read_to_the_end: TokensUsed | None) -> None:
    request = {"messages": [{"role": "user", "content": "Hi"}]}
    reader = ReplyReader("acme")
    reader.feed(chunk({"content": "Hi"}) + end)
    assert reader.owed(request, left=True) == left
    reader.close()
    assert reader.owed(request, left=False) == read_to_the_end


def test_an_answer_that_is_no_reply_costs_nothing() -> None:
    reader = ReplyReader("acme")
    with pytest.raises(ProviderError):
        reader.close()
    assert reader.owed({"messages": []}, left=True) is None


@pytest.mark.parametrize("data", [b"data: [1]\n\n", b"data: " + b"x" * 1_100_000])
def test_what_is_no_chat_stream_is_an_error(data: bytes) -> None:
    with pytest.raises(ProviderError):
        read(data)


def test_a_server_that_did_not_stream() -> None:
    reader = ReplyReader("acme")
    message = {
        "role": "assistant",
        "content": "Hi.",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "x", "arguments": ""}}],
    }
    body = {"choices": [{"message": message}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    assert [*reader.whole(json.dumps(body).encode()), *reader.close()] == [
        TextDelta("Hi."), ToolRequest("a", "x", "{}"), TokensUsed(3, 2, 0),
    ]  # fmt: skip
    with pytest.raises(ProviderError, match="neither"):
        ReplyReader("acme").whole(b"<html>")


def test_careless_servers_calls_are_told_apart_and_get_ids_of_their_own() -> None:
    same_index = chunk(fragment(0, "{}", id="x", type="function", name="one")) + chunk(
        fragment(0, "{}", id="y", type="function", name="two")
    )
    assert [(piece.tool_id, piece.name) for piece in read(same_index) if isinstance(piece, ToolRequest)] == [
        ("x", "one"),
        ("y", "two"),
    ]
    calls = [{"function": {"name": "a", "arguments": {"n": 1}}}, {"function": {"name": "b"}}]
    no_index = b"data: " + json.dumps({"choices": [{"delta": {"tool_calls": calls}}]}).encode()
    first, second = [piece for piece in read(no_index) if isinstance(piece, ToolRequest)]
    assert (first.name, first.arguments, second.name, second.arguments) == ("a", '{"n": 1}', "b", "{}")
    assert first.tool_id != second.tool_id


def test_an_id_that_was_used_before_is_not_used_again() -> None:
    assert call_ids(MESSAGES) == {"call_1"}
    (call,) = read(chunk(fragment(0, "{}", id="call_1", type="function", name="x")), taken={"call_1"})
    assert isinstance(call, ToolRequest)
    assert call.tool_id not in ("", "call_1")


# ------------------------------------------------------------------------------- what is in the text but not for speech


def spoken(*pieces: str, tools: tuple[str, ...] = ("get_hours",)) -> list[ResponderPiece]:
    return read(b"".join(chunk({"content": piece}) for piece in pieces), tools=tools)


@pytest.mark.parametrize(
    "pieces",
    [
        ('{"name": "get_hours", ', '"arguments": {"day": "sun"}}'),
        ("```json\n", '{"name": "get_hours", "parameters": {"day": "sun"}}', "\n```"),
        ("<tool_", 'call>{"name": "get_hours", "arguments": {"day": "sun"}}</tool', "_call>"),
        ('[{"function": {"name": "get_hours", "arguments": "{\\"day\\": \\"sun\\"}"}}]',),
        ('<tool_call>\n{"name": "get_hours", "arguments": {"day": "sun"}}\n',),
    ],
)
def test_a_tool_call_written_as_text_is_a_tool_call(pieces: tuple[str, ...]) -> None:
    (call,) = spoken(*pieces)
    assert isinstance(call, ToolRequest)
    assert (call.name, json.loads(call.arguments)) == ("get_hours", {"day": "sun"})


def test_text_around_a_written_call_is_spoken() -> None:
    pieces = spoken("Let me look. <tool", '_call>{"name": "get_hours", "arguments": {}}</tool_call> One moment.')
    assert text(pieces) == "Let me look.  One moment."
    assert isinstance(pieces[-1], ToolRequest)


@pytest.mark.parametrize("words", ['{"name": "unknown"}', "{oops", "`code` is fun", "a < b and <b>bold</b>", "1 <"])
def test_what_only_looks_like_a_call_is_spoken(words: str) -> None:
    assert spoken(words) == [TextDelta(words)] or text(spoken(words)) == words


def test_nothing_is_held_back_when_there_are_no_tools() -> None:
    reader = ReplyReader("acme")
    assert reader.feed(chunk({"content": '{"a'})) == [TextDelta('{"a')]


def test_thoughts_are_not_spoken() -> None:
    assert text(spoken("<th", "ink>The caller wants\n", "hours.</thi", "nk>\n\nWe open at nine.")) == "We open at nine."
    assert text(spoken("<think>endless")) == ""


# ----------------------------------------------------------------------------------------------------------- errors


def body(message: str, code: str | None = None, kind: str = "invalid_request_error") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


@pytest.mark.parametrize(
    ("data", "unknown"),
    [
        (body("Unrecognized request argument supplied: stream_options"), "stream_options"),
        (b'{"detail": "extra fields not permitted: stream_options"}', "stream_options"),
        (b'{"error": "registry.ollama.ai/library/gemma does not support tools"}', "tools"),
        (body("messages with role 'tool' must follow tool_calls: tool_call_id is unknown"), ""),
        (body("context too long", "context_length_exceeded"), ""),
    ],
)
def test_a_server_that_lacks_a_feature_is_understood(data: bytes, unknown: str) -> None:
    assert lacking(400, data) == unknown
    assert lacking(401, data) == ""


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({"object": "list", "data": [{"id": "a"}, {"id": "b", "object": "model"}]}, ["a", "b"]),
        ({"object": "list", "data": None}, []),
        ({"data": [{"name": "a"}]}, None),
        ({"models": ["a"]}, None),
        ({"data": {"id": "a"}}, None),
        ([], None),
        ("hello", None),
    ],
)
def test_the_models_of_a_server_or_the_knowledge_that_it_is_none(data: Any, names: list[str] | None) -> None:
    assert model_names(data) == names
