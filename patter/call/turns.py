"""What the caller says, types and presses, on its way to becoming turns.

It owns which words count as a turn and telling the agent's side of it; it refuses to know how words are recognised, and when
a call stops listening.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Literal, Protocol

from patter import events
from patter.bus import Bus
from patter.call.closing import Closing
from patter.call.digits import DigitEntry
from patter.call.floor import FloorKeeper
from patter.clock import Clock
from patter.models import Agent
from patter.ports import CallInfo, Conversation
from patter.signals import CallerPartial, ConversationSignal, SpeechStarted, SpeechStopped, UtteranceEnded
from patter.turns.words import acknowledges


class Party(Protocol):
    """What turns need of their session."""

    call: CallInfo
    agent: Agent
    turn: int

    @property
    def over(self) -> bool: ...

    @property
    def deaf(self) -> bool:
        """Nobody's words count any more."""

    def remember(self, role: str, text: str) -> None: ...

    def spawn(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None: ...


class Turns:
    """The caller's turns of one call."""

    def __init__(
        self,
        party: Party,
        floor: FloorKeeper,
        closing: Closing,
        conversation: Conversation,
        bus: Bus,
        clock: Clock,
    ) -> None:
        self._party = party
        self._floor = floor
        self._closing = closing
        self._conversation = conversation
        self._bus = bus
        self._clock = clock
        self._digits = DigitEntry(clock, self._digits_entered)

    def close(self) -> None:
        """The call is over, or stops listening: keys that were pressed are no entry any more."""
        self._digits.close()

    def press(self, digit: str) -> None:
        """A key."""
        self._digits.press(digit)

    async def read(self, text: str) -> None:
        """The caller's words, typed: a turn at once."""
        now = self._clock.now()
        await self._take(text, "typed", now, now, now)

    async def understood(self, signal: ConversationSignal) -> None:
        """What the agent's side makes of the caller's sound."""
        match signal:
            case SpeechStarted():
                self._floor.voice_started(signal)
            case SpeechStopped():
                self._floor.voice_stopped(signal)
            case CallerPartial(text):
                self._bus.publish(events.CallerPartial(call_id=self._party.call.call_id, text=text))
                if not self._acknowledges(text):
                    await self._floor.words_heard()
            case UtteranceEnded():
                await self._utterance(signal)

    async def _utterance(self, signal: UtteranceEnded) -> None:
        if not signal.text.strip():
            self._floor.nothing_said("no words")
        elif self._floor.audible and self._acknowledges(signal.text):
            self._bus.publish(events.CallerAcknowledged(call_id=self._party.call.call_id, text=signal.text))
            self._floor.nothing_said("acknowledgement")
        else:
            await self._take(signal.text, "voice", signal.speech_ended_at, signal.recognition_at, signal.transcript_at)

    def _acknowledges(self, text: str) -> bool:
        return acknowledges(text, self._party.agent.turn_taking.acknowledgements)

    def _digits_entered(self, digits: str) -> None:
        now = self._clock.now()
        self._party.spawn(partial(self._take, f"[DTMF: {digits}]", "dtmf", now, now, now))

    async def _take(
        self,
        text: str,
        source: Literal["voice", "typed", "dtmf"],
        speech_ended_at: float,
        recognition_at: float,
        transcript_at: float,
    ) -> None:
        party = self._party
        if party.over or party.deaf or not text.strip():
            return
        self._closing.reconsidered()
        await self._floor.turn_taken()
        party.turn += 1
        self._bus.publish(
            events.CallerSaid(
                call_id=party.call.call_id,
                turn=party.turn,
                text=text,
                source=source,
                speech_ended_at=speech_ended_at,
                recognition_at=recognition_at,
                transcript_at=transcript_at,
            )
        )
        party.remember("user", text)
        await self._conversation.read(text)
