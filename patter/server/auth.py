"""Who may come in: which Host and Origin a request may carry, whose token or sign-in it shows, and what that one may do.

It owns the gate in front of every route; it refuses to know what is behind it. Carriers' routes check their own proofs
(signature, one-time token) and need none of ours.

A request proves itself by `Authorization: Bearer TOKEN`, or by the cookie of a sign-in. A browser sends the cookie whoever
made it ask, so such a request that changes something must also carry `X-Patter: page`, which no foreign page can add, and the
Origin of this very server; a WebSocket, the Origin alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from patter.clock import Clock
from patter.server.answers import Handler, Refused
from patter.server.endpoint import ROLES, Endpoint, Role, endpoint_of
from patter.server.limits import ALL_FAILURES, ALL_STRANGERS, FAILURES, KNOWN, STRANGERS, Buckets
from patter.server.sessions import Session, Sessions
from patter.server.tokens import Token, Tokens

INTENT = "X-Patter"
"""The header by which our own page says that it means what it asks. No other site can make a browser send it."""

UNPACED = ("/health", "/ready")
"""Whoever watches over the engine is always answered."""

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_PROXIED = ("forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "x-request-id")
_PROXIES = ("x-forwarded-", "x-envoy-", "x-amzn-", "cf-", "fly-", "fastly-", "ngrok-", "tailscale-")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks, for the gate and the audit. `token` is the name of the token that let them in."""

    name: str
    role: Role
    token: str = ""
    ambient: bool = False
    """A browser shows this proof by itself, so it proves no intent."""
    paced: bool = True
    """Whether it may ask only so often: all but the engine's own token, which the workbench has."""
    session: Session | None = field(default=None, repr=False)
    """The sign-in by which it came, if it did."""


NOBODY = Visitor("nobody", "open")
HERE = Visitor("this machine's user", "admin", ambient=True)
VISITOR = web.RequestKey("visitor", Visitor)
UNSIGNED = web.RequestKey("unsigned", bool)  # in without any token


def visitor_of(request: web.Request) -> Visitor:
    """Who asks, as far as the gate knows."""
    found: Visitor = request.get(VISITOR, NOBODY)
    return found


@dataclass(slots=True)
class Door:
    """Which port this is. `public` is its public host, "" without; `https` whether it is reached by TLS there.

    `passing` are the paths that no check here is for. `lenient`: without any token, this machine's user is let in."""

    port: int
    public: str = ""
    https: bool = True
    passing: tuple[str, ...] = ()
    carriers: tuple[str, ...] = ()
    lenient: bool = False
    hint: str = "it stands in engine.json"
    hosts: frozenset[str] = field(init=False)
    origins: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.open_to(self.public, https=self.https)

    def open_to(self, public: str, *, https: bool = True) -> None:
        """From now on it is reached at this public host too."""
        self.public, self.https = public.lower().removesuffix(":443" if https else ":80"), https
        own = [f"{name}:{self.port}" for name in LOOPBACK]
        self.hosts = frozenset([*own, *([self.public] if self.public else ())])
        outside = [f"{'https' if https else 'http'}://{self.public}"] if self.public else []
        self.origins = frozenset([*(f"http://{host}" for host in own), *outside])

    @property
    def cookie(self) -> str:
        """The name of its cookie: browsers give a host's cookies to all its ports."""
        return f"patter_{self.port}"


class Gate:
    """Lets in who shows a token or a sign-in and speaks to this server by its own name."""

    def __init__(self, door: Door, tokens: Tokens, sessions: Sessions, clock: Clock) -> None:
        self.door = door
        self.tokens = tokens
        self.sessions = sessions
        self._known = Buckets(KNOWN, clock)
        self._strangers = Buckets(STRANGERS, clock), Buckets(ALL_STRANGERS, clock)
        self._failures = Buckets(FAILURES, clock), Buckets(ALL_FAILURES, clock)

    def middleware(self) -> Middleware:
        """The gate as aiohttp's middleware."""

        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.check(request)
            return await handler(request)

        return gate

    def check(self, request: web.Request) -> None:
        """Raise Refused unless the request may come in; whoever comes in is noted in it."""
        endpoint = endpoint_of(request)
        if endpoint is None and request.path.startswith(self.door.passing):
            return
        self._check_names(request)
        if endpoint is None and request.path.startswith(self.door.carriers):
            return
        needed: Role = endpoint.role if endpoint else "read"
        visitor = NOBODY if needed == "open" else self.recognise(request, needed)
        request[VISITOR] = visitor
        if request.path not in UNPACED:
            self._check_pace(request, visitor if needed != "open" else self._signed_in(request))
        if ROLES.index(visitor.role) < ROLES.index(needed):
            raise Refused(403, f'This needs the role "{needed}": {visitor.name} has "{visitor.role}".')
        if visitor.ambient and endpoint is not None:
            self._check_intent(request, endpoint)

    # ------------------------------------------------------------------ names

    def _check_names(self, request: web.Request) -> None:
        hosts = request.headers.getall(hdrs.HOST, [])
        if len(hosts) != 1 or hosts[0].lower() not in self.door.hosts:
            raise Refused(403, "This server answers only to its own address (foreign Host header).")
        if any(origin.lower() not in self.door.origins for origin in request.headers.getall(hdrs.ORIGIN, [])):
            raise Refused(403, "Pages of other sites may not speak to this server (foreign Origin header).")

    def _check_intent(self, request: web.Request, endpoint: Endpoint) -> None:
        """Whether who is signed in means this, or another page made the browser ask."""
        if endpoint.writes and not request.headers.get(INTENT):
            raise Refused(403, f"A request with the page's sign-in needs the header {INTENT}: page, and its Origin.")
        if (endpoint.writes or endpoint.status == 101) and hdrs.ORIGIN not in request.headers:
            if request.get(UNSIGNED):  # no cookie: without an Origin it is no browser that asks
                return
            raise Refused(403, "A request with the page's sign-in needs the Origin header of this server.")

    # ------------------------------------------------------------------ proofs

    def recognise(self, request: web.Request, needed: Role = "open") -> Visitor:
        """Who asks, by token, sign-in, or as this machine's user. Raises Refused for a wrong proof, and for none if it
        is needed."""
        scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme:
            token = self.tell(request, given.strip() if scheme.lower() == "bearer" else "")
            if token is not None:
                return Visitor(f'the token "{token.name}"', token.role, token.name, paced=token.paced)
        elif (name := request.cookies.get(self.door.cookie)) and (session := self.sessions.find(name)):
            return _by_sign_in(session)
        elif self.door.lenient and self.is_here(request):
            request[UNSIGNED] = True
            return HERE
        if needed == "open":
            return NOBODY
        self._check_pace(request, NOBODY)
        raise Refused(
            401,
            f'This needs the role "{needed}": send a token that has it, Authorization: Bearer … ({self.door.hint}).',
            {hdrs.WWW_AUTHENTICATE: "Bearer"},
        )

    def _signed_in(self, request: web.Request) -> Visitor:
        """Whose browser asks for what is open to all: the page's thirty files are not to use up what strangers may ask for."""
        if (name := request.cookies.get(self.door.cookie)) and (session := self.sessions.find(name)):
            return _by_sign_in(session)
        return HERE if self.door.lenient and self.is_here(request) else NOBODY

    def tell(self, request: web.Request, given: str) -> Token | None:
        """The token that somebody gives. Raises Refused (429) for an address that has given too many wrong ones: from there
        only a token that nobody can guess is looked at."""
        wait = max(found.wait_s(who) for found, who in zip(self._failures, _askers(request), strict=True))
        token = self.tokens.find(given)
        if wait and (token is None or token.chosen):
            raise too_often(wait, "Too many wrong tokens came from this address")
        if token is None and given:
            for failures, who in zip(self._failures, _askers(request), strict=True):
                failures.take(who)
        return token

    def is_here(self, request: web.Request) -> bool:
        """Whether a request comes from this very machine and through no proxy."""
        loopback = (request.remote or "") in ("127.0.0.1", "::1")
        local = request.headers.get(hdrs.HOST, "").lower() in {f"{name}:{self.door.port}" for name in LOOPBACK}
        return loopback and local and not passed_on(request)

    # ------------------------------------------------------------------ how often

    def _check_pace(self, request: web.Request, visitor: Visitor) -> None:
        if not visitor.paced:
            return
        if visitor == NOBODY:
            one, everybody = _askers(request)
            wait = self._strangers[0].take(one) or self._strangers[1].take(everybody)
        else:
            wait = self._known.take(visitor.name)
        if wait:
            raise too_often(wait, "Too many requests came from here")


def _by_sign_in(session: Session) -> Visitor:
    token = session.token
    return Visitor(f'the dashboard session of "{token.name}"', token.role, token.name, ambient=True, session=session)


def _askers(request: web.Request) -> tuple[str, str]:
    """Whose patience a request costs: of the one address that the nearest proxy names, and of whatever it came from. Without
    a proxy that names it, anybody may: the second counts them all."""
    remote = request.remote or ""
    named = request.headers.getall("X-Forwarded-For", [""])[-1].rpartition(",")[2].strip()
    return (f"{remote} {named[:64]}" if remote in ("127.0.0.1", "::1") else remote), remote


def passed_on(request: web.Request) -> bool:
    """Whether a request shows that it came through a proxy: by what proxies add, or by the version that only they still speak."""
    told = any(name in request.headers for name in _PROXIED)
    return told or request.version < (1, 1) or any(name.lower().startswith(_PROXIES) for name in request.headers)


def too_often(wait_s: float, what: str) -> Refused:
    """The refusal of somebody who asks too often."""
    seconds = max(1, round(wait_s + 0.5))
    return Refused(429, f"{what}: try again in {seconds} s.", {hdrs.RETRY_AFTER: str(seconds)})
