"""Who may speak to the server: the token, and which Host and Origin a request may carry.

It owns the gate in front of every route; it refuses to know what is behind it. Carriers' routes check their own proofs
(signature, one-time token) and need no bearer token.
"""

from __future__ import annotations

import hmac

from aiohttp import web
from aiohttp.typedefs import Middleware

from patter.server.answers import Handler, Refused

OPEN = ("/webhooks/", "/ws/twilio/")
"""Paths whose handlers authenticate the carrier themselves."""

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Gate:
    """Lets in who holds `token` and speaks to this server by its own name."""

    def __init__(self, token: str, port: int, public_host: str = "") -> None:
        if not token:
            raise ValueError("the server needs a token")
        self._token = token.encode()
        self._hosts = {f"{name}:{port}" for name in _LOOPBACK} | ({public_host} if public_host else set())
        self._origins = {f"{scheme}://{host}" for host in self._hosts for scheme in ("http", "https")}

    def middleware(self) -> Middleware:
        """The gate as aiohttp's middleware."""

        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.check(request)
            return await handler(request)

        return gate

    def check(self, request: web.Request) -> None:
        """Raise Refused unless the request may come in."""
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            raise Refused(403, "This server answers only to its own address (foreign Host header).")
        for origin in request.headers.getall("Origin", []):
            if origin.lower() not in self._origins:
                raise Refused(403, "Pages of other sites may not speak to this server (foreign Origin header).")
        if request.path == "/health" or request.path.startswith(OPEN):
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(
            given.strip().encode("utf-8", "surrogateescape"), self._token
        ):
            raise Refused(401, "Send the engine's token: Authorization: Bearer … (it stands in engine.json).")
