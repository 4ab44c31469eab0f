"""How long the agent may stay silent when it is its turn: then it apologises, and if that is not heard either, the call ends.

It owns the one timer of an answer that is owed; it refuses to know why nothing comes, and who makes answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from patter.call.chronicle import Chronicle
from patter.call.closing import Closing
from patter.call.floor import FloorKeeper
from patter.call.handover import Handover
from patter.call.toolrunner import ToolRunner
from patter.call.turns import Turns
from patter.clock import Clock
from patter.models import Agent
from patter.ports import Conversation
from patter.signals import Faulted

HARDLY_MS = 1.0  # sums of float durations


class Party(Protocol):
    """What patience needs of its session."""

    agent: Agent

    @property
    def over(self) -> bool: ...

    @property
    def deaf(self) -> bool:
        """Nobody's words count any more."""

    @property
    def shows(self) -> bool:
        """Text that is shown is all that the caller gets."""

    async def give_up_call(self, problem: str, *, voice: bool) -> None:
        """End the call as failed, with a goodbye where there is a voice for it: the agent's, or else the carrier's."""

    def spawn(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None: ...


class Patience:
    """The silence of one call: from the caller's turn to the first sound of its answer, and wherever a reply that is still
    being made has nothing more to hear. Who asks again has waited all the same: only the time of speaking does not count."""

    def __init__(
        self,
        party: Party,
        floor: FloorKeeper,
        closing: Closing,
        handover: Handover,
        turns: Turns,
        tools: ToolRunner,
        conversation: Conversation,
        chronicle: Chronicle,
        clock: Clock,
    ) -> None:
        self._party = party
        self._floor = floor
        self._closing = closing
        self._handover = handover
        self._turns = turns
        self._tools = tools
        self._conversation = conversation
        self._chronicle = chronicle
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when the silence is too long
        self._owed = False
        self._since = 0.0  # when it became the agent's turn
        self._waited_ms = 0.0  # what the caller had waited before they spoke up again
        self._failed = False  # something has, since then
        self._chosen = False  # the reply was made, and says nothing: so the agent wants it
        self._apologised = False

    def owe(self) -> None:
        """It is the agent's turn to say something."""
        now = self._clock.now()
        if self._owed and not self._chosen:
            spoke_up = self._turns.began_at if self._turns.began_at > self._since else now
            self._waited_ms += max(0.0, spoke_up - self._since) * 1000
        else:
            self._waited_ms, self._apologised = 0.0, False
        self._owed, self._since = True, now
        self._failed = self._chosen = False
        self._stop()
        self._wait(-self._waited_ms)

    def heard(self) -> None:
        """The caller's ear has something of the agent's; if more of it is still to be made, that may keep nobody waiting."""
        self._owed = self._apologised = False
        if self._floor.unfinished:
            self._wait(self._floor.unheard_ms)
        else:
            self._stop()

    def failed(self) -> None:
        """Something behind the agent did."""
        self._failed = True

    def made(self) -> None:
        """A reply is whole. An agent may listen and say nothing: who speaks again then has not waited in vain."""
        self._chosen = not self._failed

    def shown(self) -> None:
        """More text was given to the caller's side."""
        if self._party.shows:
            self.heard()

    def close(self) -> None:
        """Nothing is owed any more."""
        self._owed = False
        self._stop()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, after_ms: float = 0.0) -> None:
        """Let the silence count from `after_ms` on. A timer that runs is not set anew: it looks again when it is early."""
        limit_ms = self._party.agent.recovery.silence_limit_ms
        if limit_ms <= 0:
            self._stop()
            return
        wait_s = max(0.0, after_ms + limit_ms) / 1000
        self._due = self._clock.now() + wait_s
        if self._timer is None:
            self._timer = self._clock.call_later(wait_s, partial(self._rang, limit_ms))

    def _rang(self, limit_ms: int) -> None:
        left_s = self._due - self._clock.now()
        if left_s > HARDLY_MS / 1000:
            self._timer = self._clock.call_later(left_s, partial(self._rang, limit_ms))
        else:
            self._timer = None
            self._overdue(limit_ms)

    def _overdue(self, limit_ms: int) -> None:
        if not self._owed and not self._floor.unfinished:
            return
        if self._party.over or self._party.deaf or self._closing.leaving:
            return
        if self._turns.speaking or self._floor.held or self._floor.unheard_ms > HARDLY_MS or self._handover.pending:
            self._wait()  # somebody speaks, or is about to
        elif self._apologised:
            self._party.spawn(partial(self._end, limit_ms))
        else:
            self._party.spawn(partial(self._apologise, limit_ms))

    async def _apologise(self, limit_ms: int) -> None:
        problem = f"no answer was heard for {limit_ms / 1000:g} s"
        self._chronicle.faulted(Faulted("agent", self._party.agent.provider, problem))
        self._apologised = True
        self._since, self._waited_ms = self._clock.now(), 0.0
        self._wait()
        text = self._party.agent.recovery.apology.strip()
        if not self._tools.running:
            await self._floor.give_up()
            if text:
                await self._closing.say(text)
        elif text:  # the reply goes on when its tool is done
            await self._conversation.speak(text, "filler")

    async def _end(self, limit_ms: int) -> None:
        await self._party.give_up_call(f"The agent stayed silent for {2 * limit_ms / 1000:g} s.", voice=True)
