"""Who answered: a person, who is never kept waiting for the verdict, or a machine, which gets the message and no more.

It owns what a verdict means for the call; it refuses to know how a carrier comes to it. A machine's greeting and its beep are
no caller's turn, so from the verdict on nothing that is heard counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from patter.builders import fill_variables
from patter.call.chronicle import Chronicle
from patter.call.closing import Closing, LastWords
from patter.call.handover import Handover
from patter.clock import Clock
from patter.events import EndReason
from patter.exceptions import PatterError
from patter.models import Agent
from patter.signals import MachineDetected

GREETING_LIMIT_S = 30.0  # greetings are shorter; a carrier that has not heard the beep by then will not
MESSAGE_LIMIT_S = 180.0  # mailboxes cut longer messages off


class Party(Protocol):
    """What answering needs of its session."""

    agent: Agent
    turn: int

    @property
    def voiceless(self) -> bool:
        """The line has sound, and the agent has no voice for it."""

    async def hush(self) -> None:
        """Stop what is being said and take no more turns."""

    def spawn(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None: ...

    def finish(self, reason: EndReason, detail: str = "") -> None: ...


class Answering:
    """Who answered one call. `message` is left word for word when a machine did ("": hang up)."""

    def __init__(
        self, party: Party, message: str, closing: Closing, handover: Handover, chronicle: Chronicle, clock: Clock
    ) -> None:
        self._party = party
        self._message = message if message.strip() else ""
        self._closing = closing
        self._handover = handover
        self._chronicle = chronicle
        self._clock = clock
        self._told: MachineDetected | None = None
        self._leaving = False
        self._timer: asyncio.TimerHandle | None = None
        self.machine = False
        """A machine listens, if anybody does."""

    @property
    def unheard(self) -> str:
        """What became of the message, as a sentence, if the line goes now; "" when there was none to leave."""
        if not self.machine or not self._message:
            return ""
        return "The message was not heard whole." if self._leaving else "The message was not left."

    async def verdict(self, signal: MachineDetected) -> None:
        """The carrier says who answered; the same verdict told twice counts once."""
        if signal == self._told:
            return
        self._chronicle.machine_detected(signal, self._party.turn, first=self._told is None)
        self._told = signal
        if signal.answered_by in ("human", "unknown") or self._closing.final:
            return
        first, self.machine = not self.machine, True
        if signal.answered_by == "fax":
            self._party.finish("machine_answered", "A fax machine answered.")
        elif not self._message:
            self._party.finish("machine_answered", "A machine answered, and there was no message to leave.")
        else:
            if first:
                await self._party.hush()
            if signal.ready:
                await self._leave_message()
            elif first:
                self._timer = self._clock.call_later(GREETING_LIMIT_S, self._greeting_overdue)

    def close(self) -> None:
        """The call is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _greeting_overdue(self) -> None:
        self._party.spawn(self._leave_message)

    async def _leave_message(self) -> None:
        if self._leaving:
            return
        self._leaving = True
        self.close()
        text = fill_variables(self._message, self._party.agent.variables)
        if self._party.voiceless:
            await self._announce(text, "the agent has no voice")
            return
        await self._closing.say_last(
            LastWords(
                text,
                MESSAGE_LIMIT_S,
                heard=partial(self._party.finish, "voicemail_left"),
                voiceless=lambda why: self._party.spawn(partial(self._announce, text, why)),
                overdue=partial(self._party.finish, "machine_answered", "The message was not heard whole in time."),
                verbatim=True,
            )
        )

    async def _announce(self, text: str, why: str) -> None:
        """Let the carrier say it, since the agent cannot."""
        await self._party.hush()
        try:
            await self._handover.announce(text)
        except PatterError as error:
            if self._handover.left:  # it hung up on the carrier's voice: the call ends with that
                return
            self._party.finish("machine_answered", f"The message could not be left: {why}. {error}")
        else:
            self._party.finish("voicemail_left", f"The carrier's voice said it: {why}.")
