"""The far end of one WebSocket on a stage: what a loopback vendor reads, sends and breaks.

It owns frames and how a connection ends; it refuses to know what a message means.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

Message = dict[str, Any] | str | bytes
"""A JSON object, any other text as it came, or a binary frame."""


class ClientLeft(Exception):
    """The client has closed the socket, or its connection broke."""


class Peer:
    """One client's socket. `async for message in peer` reads until the client leaves.

    `cut_after_sent` / `cut_after_received`: the connection breaks after so many messages."""

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        match: Mapping[str, str] | None = None,
        *,
        record: bool = True,
    ) -> None:
        self.request = request
        self.path = request.path
        self.match = dict(match or {})
        """What stands for the placeholders of the path."""
        self.query: Mapping[str, Any] = {
            name: values[0] if len(values) == 1 else values
            for name in request.query
            if (values := request.query.getall(name))
        }
        """Of the upgrade; a name that comes more than once has a list."""
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        """Of the upgrade, by their names in lower case."""
        self.received: list[Message] = []
        """Text messages so far, in order (not kept for a stage with `record=False`)."""
        self.binary_frames = 0
        self.binary_bytes = 0
        self.close_code: int | None = None
        """What the client closed with; None: it has not, or its connection broke."""
        self.unplayed = 0
        """Steps of a script that are still to come."""
        self.dismissed = False
        """Whether the stage is being cleared: then it was not the client who left."""
        self.cut_after_sent: int | None = None
        self.cut_after_received: int | None = None
        self._socket = socket
        self._record = record
        self._sent = self._got = 0

    @property
    def closed(self) -> bool:
        return self._socket.closed

    async def receive(self) -> Message:
        """The next message. Raises ClientLeft when there is none."""
        if self._socket.closed:
            raise ClientLeft
        message = await self._socket.receive()
        if message.type is WSMsgType.CLOSE:
            self.close_code = message.data
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            raise ClientLeft
        self._got += 1
        if self._got == self.cut_after_received:
            self.cut()
            raise ClientLeft
        if message.type is WSMsgType.BINARY:
            self.binary_frames += 1
            self.binary_bytes += len(message.data)
            return bytes(message.data)
        read = _read(message.data)
        if self._record:
            self.received.append(read)
        return read

    async def __aiter__(self) -> AsyncIterator[Message]:
        try:
            while True:
                yield await self.receive()
        except ClientLeft:
            return

    async def send(self, message: Mapping[str, Any] | str | bytes) -> None:
        """Send a message; a mapping goes as JSON. Raises ClientLeft when nobody is there."""
        if self._socket.closed:
            raise ClientLeft
        try:
            if isinstance(message, bytes):
                await self._socket.send_bytes(message)
            else:
                await self._socket.send_str(message if isinstance(message, str) else json.dumps(message))
        except ConnectionError as error:
            raise ClientLeft from error
        self._sent += 1
        if self._sent == self.cut_after_sent:
            self.cut()
            raise ClientLeft

    async def close(self, code: int = WSCloseCode.OK, reason: str = "") -> None:
        """Close in good order."""
        if not self._socket.closed:
            await self._socket.close(code=code, message=reason.encode())

    def cut(self) -> None:
        """Break the connection behind what has been sent so far, without a goodbye."""
        if self.request.transport is not None:
            self.request.transport.close()

    def freeze(self) -> None:
        """Read nothing any more, not even pings: a half-open connection."""
        if self.request.transport is not None:
            self.request.transport.pause_reading()

    async def garbage(self, *, frame: bool = False) -> None:
        """Send text that is no JSON, or (`frame`) bytes that no WebSocket sends."""
        if not frame:
            await self.send("\x00<html>not { json")
        elif self.request.transport is not None:
            self.request.transport.write(b"\xff\xff\xff\xff garbage")


def _read(text: str) -> Message:
    try:
        data = json.loads(text)
    except ValueError:
        return text
    return data if isinstance(data, dict) else text
