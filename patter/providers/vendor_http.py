"""Requests to vendors over one HTTP client: opened, retried before the first byte, and their failures in plain words.

It owns time limits, retries and whether a connection was used again; it refuses to know what a request says.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Literal

import aiohttp
import anyio
from yarl import URL

from patter import json_text
from patter.exceptions import ProviderError
from patter.providers.vendor import Vendor, secret_words
from patter.signals import ConnectionUsed, Faulted

CONNECT_S = 5.0
SILENCE_S = 15.0  # no byte for so long: no caller waits on for the rest
RETRY_S = 0.25
LONGEST_WAIT_S = 3.0  # a vendor that asks for more is out for this turn: somebody is on the line
REFUSAL_LIMIT = 64 * 1024
REFUSAL_S = 2.0  # an error's words are not worth a longer wait


@dataclass(slots=True)
class Trip:
    """What one request's connection was like; filled in while the request is made."""

    reused: bool = True
    ms: float = 0.0
    began: float = 0.0


@dataclass(frozen=True, slots=True)
class VendorRequest:
    """One request. `body` is sent as JSON; `form` makes a multipart body anew for every try."""

    vendor: Vendor
    stage: Literal["stt", "llm", "tts"]
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Any = None
    form: Callable[[], aiohttp.FormData] | None = None
    attempts: int = 2
    connect_s: float = CONNECT_S
    silence_s: float = SILENCE_S
    what: str = ""
    """What is asked for (a model, a voice), for the sentence of a 404."""


@dataclass(slots=True)
class VendorReply:
    """An answer with status 2xx whose body has not been read. `told` are signals for whoever follows the call."""

    response: aiohttp.ClientResponse
    trip: Trip
    told: tuple[ConnectionUsed | Faulted, ...] = ()


class _Connector(aiohttp.TCPConnector):
    """Keeps connections, and notes on a request's trip that it needed a new one: a trace would cost every request more."""

    async def _create_connection(self, *given: Any, **more: Any) -> Any:
        trip, began = _trip.get(), time.perf_counter()
        if trip is not None:
            trip.reused = False
        made = await super()._create_connection(*given, **more)
        if trip is not None:
            trip.ms = (time.perf_counter() - began) * 1000
        return made


_trip: ContextVar[Trip | None] = ContextVar("the request that is being made", default=None)


def new_http() -> aiohttp.ClientSession:
    """The one client of a process: connections are kept, names are looked up once, and every request knows its trip.

    It keeps no cookies: no vendor's interface needs any."""
    connector = _Connector(limit=0, keepalive_timeout=60.0, ttl_dns_cache=300)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def _creating(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    trip = context.trace_request_ctx
    if isinstance(trip, Trip):
        trip.reused, trip.began = False, time.perf_counter()


async def _created(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    trip = context.trace_request_ctx
    if isinstance(trip, Trip):
        trip.ms = (time.perf_counter() - trip.began) * 1000


def _tripping() -> aiohttp.TraceConfig:
    config = aiohttp.TraceConfig()
    config.on_connection_create_start.append(_creating)
    config.on_connection_create_end.append(_created)
    config.freeze()
    return config


_TRIPS = _tripping()


@asynccontextmanager
async def sent(http: aiohttp.ClientSession, request: VendorRequest) -> AsyncIterator[VendorReply]:
    """Send a request and give its answer while its body is read. Raises ProviderError, also for breaks inside the body.

    Tries again, `attempts` times in all, as long as no byte of an answer has come and the vendor does not ask to wait too
    long; never after silence, which the caller has heard already. Leaving it before the end of the body closes the
    connection."""
    told: list[ConnectionUsed | Faulted] = []
    trip = Trip()
    if (
        not isinstance(http.connector, _Connector) and _TRIPS not in http.trace_configs
    ):  # a client that was made elsewhere
        http.trace_configs.append(_TRIPS)
    response = await _answered(http, request, trip, told)
    told.append(ConnectionUsed(request.stage, request.vendor.name, trip.reused, round(trip.ms, 1)))
    try:
        yield VendorReply(response, trip, tuple(told))
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        raise request.vendor.broken(request.stage, error) from error
    finally:
        response.close() if not response.content.at_eof() else response.release()


async def _answered(
    http: aiohttp.ClientSession, request: VendorRequest, trip: Trip, told: list[ConnectionUsed | Faulted]
) -> aiohttp.ClientResponse:
    attempt, stale = 1, False
    while True:
        trip.reused, trip.ms = True, 0.0
        try:
            return await _once(http, request, trip)
        except ProviderError as error:
            if error.code == "connection" and trip.reused and not stale:
                stale = True  # a kept connection that the vendor had closed meanwhile: no fault, and no reason to wait
                continue
            wait = error.retry_after_s if error.retry_after_s is not None else RETRY_S
            over = attempt >= request.attempts or error.code == "timeout" or wait > LONGEST_WAIT_S
            if not error.retryable or over:
                error.tries = attempt
                raise
            told.append(Faulted(request.stage, request.vendor.name, error.problem, "it is tried again"))
        attempt += 1
        await anyio.sleep(wait)


async def _once(http: aiohttp.ClientSession, request: VendorRequest, trip: Trip) -> aiohttp.ClientResponse:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=request.connect_s, sock_read=request.silence_s)
    headers = dict(request.headers)
    data: aiohttp.FormData | bytes | None = request.form() if request.form is not None else None
    if request.body is not None:
        headers["Content-Type"], data = "application/json", json_text.encode(request.body)
    token = _trip.set(trip)
    try:
        response = await http.request(
            request.method,
            _address(request.url),
            headers=headers,
            data=data,
            timeout=timeout,
            allow_redirects=False,  # a redirect would take the key to another server
            trace_request_ctx=trip,
        )
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        raise request.vendor.broken(request.stage, error) from None  # it may hold our headers
    finally:
        _trip.reset(token)
    if 200 <= response.status < 300:
        return response
    raise request.vendor.refused(
        request.stage,
        response.status,
        await _said(response),
        response.headers,
        secrets=secret_words(request.headers.items(), request.url),
        what=request.what,
    )


@lru_cache(maxsize=256)
def _address(url: str) -> URL | str:
    """The same few addresses are asked over and over."""
    try:
        return URL(url)
    except ValueError:
        return url  # the client says what is wrong with it


async def _said(response: aiohttp.ClientResponse) -> bytes:
    """An error's body, as far as it comes."""
    body = b""
    try:
        with anyio.move_on_after(REFUSAL_S):
            async for data in response.content.iter_any():
                body += data
                if len(body) > REFUSAL_LIMIT:
                    break
    except (aiohttp.ClientError, TimeoutError, ConnectionError):
        pass  # the status says enough
    finally:
        response.close() if not response.content.at_eof() else response.release()
    return body
