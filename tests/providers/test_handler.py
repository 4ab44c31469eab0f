"""`on_message` in every form it may have: functions, generators, and addresses over HTTP and WebSocket."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web

from patter.control import CallControl
from patter.exceptions import ProviderError
from patter.models import Agent, IncomingHandler, IncomingMessage
from patter.ports import Ask, CallInfo
from patter.providers.handler import HandlerResponder
from patter.signals import TextDelta

pytestmark = pytest.mark.anyio

CALL = CallInfo("CA1", "+15551230001", "+15551230002")
HISTORY = [{"role": "user", "text": "hello", "timestamp": 1.0}]
ASK = Ask(
    CALL,
    Agent("x"),
    "",
    [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}, {"role": "user", "content": "hello"}],
)
DATA = {"text": "hello", "call_id": "CA1", "caller": "+15551230001", "callee": "+15551230002", "history": HISTORY}


async def answer(on_message: Any, **values: Any) -> list[str]:
    responder = HandlerResponder(on_message, CallControl("CA1"), history=HISTORY, **values)
    async with aclosing(responder.respond(ASK)) as pieces:  # type: ignore[type-var]
        return [piece.text async for piece in pieces if isinstance(piece, TextDelta)]


# ------------------------------------------------------------------------------------------------------- functions


async def test_an_async_function_gets_the_data_and_its_text_is_the_reply() -> None:
    async def handler(data: dict[str, Any]) -> str:
        return f"{data == DATA}"

    assert await answer(handler) == ["True"]


async def test_a_second_argument_is_the_call_control() -> None:
    async def handler(data: dict[str, Any], control: CallControl) -> str:
        await control.hangup()
        return control.call_id

    assert await answer(handler) == ["CA1"]


@pytest.mark.parametrize("takes", [lambda *given: str(len(given)), lambda data, control=None: "2" if control else "1"])
async def test_whoever_accepts_two_gets_two(takes: Callable[..., str]) -> None:
    assert await answer(takes) == ["2"]


async def test_a_plain_function_runs_in_a_thread() -> None:
    assert await answer(lambda data: str(threading.current_thread() is threading.main_thread())) == ["False"]


async def test_methods_partials_and_objects_are_handlers_too() -> None:
    class Brain:
        async def reply(self, data: dict[str, Any], control: CallControl) -> str:
            return control.call_id

        async def __call__(self, data: dict[str, Any]) -> str:
            return str(data["text"])

    async def named(name: str, data: dict[str, Any]) -> str:
        return name

    assert await answer(Brain().reply) == ["CA1"]
    assert await answer(Brain()) == ["hello"]
    assert await answer(partial(named, "Ann")) == ["Ann"]


async def test_the_pieces_of_a_generator_come_one_by_one() -> None:
    async def asynchronous(data: dict[str, Any]) -> AsyncIterator[str]:
        for piece in ("One. ", "", "Two."):
            yield piece

    def plain(data: dict[str, Any]) -> Iterator[str]:
        yield "One. "
        yield "Two."

    assert await answer(asynchronous) == ["One. ", "Two."]
    assert await answer(plain) == ["One. ", "Two."]


async def test_a_generator_is_closed_when_nobody_listens_any_more() -> None:
    closed: list[bool] = []

    async def handler(data: dict[str, Any]) -> AsyncIterator[str]:
        try:
            while True:
                yield "and "
        finally:
            closed.append(True)

    async with aclosing(HandlerResponder(handler).respond(ASK)) as pieces:  # type: ignore[type-var]
        async for _ in pieces:
            break
    assert closed == [True]


async def test_the_handler_of_one_call_gets_an_incoming_message() -> None:
    async def handler(message: IncomingMessage) -> str:
        return f"{message.text} from {message.caller}"

    assert await answer(IncomingHandler(handler)) == ["hello from +15551230001"]


async def test_nothing_returned_is_nothing_said() -> None:
    assert await answer(lambda data: None) == []


async def test_a_handler_that_raises_is_an_error_with_its_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(data: dict[str, Any]) -> str:
        raise KeyError("customer")

    with pytest.raises(ProviderError, match="KeyError: 'customer'"):
        await answer(handler)
    assert "Traceback" in caplog.text


async def test_a_reply_that_is_no_text_is_an_error() -> None:
    with pytest.raises(ProviderError, match=r"gave dict instead of str.*return the text"):
        await answer(lambda data: {"text": "hi"})


# ------------------------------------------------------------------------------------------------------- addresses


@asynccontextmanager
async def served(
    reply: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    app = web.Application()
    app.router.add_route("*", "/reply", reply)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        yield f"127.0.0.1:{runner.addresses[0][1]}/reply", session
    await runner.cleanup()


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ({"text": "Grüezi."}, ["Grüezi."]),
        ({"json": {"text": "Hi."}}, ["Hi."]),
        ({"json": "Hi."}, ["Hi."]),
        ({"text": "42"}, ["42"]),
        ({"json": {"other": 1}}, []),
        ({"text": ""}, []),
    ],
)
async def test_an_http_address_gets_the_data_and_answers_text_or_json(
    response: dict[str, Any], text: list[str]
) -> None:
    seen: list[Any] = []

    async def reply(request: web.Request) -> web.Response:
        seen.append(await request.json())
        return web.json_response(response["json"]) if "json" in response else web.Response(text=response["text"])

    async with served(reply) as (url, session):
        assert await answer(f"http://{url}", http=session) == text
    assert seen == [DATA]


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_half_a_character_pair_is_no_reason_to_fail(scheme: str) -> None:
    async def reply(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return web.Response(text=repr((await request.json())["text"]))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"text": repr((await socket.receive_json())["text"]), "done": True})
        await socket.close()
        return socket

    half = "hello \ud83d"
    ask = replace(ASK, messages=[{"role": "user", "content": half}])
    async with served(reply) as (url, session):
        responder = HandlerResponder(f"{scheme}://{url}", CallControl("CA1"), history=[], http=session)
        pieces = [piece async for piece in responder.respond(ask)]
    assert pieces == [TextDelta(repr(half))]


async def test_a_post_is_signed_when_there_is_a_secret() -> None:
    async def reply(request: web.Request) -> web.Response:
        expected = hmac.new(b"s3cret", await request.read(), hashlib.sha256).hexdigest()
        return web.Response(text=str(request.headers.get("X-Patter-Signature") == expected))

    async with served(reply) as (url, session):
        assert await answer(f"http://{url}", http=session, secret="s3cret") == ["True"]
        assert await answer(f"http://{url}", http=session) == ["False"]


async def test_the_question_over_a_websocket_is_signed_too() -> None:
    async def reply(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        expected = hmac.new(b"s3cret", (await socket.receive_str()).encode(), hashlib.sha256).hexdigest()
        await socket.send_json({"text": str(request.headers.get("X-Patter-Signature") == expected), "done": True})
        return socket

    async with served(reply) as (url, session):
        assert await answer(f"ws://{url}", http=session, secret="s3cret") == ["True"]


async def test_what_was_signed_for_one_address_goes_to_no_other() -> None:
    asked: list[str] = []

    async def reply(request: web.Request) -> web.Response:
        asked.append(request.method)
        return web.Response(status=307, headers={"Location": str(request.url)})

    async with served(reply) as (url, session):
        with pytest.raises(ProviderError, match="status 307"):
            await answer(f"http://{url}", http=session, secret="s3cret")
    assert asked == ["POST"]


@pytest.mark.parametrize(
    ("response", "says"), [(web.Response(status=500), "status 500"), (web.Response(text="x" * 70_000), "64 KB")]
)
async def test_a_bad_answer_over_http_is_an_error(response: web.Response, says: str) -> None:
    async def reply(request: web.Request) -> web.Response:
        return response

    async with served(reply) as (url, session):
        with pytest.raises(ProviderError, match=says):
            await answer(f"http://{url}", http=session)


async def test_a_websocket_streams_until_it_is_done() -> None:
    async def reply(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert json.loads(await socket.receive_str()) == DATA
        for frame in ({"text": "One. "}, {"text": "Two."}, {"done": True}, {"text": "too late"}):
            await socket.send_json(frame)
        await socket.receive()
        return socket

    async with served(reply) as (url, session):
        assert await answer(f"ws://{url}", http=session) == ["One. ", "Two."]


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (['{"text": "One"}'], "closed before"),
        (["[]"], "no JSON object"),
        (["{"], "no JSON object"),
        (['{"text": "' + "x" * 40_000 + '"}'] * 2, "64 KB"),
        (['{"text": "' + "ü" * 17_000 + '"}'] * 2, "64 KB"),
        (['{"text": "' + "x" * 70_000 + '"}'], "64 KB"),
    ],
)
async def test_a_bad_stream_is_an_error(frames: list[str], says: str) -> None:
    async def reply(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive_str()
        for frame in frames:
            await socket.send_str(frame)
        await socket.close()
        return socket

    async with served(reply) as (url, session):
        with pytest.raises(ProviderError, match=says):
            await answer(f"ws://{url}", http=session)


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_an_address_that_does_not_answer_is_an_error(scheme: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ProviderError, match="cannot be reached"):
            await answer(f"{scheme}://127.0.0.1:1/reply", http=session)


async def test_an_address_that_never_opens_its_websocket_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patter.providers.handler.ANSWER_S", 0.05)

    async def reply(request: web.Request) -> web.Response:
        await anyio.Event().wait()  # until the client goes, which cancels this
        return web.Response()

    async with served(reply) as (url, session):
        with pytest.raises(ProviderError, match="did not answer within"):
            await answer(f"ws://{url}", http=session)


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_slow_address_is_given_up(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patter.providers.handler.ANSWER_S", 0.05)

    async def reply(request: web.Request) -> web.StreamResponse:
        if scheme == "ws":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.receive_str()
            await socket.receive()
            return socket
        await anyio.Event().wait()  # until the client goes, which cancels this
        return web.Response()

    async with served(reply) as (url, session):
        with pytest.raises(ProviderError, match="did not answer within"):
            await answer(f"{scheme}://{url}", http=session)


async def test_another_address_is_refused() -> None:
    with pytest.raises(ValueError, match="http"):
        HandlerResponder("ftp://example.com")
