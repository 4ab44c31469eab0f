"""The media WebSocket of one call: opened with limits, read until `start`, then fed to the call's transport to its end.

It owns sockets, their limits and their closing; it refuses to know carriers, tokens and what a message means.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

import anyio
from aiohttp import WSMsgType, web

from patter.exceptions import WireError
from patter.server.answers import Refused
from patter.server.crowd import CROWD
from patter.server.straight_socket import StraightSocket
from patter.unwaited import frame_of

log = logging.getLogger(__name__)

START_SECONDS = 10.0  # `start` follows the opening of the socket at once
FIRST_MESSAGES = 5  # `connected`, `start`, and room for what a newer protocol may put between
MESSAGE_LIMIT = 64 * 1024  # the largest frame a carrier sends is a few kilobytes
UNREAD_LIMIT = 4 * 1024 * 1024  # bytes a carrier may leave unread: over six minutes of µ-law in base64
CLOSE_S = 2.0  # how long a carrier may take to answer our closing
REASON_BYTES = 120  # a closing frame holds 125 with its code

S = TypeVar("S")


class Fed(Protocol):
    """A transport, as its socket sees it."""

    def feed(self, text: str) -> None:
        """One text frame of the carrier. Never raises for what a carrier may send."""

    def lost(self, detail: str = "") -> None:
        """The socket is gone."""


def check_upgrade(request: web.Request) -> None:
    """Raise Refused for a request that is no WebSocket's: before its token is used up."""
    if not web.WebSocketResponse().can_prepare(request):
        raise Refused(400, "A media stream is a WebSocket.")


async def accept(request: web.Request) -> StraightSocket:
    """Open the socket with the limits that a stranger must meet. Its caller has checked who may."""
    if crowd := request.app.get(CROWD):
        crowd.know(request)
    socket = StraightSocket(max_msg_size=MESSAGE_LIMIT, compress=False, timeout=CLOSE_S)
    await socket.prepare(request)
    return socket


async def first(
    socket: web.WebSocketResponse, read: Callable[[str], object], wanted: type[S], before: tuple[type, ...]
) -> S:
    """The stream's first message of the `wanted` kind; only messages of the kinds `before` may come before it.

    Raises WireError for anything else, and when it does not come in time."""
    try:
        with anyio.fail_after(START_SECONDS):
            return await _first(socket, read, wanted, before)
    except TimeoutError:
        raise WireError("no start message came") from None


async def _first(
    socket: web.WebSocketResponse, read: Callable[[str], object], wanted: type[S], before: tuple[type, ...]
) -> S:
    for _ in range(FIRST_MESSAGES):
        message = await socket.receive()
        if message.type is not WSMsgType.TEXT:
            raise WireError("the stream ended before its start message")
        said = read(message.data)
        if isinstance(said, wanted):
            return said
        if not isinstance(said, before):
            raise WireError(f"{type(said).__name__} came before start")
    raise WireError("no start message came")


async def refuse(socket: web.WebSocketResponse, reason: str, code: int = 1008) -> None:
    """Close a socket that may not go on. 1008: what came is wrong; 1011: we cannot."""
    await socket.close(code=code, message=reason.encode()[:REASON_BYTES].decode(errors="ignore").encode())


async def carry(socket: StraightSocket, wire: MediaSocket, transport: Fed) -> None:
    """Feed the transport until the socket is closed, by whichever side."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.close_when_asked)
        try:
            wire.watch()
            socket.listen(transport.feed)
            async for message in socket:
                if message.type is WSMsgType.TEXT:  # it came before anybody listened, or with something else
                    transport.feed(message.data)
        finally:  # also when the server stops: nobody else would tell the call
            transport.lost()
            socket.deafen()
        if not wire.closing:
            tasks.cancel_scope.cancel()


class MediaSocket:
    """A WebSocket as a transport needs it: writes at once, closes without waiting."""

    def __init__(self, socket: StraightSocket, request: web.Request) -> None:
        self._socket = socket
        self._request = request
        self._closing = anyio.Event()

    def send(self, text: str) -> None:
        """Write one text frame. A carrier that reads nothing is cut off."""
        pipe = self._request.transport
        if self._socket.closed or pipe is None or pipe.is_closing():
            return
        if pipe.get_write_buffer_size() > UNREAD_LIMIT:
            log.warning("the carrier does not read its stream")
            pipe.abort()
            return
        pipe.write(frame_of(text))

    def watch(self) -> None:
        """Cut off a carrier that has gone without a word."""
        if self._request.transport is not None:
            self._socket.watch(self._request.transport)

    @property
    def closing(self) -> bool:
        """Whether the transport has asked to close it."""
        return self._closing.is_set()

    def close(self) -> None:
        """Close the socket soon."""
        self._closing.set()

    async def close_when_asked(self) -> None:
        """Close the socket when the transport wants it."""
        await self._closing.wait()
        with anyio.move_on_after(2 * CLOSE_S):  # a carrier that reads nothing does not see our closing either
            await self._socket.close()
        if self._request.transport is not None:
            self._request.transport.abort()
