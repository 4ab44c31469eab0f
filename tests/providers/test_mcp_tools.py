"""Tools of real servers of the Model Context Protocol, over HTTP and as processes; a server that is down costs no call."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.types import TextContent

from patter.assembly import Workshop
from patter.builders import as_text
from patter.bus import Bus
from patter.call.toolbox import Toolbox
from patter.clock import Clock
from patter.events import CallStarted, Event
from patter.exceptions import ProviderError
from patter.models import Agent, McpServer, ScriptRule
from patter.ports import CallInfo
from patter.providers.mcp_tools import McpTools
from patter.transports.text import TextTransport

pytestmark = pytest.mark.anyio

KEY = "Bearer s3cret-value"
Scope = MutableMapping[str, Any]
PROGRAM = """
import os
from mcp.server.mcpserver import MCPServer

server = MCPServer("desk")

@server.tool()
def whoami() -> str:
    return f"{os.getpid()} {os.environ.get('TOKEN')} {os.environ.get('OF_THE_ENGINE')}"

@server.tool()
def crash() -> str:
    os._exit(3)

server.run()
"""


def calendar() -> Any:
    """The official package's own server."""
    server = MCPServer("calendar")

    @server.tool()
    def free(day: str, people: int = 1) -> str:
        """Free times of a day."""
        return f"{day}: ten, for {people}"

    @server.tool(structured_output=True)
    def hours() -> dict[str, int]:
        return {"opens": 9}

    @server.tool(name="look.up")
    def look_up() -> list[TextContent]:
        return [TextContent(type="text", text="one"), TextContent(type="text", text="two")]

    @server.tool()
    async def slow() -> str:
        await anyio.sleep_forever()
        return ""

    @server.tool()
    def refuse() -> str:
        raise ValueError("closed on Mondays")

    return server


def bound() -> socket.socket:
    """A port on which nobody listens yet."""
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    return made


def address(place: socket.socket) -> str:
    return f"http://127.0.0.1:{place.getsockname()[1]}/mcp"


@asynccontextmanager
async def served(place: socket.socket, key: str = "") -> AsyncIterator[None]:
    """The calendar at `place`, for those who know the `key`."""
    app = calendar().streamable_http_app()

    async def guarded(
        scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] == "http" and key and dict(scope["headers"]).get(b"authorization", b"").decode() != key:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await app(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(guarded, log_level="warning", ws="none"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [place])
        with anyio.fail_after(30):
            while not server.started:
                await anyio.sleep(0.01)
        try:
            yield
        finally:
            server.should_exit = server.force_exit = True


async def test_the_tools_of_a_server_are_ours_in_form_and_can_be_called() -> None:
    with bound() as place:
        async with served(place, KEY), McpTools() as mcp:
            server = McpServer("calendar", address(place), headers={"Authorization": KEY})
            tools = await mcp.offer([server])
            found = {spec["name"]: spec for spec in tools.specs}
            assert set(found) == {"free", "hours", "calendar_look_up", "slow", "refuse"}
            assert found["free"]["description"] == "Free times of a day."
            assert found["free"]["parameters"]["required"] == ["day"]
            assert tools.problems == ()
            assert await tools.call("free", {"day": "Monday"}) == "Monday: ten, for 1"
            assert json.loads(await tools.call("hours", {})) == {"opens": 9}
            assert await tools.call("calendar_look_up", {}) == "one\ntwo"
            with pytest.raises(ProviderError, match="calendar: "):
                await tools.call("refuse", {})


async def test_in_a_toolbox_their_arguments_are_checked_and_their_errors_are_results() -> None:
    with bound() as place:
        async with served(place), McpTools(call_s=0.2) as mcp:
            tools = await mcp.offer([McpServer("calendar", address(place))], taken=("hours",))
            own = {"name": "hours", "handler": lambda arguments, context: "mine"}
            box = Toolbox([own], sources=[tools])
            assert {"hours", "calendar_hours", "free", "end_call"} <= {spec["name"] for spec in box.specs}
            good = await box.run("free", '{"day": "Monday", "people": 2}', {})
            wrong = await box.run("free", '{"people": 2}', {})
            late = await box.run("slow", "", {})
            refused = await box.run("refuse", "", {})
            assert (good.ok, good.output) == (True, "Monday: ten, for 2")
            assert (await box.run("hours", "", {})).output == "mine"
    assert not wrong.ok
    assert "'day' is a required property" in wrong.output
    assert not late.ok
    assert "did not answer within" in late.output
    assert not refused.ok
    assert "refuse" in refused.output


async def test_in_a_call_they_are_the_agents_tools_and_a_missing_server_is_among_its_notes() -> None:
    clock, said = Clock(), ""
    shown = anyio.Event()

    def show(text: str, reply_id: int) -> None:
        nonlocal said
        said += text
        if "ten, for 1" in said:
            shown.set()

    bus = Bus(clock)
    events: list[Event] = []
    bus.add_sink(events.append)
    with bound() as place, bound() as nowhere:
        servers = McpServer("calendar", address(place)), McpServer("gone", address(nowhere))
        rule = ScriptRule(("free",), "I have {result}.", "free", {"day": "Monday"})
        agent = as_text(Agent("Be kind.", script=(rule,), mcp=servers))
        async with served(place), Workshop(bus, clock) as workshop, anyio.create_task_group() as tasks:
            line = TextTransport(clock, show)
            tasks.start_soon(workshop.open_call(CallInfo("call-1"), agent, line).run)
            line.type("When are you free?")
            with anyio.fail_after(30):
                await shown.wait()
            line.leave()
    assert said == "I have Monday: ten, for 1."
    [started] = [event for event in events if isinstance(event, CallStarted)]
    assert any(note.startswith("gone: ") and "cannot be reached" in note for note in started.notes)


async def test_only_names_that_two_servers_share_are_prefixed_and_only_named_tools_are_taken() -> None:
    with bound() as place:
        async with served(place), McpTools() as mcp:
            one = McpServer("one", address(place), only=("free", "slow"))
            two = McpServer("two", address(place), only=("free", "hours"))
            tools = await mcp.offer([one, two])
            assert [spec["name"] for spec in tools.specs] == ["one_free", "slow", "two_free", "hours"]
            assert await tools.call("two_free", {"day": "Friday"}) == "Friday: ten, for 1"


async def test_a_server_that_is_down_costs_its_tools_and_is_tried_again_for_the_next_call() -> None:
    with bound() as place:
        server = McpServer("calendar", address(place))
        async with McpTools(patience_s=30.0) as mcp:
            tools = await mcp.offer([server])
            assert tools.specs == ()
            assert [str(problem) for problem in tools.problems] == [
                f"calendar: 127.0.0.1:{place.getsockname()[1]} cannot be reached (ConnectError) — check that it runs, and its url"
            ]
            async with served(place):
                tools = await mcp.offer([server])
                assert tools.problems == ()
                assert await tools.call("free", {"day": "Monday"}) == "Monday: ten, for 1"


async def test_a_server_that_says_nothing_is_waited_for_no_longer_than_a_phone_rings() -> None:
    with bound() as place:
        place.listen()
        async with McpTools(patience_s=0.1) as mcp:
            [problem] = (await mcp.offer([McpServer("calendar", address(place))])).problems
            assert "did not answer within 0.1 s" in str(problem)


async def test_a_wrong_key_is_told_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with bound() as place:
        async with served(place, KEY), McpTools() as mcp:
            server = McpServer(
                "calendar", address(place) + "?token=s3cret-query", headers={"Authorization": "s3cret-wrong"}
            )
            tools = await mcp.offer([server])
    [problem] = tools.problems
    assert "refuses the key (status 401)" in str(problem)
    assert "check the headers" in problem.fix
    assert "s3cret" not in f"{problem} {tools!r}"
    assert "s3cret-wrong" not in repr(server)
    ours = [record for record in caplog.records if not record.name.startswith(("uvicorn", "mcp.server"))]
    assert "s3cret" not in "".join(record.getMessage() for record in ours)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_command_is_started_again_when_it_died_and_ends_with_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_ENGINE", "private")
    program = tmp_path / "desk.py"
    program.write_text(PROGRAM, encoding="utf-8")
    server = McpServer("desk", command=(sys.executable, str(program)), env={"TOKEN": "t0ken"})
    with anyio.fail_after(50):
        async with McpTools(patience_s=40.0) as mcp:
            tools = await mcp.offer([server])
            first, token, other = (await tools.call("whoami", {})).split()
            assert (token, other) == ("t0ken", "None")
            with pytest.raises(ProviderError, match="ended or broke off — run the command in a terminal"):
                await tools.call("crash", {})
            second = (await tools.call("whoami", {})).split()[0]
            assert first != second
            assert (await mcp.offer([server])).problems == ()
            assert (await tools.call("whoami", {})).split()[0] == second
    assert not alive(int(first))
    assert not alive(int(second))


async def test_what_goes_wrong_meanwhile_is_raised_as_itself() -> None:
    with pytest.raises(KeyError):
        async with McpTools():
            raise KeyError("mine")


@pytest.mark.parametrize(
    ("command", "says"), [("no-such-program", "cannot be started: No such file"), ("false", "ended or broke off")]
)
async def test_a_command_that_cannot_be_used_is_told(command: str, says: str) -> None:
    async with McpTools(patience_s=30.0) as mcp:
        [problem] = (await mcp.offer([McpServer("desk", command=(command,))])).problems
    assert says in str(problem)


async def test_without_the_extra_package_the_problem_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    async with McpTools(patience_s=30.0) as mcp:
        [problem] = (await mcp.offer([McpServer("desk", command=("true",))])).problems
    assert "pip install 'patter[mcp]'" in str(problem)
