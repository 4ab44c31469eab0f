"""The purse: what calls may cost, each by itself and all of a day (UTC) together, and the goodbye when it is spent.

It owns the limits and the moment at which one is reached (a timer, nothing is polled); it refuses to know how a call is ended
(who opens one hands in how a goodbye is said) and where the costs of other engines stand. Money in USD.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, Self

import anyio
from anyio.abc import TaskGroup

from patter.bus import Bus
from patter.clock import Clock
from patter.events import AgentChanged, BudgetSpent, CallEnded, EndReason, Event, FaultOccurred, MemoryChanged
from patter.exceptions import PatterError
from patter.models import Budget
from patter.observe.days import DAY_S, DayBook, Spent
from patter.observe.meter import CostMeter, Metered

log = logging.getLogger(__name__)

LEAD_S = 10.0
"""A limit counts as reached this long before the cost would be above it: a goodbye takes so long, and a minute that it begins
is billed whole."""

NEAR_S = 60.0  # so near to a limit its moment itself is sought; further away it is enough to know that it is not here
ASK_S = 5.0  # how long a start waits for what the database knows

Goodbye = Callable[[str, EndReason, str], Awaitable[None]]
"""(text, reason, detail): says the text word for word, then ends the call."""

Limits = Callable[[], Budget]
"""The budget of the agent that has the call now."""


class Ledger(Protocol):
    """What other engines, and this one before it was started, have spent."""

    async def spent(self, day: int) -> Mapping[str, float]:
        """USD by agent of the calls that began on `day` (days since the epoch, UTC), without those this engine carries or has
        carried. Raises PatterError."""


@dataclass(slots=True, eq=False)
class _Guard:
    """One call that is watched."""

    limits: Limits
    goodbye: Goodbye
    timer: asyncio.TimerHandle | None = None
    spent: bool = False
    told: set[str] = field(default_factory=set)
    fixed: float = -1.0
    """What stood still of its cost when the day was reckoned last; less than nothing: it was not yet."""


@dataclass(slots=True)
class _Watch:
    """When a day is looked at again: after so many USD of usage, or at the moment of the timer."""

    slack: float = math.inf
    timer: asyncio.TimerHandle | None = None


class Purse:
    """`async with Purse(…) as purse:` around everything that makes calls; `guard` each of them."""

    def __init__(self, bus: Bus, clock: Clock, meter: CostMeter, budget: Budget, ledger: Ledger | None = None) -> None:
        self.budget = budget
        self._bus = bus
        self._clock = clock
        self._ledger = ledger
        self._guards: dict[str, _Guard] = {}
        self._book = DayBook(meter)
        self._days: dict[int, _Watch] = {}
        self._daily = budget.per_day_usd is not None
        self._problem = ""
        self._stale = anyio.Event()
        self._tasks: TaskGroup | None = None
        self._meter = meter
        meter.listen(self._changed)

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._forget_sink = self._bus.add_sink(self._note)
        if self._ledger is not None:
            if self._daily:
                await self.refresh()
            self._tasks.start_soon(self._keep_fresh)
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        assert self._tasks is not None
        self._forget_sink()
        for guard in self._guards.values():
            _cancel(guard)
        for watch in self._days.values():
            _cancel(watch)
        self._tasks.cancel_scope.cancel()
        return await self._tasks.__aexit__(*error)

    # ------------------------------------------------------------------ who is watched

    def guard(self, call_id: str, limits: Limits, goodbye: Goodbye) -> None:
        """Watch a call that is about to begin."""
        self._guards[call_id] = _Guard(limits, goodbye)

    def change(self, budget: Budget) -> None:
        """Use other limits from now on, for live calls too."""
        self.budget = budget
        for call in self._meter.live:
            self._changed(call)

    def refusal(self, agent: str = "", own: Budget | None = None) -> str:
        """Why no new call can be paid for today, with what to do about it; "" if one can. `own`: what its agent may spend."""
        day = self._today()
        for limit, key, where in (
            (self.budget.per_day_usd, None, "[budget] per_day_usd in engine.toml, or Patter(budget=…)"),
            (own.per_day_usd if own else None, agent, "[budget] per_day_usd of the agent"),
        ):
            if limit is None:
                continue
            spent = self._book.spent(day, key, self._clock.now())
            if spent >= limit - 1e-9 or self._book.is_closed(day, key, limit):
                who = f'The agent "{agent}" has' if key else "Calls have"
                return (
                    f"{who} cost {_usd(spent)} today (UTC), and its budget is {_usd(limit)}: no call is taken or placed"
                    f" until midnight UTC. Raise {where} to go on."
                )
        return ""

    def farewell(self, own: Budget | None = None) -> str:
        """The sentence for the caller: the agent's own, if it has one."""
        return own.farewell if own is not None and own.farewell != Budget().farewell else self.budget.farewell

    def spent_today(self) -> Spent:
        """What today's calls (UTC) have cost by now: those that are over, here and elsewhere, and those that are live."""
        return self._book.total(self._today(), self._clock.now())

    def _today(self) -> int:
        return int(self._clock.now() // DAY_S)

    # ------------------------------------------------------------------ what happens

    def _note(self, event: Event) -> None:
        if isinstance(event, CallEnded):
            _cancel(self._guards.pop(event.call_id, None))  # also one that never began
        elif isinstance(event, MemoryChanged) and self._daily:
            self._stale.set()
        elif isinstance(event, AgentChanged):
            for call in self._meter.live:
                if call.call_id == event.call_id:
                    self._changed(call)

    def _changed(self, call: Metered) -> None:
        """Something of a call was measured, it began, or it is over."""
        self._book.take(call)
        guard = self._guards.get(call.call_id)
        if call.ended:
            _cancel(self._guards.pop(call.call_id, None))
            if self._daily:
                self._stale.set()
            self._look(self._book.day_of(call))
        elif guard is not None and not guard.spent:
            own = guard.limits()
            self._watch_call(call, guard, own)
            self._use(call, guard, own)
            self._name_unpriced(call, guard, own)

    def _watch_call(self, call: Metered, guard: _Guard, own: Budget) -> None:
        """Arm the call's one timer for the moment when its limit will be reached, or end it now."""
        _cancel(guard)
        limits = [limit for limit in (self.budget.per_call_usd, own.per_call_usd) if limit is not None]
        if not limits:
            return
        now = self._clock.now()
        calm_s = call.fold.calm_s(min(limits), now, LEAD_S)
        moment = now + calm_s if calm_s > NEAR_S else call.fold.reaches(min(limits), now, LEAD_S)
        if moment == math.inf:
            return
        if moment is not None and moment <= now:
            self._spend(call, guard, BudgetSpent(
                call_id=call.call_id, scope="call", limit_usd=min(limits), spent_usd=call.cost(now).cost.total
            ))  # fmt: skip
        elif moment is not None:
            guard.timer = self._clock.call_later(moment - now, partial(self._changed, call))

    def _spend(self, call: Metered, guard: _Guard, event: BudgetSpent) -> None:
        guard.spent = True
        _cancel(guard)
        self._bus.publish(replace(event, spent_usd=round(event.spent_usd, 6)))
        if self._tasks is not None:
            whose = "this call" if event.scope == "call" else "today's calls"
            detail = f"The budget of ${event.limit_usd:g} for {whose} is spent."
            self._tasks.start_soon(self._end, guard, call.call_id, self.farewell(guard.limits()), detail)

    async def _end(self, guard: _Guard, call_id: str, farewell: str, detail: str) -> None:
        try:
            await guard.goodbye(farewell, "budget_spent", detail)
        except Exception:  # one call's trouble is not the others'
            log.exception("a goodbye could not be said", extra={"call_id": call_id})

    def _name_unpriced(self, call: Metered, guard: _Guard, own: Budget) -> None:
        """What has no price is not counted: say so, once a call."""
        limits = (self.budget.per_call_usd, self.budget.per_day_usd, own.per_call_usd, own.per_day_usd)
        if all(limit is None for limit in limits):
            return
        for name in call.fold.unknown():
            if name not in guard.told:
                guard.told.add(name)
                self._bus.publish(
                    FaultOccurred(
                        call_id=call.call_id,
                        stage="budget",
                        provider=name.partition("/")[0],
                        problem=f"the budget cannot count {name}: it has no price",
                        fix="add its price to prices.toml in the home, or give it with pricing=",
                    )
                )

    # ------------------------------------------------------------------ the day

    def _use(self, call: Metered, guard: _Guard, own: Budget) -> None:
        """So much of the day's slack is used; look again when it is gone, or when a call begins."""
        if self.budget.per_day_usd is None and own.per_day_usd is None:
            return
        if not self._daily:
            self._daily = True
            self._stale.set()
        day, fixed = self._book.day_of(call), call.fold.fixed()
        watch = self._days.setdefault(day, _Watch())
        began, used, guard.fixed = guard.fixed < 0, fixed - guard.fixed, fixed
        if began:
            self._stale.set()  # others may have spent since the last call was over here
        watch.slack -= max(0.0, used)
        if began or watch.slack <= 0:
            self._look(day)

    def _look(self, day: int) -> None:
        """Compare the day with its limits: end its calls if one is reached, else know when to look again."""
        now, soonest = self._clock.now(), math.inf
        _cancel(self._days.pop(day, None))
        watch = _Watch()
        for key, limit in self._limits_of(day).items():
            if self._book.spent(day, key, now + LEAD_S) > limit + 1e-9:
                self._close(day, key, limit)
                continue
            slack, wait = self._book.leeway(day, key, limit, now, LEAD_S)
            watch.slack, soonest = min(watch.slack, slack), min(soonest, wait)
        if soonest < math.inf:
            watch.timer = self._clock.call_later(soonest, partial(self._look, day))
        if self._book.live(day):
            self._days[day] = watch

    def _limits_of(self, day: int) -> dict[str | None, float]:
        """The limits that live calls of the day have: of all calls (None), and of their agents."""
        limits: dict[str | None, float] = {}
        for call in self._book.live(day):
            if self.budget.per_day_usd is not None:
                limits[None] = self.budget.per_day_usd
            guard = self._guards.get(call.call_id)
            own = guard.limits().per_day_usd if guard else None
            if own is not None:
                limits[call.agent] = min(own, limits.get(call.agent, own))
        return limits

    def _close(self, day: int, key: str | None, limit: float) -> None:
        """The day is spent: its calls end, and no new one begins."""
        self._book.close(day, key, limit)
        spent = self._book.spent(day, key, self._clock.now())
        for call in self._book.live(day, key):
            guard = self._guards.get(call.call_id)
            if guard is not None and not guard.spent:
                told = BudgetSpent(call_id=call.call_id, scope="day", limit_usd=limit, spent_usd=spent)
                self._spend(call, guard, told)

    # ------------------------------------------------------------------ what others spend

    async def refresh(self) -> bool:
        """Ask now what others have spent today. False if nobody can tell: what was known stays then."""
        day, problem = self._today(), ""
        if self._ledger is None:
            return False
        try:
            with anyio.fail_after(ASK_S):
                self._book.learn(day, await self._ledger.spent(day))
        except (PatterError, TimeoutError) as error:
            problem = str(error) or "no answer in time"
        except Exception as error:  # a mistake of ours must not end the counting
            log.exception("what others have spent could not be read")
            problem = type(error).__name__
        if problem and not self._problem:
            log.warning("the day's budget counts this engine's calls only: %s", problem)
        self._problem = problem
        self._look(day)
        return not problem

    async def _keep_fresh(self) -> None:
        """Ask anew when a call begins or is over, for others may have spent meanwhile, and when all is written that was not."""
        while True:
            await self._stale.wait()
            self._stale = anyio.Event()
            await self.refresh()


def _usd(value: float) -> str:
    """Two decimals; four of what is less than a dollar."""
    return f"${value:,.2f}" if value >= 1 else "$0." + f"{value:.4f}"[2:].rstrip("0").ljust(2, "0")


def _cancel(watched: _Guard | _Watch | None) -> None:
    if watched is not None and watched.timer is not None:
        watched.timer.cancel()
        watched.timer = None
