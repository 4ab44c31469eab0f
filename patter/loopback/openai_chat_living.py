"""A chat server on loopback that answers: completions streamed and whole, with tools and counts, and the list of its models.

It owns what the vendor accepts and how an answer comes; it refuses to think: who answers is plugged in. For strict scripts of
single requests there is `openai_chat`.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import anyio
from aiohttp import web

from patter.loopback.stage import LoopbackVendor
from patter.loopback.stage_http import Answer as Whole
from patter.loopback.stage_http import Body, Visit

COMPLETIONS, MODELS, MODEL = "/v1/chat/completions", "/v1/models", "/v1/models/{model}"
USUAL_MODELS = ("gpt-6-luna", "gpt-5-mini", "gpt-4.1-mini")
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
LETTERS_PER_TOKEN = 4
ARGUMENTS_AT_A_TIME = 8  # letters of a tool's arguments in one event, as tokens come


@dataclass(frozen=True, slots=True)
class Call:
    """The model wants to use a tool; `arguments` as JSON text."""

    name: str
    arguments: str = "{}"


Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]
"""Functions: name, description, parameters."""
Answer = Callable[[Messages, Tools], AsyncIterator[str | Call]]
"""(the conversation so far, the tools that are offered) → pieces of text, and tool calls, as they come to mind."""


async def repeat(messages: Messages, tools: Tools) -> AsyncIterator[str | Call]:
    """Says what it was told."""
    for word in f"You said: {text_of(messages[-1].get('content'))}".split(" "):
        yield word + " "


@dataclass
class _Reply:
    """One completion while it is made."""

    number: int
    model: str
    text: str = ""
    calls: list[Call] = field(default_factory=list)
    made: int = field(default_factory=lambda: int(time.time()))

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return self._object("chat.completion.chunk", choices) | more

    def whole(self, usage: dict[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None, "refusal": None}
        if self.calls:
            message["tool_calls"] = [self.told(at, call) for at, call in enumerate(self.calls)]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.ended}
        return self._object("chat.completion", [choice]) | {"usage": usage}

    @property
    def ended(self) -> str:
        """Why it ended, in the vendor's words."""
        return "tool_calls" if self.calls else "stop"

    def told(self, at: int, call: Call, arguments: str | None = None) -> dict[str, Any]:
        """A tool call as it stands in an answer."""
        function = {"name": call.name, "arguments": call.arguments if arguments is None else arguments}
        return {"id": f"call_{self.number}_{at}", "type": "function", "function": function}

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        name = f"chatcmpl-{self.number}"
        return {"id": name, "object": kind, "created": self.made, "model": self.model, "choices": choices}


class LivingChat(LoopbackVendor):
    """The server, on a stage of its own (an async context manager) or on one with others (`mount`); faults: `stage.faults`.

    `models` are those that it lists; with `any_model`, others are good as well. `api_key` "" takes any key. The first piece
    comes after `thinks_s` seconds. What the vendor would refuse is refused as it does, and a problem of the stage."""

    def __init__(
        self,
        answer: Answer = repeat,
        *,
        models: Sequence[str] = USUAL_MODELS,
        any_model: bool = False,
        api_key: str = "",
        thinks_s: float = 0.0,
    ) -> None:
        super().__init__()
        self.asked = 0
        """How many completions were asked for."""
        self.left = 0
        """How many of them the client left before their end."""
        self._answer, self._models, self._any_model = answer, tuple(models), any_model
        self._api_key, self._thinks_s = api_key, thinks_s

    @property
    def base_url(self) -> str:
        """The root that ends in /v1."""
        return f"{self.stage.http}/v1"

    def program(self) -> None:
        """See `LoopbackVendor.program`."""
        self.stage.route("POST", COMPLETIONS, self._complete)
        self.stage.route("GET", MODELS, self._list)
        self.stage.route("GET", MODEL, self._look_up)

    # ------------------------------------------------------------------ models

    async def _list(self, visit: Visit) -> web.StreamResponse:
        refusal = self._key_refusal(visit)
        rows = [_model(name) for name in self._models]
        return await visit.answer(refusal or Whole(body={"object": "list", "data": rows}))

    async def _look_up(self, visit: Visit) -> web.StreamResponse:
        name = visit.match["model"]
        refusal = self._key_refusal(visit) or self._model_refusal(name)
        return await visit.answer(refusal or Whole(body=_model(name)))

    def _key_refusal(self, visit: Visit) -> Whole | None:
        said = visit.headers.get("authorization", "")
        if said == f"Bearer {self._api_key}" if self._api_key else said.startswith("Bearer "):
            return None
        return _refused(401, "Incorrect API key provided", "invalid_api_key")

    def _model_refusal(self, name: str) -> Whole | None:
        if name in self._models or (self._any_model and name):
            return None
        return _refused(404, f"The model '{name}' does not exist or you do not have access to it.", "model_not_found")

    # ------------------------------------------------------------------ completions

    async def _complete(self, visit: Visit) -> web.StreamResponse:
        body = visit.json if isinstance(visit.json, dict) else {}
        refusal = self._key_refusal(visit) or self._model_refusal(str(body.get("model", "")))
        if refusal is None and (wrong := fault_of(body)):
            self.stage.problem(f"POST {COMPLETIONS}: {wrong}")
            refusal = _refused(400, wrong, "invalid_value")
        if refusal is not None:
            return await visit.answer(refusal)
        self.asked += 1
        reply = _Reply(self.asked, body["model"])
        tools = [] if body.get("tool_choice") == "none" else [tool["function"] for tool in body.get("tools") or ()]
        try:
            await anyio.sleep(self._thinks_s)
            async with aclosing(self._answer(body["messages"], tools)) as pieces:  # type: ignore[type-var]
                if body.get("stream"):
                    counted = bool((body.get("stream_options") or {}).get("include_usage"))
                    return await self._stream(visit, body, reply, pieces, counted=counted)
                async for piece in pieces:
                    _note(reply, piece)
        except (ConnectionError, anyio.get_cancelled_exc_class()):
            self.left += 1
            raise
        return await visit.answer(Whole(body=reply.whole(usage_of(body, reply.text, reply.calls))))

    async def _stream(
        self,
        visit: Visit,
        asked: Mapping[str, Any],
        reply: _Reply,
        pieces: AsyncIterator[str | Call],
        *,
        counted: bool,
    ) -> web.StreamResponse:
        extra = {"usage": None} if counted else {}
        body = await visit.begin(200, {"Content-Type": "text/event-stream; charset=utf-8"})

        async def tell(delta: dict[str, Any], ended: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": ended}
            await _event(body, reply.chunk([choice], **extra))

        await tell({"role": "assistant", "content": "", "refusal": None})
        async for piece in pieces:
            _note(reply, piece)
            if isinstance(piece, str):
                await tell({"content": piece})
                continue
            at = len(reply.calls) - 1
            await tell({"tool_calls": [{"index": at, **reply.told(at, piece, "")}]})
            for start in range(0, len(piece.arguments), ARGUMENTS_AT_A_TIME):
                part = piece.arguments[start : start + ARGUMENTS_AT_A_TIME]
                await tell({"tool_calls": [{"index": at, "function": {"arguments": part}}]})
        await tell({}, reply.ended)
        if counted:
            await _event(body, reply.chunk([], usage=usage_of(asked, reply.text, reply.calls)))
        await body.write(b"data: [DONE]\n\n")
        return body


def _note(reply: _Reply, piece: str | Call) -> None:
    if isinstance(piece, str):
        reply.text += piece
    else:
        reply.calls.append(piece)


async def _event(body: Body, value: dict[str, Any]) -> None:
    await body.write(f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode())


def text_of(content: Any) -> str:
    """The words of a message, written as one text or in parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return "" if content is None else str(content)


def fault_of(body: Mapping[str, Any]) -> str:
    """What the vendor would object to in a request, or ""."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages must be a list with something in it"
    open_calls: list[str] = []
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            return "every message needs a role"
        if message["role"] == "tool":
            if message.get("tool_call_id") not in open_calls:
                return "a tool's result must follow the call that it answers"
            open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            return f"tool calls without a result: {open_calls}"
        if message.get("content") is None and not message.get("tool_calls"):
            return f"a message of the {message['role']} without content"
        open_calls = [str(call.get("id")) for call in message.get("tool_calls") or ()]
    if open_calls:
        return f"tool calls without a result: {open_calls}"
    for tool in body.get("tools") or ():
        if tool.get("type") != "function" or not (tool.get("function") or {}).get("name"):
            return "a tool must be a function with a name"
    return "stream_options are for streamed answers" if body.get("stream_options") and not body.get("stream") else ""


def usage_of(body: Mapping[str, Any], text: str, calls: Sequence[Call]) -> dict[str, Any]:
    """The tokens of a request and its answer, by their letters; what stood before the last message comes from the cache."""
    before, last = (
        sum(len(text_of(message.get("content"))) for message in part)
        for part in (body["messages"][:-1], body["messages"][-1:])
    )
    taken, cached = 3 + (before + last) // LETTERS_PER_TOKEN, before // LETTERS_PER_TOKEN
    given = 1 + (len(text) + sum(len(call.name + call.arguments) for call in calls)) // LETTERS_PER_TOKEN
    return {
        "prompt_tokens": taken,
        "completion_tokens": given,
        "total_tokens": taken + given,
        "prompt_tokens_details": {"cached_tokens": cached if cached >= 1024 else 0, "audio_tokens": 0},
    }


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1, "owned_by": "loopback"}


def _refused(status: int, message: str, code: str) -> Whole:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return Whole(status, body={"error": error})
