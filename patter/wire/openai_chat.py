"""OpenAI's chat protocol as every compatible server speaks it: request bodies, streamed replies, error bodies.

It owns the JSON and its many dialects; it refuses to know sockets, retries or prices. Bytes in, pieces of a reply out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from patter import json_text
from patter.exceptions import ProviderError
from patter.ports import Ask
from patter.signals import Message, ResponderPiece, TextDelta, TokensUsed, ToolRequest
from patter.wire.chat_text import SpokenText

CHARACTERS_A_TOKEN = 4  # OpenAI's rule of thumb for English

LINE_LIMIT = 1024 * 1024
"""Bytes of one line of a stream; a server that sends more is not speaking this protocol."""


def request_body(ask: Ask, model: str, *, usage: bool = True, tools: bool = True) -> dict[str, Any]:
    """The body of POST /chat/completions for a streamed reply. `usage`/`tools` off: for servers that know them not."""
    messages: list[Message] = [{"role": "system", "content": ask.system_prompt}] if ask.system_prompt else []
    body: dict[str, Any] = {"model": model, "messages": [*messages, *ask.messages], "stream": True}
    if usage:
        body["stream_options"] = {"include_usage": True}
    if tools and ask.tools:
        body["tools"] = [{"type": "function", "function": _function(tool)} for tool in ask.tools]
    return body


def estimated(body: Mapping[str, Any], characters: int) -> TokensUsed:
    """What a reply that was cut off has probably cost: about four characters a token, in the request and in the reply.

    The vendor bills what was made until then, and sends no count of it."""
    asked = sum(len(str(message.get("content") or "")) for message in body["messages"])
    asked += sum(len(json.dumps(part)) for message in body["messages"] for part in message.get("tool_calls") or ())
    asked += len(json.dumps(body["tools"])) if "tools" in body else 0
    return TokensUsed(input=-(-asked // CHARACTERS_A_TOKEN), output=-(-characters // CHARACTERS_A_TOKEN))


def _function(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tool[key] for key in ("name", "description", "parameters") if tool.get(key)}


def model_names(data: Any) -> list[str] | None:
    """The names in the answer to GET /models; None if this is no such answer (then it is another kind of server)."""
    if not isinstance(data, dict) or "data" not in data:
        return None
    rows = data["data"] or []  # a server without models may say null
    if not isinstance(rows, list) or not all(isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows):
        return None
    return [row["id"] for row in rows]


@dataclass(slots=True)
class _Call:
    """One tool call while its fragments come in."""

    tool_id: str = ""
    name: str = ""
    arguments: str = ""


class ReplyReader:
    """Reads one reply: `feed` it bytes as they come and `close` it at the end; both give the pieces that are ready.

    Cuts may fall anywhere, also inside a character. Tool calls come whole, at the end. `tools` are the names offered: a
    call that a server writes into the text is recognised by them. `taken` are ids of earlier calls, which are not given
    again. `clean` takes secrets out of the server's own words. Raises ProviderError for an error inside the stream."""

    def __init__(
        self,
        provider: str,
        *,
        tools: Collection[str] = (),
        taken: Collection[str] = (),
        clean: Callable[[str], str] = str,
    ) -> None:
        self.done = False
        """True after the server said that nothing more will come."""
        self._provider, self._clean = provider, clean
        self._taken = set(taken)
        self._spoken = SpokenText(tools)
        self._buffer = b""
        self._held = ""
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}
        self._tokens: TokensUsed | None = None
        self._finished = self._understood = False
        self._counted = False
        self._characters = 0

    def owed(self, body: Mapping[str, Any], *, left: bool) -> TokensUsed | None:
        """What the reply to `body` has cost and no piece has told: as the server counts it, or estimated if it never will.

        `left`: nobody read it to its end. None: nothing is owed (also for a whole reply of a server that does not count)."""
        if self._tokens is not None:
            return self._tokens
        whole = self._finished or self.done
        return None if self._counted or (whole and not left) else estimated(body, self._characters)

    def feed(self, data: bytes) -> list[ResponderPiece]:
        """Take more of a text/event-stream body."""
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > LINE_LIMIT:
            raise self._wrong("it sent a line of more than 1 MB")
        return [piece for line in lines for piece in self._line(line.rstrip(b"\r"))]

    def whole(self, body: bytes) -> list[ResponderPiece]:
        """Take the body of a server that did not stream: one JSON object."""
        try:
            data = json_text.loads(body)
        except ValueError:
            raise self._wrong("its answer is neither a stream nor JSON", retryable=True) from None
        self._finished = True
        return self._chunk(data)

    def close(self) -> list[ResponderPiece]:
        """The rest: held text, tool calls in order, token counts. Raises ProviderError if nothing was a reply at all."""
        pieces = self._line(self._buffer.rstrip(b"\r")) if self._buffer else []
        self._buffer = b""
        if not self._understood:
            raise self._wrong("its answer is no chat completion", retryable=True)
        text, written = self._spoken.close()
        if text:
            pieces.append(TextDelta(text))
        for call in [*self._calls, *(_Call("", name, arguments) for name, arguments in written)]:
            if call.name:
                pieces.append(ToolRequest(self._unique(call.tool_id), call.name, call.arguments.strip() or "{}"))
        self._calls = []
        if self._tokens is not None:
            pieces.append(self._tokens)
            self._tokens = None
        return pieces

    def _line(self, line: bytes) -> list[ResponderPiece]:
        if not line.startswith(b"data:"):
            if not line:
                self._held = ""
            return []  # comments, event names, keep-alives
        text = self._held + line[5:].decode("utf-8", "replace").strip()
        if text == "[DONE]":
            self.done = True
            return []
        try:
            chunk = json_text.loads(text)
        except ValueError:
            self._held = text + "\n"  # one object over several data lines
            return []
        self._held = ""
        return self._chunk(chunk)

    def _chunk(self, chunk: Any) -> list[ResponderPiece]:
        if not isinstance(chunk, dict):
            raise self._wrong("it sent something that is no chat completion")
        if error := chunk.get("error"):
            kind = error if isinstance(error, dict) else {"message": error}
            passing = not PASSING.isdisjoint((kind.get("type"), kind.get("code")))
            raise self._wrong(f"it broke off: {self._clean(str(kind.get('message')))[:300]}", retryable=passing)
        self._understood = True
        if isinstance(usage := chunk.get("usage"), dict):
            self._tokens, self._counted = _tokens(usage), True
        choices = chunk.get("choices") or []
        if not choices or not isinstance(choices[0], dict):
            return []
        self._finished = self._finished or bool(choices[0].get("finish_reason"))
        delta = choices[0].get("delta") or choices[0].get("message") or {}
        for fragment in delta.get("tool_calls") or ():
            self._fragment(fragment)
        content = delta.get("content") or delta.get("refusal")
        if not isinstance(content, str):
            return []
        self._characters += len(content)
        text = self._spoken.feed(content)
        return [TextDelta(text)] if text else []

    def _fragment(self, fragment: Mapping[str, Any]) -> None:
        """Fragments belong together by index; a second name under one index is another call of a careless server."""
        function = fragment.get("function") or {}
        tool_id, name = str(fragment.get("id") or ""), str(function.get("name") or "")
        index = fragment.get("index")
        call = self._at.get(index) if isinstance(index, int) else (self._calls[-1] if self._calls else None)
        if call is None or (name and call.name and (not isinstance(index, int) or tool_id != call.tool_id)):
            call = _Call()
            self._calls.append(call)
            if isinstance(index, int):
                self._at[index] = call
        call.tool_id = call.tool_id or tool_id
        call.name = call.name or name
        arguments = function.get("arguments")
        self._characters += len(name) + len(arguments if isinstance(arguments, str) else "")
        if isinstance(arguments, str):
            call.arguments += arguments
        elif arguments is not None:
            call.arguments = json.dumps(arguments)  # some servers give the object itself

    def _unique(self, tool_id: str) -> str:
        fresh = tool_id if tool_id and tool_id not in self._taken else f"call_{uuid4().hex}"
        self._taken.add(fresh)
        return fresh

    def _wrong(self, problem: str, *, retryable: bool = False) -> ProviderError:
        fix = "try again" if retryable else ""
        self._counted = self._counted or not self._understood  # what is no reply costs nothing
        return ProviderError(problem, provider=self._provider, stage="llm", retryable=retryable, fix=fix)


def _tokens(usage: Mapping[str, Any]) -> TokensUsed:
    details = usage.get("prompt_tokens_details") or {}
    return TokensUsed(
        input=int(usage.get("prompt_tokens") or 0),
        output=int(usage.get("completion_tokens") or 0),
        cached=int(details.get("cached_tokens") or 0),
    )


def call_ids(messages: Sequence[Message]) -> set[str]:
    """The ids of the tool calls in a context."""
    return {str(call.get("id")) for message in messages for call in message.get("tool_calls") or ()}


# ------------------------------------------------------------------------------------------------------------ errors

PASSING = frozenset({"server_error", "service_unavailable_error", "overloaded_error", "rate_limit_error", "timeout"})
"""Kinds of errors inside a stream after which the same request may go well."""


def lacking(status: int, body: bytes) -> str:
    """Which optional part of the request an error reply objects to: "stream_options", "tools" or "" (neither)."""
    if status not in (400, 404, 422, 500, 501):
        return ""
    message = body[:2000].decode("utf-8", "replace")
    if "stream_options" in message or "include_usage" in message:
        return "stream_options"
    lowered = message.lower()
    unsupported = any(word in lowered for word in ("support", "unknown", "unrecognized", "not permitted", "extra"))
    return "tools" if "tool" in lowered and unsupported and "tool_call_id" not in lowered else ""
