"""Tools of servers that speak the Model Context Protocol: connected once for all calls, asked for their tools, and called.

It owns the connections, their time limits and what a failure means; it refuses to know when a tool is asked for. A server
that is down costs its tools and a sentence, never a call; it is tried again when the next call or tool needs it.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from patter.exceptions import ProviderError
from patter.models import McpServer
from patter.tool_rules import SYSTEM_TOOLS

PATIENCE_S = 5.0  # a phone does not ring longer for a server's tools; the connection goes on being made
START_S = 60.0  # a command may first have to fetch its packages
CALL_S = 30.0  # longer than this no caller waits
STREAM_S = 300.0  # a server may keep a stream open on which it says nothing
CLOSE_S = 8.0  # the official client gives a process 2 s to end, then ends it
PAGES = 50  # of tools: a list that never ends must not keep a call from beginning
RESULT_LIMIT = 64 * 1024
"""Characters of a result: more than a model should read while somebody waits."""
MISSING = "the package for mcp servers is not installed"

_ODD = re.compile(r"[^A-Za-z0-9_-]")


class McpTools:
    """All connections of an engine. Use it as an async context manager; processes that it started end with it."""

    def __init__(self, *, patience_s: float = PATIENCE_S, call_s: float = CALL_S) -> None:
        self._patience_s, self._call_s = patience_s, call_s
        self._servers: dict[str, _Server] = {}
        self._tasks: TaskGroup

    async def __aenter__(self) -> McpTools:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.close()
        await self._tasks.__aexit__(None, None, None)  # it waits; what went wrong elsewhere is raised as itself

    async def offer(self, servers: Sequence[McpServer], taken: Iterable[str] = ()) -> McpOffer:
        """The tools of these servers, as they are now. Never raises: what is missing is among its `problems`.

        A name that is `taken` (those of the tools that every agent has always are), or that two servers use, gets its
        server's name in front."""
        if not servers:
            return McpOffer()
        found: dict[_Server, _Listing] = {}

        async def ask(server: _Server) -> None:
            found[server] = await server.listing(self._patience_s)

        async with anyio.create_task_group() as tasks:
            for settings in servers:
                found[server := self._server(settings)] = _Listing()  # in the order of the settings
                tasks.start_soon(ask, server)
        return _merged(found, {*taken, *SYSTEM_TOOLS})

    def _server(self, settings: McpServer) -> _Server:
        key = repr((settings.name, settings.url, settings.command, settings.headers, settings.env, settings.only))
        if key not in self._servers:
            self._servers[key] = _Server(settings, self._tasks, self._call_s)
        return self._servers[key]


@dataclass(frozen=True, slots=True)
class McpOffer:
    """The tools that one agent has from its servers.

    `specs` are as the model is told of them: name, description, parameters. `problems` tell which servers are not there."""

    specs: tuple[dict[str, Any], ...] = ()
    problems: tuple[ProviderError, ...] = ()
    _calls: dict[str, tuple[_Server, str]] = field(default_factory=dict, repr=False)

    async def call(self, name: str, arguments: dict[str, Any]) -> str:
        """The result of a tool as text. Raises ProviderError with what its server, or the connection, says is wrong."""
        server, tool = self._calls[name]
        return await server.call(tool, arguments)


@dataclass(frozen=True, slots=True)
class _Listing:
    """What a server answered when it was asked for its tools."""

    tools: Sequence[Any] = ()
    problem: ProviderError | None = None


def _merged(found: Mapping[_Server, _Listing], taken: set[str]) -> McpOffer:
    names = [tool.name for listing in found.values() for tool in listing.tools]
    specs, problems, calls = [], [], {}
    for server, listing in found.items():
        if listing.problem is not None:
            problems.append(listing.problem)
        for tool in listing.tools:
            double = names.count(tool.name) > 1 or tool.name in taken or _ODD.search(tool.name)
            name = _ODD.sub("_", f"{server.name}_{tool.name}" if double else tool.name)[:64]
            if name in taken or name in calls:
                problems.append(server.failed(f"its tool {tool.name!r} is left out: another one has that name"))
                continue
            specs.append({"name": name, "description": tool.description or "", "parameters": dict(tool.input_schema)})
            calls[name] = server, tool.name
    return McpOffer(tuple(specs), tuple(problems), calls)


class _Server:
    """One server: its settings, and the connection of the moment, which is replaced when it broke."""

    def __init__(self, settings: McpServer, tasks: TaskGroup, call_s: float) -> None:
        self.name = settings.name
        self._settings, self._tasks, self._call_s = settings, tasks, call_s
        self._connection: _Connection | None = None

    def close(self) -> None:
        """Let the connection end."""
        if self._connection is not None:
            self._connection.close()

    async def listing(self, patience_s: float) -> _Listing:
        """Its tools, over a new connection if need be; waits for them so long, and lets a connection go on being made."""
        with anyio.move_on_after(patience_s):
            try:
                return _Listing(await self._listed())
            except ProviderError as error:
                return _Listing(problem=error)
        return _Listing(
            problem=self.failed(f"it did not answer within {patience_s:g} s", "its tools are there once it does")
        )

    async def _listed(self) -> Sequence[Any]:
        lasting = self._connection
        connection = await self._connected()
        try:
            listed = await connection.list_tools()
        except Exception as error:
            connection.close()
            if connection is not lasting:
                raise self._why(error, connection.status) from error
            listed = await (await self._connected()).list_tools()  # it had broken unnoticed: once more
        only = self._settings.only
        return [tool for tool in listed if not only or tool.name in only]

    async def call(self, tool: str, arguments: dict[str, Any]) -> str:
        """Call a tool. Raises ProviderError."""
        connection = await self._connected()
        try:
            with anyio.fail_after(self._call_s):
                result = await connection.client.call_tool(tool, arguments)
        except TimeoutError as error:
            raise self.failed(f"{tool} did not answer within {self._call_s:g} s") from error
        except Exception as error:
            connection.close()  # the next one that needs it finds a new one
            raise self._why(error, connection.status) from error
        text = _text(result)
        if result.is_error:
            raise self.failed(text or f"{tool} failed")
        return text

    async def _connected(self) -> _Connection:
        """The connection, made now if there is none. Raises ProviderError."""
        if self._connection is None or self._connection.closed:
            self._connection = _Connection(self._settings)
            self._tasks.start_soon(self._connection.run)
        connection = self._connection
        await connection.decided.wait()
        if connection.broken is not None:
            raise self._why(connection.broken, connection.status) from connection.broken
        return connection

    def failed(self, problem: str, fix: str = "") -> ProviderError:
        """A failure of this server."""
        return ProviderError(problem, provider=self.name, stage="tool", retryable=True, fix=fix)

    def _why(self, error: BaseException, status: int) -> ProviderError:
        """What an error means to the user. No message of the client is passed on: it may show a header."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, ProviderError):
            return error
        if isinstance(error, ImportError):
            return self.failed(MISSING, "pip install 'patter[mcp]'")
        if self._settings.command:
            first = self._settings.command[0]
            if isinstance(error, OSError):
                return self.failed(
                    f"{first!r} cannot be started: {error.strerror}", "check the command of the mcp server"
                )
            return self.failed(f"{first!r} ended or broke off", "run the command in a terminal to see why")
        place = urlsplit(self._settings.url).netloc
        if status in (401, 403):
            return self.failed(f"{place} refuses the key (status {status})", "check the headers of the mcp server")
        if status:
            return self.failed(f"{place} answers with status {status}", "check the url of the mcp server")
        return self.failed(f"{place} cannot be reached ({type(error).__name__})", "check that it runs, and its url")


class _Connection:
    """One life of a connection: opened, used, closed, all in one task, as the official client wants it."""

    def __init__(self, settings: McpServer) -> None:
        self._settings = settings
        self._closing = anyio.Event()
        self._opening = anyio.CancelScope()
        self.decided = anyio.Event()
        """Set when it is open, or has failed."""
        self.broken: BaseException | None = None
        self.client: Any = None
        self.status = 0
        """The HTTP status of the last request that was refused, which the official client keeps to itself."""

    @property
    def closed(self) -> bool:
        """Whether a new one is needed."""
        return self.broken is not None or self._closing.is_set()

    def close(self) -> None:
        """Let `run` end."""
        self._closing.set()
        if not self.decided.is_set():
            self._opening.cancel()

    async def run(self) -> None:
        """Open it, keep it until it is closed. Never raises."""
        try:
            with self._opening, anyio.fail_after(START_S) as limit:
                async with _client(self._settings, self._answered) as self.client:
                    limit.deadline = float("inf")
                    self.decided.set()
                    await self._closing.wait()
                    limit.deadline = anyio.current_time() + CLOSE_S
        except (Exception, BaseExceptionGroup) as error:
            self.broken = error
        finally:
            if not self.decided.is_set() and self.broken is None:
                self.broken = ConnectionError("closed before it was open")
            self._closing.set()
            self.decided.set()

    def _answered(self, status: int) -> None:
        self.status = status if status >= 400 else 0

    async def list_tools(self) -> list[Any]:
        """All tools of the server, page by page."""
        found: list[Any] = []
        cursor: str | None = None
        for _ in range(PAGES):
            page = await self.client.list_tools(cursor=cursor, cache_mode="refresh")
            found += page.tools
            cursor = page.next_cursor
            if cursor is None:
                break
        return found


@asynccontextmanager
async def _client(settings: McpServer, answered: Callable[[int], None]) -> AsyncIterator[Any]:
    """The official client, connected. Raises whatever it raises, and ImportError without its package."""
    connect = await anyio.to_thread.run_sync(_loaded)  # it takes a second to import
    async with connect(settings, answered) as client:
        yield client


def _loaded() -> Callable[[McpServer, Callable[[int], None]], Any]:
    """The function that connects with the official client."""
    import httpx2  # comes with the official package
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamable_http_client

    requests = logging.getLogger(httpx2.__name__)
    if requests.level == logging.NOTSET:
        requests.setLevel(logging.WARNING)  # it would log every request with its whole address, secrets included

    @asynccontextmanager
    async def connect(settings: McpServer, answered: Callable[[int], None]) -> AsyncIterator[Any]:
        async def look(response: httpx2.Response) -> None:
            answered(response.status_code)

        if settings.url:
            limits = httpx2.Timeout(CALL_S, read=STREAM_S)
            hooks = {"response": [look]}
            async with httpx2.AsyncClient(headers=settings.headers, timeout=limits, event_hooks=hooks) as http:
                transport = streamable_http_client(settings.url, http_client=http)
                async with Client(transport, cache=None) as client:
                    yield client
            return
        command = StdioServerParameters(
            command=settings.command[0], args=list(settings.command[1:]), env=settings.env, cwd=os.getcwd()
        )
        with open(os.devnull, "w") as nowhere:  # noqa: ASYNC230  (a server's own log would draw over the terminal)
            async with Client(stdio_client(command, errlog=nowhere), cache=None) as client:
                yield client

    return connect


def _text(result: Any) -> str:
    """What a model reads of a result: its texts, or its data."""
    parts = []
    for block in result.content:
        resource = getattr(block, "resource", None)
        if isinstance(text := getattr(block, "text", None) or getattr(resource, "text", None), str):
            parts.append(text)
        else:
            parts.append(f"[{block.type}]")
    if not parts and result.structured_content is not None:
        parts.append(json.dumps(result.structured_content, ensure_ascii=False, default=str))
    text = "\n".join(parts)
    return text if len(text) <= RESULT_LIMIT else text[:RESULT_LIMIT] + " … (cut)"
