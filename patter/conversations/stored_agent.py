"""The engine of agents that are stored at the vendor (ElevenLabs Agents): it hears, decides and answers by itself.

It owns one call's conversation and its second try when the socket is lost; it refuses to know the caller's line. The vendor
takes the caller's turns; we tell the session of them, and it keeps the books by what was heard.

What the vendor cannot do, and what stands in for it: it says no given words. The greeting is an override of the stored one;
anything else to be said is asked of the agent as a typed turn, and told as a fault when it chose other words or none.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from patter.audio.format import AudioChunk
from patter.clock import Clock
from patter.conversations.context import Context
from patter.conversations.stored_agent_door import AgentDoor, agent_id_of
from patter.conversations.stored_agent_ear import AgentEar
from patter.conversations.stored_agent_link import AgentLink, open_at_last, open_link
from patter.conversations.stored_agent_replies import Replies
from patter.conversations.stored_agent_start import initiation_of, only_greeting_refused, prompt_of
from patter.conversations.stored_agent_words import asking, changed, is_error, late_result, resumed
from patter.exceptions import ProviderError, WireError
from patter.mailbox import Mailbox
from patter.models import Agent
from patter.ports import Brief
from patter.providers.elevenlabs.account import ELEVENLABS
from patter.signals import (
    CallerPartial,
    ConnectionUsed,
    ConversationSignal,
    Faulted,
    ReplyAudio,
    ReplyEnded,
    ReplyKind,
    ToolAsked,
    Used,
    UtteranceEnded,
)
from patter.turns.words import acknowledges
from patter.wire import elevenlabs_convai as wire

INSTALMENT_S = 10.0  # of the vendor's minutes, so that a call's cost can be watched
STABLE_S = 10.0  # a socket that is lost sooner after it was opened anew will not stay up
HELD_FRAMES = 500  # of the caller's sound while the socket is opened anew: ten seconds
LATEST_S = 5.0  # a transcript is not later than this: a voice before was another one, and this one too soft to be dated
GIVEN_BACK_S = 1.0
MODEL = "convai"
END_CALL = "end_call"
LEFT = "end_call_by_closing"
ANSWER_FIRST_S = 3.0  # an answer that has not begun by then is late: something else may be said instead of it


class StoredAgent:
    """One call's conversation with an agent at the vendor. `door` is the account's, shared by all calls."""

    def __init__(self, door: AgentDoor, clock: Clock) -> None:
        self._door = door
        self._clock = clock
        self._signals: Mailbox[ConversationSignal] = Mailbox()
        self._context = Context()
        self._link: AgentLink
        self._ear: AgentEar | None = None
        self._held: deque[AudioChunk] | None = deque(maxlen=HELD_FRAMES)  # None: the vendor hears the caller
        self._brief: Brief
        self._agent: Agent
        self._replies: Replies
        self._initiation = wire.Initiation()
        self._says: deque[tuple[str, ReplyKind]] = deque()  # to be said when the agent is done
        self._tools: dict[str, str] = {}  # that are running on our side, by id: their names
        self._known = ("", 0.0)  # the caller's words that the vendor has, and until when the session may give them back
        self._owed = ""  # the caller's words that have no answer yet
        self._owed_until = 0.0  # so long that answer comes before anything else is asked for
        self._instructed = ""  # the newest instructions, if they changed during the call
        self._guidance: list[str] = []
        self._ending = ""  # the tool that ends the call, once the agent has used it
        self._closed = self._resumed = False
        self._opened_at = self._billed_at = 0.0

    # ------------------------------------------------------------------ life

    async def start(self, brief: Brief, tasks: TaskGroup) -> None:
        """Begin the conversation at the vendor. Raises ProviderError in plain words, ValueError without an agent's id."""
        self._brief, self._agent = brief, brief.agent
        self._replies = Replies(
            self._clock,
            self._tell,
            brief.screen,
            sound=brief.plays is not None,
            replace=self._say_soon,
            unsaid=self._not_said,
            ended=self._reply_over,
        )
        self._initiation = await initiation_of(brief.agent, self._door.voice)
        self._use(await self._opened())
        self._billed_at = self._clock.now()
        self._catch_up()
        tasks.start_soon(self._follow)
        tasks.start_soon(self._count)

    async def aclose(self) -> None:
        """Leave the conversation."""
        self._closed = True
        self._bill()
        self._signals.close()
        if hasattr(self, "_replies"):
            self._replies.close()
        if hasattr(self, "_link"):
            await self._link.aclose()

    def straight(self, play: Callable[[ReplyAudio], None]) -> None:
        """Sound goes straight to `play`, whenever nothing that was said before it waits."""
        self._signals.express(ReplyAudio, play)

    async def signals(self) -> AsyncIterator[ConversationSignal]:
        """What the agent's side says, until it is closed."""
        async for signal in self._signals:
            yield signal

    # ------------------------------------------------------------------ from the session

    def hear(self, chunk: AudioChunk) -> None:
        """One frame of caller audio."""
        ear = self._ear
        if ear is None:
            return
        ear.follow(chunk, self._clock.now())
        if self._held is not None:
            self._held.append(chunk)
        else:
            self._link.send(wire.write_audio(ear.payload(chunk)))

    async def read(self, text: str) -> None:
        """The caller's turn as text: answer it."""
        known, until = self._known
        if text == known and self._clock.now() < until:  # spoken words that the session took for a turn after all
            self._known = ("", 0.0)
            self._replies.turn()
            return
        self._context.caller(text)
        self._owed, self._owed_until = text, self._clock.now() + ANSWER_FIRST_S
        self._replies.settle()
        self._replies.turn()
        if self._held is None and not self._link.send(wire.write_user_message(text)) and self._ending:
            self._fault("llm", "the stored agent has left the call already", fatal=True)

    async def reply(self, utterance: str) -> None:
        """The vendor answers by itself: it is never asked for this."""

    async def speak(self, text: str, kind: str = "say") -> None:
        """Have `text` said, after what is being said. The greeting was given to the vendor at the start, and words that
        bridge a slow tool are the stored agent's own affair: neither is sent."""
        if kind == "say" and text.strip():
            self._say_soon(text, "say")

    async def interrupt(self, reply_id: int, heard: str, heard_ms: float) -> None:
        """Let nothing more of this reply through; the vendor keeps its own account of what was heard."""
        self._context.cut(reply_id, heard)
        if self._replies.cut(reply_id):
            self._link.send(wire.write_activity())

    async def answer(self, tool_id: str, output: str) -> None:
        """The result of a tool on our side."""
        if tool_id == self._ending:  # the vendor has left, or is about to: nobody waits for a result
            self._tell(ReplyEnded(self._replies.last_id, self._clock.now()))  # a goodbye may have been heard already
            return
        name = self._tools.pop(tool_id, None)
        if name is not None and tool_id in self._link.tools:
            self._link.send(wire.write_tool_result(tool_id, output, is_error=is_error(output)))
        elif name is not None:  # it was asked for in a conversation that was lost
            self._link.send(wire.write_context(late_result(name, output)))

    async def guide(self, text: str) -> None:
        """Context that nobody hears; a conversation that is begun once more is told again."""
        self._guidance.append(wire.write_context(text))
        if self._held is None:
            self._link.send(self._guidance[-1])

    def update(self, agent: Agent) -> None:
        """Tell the agent its new instructions, if they changed. What it says first and its voice are fixed by now."""
        before, now = prompt_of(self._agent), prompt_of(agent)
        self._agent = agent
        if now != before and now.strip():
            self._instructed = wire.write_context(changed(now), "instructions")
            if self._held is None:
                self._link.send(self._instructed)

    # ------------------------------------------------------------------ saying what was given

    def _say_soon(self, text: str, kind: ReplyKind) -> None:
        self._says.append((text, kind))
        self._may_say()

    def _may_say(self) -> None:
        """Ask for the next thing to be said, once what is being said has been heard: a typed turn would cut it."""
        if not self._says or self._closed or self._held is not None:
            return
        wait = max(self._replies.busy_until, self._owed_until if self._owed else 0.0) - self._clock.now()
        if wait > 0:
            self._clock.call_later(wait, self._may_say)
            return
        text, kind = self._says.popleft()
        self._replies.ask(text, kind)
        self._link.send(wire.write_user_message(asking(text)))

    def _not_said(self, text: str) -> None:
        self._fault("tts", "the stored agent did not say what it was asked to say", "try again")

    # ------------------------------------------------------------------ from the vendor

    async def _follow(self) -> None:
        while True:
            try:
                async for event in self._link.events:
                    self._take(event)
                    if self._signals.unread:  # of a burst: its first sound waits for no others
                        await anyio.lowlevel.checkpoint()
            except ProviderError as error:
                if self._closed or not await self._again(error):
                    return
            else:
                self._left()
                return

    def _take(self, event: wire.Event) -> None:
        match event:
            case wire.AgentAudio():
                self._play(event)
            case wire.AgentSaid(text, event_id):
                self._said(text, event_id)
            case wire.CallerSaid(text, tentative):
                self._caller(text, tentative=tentative)
            case wire.Interruption(event_id):
                self._replies.interrupted(event_id)
            case wire.ToolCalled(tool_id, name, arguments):
                self._tools[tool_id] = name
                self._link.tools.add(tool_id)
                self._tell(ToolAsked(tool_id, name, arguments, self._replies.last_id))
            case wire.ToolDone(tool_id, name, kind, ok):
                if name == END_CALL and kind == "system" and ok:
                    self._end_call(tool_id or END_CALL, "")
            case wire.AgentDone(event_id):
                self._replies.complete(event_id)

    def _play(self, event: wire.AgentAudio) -> None:
        try:
            sound = wire.sound_of(event.payload)
        except WireError as problem:
            self._link.spoilt(str(problem))
            return
        if sound:
            self._replies.sound(AudioChunk(sound, self._link.metadata.plays), event.spoken, event.event_id)

    def _said(self, text: str, event_id: int | None) -> None:
        said = self._replies.words(text, event_id)
        if said is None:
            return
        self._owed = ""
        self._context.agent(said.reply_id, said.text)
        if said.asked and not said.verbatim:
            self._fault("llm", "the stored agent said in words of its own what it was asked to say")

    def _caller(self, text: str, *, tentative: bool) -> None:
        now = self._clock.now()
        if not text:
            return
        self._replies.settle()
        if tentative:
            self._tell(CallerPartial(text, now))
            return
        self._context.caller(text)
        loud_at = self._ear.loud_at if self._ear is not None else 0.0
        times = (loud_at if loud_at > now - LATEST_S else now, now, now, now)
        if self._replies.audible() and acknowledges(text, self._agent.turn_taking.acknowledgements):
            self._known = (text, now + GIVEN_BACK_S)  # the vendor speaks on: "uh-huh" takes no floor
            self._tell(UtteranceEnded(text, *times))
            return
        self._owed, self._owed_until = text, self._clock.now() + ANSWER_FIRST_S
        self._replies.turn()
        self._tell(UtteranceEnded(text, *times, answered=True))

    def _end_call(self, tool_id: str, reason: str) -> None:
        """The agent ended the call: it is over when its last words have been heard."""
        if not self._ending:
            self._ending = tool_id
            self._tell(ToolAsked(tool_id, END_CALL, json.dumps({"reason": reason}), self._replies.last_id))

    def _left(self) -> None:
        """The vendor closed the conversation in good order."""
        if self._closed:
            return
        self._bill()
        self._billed_at = 0.0
        while self._says:
            self._not_said(self._says.popleft()[0])
        failure = self._link.failure
        self._end_call(LEFT, failure.said if failure is not None else "")
        self._replies.close()

    # ------------------------------------------------------------------ the socket

    async def _opened(self) -> AgentLink:
        """A conversation. If only the greeting may not be replaced, the stored one is better than none."""
        agent_id = agent_id_of(self._agent)
        try:
            return await open_at_last(self._door, agent_id, self._initiation, self._unreadable, self._tell)
        except ProviderError as error:
            overrides = self._initiation.overrides
            if not only_greeting_refused(error, overrides):
                raise
            self._fault("llm", f"{error.problem}: the stored greeting is used", error.fix)
            self._initiation = replace(self._initiation, overrides=replace(overrides, first_message=None))
            return await open_link(self._door, agent_id, self._initiation, self._unreadable)

    def _use(self, link: AgentLink) -> None:
        self._link = link
        loud_at = self._ear.loud_at if self._ear is not None else 0.0
        if self._brief.hears is not None:
            self._ear = AgentEar(self._brief.hears, link.metadata.hears)
            self._ear.loud_at = loud_at
        self._opened_at = self._clock.now()
        self._tell(ConnectionUsed("llm", ELEVENLABS.name, link.socket.reused, round(link.socket.connect_ms, 1)))

    async def _again(self, error: ProviderError) -> bool:
        """A lost conversation is begun once more, with what was said so far. Returns False when that is out of the question."""
        if self._ending:
            self._left()
            return False
        again = error.retryable and not (self._resumed and self._clock.now() - self._opened_at < STABLE_S)
        self._fault("llm", error.problem, "it is opened once more" if again else error.fix, fatal=not again)
        if not again:
            return False
        self._resumed, self._held = True, deque(maxlen=HELD_FRAMES)
        await self._link.aclose()
        first = self._initiation.overrides.first_message
        silent = replace(self._initiation.overrides, first_message=None if first is None else "")
        self._initiation = replace(self._initiation, overrides=silent)
        try:
            self._use(await open_link(self._door, agent_id_of(self._agent), self._initiation, self._unreadable))
        except ProviderError as second:
            self._fault("llm", second.problem, second.fix, fatal=True)
            return False
        self._catch_up(resumed(self._context.messages()), self._replies.restart(muted=first is None))
        return True

    def _catch_up(self, story: str = "", asked: str = "") -> None:
        """The conversation is open: tell it what was said and is still to be said, and give it the sound that came meanwhile."""
        if self._instructed:
            self._link.send(self._instructed)
        if story:
            self._link.send(wire.write_context(story, "so_far"))
            for told in self._guidance:
                self._link.send(told)
        if asked:
            self._link.send(wire.write_user_message(asking(asked)))
        elif self._owed:
            self._replies.turn()
            self._link.send(wire.write_user_message(self._owed))
        held, self._held = self._held or (), None
        for chunk in held:
            if self._ear is not None:
                self._link.send(wire.write_audio(self._ear.payload(chunk)))
        self._may_say()

    def _unreadable(self, problem: str) -> None:
        self._fault("llm", f"it sent something that cannot be read ({problem})", "it is passed over")

    # ------------------------------------------------------------------ telling

    def _tell(self, signal: ConversationSignal) -> None:
        self._signals.put(signal)

    def _fault(self, stage: str, problem: str, fix: str = "", *, fatal: bool = False) -> None:
        self._tell(Faulted(stage, ELEVENLABS.name, problem, fix, fatal))

    def _reply_over(self) -> None:
        self._bill()
        self._may_say()

    async def _count(self) -> None:
        while not self._closed:
            await anyio.sleep(INSTALMENT_S)
            self._bill()

    def _bill(self) -> None:
        """The vendor charges for the time that a conversation lasts."""
        now = self._clock.now()
        seconds = now - self._billed_at
        if self._billed_at and seconds >= 0.5:
            self._billed_at = now
            self._tell(Used("llm", ELEVENLABS.name, MODEL, {"seconds": round(seconds, 3)}))
