"""What a call has cost as it was told while it went on: a journal that is read again under other prices gives the same sums.

It owns how what was told and what was used since are put together, and the rows of usage that come to it; it refuses to know
how a cost is reckoned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from patter.events import CostMeasured
from patter.observe.cost import STAGES, Used
from patter.observe.prices import Prices
from patter.store.values import key, real


class Published:
    """One call's cost. `tell` it every CostMeasured, together with what the same moment costs by today's prices."""

    def __init__(self) -> None:
        self._told: CostMeasured | None = None
        self._then: CostMeasured | None = None

    def tell(self, told: CostMeasured, then: CostMeasured) -> None:
        """The call has cost `told`, and `then` by today's prices."""
        self._told, self._then = told, then

    def cost(self, now: CostMeasured) -> tuple[Mapping[str, float], tuple[str, ...]]:
        """The cost by stage with its total, and who is unpriced, of a call that costs `now` by today's prices.

        Never less than what was told, which may hold minutes that were not measured yet."""
        told, then = self._told, self._then
        if told is None or then is None:
            return now.cost, now.unpriced
        if now == then:
            return told.cost, told.unpriced
        made = {}
        for stage in STAGES:
            measured = sum(real(usd) for name, usd in told.shares.items() if name.startswith(f"{stage}/"))
            grown = max(0.0, now.cost[stage] - then.cost[stage])
            made[stage] = max(real(told.cost.get(stage)), measured + grown if grown else 0.0)
        fresh = [name for name in now.unpriced if name not in then.unpriced]
        return made | {"total": sum(made.values())}, tuple(dict.fromkeys((*told.unpriced, *fresh)))

    def rows(self, call_id: str, used: Mapping[Used, Mapping[str, float]], prices: Prices) -> list[dict[str, Any]]:
        """The rows of all that was used, one for each amount, by today's `prices` where nothing was told."""
        made: list[dict[str, Any]] = []
        for user, amounts in used.items():
            stage, provider, model = user
            named = {"call_id": key(call_id), "stage": key(stage), "provider": key(provider), "model": key(model)}
            billed = prices.billed(stage, provider, model, amounts)
            rows = []
            for amount, quantity in amounts.items():
                price = prices.row(provider, stage, model, amount) if amount in billed else None
                cost = price.cost(billed[amount]) if price else 0.0
                priced = price is not None or amount not in billed
                row = {"amount": key(amount), "quantity": real(quantity), "cost": real(cost), "priced": priced}
                rows.append(named | row)
            self._as_told(user, rows)
            made += rows
        return made

    def _as_told(self, user: Used, rows: list[dict[str, Any]]) -> None:
        """Let the rows of one user cost what was told of it: each its part, as today's prices divide it."""
        told, then, name = self._told, self._then, "/".join(user)
        if told is None or then is None or name not in told.shares or not rows:
            return
        _, provider, model = user
        if (f"{provider}/{model}" if model else provider) not in told.unpriced:
            for row in rows:
                row["priced"] = True
        elif all(row["priced"] for row in rows):
            rows[0]["priced"] = False
        now, before = sum(row["cost"] for row in rows), then.shares.get(name, 0.0)
        share = real(told.shares[name])
        if share == before:
            return
        share += max(0.0, now - before)
        for row in rows:
            row["cost"] = share * row["cost"] / now if now else 0.0
        if not now:
            rows[0]["cost"] = share
