"""OpenAI's chat protocol as every compatible server speaks it: request bodies, streamed replies, error bodies.

It owns the JSON and its many dialects; it refuses to know sockets, retries or prices. Bytes in, pieces of a reply out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from patter.exceptions import ProviderError
from patter.ports import Ask
from patter.signals import Message, ResponderPiece, TextDelta, TokensUsed, ToolRequest
from patter.wire.chat_text import SpokenText

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
    again. Raises ProviderError for an error inside the stream."""

    def __init__(self, provider: str, *, tools: Collection[str] = (), taken: Collection[str] = ()) -> None:
        self.done = False
        """True after the server said that nothing more will come."""
        self._provider = provider
        self._taken = set(taken)
        self._spoken = SpokenText(tools)
        self._buffer = b""
        self._held = ""
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}
        self._tokens: TokensUsed | None = None

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
            data = json.loads(body)
        except ValueError:
            raise self._wrong("its answer is neither a stream nor JSON") from None
        return self._chunk(data)

    def close(self) -> list[ResponderPiece]:
        """The rest: held text, tool calls in order, token counts."""
        pieces = self._line(self._buffer.rstrip(b"\r")) if self._buffer else []
        self._buffer = b""
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
            chunk = json.loads(text)
        except ValueError:
            self._held = text + "\n"  # one object over several data lines
            return []
        self._held = ""
        return self._chunk(chunk)

    def _chunk(self, chunk: Any) -> list[ResponderPiece]:
        if not isinstance(chunk, dict):
            raise self._wrong("it sent something that is no chat completion")
        if error := chunk.get("error"):
            message = error.get("message") if isinstance(error, dict) else error
            raise self._wrong(f"it broke off: {message}")
        if isinstance(usage := chunk.get("usage"), dict):
            self._tokens = _tokens(usage)
        choices = chunk.get("choices") or []
        if not choices or not isinstance(choices[0], dict):
            return []
        delta = choices[0].get("delta") or choices[0].get("message") or {}
        for fragment in delta.get("tool_calls") or ():
            self._fragment(fragment)
        content = delta.get("content") or delta.get("refusal")
        text = self._spoken.feed(content) if isinstance(content, str) else ""
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
        if isinstance(arguments, str):
            call.arguments += arguments
        elif arguments is not None:
            call.arguments = json.dumps(arguments)  # some servers give the object itself

    def _unique(self, tool_id: str) -> str:
        fresh = tool_id if tool_id and tool_id not in self._taken else f"call_{uuid4().hex}"
        self._taken.add(fresh)
        return fresh

    def _wrong(self, problem: str) -> ProviderError:
        return ProviderError(problem, provider=self._provider, stage="llm")


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

NO_RETRY_CODES = frozenset({"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reply that is an error. `message` is the server's own; `unknown` names what it does not support, if it says so."""

    status: int
    message: str
    code: str = ""
    retryable: bool = False
    retry_after_s: float | None = None
    unknown: str = ""


def refusal(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Refusal:
    """Read an error reply of any server: OpenAI's object, plain text, or nothing."""
    message, code, kind = body[:500].decode("utf-8", "replace").strip(), "", ""
    try:
        data = json.loads(body)
        error = data.get("error", data) if isinstance(data, dict) else data
        if isinstance(error, dict):
            message = str(error.get("message") or error.get("detail") or message)
            code, kind = str(error.get("code") or ""), str(error.get("type") or "")
        elif isinstance(error, str):
            message = error
    except ValueError:
        pass  # plain text
    headers = headers or {}
    retryable = status in (408, 409, 429) or status >= 500
    if not NO_RETRY_CODES.isdisjoint((code, kind)):
        retryable = False
    if (wish := headers.get("x-should-retry")) in ("true", "false"):
        retryable = wish == "true"
    return Refusal(status, message[:300], code or kind, retryable, _wait(headers), _unknown(status, message))


def _unknown(status: int, message: str) -> str:
    """Which optional part of the request the server does not know: "stream_options", "tools" or ""."""
    if status not in (400, 404, 422, 500, 501):
        return ""
    if "stream_options" in message or "include_usage" in message:
        return "stream_options"
    lowered = message.lower()
    unsupported = any(word in lowered for word in ("support", "unknown", "unrecognized", "not permitted", "extra"))
    return "tools" if "tool" in lowered and unsupported and "tool_call_id" not in lowered else ""


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, or None."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / unit)
        except (KeyError, ValueError):
            continue
    return None
