"""WebSockets to vendors: opened, kept warm before they are needed, written without waiting, and their ends in plain words.

It owns the connection and what its failure means; it refuses to know any vendor's messages.
"""

from __future__ import annotations

import time
from asyncio import TimerHandle, get_running_loop
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import anyio
from aiohttp import WSMsgType

from patter.exceptions import ProviderError
from patter.providers.vendor import Vendor
from patter.unwaited import unwaited

CONNECT_S = 5.0  # a vendor on the line answers in a fraction of that
HEARTBEAT_S = 10.0  # a half-open socket is noticed within one and a half of it
MESSAGE_LIMIT = 16 * 1024 * 1024
UNREAD_LIMIT = 4 * 1024 * 1024  # bytes a vendor may leave unread: minutes of sound
CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where a socket leads. Two equal targets may use each other's warm sockets. `what` was asked for, for a 404."""

    vendor: Vendor
    stage: str
    url: str = field(repr=False)  # may hold a token
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    protocols: tuple[str, ...] = ()
    what: str = ""

    @property
    def secrets(self) -> list[str]:
        """What must not be repeated in an error."""
        return [word for _, value in self.headers for word in value.split()]


class VendorSocket:
    """One open socket. Made by a `Dialer`; used by one owner, who closes it."""

    def __init__(self, target: Target, socket: aiohttp.ClientWebSocketResponse, connect_ms: float) -> None:
        self.target = target
        self.reused = False
        """Whether it stood already when it was asked for."""
        self.connect_ms = connect_ms
        """How long opening it took."""
        self._socket = socket

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._socket.closed

    def header(self, name: str) -> str:
        """A header of the vendor's answer to the upgrade, or ""."""
        return self._socket._response.headers.get(name, "")

    def send(self, message: str | bytes) -> bool:
        """Write one text or binary frame at once. Returns False when the socket is gone (its reader is told why)."""
        connection = self._socket._response.connection
        pipe: Any = connection.transport if connection is not None else None
        if self._socket.closed or pipe is None or pipe.is_closing():
            return False
        if pipe.get_write_buffer_size() > UNREAD_LIMIT:
            pipe.abort()
            return False
        sending = self._socket.send_str(message) if isinstance(message, str) else self._socket.send_bytes(message)
        return unwaited(sending)

    async def messages(self) -> AsyncIterator[str | bytes]:
        """What the vendor sends, until the socket is closed in good order (code 1000 or 1001, or by us).

        Raises ProviderError for any other end."""
        vendor, stage = self.target.vendor, self.target.stage
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.TEXT or message.type is WSMsgType.BINARY:
                yield message.data
            elif message.type is WSMsgType.ERROR:
                raise vendor.broken(stage, message.data if isinstance(message.data, BaseException) else OSError())
            else:
                break
        code, ours = self._socket.close_code, message.type is WSMsgType.CLOSING
        if code in (1000, 1001) or ours:
            return
        if code is None or code == 1006:
            raise vendor.broken(stage, self._socket.exception() or ConnectionResetError())
        raise vendor.closed(stage, code, str(message.extra or ""), retryable=code not in (1002, 1003, 1007, 1008))

    async def aclose(self) -> None:
        """Close it; more than once is fine."""
        if not self._socket.closed:
            await self._socket.close()


@dataclass(eq=False, slots=True)
class _Parked:
    socket: VendorSocket
    timer: TimerHandle


class Dialer:
    """Opens sockets over one HTTP client. `warm` opens one ahead; the next `open` of an equal target gets it."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._parked: dict[Target, list[_Parked]] = {}

    async def open(self, target: Target) -> VendorSocket:
        """A socket to `target`: a warm one, or a new one. Raises ProviderError."""
        while waiting := self._parked.get(target):
            parked = waiting.pop()
            parked.timer.cancel()
            if not parked.socket.closed:
                parked.socket.reused = True
                return parked.socket
        return await self._connect(target)

    async def warm(self, target: Target, lasts_s: float = 30.0) -> None:
        """Open a socket for a call that is about to begin; unused, it is closed after `lasts_s`. Raises ProviderError."""
        socket = await self._connect(target)
        timer = get_running_loop().call_later(lasts_s, self._drop, target, socket)
        self._parked.setdefault(target, []).append(_Parked(socket, timer))

    async def aclose(self) -> None:
        """Close what was never used."""
        for waiting in self._parked.values():
            for parked in waiting:
                parked.timer.cancel()
                await parked.socket.aclose()
        self._parked.clear()

    def _drop(self, target: Target, socket: VendorSocket) -> None:
        kept = [parked for parked in self._parked.get(target, []) if parked.socket is not socket]
        self._parked[target] = kept
        if not kept:
            del self._parked[target]
        connection = socket._socket._response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()

    async def _connect(self, target: Target) -> VendorSocket:
        vendor, began = target.vendor, time.perf_counter()
        try:
            with anyio.fail_after(CONNECT_S):
                socket = await self._http.ws_connect(
                    target.url,
                    headers=dict(target.headers),
                    protocols=target.protocols,
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=MESSAGE_LIMIT,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                    compress=0,
                )
        except aiohttp.WSServerHandshakeError as error:
            said = (error.headers.get("dg-error", "") if error.headers else "").encode()
            raise vendor.refused(
                target.stage, error.status, said, error.headers, secrets=target.secrets, what=target.what
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise vendor.broken(target.stage, error) from error
        except ValueError as error:
            raise ProviderError("its address cannot be used", provider=vendor.name, stage=target.stage) from error
        return VendorSocket(target, socket, (time.perf_counter() - began) * 1000)
