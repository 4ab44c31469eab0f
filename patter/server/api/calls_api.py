"""The API of calls as they are read: the list, those that are up, one with its transcript, its events.

It owns these shapes; it refuses to know where calls are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from patter.server.answers import data, number_in
from patter.server.calls import CallLog
from patter.server.endpoint import Endpoint, call_id_of, no_such_call

PAGE = 100  # rows of the list of calls at most


@dataclass(frozen=True, slots=True)
class CallsApi:
    """The reading entries of /api/v1/calls."""

    calls: CallLog

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        root = "/api/v1/calls"
        return [
            Endpoint("GET", root, self.list_calls, "read", "The calls, newest first"),
            Endpoint("GET", f"{root}/active", self.active_calls, "read", "The calls that are up or ring"),
            Endpoint("GET", f"{root}/{{id}}", self.one_call, "read", "One call with its transcript"),
            Endpoint("GET", f"{root}/{{id}}/events", self.call_events, "read", "Everything that happened in a call"),
        ]

    async def list_calls(self, request: web.Request) -> web.Response:
        """The history, newest first."""
        limit, offset = number_in(request, "limit", 50, PAGE), number_in(request, "offset", 0, 10**9)
        rows, total = await self.calls.page(limit, offset)
        return data(rows, pagination={"limit": limit, "offset": offset, "count": len(rows), "total": total})

    async def active_calls(self, _: web.Request) -> web.Response:
        """The calls that are up."""
        rows = self.calls.live()
        return data(rows, count=len(rows))

    async def one_call(self, request: web.Request) -> web.Response:
        """A call with its transcript."""
        call = await self.calls.call(call_id_of(request))
        if call is None:
            raise no_such_call()
        return data(call)

    async def call_events(self, request: web.Request) -> web.Response:
        """Everything that happened in a call, from its journal."""
        events = await self.calls.events(call_id_of(request))
        if events is None:
            raise no_such_call()
        return web.Response(text=f'{{"data":{events}}}', content_type="application/json")
