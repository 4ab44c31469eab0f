"""All calls of this process as numbers for Prometheus, in its text format.

It owns the address; it refuses to know what is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from patter.server.answers import Refused
from patter.server.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class MetricsApi:
    """GET /metrics. `scrape` gives the text and its media type, or raises ImportError; `fix` says what to install then."""

    scrape: Callable[[], tuple[bytes, str]]
    fix: str

    def endpoints(self) -> list[Endpoint]:
        """The entry, for the table."""
        summary = "Everything counted since the start, as Prometheus scrapes it"
        return [Endpoint("GET", "/metrics", self.show, "read", summary, content="text/plain", refusals=(501,))]

    async def show(self, _: web.Request) -> web.Response:
        """The text of now."""
        try:
            text, media_type = self.scrape()
        except ImportError:
            raise Refused(501, f"{self.fix}.") from None
        return web.Response(body=text, headers={"Content-Type": media_type})
