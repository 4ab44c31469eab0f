"""The API of who may do what and who did: further tokens, and the audit.

It owns these shapes; it refuses to know how tokens and lines are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from patter.clock import Clock
from patter.server.answers import data, json_body, number_in
from patter.server.audit import Audit
from patter.server.endpoint import ROLES, Endpoint
from patter.server.schemas import NUMBER, TEXT, WHOLE, answered, listing, one_of, pattern, record, whole
from patter.server.tokens import NAME, NAMED, Tokens

LINES = 1_000  # of the audit at once

_TOKEN = record({"name": TEXT, "role": one_of(*ROLES[1:]), "made_at": NUMBER}, title="Token")
_MADE = record({"name": TEXT, "role": one_of(*ROLES[1:]), "token": TEXT}, title="NewToken")
_WANTED = record(
    {
        "name": pattern(f"^(?:{NAME.pattern})$", NAMED),
        "role": one_of(*ROLES[1:]),
    }
)
_LINE = record(
    {
        "at": NUMBER,
        "who": TEXT,
        "role": one_of(*ROLES),
        "from": TEXT,
        "method": TEXT,
        "path": TEXT,
        "of": TEXT,
        "status": WHOLE,
        "forwarded_for": TEXT,
        "left_out": {
            **WHOLE,
            "description": "so many refused strangers before it have no line: they knocked too often",
        },
    },
    optional=("of", "forwarded_for", "left_out"),
    title="AuditLine",
)


@dataclass(frozen=True, slots=True)
class AccessApi:
    """The entries of /api/v1/tokens and /api/v1/audit."""

    tokens: Tokens
    audit: Audit
    clock: Clock

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        root = "/api/v1/tokens"
        return [
            Endpoint(
                "GET",
                root,
                self.list_tokens,
                "admin",
                "The further tokens",
                answer=answered(listing(_TOKEN), count=WHOLE),
            ),
            Endpoint(
                "POST",
                root,
                self.make,
                "admin",
                "Make a token; it is told this once",
                body=_WANTED,
                answer=answered(_MADE),
                status=201,
                refusals=(409, 503),
            ),
            Endpoint(
                "DELETE",
                f"{root}/{{name}}",
                self.remove,
                "admin",
                "Let nobody in with this token any more",
                answer=answered({"type": "object"}),
                refusals=(404, 503),
            ),
            Endpoint(
                "GET",
                "/api/v1/audit",
                self.show,
                "admin",
                "Who did what, newest first",
                query={"limit": whole(0, LINES, 100)},
                answer=answered(listing(_LINE), count=WHOLE),
            ),
        ]

    async def list_tokens(self, _: web.Request) -> web.Response:
        """All of them, without what they are."""
        rows = self.tokens.rows()
        return data(rows, count=len(rows))

    async def make(self, request: web.Request) -> web.Response:
        """A new one."""
        body = await json_body(request)
        name, role = body["name"], body["role"]
        return data(
            {"name": name, "role": role, "token": await self.tokens.make(name, role, self.clock.now())}, status=201
        )

    async def remove(self, request: web.Request) -> web.Response:
        """Take one away."""
        await self.tokens.remove(request.match_info["name"])
        return data({})

    async def show(self, request: web.Request) -> web.Response:
        """The newest lines."""
        rows = await self.audit.last(number_in(request, "limit", 100, LINES))
        return data(rows, count=len(rows))
