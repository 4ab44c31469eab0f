"""Measures every call while it goes on: reads the bus, and publishes back what a turn took.

It owns one fold a call; it refuses to know how anything is measured or priced.
"""

from __future__ import annotations

from patter.bus import Bus
from patter.events import CallEnded, CallStarted, CostMeasured, Event, TurnMeasured
from patter.models import CallMetrics
from patter.observe.cost import Prices
from patter.observe.metrics import CallFold


class MetricsReader:
    """A bus sink that publishes each turn's measurement when its sound starts and when it is over."""

    def __init__(self, bus: Bus, prices: Prices) -> None:
        self._bus = bus
        self._prices = prices
        self._calls: dict[str, CallFold] = {}

    def __call__(self, event: Event) -> None:
        """Read one event of any call."""
        if not event.call_id or isinstance(event, TurnMeasured | CostMeasured):
            return
        fold = self._calls.get(event.call_id)
        if fold is None:
            if not isinstance(event, CallStarted):
                return
            fold = self._calls[event.call_id] = CallFold(event.call_id, self._prices)
        for measured in fold.feed(event):
            self._bus.publish(measured)
        if isinstance(event, CallEnded):
            del self._calls[event.call_id]

    def metrics(self, call_id: str) -> CallMetrics | None:
        """A live call's metrics so far; None for a call that is not running."""
        fold = self._calls.get(call_id)
        return fold.metrics() if fold else None
