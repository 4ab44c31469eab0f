"""Tools: arguments checked first, every failure a result, webhooks retried and kept off private addresses."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from aiohttp import web

from patter.call.toolbox import Toolbox
from patter.exceptions import ProviderError
from patter.providers.webhook import Reach, Webhooks

pytestmark = pytest.mark.anyio

CONTEXT = {"call_id": "CA1", "caller": "+15551230001", "callee": "+15551230002", "direction": "inbound"}
SCHEMA = {
    "type": "object",
    "properties": {"day": {"type": "string"}, "people": {"type": "integer", "minimum": 1}},
    "required": ["day"],
    "additionalProperties": False,
}


def tool(handler: Any = None, **values: Any) -> dict[str, Any]:
    return {"name": "find", "description": "Find a slot.", "parameters": SCHEMA, "handler": handler} | values


async def test_the_model_is_told_of_every_tool_and_the_two_of_every_agent() -> None:
    specs = Toolbox([tool(lambda arguments, context: "")]).specs
    assert [spec["name"] for spec in specs] == ["find", "transfer_call", "end_call"]
    assert specs[0] == {"name": "find", "description": "Find a slot.", "parameters": SCHEMA}
    assert "number" in specs[1]["parameters"]["required"]


async def test_a_handler_gets_arguments_and_context() -> None:
    seen: list[Any] = []

    async def handler(arguments: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
        seen.extend((arguments, context))
        return {"slots": ["ten", "zehn Uhr früh"]}

    result = await Toolbox([tool(handler)]).run("find", '{"day": "Tuesday"}', CONTEXT)
    assert (result.ok, json.loads(result.output)) == (True, {"slots": ["ten", "zehn Uhr früh"]})
    assert seen == [{"day": "Tuesday"}, CONTEXT]
    assert "früh" in result.output


async def test_a_plain_function_runs_in_a_thread_and_its_words_go_to_the_model_as_they_are() -> None:
    def handler(arguments: dict[str, Any], context: dict[str, Any]) -> str:
        return f"not here: {threading.current_thread() is threading.main_thread()}"

    result = await Toolbox([tool(handler)]).run("find", '{"day": "x"}', CONTEXT)
    assert result.output == "not here: False"


async def test_async_handlers_are_known_in_every_wrapping() -> None:
    class Finder:
        async def __call__(self, arguments: dict[str, Any], context: dict[str, Any]) -> str:
            return "called"

    async def three(first: str, arguments: dict[str, Any], context: dict[str, Any]) -> str:
        return first

    def returns_awaitable(arguments: dict[str, Any], context: dict[str, Any]) -> Any:
        return three("later", arguments, context)

    for handler, output in ((Finder(), "called"), (partial(three, "bound"), "bound"), (returns_awaitable, "later")):
        assert (await Toolbox([tool(handler)]).run("find", '{"day": "x"}', CONTEXT)).output == output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [("{", "not valid JSON"), ("[]", "one JSON object"), ("", "'day' is a required"), ('{"day": 3}', "day: 3 is not"),
     ('{"day": "x", "people": 0}', "people: 0 is less"), ('{"day": "x", "moon": 1}', "moon")],
)  # fmt: skip
async def test_arguments_that_do_not_fit_never_reach_the_handler(arguments: str, says: str) -> None:
    def handler(arguments: dict[str, Any], context: dict[str, Any]) -> str:
        raise AssertionError("called")

    result = await Toolbox([tool(handler)]).run("find", arguments, CONTEXT)
    assert not result.ok
    assert says in json.loads(result.output)["error"]


async def test_no_arguments_are_fine_for_a_tool_without_parameters() -> None:
    box = Toolbox([{"name": "hours", "handler": lambda arguments, context: None}])
    assert (await box.run("hours", "", CONTEXT)).output == '{"status": "done"}'


async def test_an_unknown_tool_is_an_error_that_names_the_known_ones() -> None:
    result = await Toolbox([]).run("fly", "{}", CONTEXT)
    assert not result.ok
    assert "end_call" in result.output


async def test_a_handler_that_raises_is_an_error_result_with_its_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def handler(arguments: dict[str, Any], context: dict[str, Any]) -> str:
        raise KeyError("calendar")

    result = await Toolbox([tool(handler)]).run("find", '{"day": "x"}', CONTEXT)
    assert not result.ok
    assert "calendar" in json.loads(result.output)["error"]
    assert "Traceback" in caplog.text


async def test_a_handler_that_takes_too_long_is_an_error_result() -> None:
    async def handler(arguments: dict[str, Any], context: dict[str, Any]) -> str:
        await anyio.Event().wait()
        return ""

    result = await Toolbox([tool(handler)], timeout_s=0.01).run("find", '{"day": "x"}', CONTEXT)
    assert (result.ok, "did not answer within" in result.output) == (False, True)


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        ([{"handler": print}], "needs a name"),
        ([{"name": "a"}], "handler or a webhook_url"),
        ([{"name": "a", "handler": "print"}], "must be a function"),
        ([{"name": "a", "handler": print}, {"name": "a", "handler": print}], "two tools"),
        ([{"name": "end_call", "handler": print}], "end_call"),
        ([{"name": "a", "handler": print, "parameters": {"type": "objekt"}}], "no valid JSON Schema"),
        ([{"name": "a", "webhook_url": "https://example.com/"}], "webhooks are not available"),
    ],
)
async def test_a_wrong_tool_is_refused_when_the_box_is_made(tools: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Toolbox(tools)


# -------------------------------------------------------------------------------------------------------- sources


class Shelf:
    """Tools of somebody else."""

    def __init__(self, *specs: dict[str, Any]) -> None:
        self.specs = specs

    async def call(self, name: str, arguments: dict[str, Any]) -> str:
        if arguments.get("day") == "never":
            raise ProviderError("the calendar is closed", provider="shelf", stage="tool")
        return f"{name} on {arguments.get('day')}"


def shelved(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "description": "", "parameters": parameters}


async def test_a_sources_tools_stand_beside_the_agents_own_and_fail_as_they_do() -> None:
    box = Toolbox([tool(lambda arguments, context: "mine")], sources=[Shelf(shelved("book", SCHEMA))])
    assert [spec["name"] for spec in box.specs] == ["find", "book", "transfer_call", "end_call"]
    assert (await box.run("book", '{"day": "Monday"}', CONTEXT)).output == "book on Monday"
    assert "'day' is a required" in (await box.run("book", "{}", CONTEXT)).output
    closed = await box.run("book", '{"day": "never"}', CONTEXT)
    assert (closed.ok, json.loads(closed.output)) == (False, {"error": "the calendar is closed"})


async def test_a_sources_tool_never_takes_the_place_of_another_and_a_broken_one_is_left_out() -> None:
    shelf = Shelf(shelved("find", {}), shelved("end_call", {}), shelved("odd", {"type": "objekt"}), shelved("book", {}))
    box = Toolbox([tool(lambda arguments, context: "mine")], sources=[shelf])
    assert [spec["name"] for spec in box.specs] == ["find", "book", "transfer_call", "end_call"]
    assert (await box.run("find", '{"day": "x"}', CONTEXT)).output == "mine"


async def test_a_schema_that_points_outside_itself_fetches_nothing() -> None:
    async with server() as (url, asked):
        box = Toolbox([], sources=[Shelf(shelved("book", {"properties": {"day": {"$ref": url}}}))])
        result = await box.run("book", '{"day": "Monday"}', CONTEXT)
    assert (result.ok, asked) == (False, [])
    assert "schema that is not there" in result.output


# ------------------------------------------------------------------------------------------------------- webhooks


@asynccontextmanager
async def server(*answers: web.Response) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook on loopback that gives its answers in order, and what it was asked."""
    asked: list[dict[str, Any]] = []
    left = list(answers)

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.json())
        return left.pop(0)

    app = web.Application()
    app.router.add_post("/tool", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/tool", asked
    finally:
        await runner.cleanup()


async def call_webhook(url: str, reach: Reach = Reach(loopback=True)) -> Any:  # noqa: B008
    async with Webhooks(reach) as webhooks:
        box = Toolbox([tool(webhook_url=url)], webhooks=webhooks, retry_s=0.0)
        return await box.run("find", '{"day": "Tuesday"}', CONTEXT)


async def test_a_webhook_gets_one_json_object_and_its_json_goes_to_the_model() -> None:
    async with server(web.json_response({"slots": [10]})) as (url, asked):
        result = await call_webhook(url)
    assert (result.ok, result.output) == (True, '{"slots": [10]}')
    assert asked == [
        {"tool": "find", "arguments": {"day": "Tuesday"}, "call_id": "CA1", "caller": "+15551230001",
         "callee": "+15551230002", "attempt": 1}
    ]  # fmt: skip


async def test_a_webhook_is_tried_three_times_in_all() -> None:
    bad = [web.Response(status=500), web.Response(text="<html>"), web.json_response("at last")]
    async with server(*bad) as (url, asked):
        result = await call_webhook(url)
    assert (result.ok, result.output) == (True, "at last")
    assert [one["attempt"] for one in asked] == [1, 2, 3]


async def test_after_the_last_failure_the_model_gets_an_error() -> None:
    async with server(*(web.Response(status=503) for _ in range(3))) as (url, asked):
        result = await call_webhook(url)
    assert (result.ok, len(asked)) == (False, 3)
    assert "status 503" in json.loads(result.output)["error"]


async def test_a_webhook_has_half_a_second_to_get_well() -> None:
    async with server(web.Response(status=500), web.json_response("well")) as (url, _):
        began = anyio.current_time()
        async with Webhooks(Reach(loopback=True)) as webhooks:
            result = await Toolbox([tool(webhook_url=url)], webhooks=webhooks).run(
                "find", '{"day": "Tuesday"}', CONTEXT
            )
    assert result.ok
    assert anyio.current_time() - began >= 0.5


async def test_an_answer_over_one_megabyte_is_refused() -> None:
    async with server(*(web.Response(body=b'"' + b"x" * 1_100_000 + b'"') for _ in range(3))) as (url, _):
        result = await call_webhook(url)
    assert "1 MB" in result.output


async def test_a_redirect_is_not_followed() -> None:
    moved = [web.Response(status=307, headers={"Location": "http://169.254.169.254/"}) for _ in range(3)]
    async with server(*moved) as (url, _):
        assert "status 307" in (await call_webhook(url)).output


async def test_loopback_is_out_of_reach_unless_it_is_allowed_by_name_and_by_address() -> None:
    async with server() as (url, asked):
        for spelling in (url, url.replace("127.0.0.1", "localhost"), url.replace("127.0.0.1", "[::ffff:127.0.0.1]")):
            result = await call_webhook(spelling, Reach())
            assert not result.ok
            assert "not called" in result.output
    assert asked == []


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1", "fe80::1%eth0",
     "fd00::1", "fd00:ec2::254", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "255.255.255.255"],
)  # fmt: skip
async def test_no_private_or_internal_address_is_reachable(host: str) -> None:
    assert not Reach().allows(host)


async def test_what_may_be_allowed_and_what_never() -> None:
    assert Reach().allows("93.184.216.34")
    assert Reach().allows("2606:2800:220:1::1")
    assert Reach(private=True).allows("10.0.0.1")
    assert not Reach(private=True).allows("127.0.0.1")
    assert not Reach(private=True, loopback=True).allows("169.254.169.254")
    assert not Reach(private=True).allows("fd00:ec2::254")


@pytest.mark.parametrize("url", ["ftp://example.com/", "example.com", "http://", "file:///etc/passwd"])
async def test_only_http_addresses_are_called(url: str) -> None:
    assert "http://" in (await call_webhook(url)).output


async def test_a_server_that_is_not_there_is_a_failure_with_a_sentence() -> None:
    async with server() as (url, _):
        pass
    assert "could not be reached" in (await call_webhook(url)).output
