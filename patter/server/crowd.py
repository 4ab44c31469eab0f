"""How many connections a door in the open has at once: strangers make room for those who come after them.

It owns the counting and whom it costs; it refuses to know what a connection is used for.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

log = logging.getLogger(__name__)

STRANGERS = 200
"""Connections without the token of a call: webhooks of a carrier last milliseconds, whatever stays is idle or slow."""
CONNECTIONS = 600
"""All connections: those of calls, at most two a call, and strangers; far fewer than the files a process may have open."""
UNREAD_S = 10.0  # how often is looked for answers that nobody reads: those that are seen twice are given up


class Crowd:
    """Lets connections in to one server. When too many are open, the stranger that has been here longest must leave."""

    def __init__(self) -> None:
        self._server: web.Server
        self._known: set[RequestHandler] = set()
        self._spared: set[RequestHandler] = set()
        self._unread: set[RequestHandler] = set()
        self._full = False
        self._sweep: asyncio.TimerHandle

    @asynccontextmanager
    async def served(self, runner: web.AppRunner, listener: socket.socket) -> AsyncIterator[None]:
        """Let connections in on `listener`; both are closed at the end, and so is whatever is still open then."""
        await runner.setup()
        assert runner.server is not None
        self._server = runner.server
        try:
            server = await asyncio.get_running_loop().create_server(lambda: _Entrance(self), sock=listener)
            self._sweep_later()
            try:
                yield
            finally:
                self._sweep.cancel()
                server.close()
        finally:
            left = [one.transport for one in self._server.connections]
            await runner.cleanup()
            for transport in left:
                _cut(transport)

    def know(self, request: web.Request) -> None:
        """The connection of this request has shown the token of a call: it is no stranger any more."""
        self._known.add(request.protocol)

    def spare(self, request: web.Request) -> None:
        """The connection of this request has shown a token of ours: it may read slowly, and makes room after the strangers."""
        self._spared.add(request.protocol)

    def enter(self) -> RequestHandler | None:
        """Who serves a connection that has just been opened; None if there is no room for it."""
        here = [one for one in self._server.connections if one.transport and not one.transport.is_closing()]
        self._known.intersection_update(here)
        self._spared.intersection_update(here)
        strangers = [one for one in here if one not in self._known]
        full = len(strangers) >= STRANGERS or len(here) >= CONNECTIONS
        if full and not self._full:
            log.warning("too many connections are open: the oldest without a call are closed")
        self._full = full
        if full and not strangers:
            return None
        if full:
            _cut(self._least(strangers).transport)
        return self._server()

    def _least(self, strangers: list[RequestHandler]) -> RequestHandler:
        """Who must leave: the oldest that has shown nothing, as long as those with a token are no crowd themselves."""
        spared = [one for one in strangers if one in self._spared]
        others = [one for one in strangers if one not in self._spared]
        return (spared if len(spared) > len(strangers) // 2 else others)[0]

    def _sweep_later(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(UNREAD_S, self._sweep_out)

    def _sweep_out(self) -> None:
        """Cut off who takes no answer. In a call that is its media socket's to judge, until it is closed."""
        unread = {one for one in self._server.connections if self._takes_nothing(one)}
        for one in unread & self._unread:
            _cut(one.transport)
        self._unread = unread
        self._sweep_later()

    def _takes_nothing(self, one: RequestHandler) -> bool:
        pipe = one.transport  # of whichever loop: not every loop's transports are asyncio's by birth
        if pipe is None or not pipe.get_write_buffer_size() or one in self._spared:
            return False
        return pipe.is_closing() or one not in self._known


def _cut(transport: asyncio.BaseTransport | None) -> None:
    if transport is not None:
        cast(asyncio.Transport, transport).abort()


class _Entrance(asyncio.Protocol):
    """A connection until it is known whether it may stay."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        handler = self._crowd.enter()
        if handler is None:
            _cut(transport)
            return
        transport.set_protocol(handler)
        handler.connection_made(transport)


CROWD = web.AppKey("crowd", Crowd)
