"""One call: a Transport joined to a Conversation. The session carries signals across and applies the floor's verdicts.

It owns the call's life, its turns and what was heard of each reply; it refuses to know carriers, vendors and readers of the
events. One call is one task group; a session is run once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Literal

import anyio
from anyio.abc import TaskGroup

from patter import events
from patter.audio.format import AudioChunk
from patter.builders import fill_variables
from patter.bus import Bus
from patter.call.chronicle import Chronicle
from patter.call.digits import DigitEntry
from patter.call.floor import FloorKeeper
from patter.call.outfit import Outfit, Wiring
from patter.call.toolrunner import ToolRunner
from patter.clock import Clock
from patter.events import CallEnded, EndReason
from patter.exceptions import PatterError
from patter.models import Agent
from patter.ports import Brief, CallInfo, Conversation, Screen, Transport
from patter.signals import (
    CallerPartial,
    ConversationSignal,
    DigitPressed,
    Faulted,
    Guarded,
    HungUp,
    PlayoutAdvanced,
    PlayoutEnded,
    PlayoutStarted,
    ReplyAudio,
    ReplyEnded,
    ReplyReached,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    SpeechStopped,
    ToolAsked,
    Typed,
    Used,
    UtteranceEnded,
)
from patter.turns.words import acknowledges

log = logging.getLogger(__name__)

GOODBYE_LIMIT_S = 30.0  # a goodbye that has not been heard by then will not be


class CallSession:
    """Joins one caller to one agent. `run` it once; the other methods may be called while it runs."""

    def __init__(
        self,
        call: CallInfo,
        agent: Agent,
        transport: Transport,
        bus: Bus,
        clock: Clock,
        wiring: Wiring,
        *,
        agent_name: str = "",
        agent_version: str = "",
        voicemail: str = "",
    ) -> None:
        self.call = call
        self.agent = agent
        self.agent_name = agent_name
        self.agent_version = agent_version
        self._voicemail = voicemail
        self.history: list[dict[str, Any]] = []
        """What was said, as heard: {role, text, timestamp}."""
        self.turn = 0
        self._transport = transport
        self._bus = bus
        self._clock = clock
        self._wiring = wiring
        self._chronicle = Chronicle(call, transport.abilities, bus)
        self._over = anyio.Event()
        self._end: tuple[EndReason, str] | None = None
        self._closing: tuple[EndReason, str] | None = None  # hang up for this reason once the goodbye has been heard
        self._outfit: Outfit | None = None
        self._screen: Screen = lambda _so_far, text: (text, None)
        self._tools: ToolRunner | None = None
        self._floor: FloorKeeper | None = None
        self._tasks: TaskGroup | None = None
        self._digits = DigitEntry(clock, self._digits_entered)

    # ------------------------------------------------------------------ life

    async def run(self) -> CallEnded:
        """The whole call, from greeting to the last event. Never raises for what a caller, vendor or callback does."""
        started_at = self._clock.now()
        try:
            await self._live()
        except Exception as error:
            log.exception("a call failed")
            self._finish("failed", _sentence(error))
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await self._close()
            reason, detail = self._end or ("engine_stopped", "")
            duration = self._clock.now() - started_at
            self._chronicle.line_used(duration, self.turn)
            ended = CallEnded(call_id=self.call.call_id, reason=reason, detail=detail, duration_s=round(duration, 3))
            self._bus.publish(ended)
        return ended

    async def _live(self) -> None:
        if self._wiring.welcome is not None:
            self.agent = await self._wiring.welcome(self.call, self.agent)
        outfit = self._outfit = self._wiring.outfit(self, self.agent)
        self._screen = outfit.screen
        self._chronicle.began(self.agent, self.agent_name, self.agent_version, outfit)
        self._floor = FloorKeeper(self, self._transport, outfit.conversation, self._bus, self._clock, self._wiring.taps)
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._tools = ToolRunner(self, outfit.toolbox, outfit.conversation, self._bus, self._clock)
            abilities = self._transport.abilities
            brief = Brief(self.call, self.agent, abilities.hears, abilities.plays, self._screened, outfit.toolbox.specs)
            await outfit.conversation.start(brief, tasks)
            self._transport.listen(self._hear)
            tasks.start_soon(self._follow_agent, outfit.conversation)
            tasks.start_soon(self._follow_caller)
            greeting = fill_variables(self.agent.first_message, self.agent.variables)
            if greeting.strip():
                await outfit.conversation.speak(greeting, "greeting")
            await self._over.wait()
            tasks.cancel_scope.cancel()

    async def _close(self) -> None:
        self._digits.close()
        if self._floor is not None:
            self._floor.close()
        try:
            await self._transport.hang_up()
        except Exception:
            log.exception("hanging up failed")
        for part in (self._transport, self._outfit.conversation if self._outfit else None):
            try:
                if part is not None:
                    await part.aclose()
            except Exception:
                log.exception("closing a call's part failed")
        for tap in self._wiring.taps:
            tap.close(self._clock.now())

    def _finish(self, reason: EndReason, detail: str = "") -> None:
        if self._end is None:
            self._end = (reason, detail)
        self._over.set()

    # ------------------------------------------------------------------ what the outside may do

    async def say(self, text: str) -> None:
        """The agent says `text` word for word (after what it is saying)."""
        if self._outfit is not None and text.strip():
            await self._outfit.conversation.speak(text)

    async def read(self, text: str) -> None:
        """The caller's words, typed: a turn at once."""
        now = self._clock.now()
        await self._take_turn(text, "typed", now, now, now)

    async def interrupt(self) -> None:
        """Stop what the agent is saying."""
        if self._floor is not None:
            await self._floor.give_up()

    async def hang_up(self, reason: EndReason = "operator_ended", detail: str = "") -> None:
        """End the call now."""
        self._finish(reason, detail)

    async def hang_up_after_goodbye(self, reason: EndReason, detail: str = "") -> None:
        """End the call when what is being said, and what is still being made, has been heard."""
        self._closing = (reason, detail)
        if self._floor is not None and self._floor.idle and not (self._tools and self._tools.running):
            self._finish(reason, detail)
        else:
            self._clock.call_later(GOODBYE_LIMIT_S, self._goodbye_overdue)

    async def say_goodbye(self, text: str, reason: EndReason, detail: str = "") -> None:
        """Say `text` instead of whatever is being said, and hang up when it has been heard."""
        await self.interrupt()
        await self.say(text)
        await self.hang_up_after_goodbye(reason, detail)

    async def transfer(self, number: str, by: str = "operator", summary: str = "") -> None:
        """Hand the call to `number` (E.164). Raises PatterError if the line cannot, ValueError for a wrong number."""
        await self._transport.transfer(number, summary)
        self._bus.publish(events.TransferRequested(call_id=self.call.call_id, number=number, by=by))
        await self.hang_up_after_goodbye("transferred", f"to {number}")

    async def send_digits(self, digits: str) -> None:
        """Press keys on the caller's line. Raises PatterError if the line cannot."""
        await self._transport.send_digits(digits)

    def update(self, agent: Agent, version: str = "") -> None:
        """Use a new definition from the next turn on."""
        if self._outfit is None or self._tools is None:
            self.agent, self.agent_version = agent, version
            return
        changed = tuple(
            name for name in agent.__dataclass_fields__ if getattr(agent, name) != getattr(self.agent, name)
        )
        self.agent, self.agent_version = agent, version
        toolbox, self._screen = self._wiring.rework(self, agent)
        self._tools.toolbox = toolbox
        self._outfit.conversation.update(agent)
        name = self.agent_name or agent.name
        self._bus.publish(
            events.AgentChanged(call_id=self.call.call_id, agent=name, agent_version=version, changed=changed)
        )

    # ------------------------------------------------------------------ the caller's side

    def _hear(self, chunk: AudioChunk) -> None:
        assert self._outfit is not None
        self._outfit.conversation.hear(chunk)
        if self._wiring.taps:
            now = self._clock.now()
            for tap in self._wiring.taps:
                tap.caller(chunk, now)

    async def _follow_caller(self) -> None:
        floor = self._floor
        assert floor is not None
        async for signal in self._transport.signals():
            match signal:
                case PlayoutStarted():
                    floor.playout_started(signal)
                case PlayoutAdvanced():
                    floor.playout_advanced(signal)
                case PlayoutEnded():
                    floor.playout_ended(signal.reply_id)
                    self._maybe_close()
                case Typed(text):
                    await self.read(text)
                case DigitPressed(digit):
                    self._chronicle.pressed(digit)
                    self._digits.press(digit)
                case HungUp(reason, detail):
                    self._finish("line_lost" if reason == "line_lost" else "caller_hung_up", detail)
        self._finish("line_lost", "the caller's side closed without a word")

    def _digits_entered(self, digits: str) -> None:
        now = self._clock.now()
        self.spawn(partial(self._take_turn, f"[DTMF: {digits}]", "dtmf", now, now, now))

    async def _take_turn(
        self,
        text: str,
        source: Literal["voice", "typed", "dtmf"],
        speech_ended_at: float,
        recognition_at: float,
        transcript_at: float,
    ) -> None:
        if self._floor is None or self._outfit is None or self._over.is_set() or not text.strip():
            return
        self._closing = None  # the caller has more to say than goodbye
        await self._floor.turn_taken()
        self.turn += 1
        self._bus.publish(
            events.CallerSaid(
                call_id=self.call.call_id,
                turn=self.turn,
                text=text,
                source=source,
                speech_ended_at=speech_ended_at,
                recognition_at=recognition_at,
                transcript_at=transcript_at,
            )
        )
        self.remember("user", text)
        await self._outfit.conversation.read(text)

    # ------------------------------------------------------------------ the agent's side

    async def _follow_agent(self, conversation: Conversation) -> None:
        async for signal in conversation.signals():
            await self._agent_says(signal)
        self._finish("failed", "the agent's side closed")

    async def _agent_says(self, signal: ConversationSignal) -> None:
        floor, tools, call_id = self._floor, self._tools, self.call.call_id
        assert floor is not None
        assert tools is not None
        match signal:
            case ReplyAudio():
                floor.reply_audio(signal)
            case ReplyText():
                floor.reply_text(signal)
            case ReplyStarted():
                floor.reply_started(signal)
            case ReplyReached():
                floor.reply_reached(signal)
            case ReplyEnded():
                floor.reply_ended(signal.reply_id)
                self._maybe_close()
            case SpeechStarted():
                floor.voice_started(signal)
            case SpeechStopped():
                floor.voice_stopped(signal)
            case CallerPartial(text):
                self._bus.publish(events.CallerPartial(call_id=call_id, text=text))
                if not acknowledges(text, self.agent.turn_taking.acknowledgements):
                    await floor.words_heard()
            case UtteranceEnded():
                await self._utterance(signal)
            case ToolAsked():
                tools.ask(signal, self.turn)
            case Used():
                self._chronicle.used(signal, self.turn)
            case Guarded():
                self._chronicle.guarded(signal)
            case Faulted():
                self._chronicle.faulted(signal)
                if signal.fatal:
                    self._finish("failed", f"{signal.provider}: {signal.problem}")

    async def _utterance(self, signal: UtteranceEnded) -> None:
        floor = self._floor
        assert floor is not None
        if not signal.text.strip():
            floor.nothing_said("no words")
        elif floor.audible and acknowledges(signal.text, self.agent.turn_taking.acknowledgements):
            self._bus.publish(events.CallerAcknowledged(call_id=self.call.call_id, text=signal.text))
            floor.nothing_said("acknowledgement")
        else:
            await self._take_turn(
                signal.text, "voice", signal.speech_ended_at, signal.recognition_at, signal.transcript_at
            )

    def spawn(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `job` in the call's task group."""
        if self._tasks is not None and not self._over.is_set():
            self._tasks.start_soon(job)

    def _screened(self, so_far: str, text: str) -> tuple[str, str | None]:
        return self._screen(so_far, text)

    def remember(self, role: str, text: str) -> None:
        """Add to the history what was said and heard."""
        if text:
            self.history.append({"role": role, "text": text, "timestamp": self._clock.now()})

    def _maybe_close(self) -> None:
        if self._closing is not None and self._floor is not None and self._floor.idle:
            self._finish(*self._closing)

    def _goodbye_overdue(self) -> None:
        if self._closing is not None:
            self._finish(*self._closing)


def _sentence(error: BaseException) -> str:
    """What went wrong first, without the groups that tasks wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, PatterError) else f"{type(error).__name__}: {error}"
