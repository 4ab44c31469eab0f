"""The API of deletion: one call, what is too old or too much, and all calls of somebody who wants to be forgotten.

It owns these shapes; it refuses to know where calls are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from patter.exceptions import StoreError
from patter.server.answers import Refused, data, json_body
from patter.server.endpoint import Endpoint, call_id_of, no_such_call
from patter.server.schemas import Schema
from patter.store.retention import Retention

FORGET: Schema = {
    "type": "object",
    "description": "Which calls; exactly one of these",
    "properties": {
        "older_than_days": {"type": "number", "minimum": 0, "maximum": 100_000},
        "beyond": {"type": "integer", "minimum": 0, "maximum": 1_000_000_000, "description": "all but the newest so many"},
        "number": {
            "type": "string", "pattern": r"^\+?[0-9][0-9 ()./-]{1,30}$", "description": "all calls from and to this number",
        },
    },
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}  # fmt: skip
FORGOTTEN: Schema = {
    "type": "object",
    "properties": {
        "data": {
            "type": "object",
            "properties": {"forgotten": {"type": "integer", "minimum": 0}},
            "required": ["forgotten"],
        }
    },
    "required": ["data"],
}


@dataclass(frozen=True, slots=True)
class ForgettingApi:
    """The deleting entries of /api/v1/calls. `up` gives the rows of the calls that are up."""

    retention: Retention
    up: Callable[[], list[dict[str, Any]]]

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        one, many = (
            "Delete a call that is over, with its recording",
            "Delete calls that are old, too many, or of a number",
        )
        return [
            Endpoint(
                "DELETE", "/api/v1/calls/{id}", self.forget_one, "admin", one, answer=FORGOTTEN, refusals=(409, 503)
            ),
            Endpoint(
                "POST", "/api/v1/calls/forget", self.forget_many, "admin", many, body=FORGET, answer=FORGOTTEN,
                refusals=(409, 503),
            ),
        ]  # fmt: skip

    async def forget_one(self, request: web.Request) -> web.Response:
        """Delete one call."""
        call_id = call_id_of(request)
        if any(row["call_id"] == call_id for row in self.up()):
            raise Refused(409, "This call goes on: it can be deleted when it is over.")
        try:
            if not await self.retention.forget(call_id):
                raise no_such_call()
        except StoreError as problem:
            raise Refused(503, str(problem)) from None
        return data({"forgotten": 1})

    async def forget_many(self, request: web.Request) -> web.Response:
        """Delete all of a kind; answered when it is done. Calls that go on stay."""
        body = await json_body(request)
        try:
            if "number" in body:
                count = await self.retention.forget_number(str(body["number"]))
            elif "beyond" in body:
                count = await self.retention.forget_beyond(int(body["beyond"]))
            else:
                count = await self.retention.forget_older(float(body["older_than_days"]))
        except StoreError as problem:
            raise Refused(503, str(problem)) from None
        return data({"forgotten": count})
