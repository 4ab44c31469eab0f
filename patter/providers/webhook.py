"""POSTs JSON to addresses that users or models name, and only to such as an outsider may reach.

It owns that the rules of addresses hold when connecting, on every resolved address, that the body is signed, and the size
limits; it refuses to know what is asked or why.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from patter.address import Reach as Reach
from patter.exceptions import ProviderError

REPLY_LIMIT = 1024 * 1024
"""Bytes of a webhook's answer: more than a model could read, little enough to hold for many calls."""

PUBLIC = Reach()
CONNECT_S = 5.0  # a server that has not accepted by then leaves the caller in silence for nothing


SIGNATURE = "X-Patter-Signature"


def signed(secret: str, body: bytes) -> dict[str, str]:
    """The header that proves where `body` comes from: its HMAC-SHA256 in hex; none without a secret."""
    return {SIGNATURE: hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()} if secret else {}


class AddressRefused(OSError):
    """The address is not one that a webhook may reach."""


class _GuardedResolver(AbstractResolver):
    """Resolves names and gives only allowed addresses: the connection goes to what was checked, not to a second look-up."""

    def __init__(self, reach: Reach, inner: AbstractResolver) -> None:
        self._reach = reach
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        allowed = [result for result in found if self._reach.allows(result["host"])]
        if not allowed:
            raise AddressRefused(f"{host} is a private or internal address")
        return allowed

    async def close(self) -> None:
        await self._inner.close()


class Webhooks:
    """One HTTP client for all webhooks of an engine. Use it as an async context manager, or `aclose()` it.

    With a `secret` each body is signed in the header X-Patter-Signature. `resolver` looks up names (else the system's)."""

    def __init__(self, reach: Reach = PUBLIC, *, secret: str = "", resolver: AbstractResolver | None = None) -> None:
        self._reach = reach
        self._secret = secret
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Webhooks:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def post(self, url: str, payload: Mapping[str, Any], *, timeout_s: float = 10.0) -> Any:
        """The JSON that `url` answers to the JSON `payload` (at most 1 MB, status 2xx, no redirects).

        Raises ProviderError; it is `retryable` unless the address itself is not allowed."""
        target = self._checked(url)
        if self._session is None:
            self._session = self._opened()
        sent = json.dumps(payload).encode()
        headers = {"Content-Type": "application/json"} | signed(self._secret, sent)
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        post = self._session.post(target, data=sent, headers=headers, timeout=timeout, allow_redirects=False)
        try:
            async with post as response:
                if not 200 <= response.status < 300:
                    raise _failed(f"the webhook answered with status {response.status}")
                body = await response.content.read(REPLY_LIMIT + 1)
                while len(body) <= REPLY_LIMIT and (more := await response.content.read(REPLY_LIMIT + 1 - len(body))):
                    body += more
        except AddressRefused as error:
            raise _refused(str(error)) from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                raise _refused(str(error.os_error)) from error
            raise _failed(
                f"the webhook could not be reached ({error.os_error.strerror or 'connection failed'})"
            ) from error
        except TimeoutError as error:
            raise _failed(f"the webhook did not answer within {timeout_s:g} s") from error
        except aiohttp.ClientError as error:
            raise _failed(f"the webhook's connection broke ({type(error).__name__})") from error
        if len(body) > REPLY_LIMIT:
            raise _failed("the webhook's answer is larger than 1 MB")
        try:
            return json.loads(body)
        except ValueError as error:
            raise _failed("the webhook's answer is not JSON") from error

    def _opened(self) -> aiohttp.ClientSession:
        resolver = _GuardedResolver(self._reach, self._resolver or aiohttp.ThreadedResolver())
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=resolver),
            cookie_jar=aiohttp.DummyCookieJar(),  # one webhook's cookies are none of another's business
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,  # a small answer may unpack to a gigabyte
        )

    def _checked(self, url: str) -> URL:
        try:
            target = URL(url)
        except ValueError:
            raise _refused("the address cannot be read") from None
        if target.scheme not in ("http", "https") or not target.host:
            raise _refused("the address must begin with http:// or https://")
        try:
            allowed = self._reach.allows(target.host)
        except ValueError:
            if _is_number(target.host):
                raise _refused(f"{target.host} is an address in an unusual spelling") from None
            return target  # a name: the resolver looks at what it stands for
        if not allowed:
            raise _refused(f"{target.host} is a private or internal address")
        return target

    async def aclose(self) -> None:
        """Close the connections that were kept open."""
        if self._session is not None:
            await self._session.close()


def _is_number(host: str) -> bool:
    """Whether the system would take `host` for an IPv4 address (127.1, 0x7f000001, 2130706433) and look up no name."""
    try:
        socket.inet_aton(host.rstrip("."))
    except (OSError, ValueError):
        return False
    return True


def _failed(problem: str) -> ProviderError:
    return ProviderError(problem, provider="webhook", stage="tool", retryable=True)


def _refused(problem: str) -> ProviderError:
    fix = "use a public address, or allow loopback or private webhooks in the settings"
    return ProviderError(f"webhook not called: {problem}", provider="webhook", stage="tool", fix=fix)
