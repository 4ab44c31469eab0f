"""The API's own description: the OpenAPI document.

It owns its address; it refuses to know what stands in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aiohttp import web

from patter.server.answers import json_text
from patter.server.endpoint import ENDPOINTS, Endpoint
from patter.server.openapi import document
from patter.server.schemas import OBJECT


@dataclass(frozen=True, slots=True)
class DocumentApi:
    """GET /api/v1/openapi.json."""

    version: str
    _made: list[str] = field(default_factory=list)

    def endpoints(self) -> list[Endpoint]:
        """The entry, for the table."""
        return [Endpoint("GET", "/api/v1/openapi.json", self.show, "read", "This document", answer=OBJECT)]

    async def show(self, request: web.Request) -> web.Response:
        """The document of all entries of this port; made once."""
        if not self._made:
            self._made.append(json_text(document(request.app[ENDPOINTS].values(), self.version)))
        return web.Response(text=self._made[0], content_type="application/json")
