"""The page and the way into it: a token becomes the cookie of a sign-in, and leaves the address if it stood there.

It owns signing in and out; it refuses to know the page.
"""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import hdrs, web

from patter.server.answers import Refused, data, json_body
from patter.server.api_port import TOLD, ApiPort
from patter.server.auth import INTENT, NOBODY, VISITOR, Visitor, visitor_of
from patter.server.endpoint import Endpoint
from patter.server.page_routes import ROOT, Page
from patter.server.schemas import answered, record, words
from patter.server.sessions import INVITED_S, LONGEST_S
from patter.server.tokens import Token

WRONG = web.RequestKey("wrong", bool)  # the token of the address is


class DashboardApi:
    """The entries under /dashboard."""

    def __init__(self, port: ApiPort) -> None:
        self._port = port
        self._page = Page(self._signed_in)

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        login = record({"token": words(1_000)})
        done = answered({"type": "object"})
        shown = [entry for entry in self._page.endpoints() if entry.path != ROOT]
        return [
            Endpoint("GET", ROOT, self.show, "open", "The dashboard, or the form to sign in", content="text/html"),
            Endpoint(
                "POST",
                f"{ROOT}/login",
                self.login,
                "open",
                "Sign a browser in",
                body=login,
                answer=done,
                refusals=(401,),
            ),
            Endpoint(
                "POST",
                "/api/v1/invitations",
                self.invite,
                "read",
                "A way to open the dashboard once, signed in",
                answer=answered(record({"path": words(200), "valid_s": {"type": "number"}})),
                refusals=(409,),
            ),
            Endpoint("POST", f"{ROOT}/logout", self.logout, "open", "Sign a browser out", answer=done, refusals=(403,)),
            *shown,
        ]

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The page; with `?token=` or `?code=`, first the cookie and the address without it."""
        if shown := request.query.keys() & {"token", "code"}:
            request[TOLD] = True
            if "token" in shown:
                token = self._port.gate.tell(request, request.query["token"])
            else:
                token = self._port.sessions.accept(request.query["code"])
            if token is not None:
                return self._signed(request, web.Response(status=303, headers={hdrs.LOCATION: ROOT}), token)
            request[WRONG] = True
        answer = await self._page.show(request)
        if not self._signed_in(request):
            answer.set_status(401)
        return answer

    async def login(self, request: web.Request) -> web.StreamResponse:
        """A cookie for a token."""
        token = self._port.gate.tell(request, (await json_body(request))["token"].strip())
        if token is None:
            raise Refused(401, f"This is no token of this server ({self._port.gate.door.hint}).")
        return self._signed(request, data({}), token)

    async def invite(self, request: web.Request) -> web.StreamResponse:
        """A path that a program opens in a browser: whoever sees that address later can do nothing with it."""
        token = self._port.tokens.named(visitor_of(request).token)
        if token is None:
            raise Refused(409, "Nobody needs to sign in from here: open /dashboard.")
        path = f"{ROOT}?{urlencode({'code': self._port.sessions.invite(token)})}"
        return data({"path": path, "valid_s": INVITED_S})

    async def logout(self, request: web.Request) -> web.StreamResponse:
        """The sign-in is over, here and in the browser."""
        if not request.headers.get(INTENT):
            raise Refused(403, f"Signing out needs the header {INTENT}: page.")
        cookie = self._port.gate.door.cookie
        if name := request.cookies.get(cookie):
            self._port.sign_out(name)
        answer = data({})
        answer.del_cookie(cookie, path="/")
        return answer

    def _signed(self, request: web.Request, answer: web.Response, token: Token) -> web.Response:
        request[VISITOR] = Visitor(f'the dashboard session of "{token.name}"', token.role, token.name)
        door = self._port.gate.door
        here = self._port.gate.is_here(request)
        answer.set_cookie(
            door.cookie,
            self._port.sessions.open(token),
            path="/",
            httponly=True,
            samesite="Strict",
            secure=bool(door.public) and door.https and not here,
            max_age=int(LONGEST_S),
        )
        return answer

    def _signed_in(self, request: web.Request) -> bool:
        if request.get(WRONG):
            return False
        try:
            return self._port.gate.recognise(request) != NOBODY
        except Refused:
            return False
