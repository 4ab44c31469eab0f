"""Telnyx' REST API on this machine: who may ask, what they ask, and the answers in Telnyx' own bodies and codes.

It owns HTTP, repeated commands and refusals on request; it refuses to know what commands do.
"""

from __future__ import annotations

import json
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from aiohttp import web

from patter.loopback.telnyx_commands import Commands, Fields
from patter.loopback.telnyx_leg import Leg
from patter.loopback.telnyx_numbers import Directory
from patter.loopback.telnyx_parameters import COMMANDS, DIAL, Command, check
from patter.loopback.telnyx_refusal import Refusal, refusal_body
from patter.loopback.telnyx_webhooks import timestamp

REMEMBERED_S = 60.0  # how long a command_id is known
LARGEST_BODY = 1 << 20


Doer = Callable[[web.Request, dict[str, Any]], dict[str, Any]]
"""Does a request with the fields of its body or query; returns the body of the answer. Raises Refusal."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One REST request. `fields`: the JSON body, or the query of a GET."""

    method: str
    path: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PlannedRefusal:
    """A failure on request. `done`: the request is carried out all the same, and only its answer is lost."""

    status: int
    code: str
    message: str
    retry_after: float | None
    done: bool

    @property
    def headers(self) -> dict[str, str]:
        """When to ask again, if that is known."""
        if self.retry_after is None:
            return {}
        return {
            "x-ratelimit-limit": "10",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": f"{self.retry_after:g}",
        }


@dataclass(frozen=True, slots=True)
class _Done:
    """A command that was done at a moment, and its answer."""

    at: float
    command: str
    data: dict[str, Any]


class Api:
    """The requests of one account. `repeats_dials`: a known command_id does not keep a number from being dialled again."""

    def __init__(
        self,
        api_key: str,
        commands: Commands,
        directory: Directory,
        now: Callable[[], float],
        violations: list[str],
        *,
        repeats_dials: bool = False,
    ) -> None:
        self.requests: list[Asked] = []
        self.planned: deque[PlannedRefusal] = deque()
        self.files: dict[str, bytes] = {}
        """Recordings by their id, as WAV."""
        self._key = f"Bearer {api_key}".encode()
        self._commands, self._directory, self._now, self._violations = commands, directory, now, violations
        self._repeats_dials = repeats_dials
        self._remembered: dict[tuple[str, str], _Done] = {}

    def app(self) -> web.Application:
        """The server's routes."""
        routes: list[tuple[str, str, Doer]] = [
            ("POST", "/v2/calls", self._dial),
            ("GET", "/v2/calls/{id}", self._call),
            ("POST", "/v2/calls/{id}/actions/{action}", self._command),
            ("GET", "/v2/call_control_applications/{id}", self._application),
            ("PATCH", "/v2/call_control_applications/{id}", self._set_application),
            ("GET", "/v2/phone_numbers", self._numbers),
            ("GET", "/v2/phone_numbers/{id}", self._number),
            ("PATCH", "/v2/phone_numbers/{id}", self._set_number),
            ("*", "/{path:.*}", self._nothing),
        ]
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_get("/recordings/{id}.wav", self._recording)  # a signed address elsewhere: no part of the API
        for method, path, do in routes:
            app.router.add_route(method, path, self._serving(do))
        return app

    # ----------------------------------------------------------------- every request

    def _serving(self, do: Doer) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def serve(request: web.Request) -> web.Response:
            headers = {"Date": formatdate(self._now(), usegmt=True), "x-request-id": secrets.token_hex(8)}
            planned = self.planned.popleft() if self.planned else None
            try:
                answer = await self._answer(request, do, skip=planned is not None and not planned.done)
            except Refusal as refusal:
                if not refusal.innocent:
                    self._violations.append(f"{request.method} {request.path}: {refusal}")
                answer = refusal.status, refusal.body()
            if planned is not None:
                answer = planned.status, refusal_body(planned.code, planned.message, planned.message)
                headers |= planned.headers
            return web.json_response(answer[1], status=answer[0], headers=headers)

        return serve

    async def _answer(self, request: web.Request, do: Doer, *, skip: bool) -> tuple[int, dict[str, Any]]:
        fields = await self._fields(request)
        self.requests.append(Asked(request.method, request.path, fields))
        if skip:
            return 200, {}
        if not secrets.compare_digest(request.headers.get("Authorization", "").encode(), self._key):
            raise Refusal("10009", "no such API key")
        return 200, do(request, fields)

    @staticmethod
    async def _fields(request: web.Request) -> dict[str, Any]:
        if request.method == "GET":
            return dict(request.query)
        text = await request.text()
        if not text:
            return {}
        if request.content_type != "application/json":
            raise Refusal("10015", f"the body must be application/json, not {request.content_type}")
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            raise Refusal("10015", "the body is not JSON") from None
        if not isinstance(fields, dict):
            raise Refusal("10015", "the body is not a JSON object")
        return fields

    def _once(self, command: str, leg: str, fields: Fields, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do it, unless a command with this id came for this leg within a minute: then only the answer is repeated."""
        now = self._now()
        self._remembered = {key: known for key, known in self._remembered.items() if now - known.at < REMEMBERED_S}
        name = str(fields.get("command_id", ""))
        known = self._remembered.get((leg, name)) if name else None
        if known is not None:
            if known.command != command:
                self._violations.append(f"{command} is ignored: its command_id was that of {known.command}")
            return known.data
        data = do()
        if name:
            self._remembered[leg, name] = _Done(now, command, data)
        return data

    def _check(self, request: web.Request, command: Command, fields: dict[str, Any]) -> None:
        self._violations += [f"{request.method} {request.path}: {warning}" for warning in check(command, fields)]

    # ----------------------------------------------------------------- calls

    def _dial(self, request: web.Request, fields: dict[str, Any]) -> dict[str, Any]:
        self._check(request, DIAL, fields)
        self._directory.check_dial(fields)
        known_by: Fields = {} if self._repeats_dials else fields
        return {
            "data": self._once("dial", "", known_by, lambda: self._state(self._commands.dial(fields), dialled=True))
        }

    def _call(self, request: web.Request, _: dict[str, Any]) -> dict[str, Any]:
        return {"data": self._state(self._commands.leg(request.match_info["id"]))}

    def _command(self, request: web.Request, fields: dict[str, Any]) -> dict[str, Any]:
        action = request.match_info["action"]
        if action not in COMMANDS:
            raise Refusal("10005", f"{action} is no command")
        leg = self._commands.leg(request.match_info["id"])
        self._check(request, COMMANDS[action], fields)
        return {"data": self._once(action, leg.handle, fields, lambda: self._commands.do(leg, action, fields))}

    @staticmethod
    def _state(leg: Leg, *, dialled: bool = False) -> dict[str, Any]:
        state: dict[str, Any] = {
            "record_type": "call",
            "call_control_id": leg.handle,
            "call_leg_id": leg.call_id,
            "call_session_id": leg.session_id,
            "is_alive": False if dialled else leg.alive,
            "client_state": leg.client_state,
        }
        return state if dialled else state | {"start_time": timestamp(leg.started_at)}

    # ----------------------------------------------------------------- the account

    def _application(self, request: web.Request, _: dict[str, Any]) -> dict[str, Any]:
        return {"data": self._directory.application(request.match_info["id"])}

    def _set_application(self, request: web.Request, fields: dict[str, Any]) -> dict[str, Any]:
        return {"data": self._directory.set_application(request.match_info["id"], fields)}

    def _numbers(self, _: web.Request, fields: dict[str, Any]) -> dict[str, Any]:
        rows = self._directory.find(fields)
        meta = {"page_number": 1, "page_size": 20, "total_pages": 1, "total_results": len(rows)}
        return {"data": rows, "meta": meta}

    def _number(self, request: web.Request, _: dict[str, Any]) -> dict[str, Any]:
        return {"data": self._directory.number(request.match_info["id"])}

    def _set_number(self, request: web.Request, fields: dict[str, Any]) -> dict[str, Any]:
        return {"data": self._directory.set_number(request.match_info["id"], fields)}

    def _nothing(self, request: web.Request, _: dict[str, Any]) -> dict[str, Any]:
        raise Refusal("10005", f"the API has no {request.method} there")

    async def _recording(self, request: web.Request) -> web.Response:
        file = self.files.get(request.match_info["id"])
        if file is None:
            raise web.HTTPNotFound
        return web.Response(body=file, content_type="audio/wav")
