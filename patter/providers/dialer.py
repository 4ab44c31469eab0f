"""WebSockets to vendors: opened, kept warm before they are needed, written without waiting, and their ends in plain words.

It owns the connection and what its failure means; it refuses to know any vendor's messages.
"""

from __future__ import annotations

import time
from asyncio import TimerHandle, get_running_loop
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aiohttp
import anyio
from aiohttp import WSMsgType

from patter.exceptions import ProviderError
from patter.providers.vendor import Vendor, secret_words
from patter.unwaited import masked_frame_of, unwaited

CONNECT_S = 5.0  # a vendor on the line answers in a fraction of that
HEARTBEAT_S = 10.0  # a half-open socket is noticed within one and a half of it
MESSAGE_LIMIT = 16 * 1024 * 1024
UNREAD_LIMIT = 4 * 1024 * 1024  # bytes a vendor may leave unread: minutes of sound
CLOSE_S = 2.0
REFUSAL_LIMIT = 64 * 1024
REFUSAL_S = 1.0  # a refusal's words are not worth a longer wait

GOOD_ORDER = frozenset({1000, 1001, 1005})  # done, going away, and closed without a word
PASSING = frozenset({1006, 1011, 1012, 1013, 1014})  # broken, failed, restarting, overloaded, a bad gateway
"""Every other code is an objection (a protocol, a policy, a vendor's own): the same again would be closed again."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a socket leads. Two equal targets may use each other's warm sockets. `what` was asked for, for a 404."""

    vendor: Vendor
    stage: str
    url: str = field(repr=False)  # may hold a token
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    protocols: tuple[str, ...] = field(default=(), repr=False)  # may hold one too
    what: str = ""

    @property
    def secrets(self) -> list[str]:
        """What must not be repeated in an error."""
        return [*secret_words(self.headers, self.url), *self.protocols]


class VendorSocket:
    """One open socket. Made by a `Dialer`; used by one owner, who closes it."""

    def __init__(self, target: Target, socket: aiohttp.ClientWebSocketResponse, connect_ms: float) -> None:
        self.target = target
        self.reused = False
        """Whether it stood already when it was asked for."""
        self.connect_ms = connect_ms
        """How long opening it took."""
        self.close_code: int | None = None
        """What the vendor closed it with (1005: it did not say); None if it has not."""
        self._socket = socket
        self._line = self._pipe()  # None as soon as nothing more may be said
        self._leaving = False

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._socket.closed or self._pipe() is None

    @property
    def stale(self) -> bool:
        """Whether it is of no use, also if nobody has read yet that the vendor has closed it."""
        reader = self._socket._reader
        unread = (message.type for message, _ in reader._buffer)
        return self.closed or reader.is_eof() or WSMsgType.CLOSE in unread

    def header(self, name: str) -> str:
        """A header of the vendor's answer to the upgrade, or ""."""
        return self._socket._response.headers.get(name, "")

    def send(self, message: str | bytes) -> bool:
        """Write one text or binary frame at once. Returns False when the socket is gone (its reader is told why)."""
        pipe = self._line
        if pipe is None or pipe.is_closing():
            return False
        if pipe.get_write_buffer_size() > UNREAD_LIMIT:
            pipe.abort()
            return False
        pipe.write(masked_frame_of(message))
        return True

    async def messages(self) -> AsyncIterator[str | bytes]:
        """What the vendor sends, until the socket is closed in good order (code 1000 or 1001, or by us).

        Raises ProviderError for any other end."""
        while True:
            message = await self._socket.receive()
            if message.type is not WSMsgType.TEXT and message.type is not WSMsgType.BINARY:
                break
            yield message.data
        self._line = None
        if message.type is WSMsgType.CLOSE:
            self.close_code = message.data or 1005
        if self._leaving or message.type is WSMsgType.CLOSING or self.close_code in GOOD_ORDER:
            return
        vendor, stage = self.target.vendor, self.target.stage
        if message.type is WSMsgType.ERROR and isinstance(message.data, BaseException):
            raise vendor.broken(stage, message.data) from message.data
        if self.close_code is None:
            error = self._socket.exception() or ConnectionResetError()
            raise vendor.broken(stage, error) from error
        raise vendor.closed(
            stage,
            self.close_code,
            str(message.extra or ""),
            retryable=self.close_code in PASSING,
            secrets=self.target.secrets,
        )

    def abort(self) -> None:
        """Drop it at once, without a goodbye. Whoever reads it is told that the connection broke."""
        if (pipe := self._pipe()) is not None:
            pipe.abort()

    def leave(self) -> None:
        """Say goodbye and close it, without waiting for the vendor's answer."""
        self._leaving, self._line = True, None
        if not self.closed:
            unwaited(self._socket._writer.close(1000))
        self._socket._response.close()

    async def aclose(self) -> None:
        """Close it; more than once is fine. Takes at most a few seconds, however the vendor behaves."""
        self._leaving, self._line = True, None
        if self.closed:
            self._socket._response.close()
            return
        with anyio.move_on_after(CLOSE_S * 1.5):  # a vendor that reads nothing could hold even our goodbye
            await self._socket.close()
        self._socket._response.close()

    def _pipe(self) -> Any:
        connection = self._socket._response.connection
        pipe = connection.transport if connection is not None else None
        return None if pipe is None or pipe.is_closing() else pipe


@dataclass(eq=False, slots=True)
class _Parked:
    socket: VendorSocket
    timer: TimerHandle


class Dialer:
    """Opens sockets over one HTTP client. `warm` opens one ahead; the next `open` of an equal target gets it.

    `connect_s` is how long opening may take, `heartbeat_s` how often a vendor must show that it is there."""

    def __init__(
        self, http: aiohttp.ClientSession, *, connect_s: float = CONNECT_S, heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        self._http = http
        self._watched: aiohttp.ClientSession | None = None
        self._connect_s, self._heartbeat_s = connect_s, heartbeat_s
        self._parked: dict[Target, list[_Parked]] = {}
        self._closed = False

    async def open(self, target: Target) -> VendorSocket:
        """A socket to `target`: a warm one, or a new one. Raises ProviderError."""
        while waiting := self._parked.get(target):
            parked = waiting.pop(0)
            parked.timer.cancel()
            if not waiting:
                del self._parked[target]
            if not parked.socket.stale:
                parked.socket.reused = True
                return parked.socket
            parked.socket.leave()
        return await self._connect(target)

    async def warm(self, target: Target, lasts_s: float = 30.0) -> None:
        """Open a socket for a call that is about to begin; unused, it is closed after `lasts_s`. Raises ProviderError."""
        socket = await self._connect(target)
        if self._closed:
            socket.leave()
            return
        parked = _Parked(socket, get_running_loop().call_later(lasts_s, self._drop, target, socket))
        self._parked.setdefault(target, []).append(parked)

    async def aclose(self) -> None:
        """Close what was never used."""
        self._closed = True
        for waiting in self._parked.values():
            for parked in waiting:
                parked.timer.cancel()
                parked.socket.leave()
        self._parked.clear()
        watched, self._watched = self._watched, None
        if watched is not None:
            await watched.close()  # the connections stay

    def _drop(self, target: Target, socket: VendorSocket) -> None:
        kept = [parked for parked in self._parked.get(target, []) if parked.socket is not socket]
        self._parked[target] = kept
        if not kept:
            del self._parked[target]
        socket.leave()

    def _client(self) -> aiohttp.ClientSession:
        """A client over the same connections: what watches upgrades would cost every other request something."""
        if self._watched is None:
            self._watched = aiohttp.ClientSession(
                connector=self._http.connector,
                connector_owner=False,
                trace_configs=[_WATCH],
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._watched

    async def _connect(self, target: Target) -> VendorSocket:
        vendor, began, answer = target.vendor, time.perf_counter(), _Answer()
        token = _answer.set(answer)
        try:
            with anyio.fail_after(self._connect_s):
                socket = await self._client().ws_connect(
                    target.url,
                    headers=dict(target.headers),
                    protocols=target.protocols,
                    heartbeat=self._heartbeat_s,
                    max_msg_size=MESSAGE_LIMIT,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                    compress=0,
                )
        except aiohttp.WSServerHandshakeError as error:
            raise _refused(target, error, answer) from None  # it holds our headers
        except _Redirected:
            raise vendor.refused(target.stage, answer.status) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise vendor.broken(target.stage, error) from None  # it may hold the address
        except ValueError:
            raise vendor.broken(target.stage, aiohttp.InvalidURL("")) from None
        finally:
            _answer.reset(token)
        return VendorSocket(target, socket, (time.perf_counter() - began) * 1000)


def _refused(target: Target, error: aiohttp.WSServerHandshakeError, answer: _Answer) -> ProviderError:
    if error.status == 101 or 200 <= error.status < 300:
        return target.vendor.garbled(target.stage, "no WebSocket")
    said = answer.body or (error.headers.get("dg-error", "") if error.headers else "").encode()
    return target.vendor.refused(
        target.stage, error.status, said, error.headers, secrets=target.secrets, what=target.what
    )


# ------------------------------------------------------------------------------- what the client hides of an upgrade


@dataclass(slots=True)
class _Answer:
    """What a vendor answered instead of opening a socket."""

    status: int = 0
    body: bytes = b""


class _Redirected(Exception):
    """A vendor sends us elsewhere: the key does not go there."""


_answer: ContextVar[_Answer | None] = ContextVar("answer to an upgrade", default=None)


async def _answered(_: aiohttp.ClientSession, __: SimpleNamespace, params: aiohttp.TraceRequestEndParams) -> None:
    answer = _answer.get()
    if answer is not None and params.response.status >= 400:
        try:
            with anyio.move_on_after(REFUSAL_S):
                async for data in params.response.content.iter_any():
                    answer.body += data
                    if len(answer.body) > REFUSAL_LIMIT:
                        break
        except aiohttp.ClientError:
            pass  # the status says enough


async def _redirected(
    _: aiohttp.ClientSession, __: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
) -> None:
    answer = _answer.get()
    if answer is not None:
        answer.status = params.response.status
        params.response.close()
        raise _Redirected


def _watching() -> aiohttp.TraceConfig:
    config = aiohttp.TraceConfig()
    config.on_request_end.append(_answered)
    config.on_request_redirect.append(_redirected)
    config.freeze()
    return config


_WATCH = _watching()
