"""A REST server on loopback that answers as a test says, and keeps what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import aiohttp
from aiohttp import web


class Asked(NamedTuple):
    """One request as it stood on the wire."""

    method: str
    target: str
    body: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        """The decoded path."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> list[tuple[str, str]]:
        return sorted(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def form(self) -> list[tuple[str, str]]:
        return sorted(parse_qsl(self.body, keep_blank_values=True))


Answer = web.Response | Callable[[web.Request], Awaitable[web.StreamResponse]]


class RestDesk:
    """Gives the listed answers in turn, the last one again and again; `sleep` waits for nothing and notes how long."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[Asked] = []
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(Asked(request.method, request.raw_path, await request.text(), request.headers.copy()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, web.Response):
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        return await answer(request)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
        """A client session, and the server's address."""
        app = web.Application(client_max_size=1 << 22)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, handler_cancellation=True)  # a client that gives up ends its request
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        try:
            async with aiohttp.ClientSession() as http:
                yield http, f"http://{host}:{port}"
        finally:
            await runner.cleanup()


def said(status: int, /, headers: Mapping[str, str] | None = None, **body: Any) -> web.Response:
    """An answer in JSON."""
    return web.json_response(body, status=status, headers=headers)
