"""What the caller says, types and presses, on its way to becoming turns.

It owns which words count as a turn and telling the agent's side of it; it refuses to know how words are recognised, and when
a call stops listening. An engine that hears sound itself names its utterances: their words may follow later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
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
from patter.signals import (
    CallerPartial,
    CallerTranscribed,
    ConversationSignal,
    SpeechStarted,
    SpeechStopped,
    UtteranceEnded,
)
from patter.turns.spoken import join
from patter.turns.words import acknowledges

Entry = dict[str, Any]
"""One line of the call's history: {role, text, timestamp}."""

WORDS_LIMIT_S = (
    2.0  # while the agent's sound is held nobody hears anything: longer than this it is not kept back for words
)
WORDS_LATEST_S = 5.0  # words that have not come by then will not


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

    def remember(self, role: str, text: str, *, later: bool = False) -> Entry:
        """Add to the history; `later`: the text will be put into the entry when it is known."""

    def answer_owed(self) -> None:
        """A turn was taken: somebody has to answer it."""

    def spawn(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Said:
    """A turn in the making. `answered`: the engine answers by itself; `utterance`: it is asked to by this name."""

    text: str
    source: Literal["voice", "typed", "dtmf"]
    speech_ended_at: float
    recognition_at: float = 0.0
    transcript_at: float = 0.0
    utterance: str = ""
    answered: bool = False

    @property
    def pending(self) -> bool:
        """The engine has the sound, its words are not known yet."""
        return not self.text.strip() and bool(self.utterance or self.answered)


@dataclass(slots=True, eq=False)
class _Wordless:
    """A turn of which words are still to come: by utterance, in the order in which they were said; None = not known yet."""

    turn: int
    entry: Entry
    words: dict[str, str | None]


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
        self._undecided: dict[str, UtteranceEnded] = {}  # whether they are turns depends on their words
        self._wordless: dict[str, _Wordless] = {}  # by utterance
        self._timer: asyncio.TimerHandle | None = None
        self.began_at = 0.0
        """When the caller's last voice began."""
        self.speaking = False
        """The caller is making sound that may be speech."""
        self._open = False

    @property
    def coming(self) -> int:
        """The turn that what is heard now belongs to: the next one while the caller's words are still being understood."""
        return self._party.turn + 1 if self._open else self._party.turn

    def close(self) -> None:
        """The call is over, or stops listening: nothing that was pressed or said becomes a turn any more."""
        self._digits.close()
        self._forget()

    def press(self, digit: str) -> None:
        """A key."""
        self._digits.press(digit)

    async def read(self, text: str) -> None:
        """The caller's words, typed: a turn at once."""
        now = self._clock.now()
        await self._take(_Said(text, "typed", now, now, now))

    async def understood(self, signal: ConversationSignal) -> None:
        """What the agent's side makes of the caller's sound."""
        match signal:
            case SpeechStarted():
                self._open = self.speaking = True
                self.began_at = signal.began_at
                self._stop_waiting()
                self._floor.voice_started(signal)
            case SpeechStopped():
                self.speaking = False
                self._floor.voice_stopped(signal)
            case CallerPartial(text):
                self._bus.publish(events.CallerPartial(call_id=self._party.call.call_id, text=text))
                if not self._acknowledges(text):
                    await self._floor.words_heard()
            case UtteranceEnded():
                await self._utterance(signal)

    async def transcribed(self, signal: CallerTranscribed) -> None:
        """The words of an utterance that ended without them."""
        if (wordless := self._wordless.pop(signal.utterance, None)) is not None:
            wordless.words[signal.utterance] = signal.text
            text = wordless.entry["text"] = _together(wordless.words)
            if None not in wordless.words.values():
                call_id = self._party.call.call_id
                self._bus.publish(events.CallerTranscribed(call_id=call_id, turn=wordless.turn, text=text))
        elif (ended := self._undecided.get(signal.utterance)) is not None:
            await self._judge(ended, signal.text, signal.at)

    async def _utterance(self, signal: UtteranceEnded) -> None:
        if signal.answered:
            await self._take(_voiced(signal, signal.text, signal.transcript_at))
        elif signal.text.strip() or not signal.utterance:
            await self._judge(signal, signal.text, signal.transcript_at)
        elif not self._floor.audible:
            await self._take(_voiced(signal, "", 0.0))
        else:
            self._undecided[signal.utterance] = signal
            self._wait(min(WORDS_LIMIT_S, self._party.agent.turn_taking.resume_after_ms / 1000), signal)

    async def _judge(self, ended: UtteranceEnded, text: str, transcript_at: float) -> None:
        """Whether these words are a turn."""
        if not text.strip():
            self._undecided.pop(ended.utterance, None)
            self._nothing("no words")
        elif self._floor.audible and self._acknowledges(text):
            self._undecided.pop(ended.utterance, None)
            self._bus.publish(events.CallerAcknowledged(call_id=self._party.call.call_id, text=text))
            self._nothing("acknowledgement")
        else:
            await self._take(_voiced(ended, text, transcript_at))

    def _nothing(self, why: str) -> None:
        if not self._undecided:
            self._stop_waiting()
        if not self.speaking:  # else more is coming, and that decides
            self._open = False
            self._floor.nothing_said(why)
            self._closing.maybe_over()  # a goodbye may have been cut for it

    def _wait(self, seconds: float, signal: UtteranceEnded) -> None:
        self._stop_waiting()
        self._timer = self._clock.call_later(seconds, partial(self._words_overdue, signal))

    def _words_overdue(self, signal: UtteranceEnded) -> None:
        """Nobody says what it was: short voice is taken for a cough, until its words come after all."""
        enough_s = self._party.agent.turn_taking.interrupt_after_ms / 1000
        if signal.speech_ended_at - self.began_at >= enough_s:
            self._party.spawn(partial(self._take_overdue, signal))
        else:
            self._nothing("no words")

    async def _take_overdue(self, signal: UtteranceEnded) -> None:
        if signal.utterance in self._undecided:
            await self._take(_voiced(signal, "", 0.0))

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget(self) -> None:
        self._stop_waiting()
        self._undecided.clear()
        self._open = False

    def _acknowledges(self, text: str) -> bool:
        return acknowledges(text, self._party.agent.turn_taking.acknowledgements)

    def _digits_entered(self, digits: str) -> None:
        now = self._clock.now()
        self._party.spawn(partial(self._take, _Said(f"[DTMF: {digits}]", "dtmf", now, now, now)))

    async def _take(self, said: _Said) -> None:
        party = self._party
        if party.over or party.deaf or not (said.text.strip() or said.pending):
            return
        words = self._all_words(said)
        text, pending = _together(words), said.pending or None in words.values()
        self._forget()
        self._closing.reconsidered()
        await self._floor.turn_taken()
        party.turn += 1
        self._bus.publish(
            events.CallerSaid(
                call_id=party.call.call_id,
                turn=party.turn,
                text=text,
                source=said.source,
                speech_ended_at=said.speech_ended_at,
                recognition_at=said.recognition_at,
                transcript_at=said.transcript_at,
                pending=pending,
            )
        )
        wordless = _Wordless(party.turn, party.remember("user", text, later=pending), words)
        self._wordless.update((utterance, wordless) for utterance, known in words.items() if known is None)
        party.answer_owed()
        if said.answered:
            return
        if said.utterance:
            await self._conversation.reply(said.utterance)
        else:
            await self._conversation.read(said.text)

    def _all_words(self, said: _Said) -> dict[str, str | None]:
        """The words of a turn: utterances that were still undecided are answered together with it."""
        since = self._clock.now() - WORDS_LATEST_S
        words = dict[str, str | None].fromkeys(key for key, ended in self._undecided.items() if ended.at > since)
        words[said.utterance] = None if said.pending and said.utterance else said.text
        return words


def _together(words: dict[str, str | None]) -> str:
    return join(text or "" for text in words.values())


def _voiced(ended: UtteranceEnded, text: str, transcript_at: float) -> _Said:
    """A spoken turn; where the words are not known, neither is how long it took to know them."""
    times = (ended.recognition_at, transcript_at) if text.strip() else (0.0, 0.0)
    return _Said(text, "voice", ended.speech_ended_at, *times, ended.utterance, ended.answered)
