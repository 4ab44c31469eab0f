"""The taximeter: what each live call has cost so far, published when a turn is over and when a started minute begins.

It owns one cost fold a call and one timer where time is billed; it refuses to know budgets, latencies and who pays.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from patter.bus import Bus
from patter.clock import Clock
from patter.events import (
    CallEnded,
    CallStarted,
    CarrierRecordingSaved,
    CostMeasured,
    Event,
    TurnMeasured,
    UsageMeasured,
)
from patter.models import CostBreakdown
from patter.observe.cost import CostFold, Running, call_costs
from patter.observe.prices import Prices

MINUTE_S = 60.0
LATE_S = 0.01  # a minute begins when it has begun: a timer may be a little early
REMEMBERED = 500  # ended calls whose carrier may still tell of a recording, which has its price too

Listener = Callable[["Metered"], None]


@dataclass(slots=True, eq=False)
class Metered:
    """One call on the meter. `told` is what was published of it last: a cost that was told is not
    taken back before the line's own bill is there."""

    call_id: str
    agent: str
    began_at: float
    telephony: str
    fold: CostFold
    told: Running = field(default_factory=lambda: Running(CostBreakdown()))
    ended: bool = False
    billed: float = 0.0
    """What of an ended call's cost its day's sum has in it."""
    timer: asyncio.TimerHandle | None = None

    def cost(self, at: float) -> Running:
        """What it has cost at `at`; never less than what was told, as long as it goes on."""
        if self.fold.settled:
            return Running(self.fold.breakdown(), self.fold.unpriced())
        if self.ended:  # it broke off before its line told how long it was: what it had cost by then stays
            return self.told
        now, told = self.fold.running(at), self.told.cost
        parts = {name: max(getattr(now.cost, name), getattr(told, name)) for name in ("stt", "tts", "llm", "telephony")}
        return Running(CostBreakdown(**parts, total=sum(parts.values())), now.unpriced)


class CostMeter:
    """A bus sink. `listen` to be told, at once, of every call whose cost may have changed otherwise than by time."""

    def __init__(self, bus: Bus, clock: Clock, prices: Prices) -> None:
        self._bus = bus
        self._clock = clock
        self._prices = prices
        self._calls: dict[str, Metered] = {}
        self._over: OrderedDict[str, Metered] = OrderedDict()
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener` when a call begins, something of it was measured, and it is over."""
        self._listeners.append(listener)

    @property
    def live(self) -> list[Metered]:
        """The calls that go on."""
        return list(self._calls.values())

    def cost(self, call_id: str) -> Running | None:
        """What a call has cost by now; None for one that does not go on."""
        call = self._calls.get(call_id)
        return call.cost(self._clock.now()) if call else None

    def close(self) -> None:
        """No timer fires any more."""
        for call in self._calls.values():
            _disarm(call)

    def __call__(self, event: Event) -> None:
        """Read one event of any call."""
        call = self._calls.get(event.call_id)
        match event:
            case CallStarted() if call is None:
                self._begin(event)
            case UsageMeasured() if call is not None:
                self._used(call, event)
            case TurnMeasured(closed=True) if call is not None:
                self._tell(call, event.at)
            case CarrierRecordingSaved():
                self._recorded(event)
            case CallEnded() if call is not None:
                self._end(call, event.at)

    def _begin(self, event: CallStarted) -> None:
        call = Metered(event.call_id, event.agent, event.at, event.telephony, CostFold(self._prices))
        call.fold.began(event)
        self._calls[event.call_id] = call
        self._minute(call)
        self._changed(call)

    def _used(self, call: Metered, event: UsageMeasured) -> None:
        call.fold.add(event)
        if event.stage == "telephony":  # what no turn is charged: a verdict on who answered, and at the end the line
            self._tell(call, event.at, news=True)
        elif call.timer is None:
            self._arm(call)
        self._changed(call)

    def _recorded(self, event: CarrierRecordingSaved) -> None:
        """The carrier charges for what it recorded; it tells of it when the call is over."""
        call = self._calls.get(event.call_id) or self._over.get(event.call_id)
        if call is not None:
            call.fold.recorded(event, call.telephony)
            self._tell(call, event.at)
            self._changed(call)

    def _end(self, call: Metered, at: float) -> None:
        _disarm(call)
        call.told, call.ended = call.cost(at), True
        self._over[call.call_id] = self._calls.pop(call.call_id)
        if len(self._over) > REMEMBERED:
            self._over.popitem(last=False)
        self._changed(call)

    def _minute(self, call: Metered) -> None:
        call.timer = None
        self._tell(call, self._clock.now())
        self._arm(call)

    def _arm(self, call: Metered) -> None:
        """Wake up when the call's next minute begins, if anything is billed by time."""
        if any(meter.row.price for meter in call.fold.meters()):
            now = self._clock.now()
            minutes = math.floor((now - call.began_at) / MINUTE_S) + 1
            wait = call.began_at + minutes * MINUTE_S + LATE_S - now
            call.timer = self._clock.call_later(wait, lambda: self._minute(call))

    def _tell(self, call: Metered, at: float, *, news: bool = False) -> None:
        """Publish what the call has cost, if that is news."""
        now = call.cost(at)
        if news or now != call.told:
            call.told = now
            self._bus.publish(
                CostMeasured(
                    call_id=call.call_id,
                    cost=call_costs(now.cost),
                    unpriced=now.unpriced,
                    shares=call.fold.shares(),
                )
            )

    def _changed(self, call: Metered) -> None:
        for listener in self._listeners:
            listener(call)


def _disarm(call: Metered) -> None:
    if call.timer is not None:
        call.timer.cancel()
        call.timer = None
