"""One entry of the API: where it is, who may use it, what it takes and answers. The whole table makes the OpenAPI document.

It owns the shape of an entry and the checks that follow from it; it refuses to know what an entry does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

from patter.server.answers import Handler, Refused
from patter.server.request_check import RequestCheck
from patter.server.schemas import Schema

CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Role = Literal["open", "read", "operate", "admin"]
"""Who may: everybody; who may look; who may also steer calls; who may also change agents, lines, tokens and the engine."""

ROLES: tuple[Role, ...] = ("open", "read", "operate", "admin")
"""Each may what those before it may."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`path` as the router takes it ("/api/v1/calls/{id}"). `body`: the schema of the JSON object it takes (None: no body).

    `answer` is the schema of the whole JSON answer with `status`; `content` another media type than JSON. `refusals`: the
    statuses it may answer beside those that every entry may (400 of a query or body, 401, 403, 404 of an {id}, 429).
    `audited`: told in the audit although it only reads, as what takes data away or listens is; whatever writes always is."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: Handler
    role: Role
    summary: str
    body: Schema | None = None
    query: Mapping[str, Schema] = field(default_factory=dict)
    answer: Schema | None = None
    status: int = 200
    content: str = "application/json"
    refusals: tuple[int, ...] = ()
    audited: bool = False

    @property
    def writes(self) -> bool:
        """Whether it changes anything."""
        return self.method != "GET"


ENDPOINTS: web.AppKey[dict[web.AbstractRoute, Endpoint]] = web.AppKey("endpoints", dict)
"""Which entry each route of the application is: the gate asks it for the role, the document for everything."""


def mount(app: web.Application, endpoints: Iterable[Endpoint]) -> None:
    """Add the entries' routes to the application, with the checks of their schemas, and note them under `ENDPOINTS`."""
    known = app.setdefault(ENDPOINTS, {})
    for endpoint in endpoints:
        strict = endpoint.path.startswith("/api/")
        handler = RequestCheck(endpoint.query, endpoint.body, strict=strict).before(endpoint.handler)
        known[app.router.add_route(endpoint.method, endpoint.path, handler)] = endpoint


def endpoint_of(request: web.Request) -> Endpoint | None:
    """The entry that a request is for; None if it is for none."""
    known = request.app.get(ENDPOINTS, {})
    return known.get(request.match_info.route)


def call_id_of(request: web.Request) -> str:
    """The {id} of the request's path. Raises Refused (404) for what no call's id looks like."""
    call_id = request.match_info["id"]
    if not CALL_ID.fullmatch(call_id):
        raise no_such_call()
    return call_id


def no_such_call() -> Refused:
    """The refusal of an id that belongs to no call."""
    return Refused(404, "There is no such call.")
