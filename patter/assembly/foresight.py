"""What a call will need is made ready while it rings, and what is certainly in its way is said before anybody's phone rings.

It owns who is asked and how long; it refuses to end a call because of it: what could not be made ready is tried again when it
is needed, and fails there.
"""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from patter.audio.format import MULAW_8K, AudioFormat
from patter.exceptions import PatterError, ProviderError
from patter.models import Agent

log = logging.getLogger(__name__)

VOUCH_S = 4.0  # somebody waits for the call to be placed
VOUCHED_S = 120.0  # for how long a good answer is believed
KEPT = 1_000  # calls on their way, and errands that went well, that are remembered

Job = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Errand:
    """Something to do before a call. `about` names it: of two with the same name only one is run within `VOUCHED_S`.

    With `lasts_s` it serves one call only (a socket), so every call needs its own, and a new one when it was told of so long
    ago that nothing can be left of it."""

    about: str
    job: Job
    lasts_s: float = 0.0


Errands = Callable[[Agent, AudioFormat], list[Errand]]


class Foresight:
    """`checks` are asked by `vouch`, `preparations` run by `foresee`, in `tasks`."""

    def __init__(self, tasks: TaskGroup, checks: Errands, preparations: Errands) -> None:
        self._tasks = tasks
        self._checks = checks
        self._preparations = preparations
        self._good: dict[str, float] = {}
        self._running: set[str] = set()
        self._seen: OrderedDict[object, float] = OrderedDict()

    async def vouch(self, agent: Agent) -> None:
        """Ask every provider of the agent, at once, for at most `VOUCH_S`. Raises PatterError for a certain refusal.

        A provider that cannot be reached now is no refusal: it may be back when the phone is answered."""
        refusals: list[ProviderError] = []
        errands = [errand for errand in self._checks(agent, MULAW_8K) if self._due(errand)]
        with anyio.move_on_after(VOUCH_S):
            async with anyio.create_task_group() as tasks:
                for errand in errands:
                    tasks.start_soon(self._ask, errand, refusals)
        if refusals:
            raise refusals[0]

    def foresee(self, key: object, agent: Agent, line: AudioFormat) -> None:
        """Begin to make everything ready for a call."""
        now = time.monotonic()
        for errand in self._preparations(agent, line):
            if errand.lasts_s:
                place = (key, errand.about)
                if now - self._seen.get(place, -math.inf) >= errand.lasts_s:
                    self._seen[place] = now
                    self._tasks.start_soon(self._prepare, errand)
            elif self._due(errand) and errand.about not in self._running:
                self._running.add(errand.about)
                self._tasks.start_soon(self._prepare, errand)
        while len(self._seen) > KEPT:
            self._seen.popitem(last=False)

    def _due(self, errand: Errand) -> bool:
        return time.monotonic() - self._good.get(errand.about, -VOUCHED_S) >= VOUCHED_S

    async def _ask(self, errand: Errand, refusals: list[ProviderError]) -> None:
        try:
            await errand.job()
        except ProviderError as error:
            if certain(error):
                refusals.append(error)
            else:
                log.info("a provider could not be asked before a call", extra={"about": errand.about})
        else:
            self._remember(errand)

    async def _prepare(self, errand: Errand) -> None:
        try:
            await errand.job()
        except PatterError as error:
            log.info("not ready before the call: %s", error, extra={"about": errand.about})
        except Exception:
            log.exception("making ready for a call failed", extra={"about": errand.about})
        else:
            self._remember(errand)
        finally:
            self._running.discard(errand.about)

    def _remember(self, errand: Errand) -> None:
        """It went well. Greetings by name make an errand of nearly every call: those of long ago are forgotten."""
        if errand.lasts_s:
            return
        self._good.pop(errand.about, None)
        self._good[errand.about] = time.monotonic()
        while len(self._good) > KEPT:
            del self._good[next(iter(self._good))]


def certain(error: ProviderError) -> bool:
    """Whether an error would meet the call as well: waiting and trying again do not help."""
    return not error.retryable and error.status in (400, 401, 402, 403, 404, 422)
