"""Puts every signal of a call's two sides through to the part that it concerns.

It owns who is told what, and what a deaf or ending call no longer takes; it refuses to decide anything itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from patter.call.answering import Answering
from patter.call.chronicle import Chronicle
from patter.call.closing import Closing
from patter.call.floor import FloorKeeper
from patter.call.handover import Handover
from patter.call.patience import Patience
from patter.call.toolrunner import ToolRunner
from patter.call.turns import Turns
from patter.events import EndReason
from patter.ports import Conversation
from patter.signals import (
    CallerTranscribed,
    ConnectionUsed,
    ConversationSignal,
    DigitPressed,
    Faulted,
    Guarded,
    HungUp,
    MachineDetected,
    PlayoutAdvanced,
    PlayoutEnded,
    PlayoutStarted,
    ReplyAudio,
    ReplyEnded,
    ReplyReached,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
    ToolAsked,
    TransportSignal,
    Typed,
    Used,
)


class Party(Protocol):
    """What the switchboard needs of its session."""

    turn: int

    @property
    def deaf(self) -> bool:
        """Nobody's words count any more."""

    async def caller_left(self, reason: EndReason, detail: str) -> None:
        """The caller's side is gone."""

    async def give_up_call(self, problem: str, *, voice: bool) -> None:
        """End the call as failed, with a goodbye where there is a voice for it: the agent's, or else the carrier's."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one call that is up."""

    conversation: Conversation
    floor: FloorKeeper
    closing: Closing
    handover: Handover
    turns: Turns
    answering: Answering
    tools: ToolRunner
    patience: Patience

    def close(self) -> None:
        """The call is over: nobody waits for anything any more."""
        self.patience.close()
        self.tools.close()
        self.turns.close()
        self.answering.close()
        self.closing.close()


class Switchboard:
    """The signals of one call."""

    def __init__(self, party: Party, parts: Parts, chronicle: Chronicle) -> None:
        self._party = party
        self._parts = parts
        self._chronicle = chronicle

    async def caller_side(self, signal: TransportSignal) -> None:
        """What the caller's side says."""
        parts = self._parts
        match signal:
            case PlayoutStarted():
                parts.floor.playout_started(signal)
                parts.closing.sounding(signal.reply_id)
                parts.patience.heard()
            case PlayoutAdvanced():
                parts.floor.playout_advanced(signal)
                parts.patience.heard()
            case PlayoutEnded():
                parts.floor.playout_ended(signal.reply_id)
                parts.closing.heard(signal.reply_id)
            case Typed(text):
                await parts.turns.read(text)
            case DigitPressed(digit):
                self._chronicle.pressed(digit)
                parts.turns.press(digit)
            case MachineDetected():
                await parts.answering.verdict(signal)
            case HungUp(reason, detail):
                lost = reason == "line_lost"
                await self._party.caller_left("line_lost" if lost else "caller_hung_up", detail)

    async def agent_side(self, signal: ConversationSignal) -> None:
        """What the agent's side says."""
        floor, closing = self._parts.floor, self._parts.closing
        match signal:
            case ReplyAudio():
                floor.reply_audio(signal)
            case ReplyText():
                floor.reply_text(signal)
                self._parts.patience.shown()
            case ReplyStarted():
                await self._reply_began(signal)
            case ReplyReached():
                floor.reply_reached(signal)
            case ReplyEnded():
                floor.reply_ended(signal.reply_id)
                self._parts.patience.made()
                closing.maybe_over()
            case ReplyWithdrawn():
                await floor.withdrawn(signal)
            case ToolAsked():
                if not (self._party.deaf or closing.muted):
                    self._parts.tools.ask(signal, self._party.turn)
            case Used() | ConnectionUsed() | Guarded() | Faulted():
                await self._reported(signal)
            case CallerTranscribed():
                await self._parts.turns.transcribed(signal)
            case _ if not self._party.deaf:
                await self._parts.turns.understood(signal)

    async def afterwards(self, signal: ConversationSignal) -> None:
        """What the agent's side still says when the call is over: only what it cost, what failed and what was understood."""
        match signal:
            case Used() | ConnectionUsed():
                await self._reported(signal)
            case Faulted():
                self._chronicle.faulted(signal)
            case CallerTranscribed():
                await self._parts.turns.transcribed(signal)

    async def _reported(self, signal: Used | ConnectionUsed | Guarded | Faulted) -> None:
        match signal:
            case Used():
                self._chronicle.used(signal, self._turn_of(signal.stage))
            case ConnectionUsed():
                self._chronicle.connected(signal, self._turn_of(signal.stage))
            case Guarded():
                self._chronicle.guarded(signal)
            case Faulted():
                self._chronicle.faulted(signal)
                self._parts.patience.failed()
                if signal.fatal:
                    voice = signal.stage == "stt"  # else it is the agent itself that cannot go on
                    await self._party.give_up_call(f"{signal.provider}: {signal.problem}", voice=voice)
                elif signal.stage == "tts":
                    self._parts.closing.voice_failed(f"{signal.provider}: {signal.problem}")

    def _turn_of(self, stage: str) -> int:
        """Recognising the caller belongs to the turn that comes of it."""
        return self._parts.turns.coming if stage == "stt" else self._party.turn

    async def _reply_began(self, signal: ReplyStarted) -> None:
        parts = self._parts
        if parts.closing.allows(signal, machine=parts.answering.machine):
            parts.floor.reply_started(signal)
        else:
            await parts.conversation.interrupt(signal.reply_id, "", 0.0)
