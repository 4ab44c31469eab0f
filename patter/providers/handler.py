"""The user's own `on_message` as a Responder: a function, a generator, or a URL that is asked over HTTP or WebSocket.

It owns how a handler may look and how it is called; it refuses to know what the handler does. What goes wrong inside is logged
with its traceback and becomes a ProviderError.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import aiohttp
import anyio
import anyio.to_thread

from patter.control import CallControl
from patter.exceptions import ProviderError
from patter.models import IncomingHandler, IncomingMessage, OnMessage
from patter.ports import Ask
from patter.providers.webhook import signed
from patter.signals import ResponderPiece, TextDelta

log = logging.getLogger(__name__)

ANSWER_LIMIT = 64 * 1024
"""Bytes that a URL may answer: an hour of speech."""

ANSWER_S = 30.0  # longer than this no caller waits
STEPS_TO_TELL = 4  # turns of the loop: by then the call knows of the reply that its handler may end or transfer
_END = object()


class HandlerResponder:
    """One call's `on_message`. `history` is the call's list of {role, text, timestamp}, which grows as it goes on.

    A function gets a dict (text, call_id, caller, callee, history), or as IncomingHandler an IncomingMessage, and `control` as
    its second argument if it takes two. A URL gets the same dict as JSON over `http`; with `secret` it is signed: HMAC-SHA256
    of the body (or the frame), in hex, in the header X-Patter-Signature. Raises ValueError for a URL of another kind."""

    name = "handler"
    model = "on_message"

    def __init__(
        self,
        on_message: OnMessage,
        control: CallControl | None = None,
        *,
        history: Sequence[Mapping[str, Any]] = (),
        http: aiohttp.ClientSession | None = None,
        secret: str = "",
    ) -> None:
        self._incoming = isinstance(on_message, IncomingHandler)
        self._on_message = on_message.function if isinstance(on_message, IncomingHandler) else on_message
        self._control = control
        self._history = history
        self._http = http
        self._secret = secret
        if isinstance(on_message, str):
            if not on_message.startswith(("http://", "https://", "ws://", "wss://")):
                raise ValueError(
                    f"on_message must be a function or an http(s):// or ws(s):// address, not {on_message!r}"
                )
            if http is None:
                raise ValueError("an on_message address needs the engine's HTTP session")

    async def respond(self, ask: Ask) -> AsyncIterator[ResponderPiece]:
        """What the handler returns, or its pieces as they come. Raises ProviderError when it fails."""
        data = self._data(ask)
        for _ in range(STEPS_TO_TELL if self._control is not None else 0):
            await asyncio.sleep(0)
        if not isinstance(self._on_message, str):
            pieces = self._call(self._on_message, data)
        elif self._on_message.startswith("ws"):
            pieces = self._stream(self._on_message, data)
        else:
            pieces = self._post(self._on_message, data)
        async with aclosing(pieces):
            async for text in pieces:
                if text:
                    yield TextDelta(text)

    async def aclose(self) -> None:
        """Nothing to close: the session belongs to whoever made it."""

    def _data(self, ask: Ask) -> dict[str, Any]:
        said = [message["content"] for message in ask.messages if message["role"] == "user"]
        return {
            "text": str(said[-1]) if said else "",
            "call_id": ask.call.call_id,
            "caller": ask.call.caller,
            "callee": ask.call.callee,
            "history": [dict(entry) for entry in self._history],
        }

    # ------------------------------------------------------------------ functions

    async def _call(self, handler: Callable[..., Any], data: dict[str, Any]) -> AsyncGenerator[str, None]:
        given: Any = IncomingMessage(data["text"], data["call_id"], data["caller"]) if self._incoming else data
        arguments = (given, self._control) if self._control is not None and takes_two(handler) else (given,)
        try:
            result = await _result(handler, arguments)
            if inspect.isasyncgen(result):
                async with aclosing(result):
                    async for piece in result:
                        yield _checked(piece)
            elif inspect.isgenerator(result):
                async for piece in _in_thread(result):
                    yield _checked(piece)
            else:
                yield _checked(result)
        except ProviderError:
            raise
        except Exception as error:
            log.exception("on_message failed", extra={"call_id": data["call_id"]})
            raise _failed(
                f"on_message raised {type(error).__name__}: {error}", "its traceback is in the log"
            ) from error

    # ------------------------------------------------------------------ addresses

    async def _post(self, url: str, data: dict[str, Any]) -> AsyncGenerator[str, None]:
        assert self._http is not None
        body = json.dumps(data, default=str).encode()
        headers = {"Content-Type": "application/json"} | signed(self._secret, body)
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        post = self._http.post(url, data=body, headers=headers, timeout=timeout, allow_redirects=False)
        try:
            async with post as response:
                answer = await response.content.read(ANSWER_LIMIT + 1)
                while len(answer) <= ANSWER_LIMIT and (more := await response.content.read(ANSWER_LIMIT + 1)):
                    answer += more
                if not 200 <= response.status < 300:
                    raise _failed(f"the on_message address answered with status {response.status}", "see its own log")
                if len(answer) > ANSWER_LIMIT:
                    raise _too_long()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(error) from error
        yield _text(answer.decode("utf-8", "replace"))

    async def _stream(self, url: str, data: dict[str, Any]) -> AsyncGenerator[str, None]:
        deadline = time.monotonic() + ANSWER_S
        left = ANSWER_LIMIT
        try:
            async with await self._asked(url, json.dumps(data, default=str)) as socket:
                while True:
                    message = await socket.receive(timeout=max(0.0, deadline - time.monotonic()))
                    if (
                        message.type is aiohttp.WSMsgType.ERROR
                        and socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
                    ):
                        raise _too_long()
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        raise _failed("the on_message address closed before it was done", 'end with {"done": true}')
                    left -= len(message.data.encode())
                    if left < 0:
                        raise _too_long()
                    frame = json.loads(message.data)
                    if not isinstance(frame, dict):
                        raise ValueError("not an object")
                    yield str(frame.get("text") or "")
                    if frame.get("done"):
                        return
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(error) from error
        except ValueError as error:
            raise _failed("the on_message address sent a frame that is no JSON object", 'send {"text": …}') from error

    async def _asked(self, url: str, frame: str) -> aiohttp.ClientWebSocketResponse:
        """A socket to `url` on which the question has been sent."""
        assert self._http is not None
        with anyio.fail_after(ANSWER_S):
            headers = signed(self._secret, frame.encode())
            socket = await self._http.ws_connect(url, max_msg_size=ANSWER_LIMIT, headers=headers)
        try:
            with anyio.fail_after(ANSWER_S):  # a peer that reads nothing would take a long history for ever
                await socket.send_str(frame)
        except BaseException:
            await socket.close()
            raise
        return socket


def takes_two(handler: Callable[..., Any]) -> bool:
    """Whether a handler accepts a second positional argument."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return False
    places = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return len(places) >= 2 or any(one.kind is one.VAR_POSITIONAL for one in parameters)


async def _result(handler: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What the handler returns. Plain functions run in a thread: they may take their time without stopping any call."""
    inner = handler.func if isinstance(handler, partial) else handler
    looks = (inner, getattr(inner, "__call__", None))  # noqa: B004  (its kind is wanted, not whether it is callable)
    if any(inspect.iscoroutinefunction(look) or inspect.isasyncgenfunction(look) for look in looks):
        result = handler(*arguments)
    else:
        result = await anyio.to_thread.run_sync(partial(handler, *arguments), abandon_on_cancel=True)
    return await result if inspect.isawaitable(result) else result


async def _in_thread(pieces: Iterator[Any]) -> AsyncIterator[Any]:
    """A plain generator's pieces, each made in a thread."""
    while (piece := await anyio.to_thread.run_sync(next, pieces, _END, abandon_on_cancel=True)) is not _END:
        yield piece


def _checked(piece: Any) -> str:
    """A reply or a piece of one; None says nothing."""
    if piece is None:
        return ""
    if not isinstance(piece, str):
        raise _failed(f"on_message gave {type(piece).__name__} instead of str", "return the text to speak")
    return piece


def _text(answer: str) -> str:
    """The text of an answer: plain, or JSON as a string or {"text": …}."""
    try:
        data = json.loads(answer)
    except ValueError:
        return answer
    if isinstance(data, dict) and isinstance(data.get("text"), str):
        return str(data["text"])
    return data if isinstance(data, str) else answer if not isinstance(data, dict) else ""


def _unreachable(error: Exception) -> ProviderError:
    if isinstance(error, TimeoutError):
        return _failed(
            f"the on_message address did not answer within {ANSWER_S:g} s", "answer faster, or in pieces over ws://"
        )
    return _failed(f"the on_message address cannot be reached ({type(error).__name__})", "check that its server runs")


def _too_long() -> ProviderError:
    return _failed("the on_message address answered more than 64 KB", "answer shorter texts")


def _failed(problem: str, fix: str) -> ProviderError:
    return ProviderError(problem, provider="handler", stage="llm", fix=fix)
