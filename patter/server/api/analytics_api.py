"""The API of what many calls come to: overview, costs, latency.

It owns these entries; it refuses to know how the figures are made. A range is whole days of UTC: each that it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from patter.server.answers import data
from patter.server.api.call_shapes import COST, PERCENTILES, USED
from patter.server.api.reading import AGENT, RANGE, answer_of, days_in
from patter.server.endpoint import Endpoint
from patter.server.schemas import NUMBER, TEXT, TEXTS, WHOLE, Schema, answered, listing, or_null, record, table
from patter.store.analytics import Analytics

ROOT = "/api/v1/analytics"

_PARTS: Mapping[str, Schema] = dict.fromkeys(("stt", "tts", "llm", "telephony", "total"), NUMBER)
_OVERVIEW = record(
    {
        "calls": WHOLE,
        "active": WHOLE,
        "minutes": NUMBER,
        "turns": WHOLE,
        "directions": record({"inbound": WHOLE, "outbound": WHOLE, "test": WHOLE}),
        "interruptions": WHOLE,
        "false_interruptions": WHOLE,
        "cost": COST,
        "unpriced_calls": WHOLE,
        "unpriced": TEXTS,
        "cost_per_minute": or_null(NUMBER),
        "cost_per_call": or_null(NUMBER),
        "latency": PERCENTILES,
        "segments": table(PERCENTILES),
        "reasons": table(WHOLE),
        "agents": listing(
            record({"agent": TEXT, "calls": WHOLE, "minutes": NUMBER, "cost_total": NUMBER, "unpriced_calls": WHOLE})
        ),
    },
    title="Overview",
)
_DAY = record({"day": TEXT, "calls": WHOLE, "minutes": NUMBER, **_PARTS, "unpriced_calls": WHOLE}, title="CostDay")
_COSTS = record({"total": COST, "days": listing(_DAY), "providers": listing(USED)}, title="Costs")
_LATENCY = record(
    {
        "days": listing(record({"day": TEXT, "n": WHOLE, "p50": NUMBER, "p95": NUMBER})),
        "segments": table(PERCENTILES),
    },
    title="Latency",
)


@dataclass(frozen=True, slots=True)
class AnalyticsApi:
    """The entries of /api/v1/analytics that are made of the days' sums. `live` gives the rows of the calls that are up."""

    analytics: Analytics
    live: Callable[[], list[dict[str, Any]]]

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        made = []
        for name, handler, shape, summary in (
            (
                "overview",
                self.overview,
                _OVERVIEW,
                "How many calls, how long, what they cost, how quickly they were answered",
            ),
            ("costs", self.costs, _COSTS, "What calls cost: by day, and by provider with what was used of it"),
            ("latency", self.latency, _LATENCY, "How quickly callers were answered: by day, and by segment"),
        ):
            query = {**RANGE, **AGENT}
            made.append(
                Endpoint(
                    "GET",
                    f"{ROOT}/{name}",
                    handler,
                    "read",
                    summary,
                    query=query,
                    answer=answered(shape),
                    refusals=(503,),
                )
            )
        return made

    async def overview(self, request: web.Request) -> web.Response:
        """Everything of a range in one value, and how many calls are up now."""
        within, agent = days_in(request), request.query.get("agent", "")
        made = await answer_of(request, lambda: self.analytics.overview(within, agent))
        active = sum(not agent or row["agent"] == agent for row in self.live())
        return data(made | {"active": active})

    async def costs(self, request: web.Request) -> web.Response:
        """The costs of a range."""
        within, agent = days_in(request), request.query.get("agent", "")
        return data(await answer_of(request, lambda: self.analytics.costs(within, agent)))

    async def latency(self, request: web.Request) -> web.Response:
        """The latency of a range."""
        within, agent = days_in(request), request.query.get("agent", "")
        return data(await answer_of(request, lambda: self.analytics.latency(within, agent)))
