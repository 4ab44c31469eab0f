"""The API of money: prices in use, the budget and what is left of it, forecasts and what-if.

It owns these shapes; it refuses to know formulas and where usage is kept. USD; days are those of UTC.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio.to_thread
from aiohttp import web

from patter.clock import Clock
from patter.engine_rules import BUDGET_USD
from patter.exceptions import SettingsError, StoreError
from patter.models import CostBreakdown
from patter.observe.budget import Purse
from patter.observe.cost import call_costs
from patter.observe.money import Bill, CallStats, Swap, UsageSum, forecast, what_if
from patter.observe.prices import STAGES, Prices
from patter.server.answers import Refused, data, json_body, number_in
from patter.server.api.period import DAY_S, MOMENT, since, until
from patter.server.endpoint import CALL_ID, Endpoint, no_such_call
from patter.server.schemas import (
    FLAG,
    NUMBER,
    OBJECT,
    TEXT,
    TEXTS,
    WHOLE,
    answered,
    listing,
    number,
    or_null,
    record,
    words,
)
from patter.server.schemas import table as table_of
from patter.settings import checked_budget, write_budget
from patter.store.books import Books

MOST = 1_000_000  # calls of a forecast


COSTS = record(
    {"stt": NUMBER, "llm": NUMBER, "tts": NUMBER, "telephony": NUMBER, "total": NUMBER}, title="MoneyByStage"
)
PRICE = record(
    {
        "provider": TEXT, "stage": TEXT, "model": TEXT, "amount": TEXT, "unit": TEXT, "price": NUMBER, "currency": TEXT,
        "rounding": TEXT, "surcharge": FLAG, "running": FLAG, "source": TEXT, "as_of": TEXT,
    },
    title="Price",
)  # fmt: skip
LIMITS = {"per_call_usd": or_null(NUMBER), "per_day_usd": or_null(NUMBER), "farewell": TEXT}
TODAY = {
    "day": TEXT, "spent_usd": NUMBER, "live_usd": NUMBER, "left_usd": or_null(NUMBER), "agents": table_of(NUMBER),
    "unpriced": TEXTS,
}  # fmt: skip
BUDGET = record(
    {"limits": record(LIMITS), "today": record(TODAY), "refusal": TEXT, "written_to": TEXT}, title="BudgetState"
)
CHANGE = record(
    {
        "per_call_usd": or_null(number(0, BUDGET_USD)),
        "per_day_usd": or_null(number(0, BUDGET_USD)),
        "farewell": words(500),
    },
    optional=("per_call_usd", "per_day_usd", "farewell"),
)
FORECAST = record(
    {
        "calls": WHOLE, "per_call": COSTS, "total": COSTS, "per_minute": or_null(NUMBER), "low": or_null(NUMBER),
        "high": or_null(NUMBER), "based_on": record({"calls": WHOLE, "minutes": NUMBER, "kind": TEXT}), "unpriced": TEXTS,
    },
    title="Forecast",
)  # fmt: skip
QUESTION = record(
    {
        "from": {"type": ["string", "number"]},
        "to": {"type": ["string", "number"]},
        "call_id": words(64),
        "agent": words(200, needed=False),
        "pricing": table_of(OBJECT),
        "swap": record(
            {
                name: record({"provider": words(64), "model": words(200, needed=False)}, optional=("model",))
                for name in STAGES
            },
            optional=STAGES,
        ),
    },
    optional=("from", "to", "call_id", "agent", "pricing", "swap"),
)
ANSWER = record(
    {
        "now": COSTS,
        "then": COSTS,
        "difference": or_null(NUMBER),
        "unpriced": TEXTS,
        "unpriced_now": TEXTS,
        "notes": TEXTS,
    },
    title="WhatIf",
)


@dataclass(frozen=True, slots=True)
class MoneyApi:
    """The entries about money, as far as there are parts for them. A changed budget is written to `file`, if there is one."""

    prices: Prices | None
    purse: Purse | None
    books: Books | None
    clock: Clock
    file: Path | None = None

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        root = "/api/v1"
        made = []
        if self.prices is not None:
            made.append(
                Endpoint("GET", f"{root}/prices", self.list_prices, "read", "The prices in use, with source and date",
                         answer=answered(listing(PRICE), count=WHOLE))
            )  # fmt: skip
        if self.purse is not None:
            made += [
                Endpoint("GET", f"{root}/budget", self.read_budget, "read", "What calls may cost, and what they did today",
                         answer=answered(BUDGET)),
                Endpoint("PUT", f"{root}/budget", self.put_budget, "admin", "Change what calls may cost", body=CHANGE,
                         answer=answered(BUDGET), refusals=(409, 422)),
            ]  # fmt: skip
        if self.prices is not None and self.books is not None:
            asked = {
                "calls": {"type": "integer", "minimum": 1, "maximum": MOST, "default": 1000},
                "from": MOMENT,
                "to": MOMENT,
                "agent": words(200, needed=False),
            }
            made += [
                Endpoint("GET", f"{root}/analytics/forecast", self.forecast, "read", "What so many calls will cost",
                         query=asked, answer=answered(FORECAST), refusals=(409, 503)),
                Endpoint("POST", f"{root}/analytics/what-if", self.what_if, "read", "The same usage at other prices",
                         body=QUESTION, answer=answered(ANSWER), refusals=(404, 422, 503)),
            ]  # fmt: skip
        return made

    # ------------------------------------------------------------------ prices and budget

    async def list_prices(self, _: web.Request) -> web.Response:
        """Every row, in the order of the look-up's keys."""
        assert self.prices is not None
        rows = sorted(self.prices.rows, key=lambda row: (row.stage, row.provider, row.model, row.amount))
        return data([{name: getattr(row, name) for name in PRICE["properties"]} for row in rows], count=len(rows))

    async def read_budget(self, _: web.Request) -> web.Response:
        """The limits, and today so far."""
        assert self.purse is not None
        await self.purse.refresh()
        return data(self._state(self.purse))

    async def put_budget(self, request: web.Request) -> web.Response:
        """Change the limits that are named; null is none. Live calls are held to them at once."""
        assert self.purse is not None
        body = await json_body(request)
        changes = {name: body[name] for name in ("per_call_usd", "per_day_usd", "farewell") if name in body}
        try:
            budget = checked_budget(replace(self.purse.budget, **changes))
        except SettingsError as problem:
            raise Refused(422, str(problem)) from None
        if self.file is not None:
            try:
                await anyio.to_thread.run_sync(write_budget, self.file, budget)
            except SettingsError as problem:
                raise Refused(409, str(problem)) from None
        self.purse.change(budget)
        return data(self._state(self.purse))

    def _state(self, purse: Purse) -> dict[str, Any]:
        limits, spent = purse.budget, purse.spent_today()
        left = None if limits.per_day_usd is None else max(0.0, limits.per_day_usd - spent.total)
        return {
            "limits": {name: getattr(limits, name) for name in LIMITS},
            "today": {
                "day": datetime.fromtimestamp(spent.day * DAY_S, UTC).date().isoformat(),
                "spent_usd": spent.total,
                "live_usd": spent.live,
                "left_usd": left,
                "agents": dict(spent.agents),
                "unpriced": list(spent.unpriced),
            },
            "refusal": purse.refusal(),
            "written_to": self.file.name if self.file is not None else "",
        }

    # ------------------------------------------------------------------ analytics

    async def forecast(self, request: web.Request) -> web.Response:
        """From the newest phone calls of that time; from rehearsals where there are none."""
        assert self.books is not None
        calls = number_in(request, "calls", 1000, MOST)
        query = request.query
        period = since(query.get("from")), until(query.get("to"))
        stats, kind = await self._stats(self.books, *period, query.get("agent", ""))
        if not stats.calls:
            raise Refused(409, "No call of that time is over yet: there is nothing to forecast from.")
        made = forecast(stats, calls)
        return data(
            {
                "calls": made.calls,
                "per_call": call_costs(made.per_call),
                "total": call_costs(made.total),
                "per_minute": made.per_minute,
                "low": made.low,
                "high": made.high,
                "based_on": {"calls": stats.calls, "minutes": round(stats.seconds / 60, 3), "kind": kind},
                "unpriced": list(stats.unpriced),
            }
        )

    async def _stats(self, books: Books, since: float, until: float, agent: str) -> tuple[CallStats, str]:
        try:
            phone = await books.stats(since, until, agent)
            if phone.calls:
                return phone, "phone"
            return await books.stats(since, until, agent, rehearsals=True), "rehearsal"
        except StoreError as problem:
            raise Refused(503, str(problem)) from None

    async def what_if(self, request: web.Request) -> web.Response:
        """The usage of one call, or of the days of a time, priced again with other prices and providers."""
        assert self.prices is not None
        body = await json_body(request)
        try:
            then = self.prices.overridden(body.get("pricing", {}))
        except ValueError as problem:
            raise Refused(422, str(problem)) from None
        swaps = {
            stage: Swap(str(given["provider"]), str(given.get("model", "")))
            for stage, given in body.get("swap", {}).items()
            if stage in STAGES
        }
        made = what_if(await self._usage(body), self.prices, then, swaps)
        return data(
            {
                "now": _costs(made.now),
                "then": _costs(made.then),
                "difference": made.difference,
                "unpriced": list(made.then.unpriced),
                "unpriced_now": list(made.now.unpriced),
                "notes": list(made.notes),
            }
        )

    async def _usage(self, body: Mapping[str, Any]) -> list[UsageSum]:
        assert self.books is not None
        call_id = body.get("call_id", "")
        first, end = since(body.get("from")), until(body.get("to"))
        try:
            if not call_id:
                days = int(first // DAY_S), math.ceil(end / DAY_S)
                return await self.books.of_days(*days, str(body.get("agent", "")))
            found = await self.books.of_call(call_id) if CALL_ID.fullmatch(call_id) else None
        except StoreError as problem:
            raise Refused(503, str(problem)) from None
        if found is None:
            raise no_such_call()
        return found


def _costs(bill: Bill) -> dict[str, float]:
    cost: CostBreakdown = bill.cost
    return call_costs(cost)
