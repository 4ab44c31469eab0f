"""A chat server on loopback that plays a strict script: for tests, examples and trying faults without a vendor.

It owns the far end of the protocol; it refuses requests that the script does not expect and scripts that are not used up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
from aiohttp import web

from patter.loopback.stage import LoopbackVendor
from patter.loopback.stage_http import Visit
from patter.loopback.stage_script import ScriptBroken

__all__ = ["COMPLETIONS", "Exchange", "LoopbackChat", "ScriptBroken"]

COMPLETIONS = "/v1/chat/completions"
Check = Callable[[dict[str, Any]], None]
"""Looks at a request's body; raises AssertionError (or anything) if it is not as it should be."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One expected request and its reply. Times in seconds.

    `pieces` are the text deltas, `calls` the tool calls (name, arguments as JSON text), interleaved as parallel calls are.
    `status` other than 200 answers with an error instead. `ends`: "done" as it should be, "cut" without an end, "broken"
    by closing the connection, "error" by an error in the stream. `chunk` cuts the body into pieces of so many bytes."""

    pieces: Sequence[str] = ()
    calls: Sequence[tuple[str, str]] = ()
    usage: tuple[int, int, int] | None = (10, 5, 0)
    status: int = 200
    code: str = ""
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    ends: Literal["done", "cut", "broken", "error"] = "done"
    streamed: bool = True
    delay: float = 0.0
    delay_between: float = 0.0
    chunk: int = 0
    check: Check | None = None


class LoopbackChat(LoopbackVendor):
    """The server, on a stage of its own (an async context manager) or on one with others (`mount`); faults: `stage.faults`.

    Leaving it raises ScriptBroken if anything was not as written."""

    def __init__(self, *exchanges: Exchange, models: Sequence[str] | None = ("loopback-1",), api_key: str = "") -> None:
        super().__init__()
        self.requests: list[dict[str, Any]] = []
        self.cancelled = 0
        """How many replies the client left before their end."""
        self._left = list(exchanges)
        self._models = models
        self._api_key = api_key

    @property
    def base_url(self) -> str:
        """The root that ends in /v1."""
        return f"{self.stage.http}/v1"

    def program(self) -> None:
        """See `LoopbackVendor.program`."""
        self.stage.route("GET", "/v1/models", self._list)
        self.stage.route("POST", COMPLETIONS, self._complete)
        self.stage.expects(lambda: f"{len(self._left)} expected requests never came" if self._left else "")

    async def _list(self, visit: Visit) -> web.StreamResponse:
        if self._models is None:
            return web.json_response({"hello": "I am another kind of server"})
        rows = [{"id": name, "object": "model", "created": 1, "owned_by": "loopback"} for name in self._models]
        return web.json_response({"object": "list", "data": rows})

    async def _complete(self, visit: Visit) -> web.StreamResponse:
        body = visit.json
        self.requests.append(body)
        if self._api_key and visit.headers.get("authorization") != f"Bearer {self._api_key}":
            return _error(401, "Incorrect API key provided", "invalid_api_key", {})
        if not self._left:
            return self._unexpected("a request came that the script does not know")
        exchange = self._left.pop(0)
        try:
            _check_order(body["messages"])
            if exchange.check is not None:
                exchange.check(body)
        except Exception as error:
            return self._unexpected(f"request {len(self.requests)} is not as expected: {error!r}")
        try:
            return await self._reply(visit, exchange, body)
        except (ConnectionError, anyio.get_cancelled_exc_class()):
            self.cancelled += 1
            raise

    async def _reply(self, visit: Visit, exchange: Exchange, body: dict[str, Any]) -> web.StreamResponse:
        if exchange.delay:
            await anyio.sleep(exchange.delay)
        if exchange.status != 200:
            return _error(exchange.status, exchange.message, exchange.code, exchange.headers)
        if not exchange.streamed:
            return web.json_response(_whole(exchange, body["model"], len(self.requests)))
        response = await visit.begin(200, {"Content-Type": "text/event-stream", **exchange.headers})
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        for event in _events(exchange, body["model"], len(self.requests), with_usage=with_usage):
            for at in range(0, len(event), exchange.chunk or len(event)):
                await response.write(event[at : at + (exchange.chunk or len(event))])
            if exchange.delay_between:
                await anyio.sleep(exchange.delay_between)
        if exchange.ends == "broken":
            visit.hang_up()
        return response

    def _unexpected(self, problem: str) -> web.Response:
        self.stage.problem(problem)
        return _error(418, problem, "script", {})


def _check_order(messages: Sequence[Mapping[str, Any]]) -> None:
    """What the vendor demands of a context: every tool call is answered right after it was made."""
    open_calls: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            raise ValueError(f"tool calls without a result: {open_calls}")
        open_calls = [call["id"] for call in message.get("tool_calls") or ()]
    if open_calls:
        raise ValueError(f"tool calls without a result: {open_calls}")


def _events(exchange: Exchange, model: str, number: int, *, with_usage: bool) -> list[bytes]:
    """The lines of a streamed reply, as the vendor writes them."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": piece} for piece in exchange.pieces]
    for index, (name, _) in enumerate(exchange.calls):
        function = {"name": name, "arguments": ""}
        deltas.append(
            {"tool_calls": [{"index": index, "id": f"call_{number}_{index}", "type": "function", "function": function}]}
        )
    longest = max((len(arguments) for _, arguments in exchange.calls), default=0)
    for start in range(0, longest, 5):
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": arguments[start : start + 5]}}]}
            for index, (_, arguments) in enumerate(exchange.calls)
            if arguments[start:]
        ]
    choices: list[list[dict[str, Any]]] = [[_choice(delta, None)] for delta in deltas]
    events = [": keep-alive\n\n"]
    if exchange.ends == "done":
        choices.append([_choice({}, "tool_calls" if exchange.calls else "stop")])
    no_usage = {"usage": None} if with_usage else {}
    events += [_data(_chunk(model, one) | no_usage) for one in choices]
    if exchange.ends == "error":
        events.append(
            _data(
                {"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}}
            )
        )
    if exchange.ends == "done":
        if with_usage and exchange.usage is not None:
            events.append(_data(_chunk(model, []) | {"usage": _usage(exchange.usage)}))
        events.append("data: [DONE]\n\n")
    return [event.encode() for event in events]


def _whole(exchange: Exchange, model: str, number: int) -> dict[str, Any]:
    """The reply of a server that does not stream."""
    calls = [
        {"id": f"call_{number}_{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for index, (name, arguments) in enumerate(exchange.calls)
    ]
    message = {"role": "assistant", "content": "".join(exchange.pieces) or None, "refusal": None}
    choice = {
        "index": 0,
        "message": message | ({"tool_calls": calls} if calls else {}),
        "finish_reason": "tool_calls" if calls else "stop",
        "logprobs": None,
    }
    made = {"id": "chatcmpl-loopback", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
    return made | ({"usage": _usage(exchange.usage)} if exchange.usage else {})


def _chunk(model: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-loopback",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": choices,
    }


def _choice(delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _usage(tokens: tuple[int, int, int]) -> dict[str, Any]:
    taken, given, cached = tokens
    return {
        "prompt_tokens": taken,
        "completion_tokens": given,
        "total_tokens": taken + given,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
    }


def _data(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _error(status: int, message: str, code: str, headers: Mapping[str, str]) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code or None}
    return web.json_response({"error": error}, status=status, headers=dict(headers))
