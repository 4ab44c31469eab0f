"""Keeps the floor of one call: applies the turn machine's verdicts to the agent's sound and closes replies as heard.

It owns the live replies, what is held and the two timers of an interruption; it refuses to know tools, transcripts of the
caller and how either side speaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import anyio

from patter import events
from patter.audio.format import AudioChunk
from patter.bus import Bus
from patter.call.reply import LiveReply
from patter.clock import Clock
from patter.models import Agent
from patter.ports import AudioTap, CallInfo, Conversation, Transport
from patter.signals import (
    PlayoutAdvanced,
    PlayoutStarted,
    ReplyAudio,
    ReplyReached,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
    SpeechStarted,
    SpeechStopped,
)
from patter.turns.machine import Caller, Ear, Floor, Move, Verdict

LATE_LIMIT_S = 1.0  # an engine that tells later than this that the caller stopped must not keep the floor from them


class Party(Protocol):
    """What the floor needs of its session."""

    call: CallInfo
    agent: Agent
    turn: int

    def remember(self, role: str, text: str) -> object: ...

    def spawn(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `job` in the call's task group."""


class FloorKeeper:
    """The floor of one call."""

    def __init__(
        self,
        party: Party,
        transport: Transport,
        conversation: Conversation,
        bus: Bus,
        clock: Clock,
        taps: Sequence[AudioTap],
    ) -> None:
        self._party = party
        self._transport = transport
        self._conversation = conversation
        self._bus = bus
        self._clock = clock
        self._taps = taps
        self._floor = Floor()
        self._live: dict[int, LiveReply] = {}
        self._playing: set[int] = set()
        self._voice_began_at = 0.0
        self._late_s = 0.0  # how much later than a pause this agent's side tells that the caller stopped
        self._held_at = 0.0
        self._held_reply = 0  # the one that was sounding when the sound was held
        self._timer: asyncio.TimerHandle | None = None
        self._emptied = anyio.Event()
        self.sealed = False
        """Nothing may cut what is said from now on: these are the call's last words."""

    @property
    def idle(self) -> bool:
        """Nothing is being made, held or heard."""
        return not self._live

    @property
    def all_heard(self) -> bool:
        """The ear has every word that was made so far (more of an unfinished reply may come)."""
        return not self._floor.held and not any(
            reply.words.split(self._transport.heard_ms(reply.reply_id))[1] for reply in self._live.values()
        )

    @property
    def unfinished(self) -> bool:
        """More is to come of a reply."""
        return any(not reply.complete for reply in self._live.values())

    @property
    def unheard_ms(self) -> float:
        """How much sound was made that the ear does not have yet."""
        return sum(max(0.0, reply.words.ms - self._transport.heard_ms(key)) for key, reply in self._live.items())

    @property
    def held(self) -> bool:
        """The sound is kept back because the caller may be taking the floor."""
        return self._floor.held

    @property
    def audible(self) -> bool:
        """The agent sounds in the caller's ear, or would if it were not held."""
        return self._floor.ear is not Ear.QUIET

    async def wait_idle(self) -> None:
        """Return as soon as nothing is being made, held or heard."""
        while self._live:
            await self._emptied.wait()

    def close(self, *, handed_over: bool = False) -> None:
        """The call is over: what was not heard was dropped. `handed_over`: no more was to come of what was heard."""
        self._cancel_timer()
        if not self._floor.held:
            self._held_at = self._clock.now()
        for reply in list(self._live.values()):
            reply.complete = reply.complete or handed_over
            self._close_reply(reply, self._transport.heard_ms(reply.reply_id), interrupted=True)

    # ------------------------------------------------------------------ the agent's side

    def reply_started(self, signal: ReplyStarted) -> None:
        """The agent's side begins a reply."""
        turn = 0 if signal.kind == "greeting" else self._party.turn
        self._live[signal.reply_id] = LiveReply(signal.reply_id, turn, signal.kind)
        self._floor.move(Move.BEGIN)
        self._bus.publish(
            events.ReplyStarted(
                call_id=self._call_id, turn=turn, reply_id=signal.reply_id, kind=signal.kind, at=signal.at
            )
        )

    def reply_reached(self, signal: ReplyReached) -> None:
        """A stage of a live reply."""
        if signal.reply_id in self._live:
            self._reached(signal.reply_id, signal.stage, signal.at)

    def reply_text(self, signal: ReplyText) -> None:
        """More text of a live reply; late text of a dead one is dropped."""
        reply = self._live.get(signal.reply_id)
        if reply is None:
            return
        text = f" {signal.text}" if reply.words.text else signal.text
        if self._transport.abilities.plays is None:
            reply.words.show(signal.text)
            self._transport.show(signal.text, signal.reply_id)
        else:
            reply.words.add(signal.text)
        self._bus.publish(events.ReplyText(call_id=self._call_id, reply_id=signal.reply_id, text=text))

    def reply_audio(self, signal: ReplyAudio) -> None:
        """More sound of a live reply: to the line, or kept back while the caller may be interrupting."""
        reply, plays = self._live.get(signal.reply_id), self._transport.abilities.plays
        if reply is None or plays is None:
            return
        at_ms, chunk = reply.add_sound(signal.chunk, signal.text, plays)
        if not self._floor.held:
            self._play(reply, at_ms, chunk)

    def reply_ended(self, reply_id: int) -> None:
        """The agent's side has made all of a reply."""
        reply, plays = self._live.get(reply_id), self._transport.abilities.plays
        if reply is None:
            return
        reply.complete = True
        rest = reply.end_sound(plays) if plays is not None else None
        if all(live.complete for live in self._live.values()):
            self._floor.move(Move.COMPLETE)
        if self._floor.held:
            return
        if rest is not None:
            self._play(reply, *rest)
        self._transport.finish(reply_id)

    def _play(self, reply: LiveReply, at_ms: float, chunk: AudioChunk) -> None:
        if chunk.data:
            starts_at = self._transport.play(chunk, reply.reply_id, at_ms)
            for tap in self._taps:
                tap.agent(chunk, starts_at)

    # ------------------------------------------------------------------ the ear

    def playout_started(self, signal: PlayoutStarted) -> None:
        """The first sound of a reply (or of its continuation) is in the ear."""
        if signal.reply_id not in self._live:
            return
        self._floor.move(Move.SOUND)
        if signal.reply_id not in self._playing:
            self._playing.add(signal.reply_id)
            self._reached(signal.reply_id, "playing", signal.at)

    def playout_advanced(self, signal: PlayoutAdvanced) -> None:
        """The ear has more of a reply."""
        reply = self._live.get(signal.reply_id)
        if reply is not None:
            heard, _ = reply.words.split(signal.heard_ms)
            self._bus.publish(
                events.ReplyHeard(
                    call_id=self._call_id, reply_id=reply.reply_id, heard=heard, heard_ms=round(signal.heard_ms, 1)
                )
            )

    def playout_ended(self, reply_id: int) -> None:
        """The ear has all of a reply."""
        reply = self._live.get(reply_id)
        if reply is None:
            return
        self._close_reply(reply, reply.words.ms, interrupted=False)
        if not self._live:  # held sound of which nothing is left is no longer held
            self._cancel_timer()
            self._floor.move(Move.CUT if self._floor.held else Move.HEARD)

    # ------------------------------------------------------------------ the caller

    def voice_started(self, signal: SpeechStarted) -> None:
        """The caller speaks: hold the sound, and give up the reply if they go on long enough."""
        self._cancel_timer()
        self._voice_began_at = signal.began_at
        self._bus.publish(events.CallerSpeechStarted(call_id=self._call_id, began_at=signal.began_at))
        if self._floor.judge(Caller.VOICE) is Verdict.HOLD:
            self._hold()
        if self._floor.held:
            enough = signal.began_at + self._party.agent.turn_taking.interrupt_after_ms / 1000 + self._late_s
            self._timer = self._clock.call_later(enough - self._clock.now(), self._voice_went_on)

    def voice_stopped(self, signal: SpeechStopped) -> None:
        """The caller paused: if nothing comes of it, the reply goes on."""
        self._cancel_timer()
        late_s = signal.at - signal.ended_at - self._party.agent.turn_taking.pause_ms / 1000
        self._late_s = min(LATE_LIMIT_S, max(0.0, late_s))
        self._bus.publish(events.CallerSpeechStopped(call_id=self._call_id, ended_at=signal.ended_at))
        if self._floor.held:
            patience = self._party.agent.turn_taking.resume_after_ms / 1000
            self._timer = self._clock.call_later(patience, self._nothing_came)

    async def words_heard(self) -> None:
        """Real words of the caller."""
        if self._floor.judge(Caller.WORDS) is Verdict.YIELD:
            await self.give_up()

    def nothing_said(self, why: str) -> None:
        """The voice had no words, or only acknowledged."""
        self._cancel_timer()
        if self._floor.judge(Caller.NOTHING) is Verdict.RESUME:
            self._resume(why)
        self._voice_began_at = 0.0

    async def turn_taken(self) -> None:
        """The caller's turn is complete: whatever the agent was saying is over."""
        if self._floor.judge(Caller.TURN) is Verdict.YIELD:
            await self.give_up()
        self._voice_began_at = 0.0

    def _voice_went_on(self) -> None:
        if self._floor.judge(Caller.WORDS) is Verdict.YIELD:
            self._party.spawn(self.give_up)

    def _nothing_came(self) -> None:
        self.nothing_said("no words")

    # ------------------------------------------------------------------ verdicts

    def _hold(self) -> None:
        self._silence()
        self._held_reply = next((key for key in self._live if key in self._playing), 0)
        self._floor.move(Move.HOLD)
        if self._held_reply:
            self._bus.publish(
                events.ReplyPaused(
                    call_id=self._call_id,
                    reply_id=self._held_reply,
                    heard_ms=round(self._transport.heard_ms(self._held_reply), 1),
                    voice_began_at=self._voice_began_at,
                )
            )

    def _silence(self) -> None:
        self._held_at = self._clock.now()
        self._transport.clear()
        for tap in self._taps:
            tap.cut(self._held_at)

    def _resume(self, why: str) -> None:
        self._floor.move(Move.RESUME)
        if self._held_reply:
            self._bus.publish(events.ReplyResumed(call_id=self._call_id, reply_id=self._held_reply, why=why))
        self._go_on()

    def _go_on(self) -> None:
        """Play what has not been heard of the live replies."""
        for reply in list(self._live.values()):
            for at_ms, chunk in reply.sound_after(self._transport.heard_ms(reply.reply_id)):
                self._play(reply, at_ms, chunk)
            if reply.complete:
                self._transport.finish(reply.reply_id)

    async def give_up(self) -> None:
        """Cut every live reply on both sides, unless they are last words; what was heard stays."""
        self._cancel_timer()
        if not self._live or self.sealed:
            return
        if not self._floor.held:
            self._hold()
        self._floor.move(Move.CUT)
        for reply in list(self._live.values()):
            heard_ms = self._transport.heard_ms(reply.reply_id)
            heard = self._close_reply(reply, heard_ms, interrupted=True)
            await self._conversation.interrupt(reply.reply_id, heard, heard_ms)

    async def withdrawn(self, signal: ReplyWithdrawn) -> None:
        """The agent's side takes a reply back: what was heard of it stays. Where the caller interrupted, what was said
        before it is over too; after a guardrail it goes on. Last words are said as far as they were made."""
        if signal.reply_id not in self._live:
            return
        if self.sealed:
            self.reply_ended(signal.reply_id)
            return
        by_caller, held = signal.by == "caller", self._floor.held
        if not held:
            self._silence()
        for reply in list(self._live.values()):
            if reply.reply_id == signal.reply_id or (by_caller and reply.reply_id < signal.reply_id):
                heard_ms = self._transport.heard_ms(reply.reply_id)
                heard = self._close_reply(reply, heard_ms, interrupted=True, by_caller=by_caller)
                await self._conversation.interrupt(reply.reply_id, heard, heard_ms)
        if held and self._live and not by_caller:
            return
        self._cancel_timer()
        self._floor.move(Move.CUT)
        if self._live:
            self._floor.move(Move.BEGIN)
            if all(reply.complete for reply in self._live.values()):
                self._floor.move(Move.COMPLETE)
        self._go_on()

    def _close_reply(self, reply: LiveReply, heard_ms: float, *, interrupted: bool, by_caller: bool = True) -> str:
        del self._live[reply.reply_id]
        if not self._live:
            self._emptied.set()
            self._emptied = anyio.Event()
        self._playing.discard(reply.reply_id)
        heard, dropped = reply.words.split(heard_ms) if interrupted else (reply.words.text, "")
        interrupted = interrupted and by_caller and bool(dropped or not reply.complete)
        if interrupted:
            self._bus.publish(
                events.Interrupted(
                    call_id=self._call_id,
                    turn=reply.turn,
                    reply_id=reply.reply_id,
                    heard=heard,
                    dropped=dropped,
                    heard_ms=round(heard_ms, 1),
                    voice_began_at=self._voice_began_at,
                    stopped_at=self._held_at,
                )
            )
        self._party.remember("assistant", heard)
        self._bus.publish(
            events.AgentSaid(
                call_id=self._call_id,
                turn=reply.turn,
                reply_id=reply.reply_id,
                text=heard,
                interrupted=interrupted,
                dropped=dropped,
                kind=reply.kind,
            )
        )
        return heard

    def _reached(self, reply_id: int, stage: events.ReplyStageName, at: float) -> None:
        self._bus.publish(events.ReplyReached(call_id=self._call_id, reply_id=reply_id, stage=stage, reached_at=at))

    @property
    def _call_id(self) -> str:
        return self._party.call.call_id

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
