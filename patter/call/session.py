"""One call: a Transport joined to a Conversation. The session carries signals across and applies the floor's verdicts.

It owns the call's life, its turns and what was heard of each reply; it refuses to know carriers, vendors and readers of the
events. One call is one task group; a session is run once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup

from patter import events
from patter.audio.format import AudioChunk
from patter.builders import fill_variables
from patter.bus import Bus
from patter.call.answering import Answering
from patter.call.chronicle import Chronicle
from patter.call.closing import Closing
from patter.call.floor import FloorKeeper
from patter.call.handover import Failed, Handover
from patter.call.outfit import Outfit, Wiring
from patter.call.patience import Patience
from patter.call.switchboard import Parts, Switchboard
from patter.call.toolrunner import ToolRunner
from patter.call.turns import Turns
from patter.clock import Clock
from patter.events import CallEnded, EndReason
from patter.exceptions import PatterError, ProviderError
from patter.models import Agent
from patter.ports import Brief, CallInfo, Conversation, Screen, Transport
from patter.signals import Faulted

log = logging.getLogger(__name__)

LAST_WORDS_S = 1.0  # everything is closed by then: what is left to read is there already


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
        self._outfit: Outfit | None = None
        self._screen: Screen = lambda _so_far, text: (text, None)
        self._failed = False
        self._tasks: TaskGroup | None = None
        self._parts: Parts | None = None

    # ------------------------------------------------------------------ life

    async def run(self) -> CallEnded:
        """The whole call, from greeting to the last event. Never raises for what a caller, vendor or callback does."""
        started_at = self._clock.now()
        try:
            await self._live()
        except Exception as error:
            log.exception("a call failed")
            self.finish("failed", _sentence(error))
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await self._close()
            reason, detail = self._end or ("engine_stopped", "")
            duration = self._clock.now() - started_at
            self._chronicle.line_used(duration, self.turn)
            self._chronicle.line_did(self._transport)
            ended = CallEnded(call_id=self.call.call_id, reason=reason, detail=detail, duration_s=round(duration, 3))
            self._bus.publish(ended)
        return ended

    async def _live(self) -> None:
        if self._wiring.welcome is not None:
            self.agent = await self._wiring.welcome(self.call, self.agent)
        outfit = self._outfit = self._wiring.outfit(self, self.agent)
        self._screen = outfit.screen
        self._chronicle.began(self.agent, self.agent_name, self.agent_version, outfit)
        parts = self._parts = self._take_places(outfit)
        switchboard = Switchboard(self, parts, self._chronicle)
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            abilities = self._transport.abilities
            brief = Brief(self.call, self.agent, abilities.hears, abilities.plays, self._screened, outfit.toolbox.specs)
            try:
                await self._ready(outfit.conversation, brief, tasks)
            except ProviderError as error:
                self._chronicle.faulted(Faulted(error.stage or "agent", error.provider, error.problem, error.fix))
                tasks.start_soon(self._follow_caller, switchboard)
                await self.give_up_call(str(error), voice=False)
            else:
                self._transport.listen(self._hear)
                tasks.start_soon(self._follow_agent, outfit.conversation, switchboard)
                tasks.start_soon(self._follow_caller, switchboard)
                await self._greet(parts)
            await self._over.wait()
            tasks.cancel_scope.cancel()

    async def _ready(self, conversation: Conversation, brief: Brief, tasks: TaskGroup) -> None:
        """Start the agent's side: nobody listens to silence for longer than the agent's limit, not at the beginning either."""
        limit_s = self.agent.recovery.silence_limit_ms / 1000
        with anyio.move_on_after(limit_s or None) as limit:
            await conversation.start(brief, tasks)
        if limit.cancelled_caught:
            problem = f"it was not ready within {limit_s:g} s"
            raise ProviderError(problem, provider=self.agent.provider, stage="agent", fix="try again later")

    async def _greet(self, parts: Parts) -> None:
        greeting = fill_variables(self.agent.first_message, self.agent.variables)
        if greeting.strip():
            await parts.conversation.speak(greeting, "greeting")
            parts.patience.owe()

    def _take_places(self, outfit: Outfit) -> Parts:
        conversation, transport, bus, clock = outfit.conversation, self._transport, self._bus, self._clock
        floor = FloorKeeper(self, transport, conversation, bus, clock, self._wiring.taps)
        sound = transport.abilities.plays is not None
        closing = Closing(floor, conversation, clock, self.finish, sound=sound)
        handover = Handover(self, transport, floor, bus)
        turns = Turns(self, floor, closing, conversation, bus, clock)
        answering = Answering(self, self._voicemail, closing, handover, self._chronicle, clock)
        tools = ToolRunner(self, outfit.toolbox, conversation, bus, clock)
        patience = Patience(self, floor, closing, handover, turns, tools, conversation, self._chronicle, clock)
        return Parts(conversation, floor, closing, handover, turns, answering, tools, patience)

    async def _close(self) -> None:
        if self._parts is not None:
            self._parts.close()
            self._parts.floor.close(handed_over=self._end is not None and self._end[0] == "transferred")
        try:
            await self._transport.hang_up()
        except Exception:
            log.exception("hanging up failed")
        for side in (self._transport, self._outfit.conversation if self._outfit else None):
            try:
                if side is not None:
                    await side.aclose()
            except Exception:
                log.exception("closing a call's part failed")
        await self._hear_out()
        self.history[:] = [entry for entry in self.history if entry["text"]]
        for tap in self._wiring.taps:
            tap.close(self._clock.now())

    async def _hear_out(self) -> None:
        """What the agent's side had to say at its end: mostly its bill."""
        if self._parts is None:
            return
        switchboard = Switchboard(self, self._parts, self._chronicle)
        with anyio.move_on_after(LAST_WORDS_S):
            async for signal in self._parts.conversation.signals():
                await switchboard.afterwards(signal)

    def finish(self, reason: EndReason, detail: str = "") -> None:
        """The call is over now. The first reason stays."""
        if self._end is None:
            self._end = (reason, detail)
        self._over.set()

    @property
    def over(self) -> bool:
        """Whether the call has ended, or has not begun."""
        return self._over.is_set() or self._tasks is None

    @property
    def voiceless(self) -> bool:
        """The line has sound, and the agent has no voice for it."""
        return self._transport.abilities.plays is not None and not (self._outfit and self._outfit.tts)

    @property
    def shows(self) -> bool:
        """Text that is shown is all that the caller gets."""
        return self._transport.abilities.plays is None or self.voiceless

    @property
    def quiet(self) -> bool:
        """Neither side is saying anything, nor about to."""
        parts = self._parts
        return parts is not None and parts.floor.all_heard and not (self.deaf or parts.turns.speaking)

    @property
    def deaf(self) -> bool:
        """Nobody's words count any more: a machine listens, or the last words are being said."""
        parts = self._parts
        return parts is not None and (parts.closing.final or parts.answering.machine)

    # ------------------------------------------------------------------ what the outside may do

    async def say(self, text: str) -> None:
        """The agent says `text` word for word (after what it is saying). Raises PatterError when nobody would hear it."""
        parts = self._parts
        if parts is not None and parts.answering.machine:
            raise PatterError("A machine answered this call: nobody would hear it.")
        if parts is not None and not parts.closing.final and text.strip():
            await parts.closing.say(text)

    async def read(self, text: str) -> None:
        """The caller's words, typed: a turn at once."""
        if self._parts is not None:
            await self._parts.turns.read(text)

    async def guide(self, text: str, by: str = "operator") -> None:
        """Tell the model something that the caller does not hear. Raises PatterError when there is no model to tell."""
        if self._parts is not None and not self.over and text.strip():
            await self._parts.conversation.guide(text)
            self._bus.publish(events.GuidanceGiven(call_id=self.call.call_id, text=text, by=by))

    async def mute(self, muted: bool, by: str = "operator") -> None:
        """Let the agent say nothing but what `say` gives it, until it is unmuted; it answers again from the next turn on."""
        if self._parts is not None and not self.deaf and self._parts.closing.muted != muted:
            self._parts.closing.muted = muted
            self._bus.publish(events.AgentMuted(call_id=self.call.call_id, muted=muted, by=by))
            if muted:
                await self.interrupt()

    async def interrupt(self) -> None:
        """Stop what the agent is saying, unless these are the call's last words."""
        if self._parts is not None:
            self._parts.patience.close()
            await self._parts.floor.give_up()
            self._parts.closing.maybe_over()  # it may have been a goodbye

    async def hush(self) -> None:
        """Stop what is being said, and forget what was to follow it."""
        if self._parts is not None:
            self._parts.turns.close()
            self._parts.closing.reconsidered()
        await self.interrupt()

    async def hang_up(self, reason: EndReason = "operator_ended", detail: str = "") -> None:
        """End the call now."""
        if reason == "caller_hung_up":
            await self.caller_left(reason, detail)
        else:
            self.finish(reason, detail)

    async def hang_up_after_goodbye(self, reason: EndReason, detail: str = "") -> None:
        """End the call when what is being said, and what is still being made, has been heard."""
        if self._parts is None or self.over:
            self.finish(reason, detail)
        elif not self.deaf:
            self._parts.closing.after_goodbye(reason, detail, busy=bool(self._parts.tools.running))

    async def say_goodbye(self, text: str, reason: EndReason, detail: str = "") -> None:
        """Say `text` instead of whatever is being said, and hang up when it has been heard.

        A machine that waits gets no goodbye, and a message or goodbye that is being said is not cut for another one."""
        parts = self._parts
        if parts is not None and parts.closing.final:
            return
        if parts is None or self.over or self.deaf or not text.strip():
            self.finish(reason, detail)
        else:
            limit_s = self.agent.recovery.silence_limit_ms / 1000
            await parts.closing.say_goodbye(text, reason, detail, limit_s or math.inf)

    async def give_up_call(self, problem: str, *, voice: bool) -> None:
        """End the call as failed, with a goodbye where there is a voice for it: the agent's, or else the carrier's."""
        self._failed = True
        goodbye = self.agent.recovery.goodbye
        if voice or self._parts is None or self.deaf or not self._transport.abilities.announce or not goodbye.strip():
            await self.say_goodbye(goodbye if voice else "", "failed", problem)
        else:
            self.spawn(partial(self._announce_failure, self._parts, goodbye, problem))

    async def _announce_failure(self, parts: Parts, goodbye: str, problem: str) -> None:
        await self.hush()
        try:
            await parts.handover.announce(goodbye)
        except PatterError:
            log.warning("the carrier could not say goodbye", extra={"call_id": self.call.call_id})
        if not parts.handover.left:
            self.finish("failed", problem)

    def answer_owed(self) -> None:
        """A turn was taken: somebody has to answer it."""
        if self._parts is not None and not self._parts.closing.muted:
            self._parts.patience.owe()

    async def transfer(
        self, number: str, by: str = "operator", summary: str = "", *, failed: Failed | None = None
    ) -> None:
        """Hand the call to `number` (E.164), once what the agent says now has been heard; the call then is over.

        With a `summary` that person is called first and hears it, and the conversation goes on until then. Returns when it is
        decided; with `failed` at once, and `failed` is called if it comes to nothing. Raises ValueError for a wrong number,
        PatterError if the carrier cannot, nobody took the call, or another transfer is under way."""
        if self._parts is None:
            raise PatterError("The call has not begun.")
        await self._parts.handover.transfer(number, by, summary, failed)

    async def send_digits(self, digits: str) -> None:
        """Press keys on the caller's line. Raises PatterError if the line cannot."""
        await self._transport.send_digits(digits)

    def update(self, agent: Agent, version: str = "") -> None:
        """Use a new definition from the next turn on."""
        if self._outfit is None or self._parts is None:
            self.agent, self.agent_version = agent, version
            return
        changed = tuple(
            name for name in agent.__dataclass_fields__ if getattr(agent, name) != getattr(self.agent, name)
        )
        self.agent, self.agent_version = agent, version
        toolbox, self._screen = self._wiring.rework(self, agent)
        self._parts.tools.toolbox = toolbox
        self._outfit.conversation.update(agent)
        name = self.agent_name or agent.name
        self._bus.publish(
            events.AgentChanged(call_id=self.call.call_id, agent=name, agent_version=version, changed=changed)
        )

    # ------------------------------------------------------------------ the caller's side

    def _hear(self, chunk: AudioChunk) -> None:
        """One frame of the caller's. It is heard as long as `deaf` says so, which is written out here: there are many."""
        parts = self._parts
        if parts is not None and not (parts.closing.final or parts.answering.machine):
            parts.conversation.hear(chunk)
        if taps := self._wiring.taps:
            now = self._clock.now()
            for tap in taps:
                tap.caller(chunk, now)

    async def _follow_caller(self, switchboard: Switchboard) -> None:
        async for signal in self._transport.signals():
            await switchboard.caller_side(signal)
        self.finish("line_lost", "the caller's side closed without a word")

    async def caller_left(self, reason: EndReason, detail: str) -> None:
        """The caller's side is gone, unless a hand-over that is under way took it."""
        unheard = ""
        if self._parts is not None:
            await self._parts.handover.settled()
            unheard = self._parts.answering.unheard
        self.finish(reason, f"{detail} {unheard}".strip())

    # ------------------------------------------------------------------ the agent's side

    async def _follow_agent(self, conversation: Conversation, switchboard: Switchboard) -> None:
        assert self._parts is not None
        conversation.straight(self._parts.floor.reply_audio)
        async for signal in conversation.signals():
            await switchboard.agent_side(signal)
        if not self._failed:  # else the call is ending for a reason that was told
            self.finish("failed", "the agent's side closed")

    def spawn(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `job` in the call's task group."""
        if self._tasks is not None and not self._over.is_set():
            self._tasks.start_soon(job)

    def _screened(self, so_far: str, text: str) -> tuple[str, str | None]:
        verbatim = self._parts is not None and self._parts.closing.verbatim
        return (text, None) if verbatim else self._screen(so_far, text)

    def remember(self, role: str, text: str, *, later: bool = False) -> dict[str, Any]:
        """Add to the history what was said and heard; `later`: the text will be put into the entry when it is known."""
        entry = {"role": role, "text": text, "timestamp": self._clock.now()}
        if text or later:
            self.history.append(entry)
        return entry


def _sentence(error: BaseException) -> str:
    """What went wrong first, without the groups that tasks wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, PatterError) else f"{type(error).__name__}: {error}"
