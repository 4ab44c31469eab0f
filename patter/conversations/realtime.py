"""A speech-to-speech engine: one vendor's realtime session that hears the caller and speaks for the agent, as a Conversation.

It owns the sessions of a call, one after the other: opened, replaced before they expire or when they break, unheard by the
caller. It refuses to know whose turn it is: its voice detection only tells, the call decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from patter.audio.format import AudioChunk
from patter.builders import fill_variables
from patter.clock import Clock
from patter.conversations.realtime_ear import Ear
from patter.conversations.realtime_greeting import GreetingStore
from patter.conversations.realtime_link import Link, connect
from patter.conversations.realtime_memory import Memory
from patter.conversations.realtime_speaker import Speaker
from patter.exceptions import ProviderError
from patter.mailbox import Mailbox
from patter.models import Agent
from patter.ports import Brief
from patter.providers.dialer import Dialer
from patter.providers.openai_account import OPENAI
from patter.providers.openai_realtime import STAGE, failure, hung_up, model_for, realtime_target, unanswered
from patter.providers.retired import living
from patter.signals import ConnectionUsed, ConversationSignal, Faulted, ReplyAudio, Used
from patter.wire.openai_realtime import SessionSettings, Shape, create, format_for, session_change
from patter.wire.openai_realtime_events import (
    CallerUnclear,
    CallerWords,
    Committed,
    Other,
    Refused,
    ResponseEnded,
    ServerEvent,
    SessionTold,
    VoiceBegan,
    VoiceEnded,
)

TRANSCRIBES: dict[Shape, str] = {"ga": "gpt-transcribe", "beta": "whisper-1"}
PAUSES_S = (0.0, 0.1, 0.3, 0.8, 1.6, 3.0)  # before each try to replace a session; a caller waits no longer than this
SHORT_LIFE_S, SHORT_LIVES = 2.0, 5  # a session that breaks at once, again and again, cannot be replaced
RENEW_S = 180.0  # before its end a session is replaced at the first quiet moment
LOOK_S = 0.25
PATIENCE_S = 8.0  # a model that is being asked says something within a second or two
GRUDGE_S = 5.0  # between tries to renew a session that still works


class RealtimeConversation:
    """One call with a realtime engine. `key` is the API key; everything else is in the agent of the brief.

    `greetings` keeps the sound of greetings for the next calls; `note` takes a sentence for the user about what was chosen.
    A model that says nothing for `patience_s` is asked again over another session."""

    def __init__(
        self,
        dialer: Dialer,
        clock: Clock,
        *,
        key: str,
        greetings: GreetingStore | None = None,
        note: Callable[[str], None] = lambda sentence: None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._dialer, self._clock, self._key = dialer, clock, key
        self._greetings, self._note, self._patience_s = greetings, note, patience_s
        self._signals: Mailbox[ConversationSignal] = Mailbox()
        self._shape: Shape = "ga"
        self._brief: Brief
        self._agent: Agent
        self._settings: SessionSettings
        self._memory: Memory
        self._tasks: TaskGroup
        self._link: Link | None = None
        self._speaker: Speaker | None = None
        self._ear: Ear | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._renewing = self._closed = False
        self._stuck = self._expired = False
        self._began_at = 0.0
        self._short_lives = 0

    async def start(self, brief: Brief, tasks: TaskGroup) -> None:
        """Open the session. Raises ProviderError when it cannot be, ValueError for an address that cannot be used."""
        self._brief, self._agent, self._tasks = brief, brief.agent, tasks
        self._shape = "beta" if brief.agent.realtime.shape == "beta" else "ga"
        self._settings = self._settings_of(brief.agent)
        self._memory = Memory(self._shape)
        self._ear = Ear(self._memory, self._clock, self._tell)
        self._speaker = Speaker(brief, self._memory, self._clock, self._tell, self._greetings)
        self._speaker.responses.patient(self._patience_s, self._got_stuck)
        self._use(await self._open_first())
        if sentence := model_for(brief.agent.model, self._shape)[1]:
            self._note(sentence)
        tasks.start_soon(self._live)

    # ------------------------------------------------------------------ the call's side

    def hear(self, chunk: AudioChunk) -> None:
        """One frame of caller audio."""
        if self._ear is not None:
            self._ear.hear(chunk)

    async def read(self, text: str) -> None:
        """The caller's turn as text: answer it."""
        if self._speaker is not None and self._ear is not None:
            self._ear.answered()
            self._speaker.responses.overtaken()
            self._send(create(self._memory.typed(text)))
            self._speaker.answer()

    async def reply(self, utterance: str) -> None:
        """Answer an utterance that the engine heard itself."""
        if self._speaker is not None and self._ear is not None:
            self._ear.answered()
            self._speaker.answer()

    async def speak(self, text: str, kind: str = "say") -> None:
        """Say `text` word for word, after what is being said already."""
        if self._speaker is not None:
            self._speaker.speak("greeting" if kind == "greeting" else "filler" if kind == "filler" else "say", text)

    async def interrupt(self, reply_id: int, heard: str, heard_ms: float) -> None:
        """Stop this reply, and let the model remember no more of it than was heard."""
        if self._speaker is not None:
            self._speaker.interrupt(reply_id, heard, heard_ms)

    async def answer(self, tool_id: str, output: str) -> None:
        """A tool's result."""
        if self._speaker is not None:
            self._speaker.answered(tool_id, output)

    async def guide(self, text: str) -> None:
        """One more item of the conversation, which the caller does not hear."""
        self._send(create(self._memory.guided(text)))

    def update(self, agent: Agent) -> None:
        """Use this definition from the next reply on; a new voice or model from the next quiet moment on."""
        before, self._agent = self._agent, agent
        had, self._settings = self._settings, self._settings_of(agent, before)
        if change := session_change(had, self._settings, self._shape):
            self._send(change)
        self._tell_parts()
        if agent.voice != before.voice or agent.model != before.model:
            self._look()

    def straight(self, play: Callable[[ReplyAudio], None]) -> None:
        """Sound goes straight to `play`, whenever nothing that was said before it waits."""
        self._signals.express(ReplyAudio, play)

    async def signals(self) -> AsyncIterator[ConversationSignal]:
        """What the agent's side says, until it is closed."""
        async for signal in self._signals:
            yield signal

    async def aclose(self) -> None:
        """End the session."""
        self._closed = True
        self._look_no_more()
        link, self._link = self._link, None
        if self._speaker is not None:
            self._speaker.responses.close()
        if self._ear is not None:
            self._ear.listen(None)
        if link is not None:
            await link.aclose()
        self._signals.close()

    # ------------------------------------------------------------------ what a session is told

    def _settings_of(self, agent: Agent, before: Agent | None = None) -> SessionSettings:
        brief, listening = self._brief, agent.realtime
        language = agent.language.split("-")[0].lower()
        wanted = listening.transcription_model or TRANSCRIBES[self._shape]
        return SessionSettings(
            instructions=fill_variables(agent.system_prompt, agent.variables),
            voice=agent.voice,
            hears=format_for(brief.hears) if brief.hears is not None else None,
            plays=format_for(brief.plays) if brief.plays is not None else None,
            listening=listening,
            transcription_model=wanted if self._shape == "beta" else living(wanted)[0],
            language=language if len(language) == 2 and language.isalpha() else "",
            tools=brief.tools if before is None else _tools(self._settings.tools, before, agent),
        )

    def _tell_parts(self) -> None:
        assert self._speaker is not None
        assert self._ear is not None
        self._speaker.apology = self._agent.recovery.apology
        self._speaker.responses.prompt = self._settings.instructions
        self._ear.model = self._settings.transcription_model

    # ------------------------------------------------------------------ sessions

    async def _open(self) -> Link:
        address = self._brief.agent.realtime.base_url  # of the whole call, whatever its agent becomes
        model = self._agent.model
        target = realtime_target(self._key, model, address, self._shape)
        link = await connect(self._dialer, target, self._settings, self._shape)
        link.model = model
        self._tell(ConnectionUsed(STAGE, OPENAI.name, link.socket.reused, link.socket.connect_ms))
        return link

    async def _open_first(self) -> Link:
        """The call's first session; what fails in passing is tried once more."""
        try:
            return await self._open()
        except ProviderError as error:
            pause = PAUSES_S[1] if error.retry_after_s is None else error.retry_after_s
            if not error.retryable or error.code == "timeout" or pause > PAUSES_S[-1]:
                raise
            self._fault(error)
            await anyio.sleep(pause)
            return await self._open()

    def _use(self, link: Link) -> None:
        """Go on with this session: it is told what was said so far, then what the caller says now."""
        assert self._speaker is not None
        assert self._ear is not None
        self._link, self._began_at = link, self._clock.now()
        self._stuck = self._expired = False
        if change := session_change(link.asked, self._settings, self._shape):
            link.send(change)  # the agent was changed while the session was being opened
        for item in self._memory.retold(link.whole):
            link.send(create(item))
        self._tell_parts()
        self._speaker.model, self._speaker.voice = model_for(link.model, self._shape)[0], link.asked.voice
        self._ear.listen(link)
        self._speaker.join(link)
        if (link.model, link.asked.voice) != (self._agent.model, self._agent.voice):
            self._look()
        elif link.expires_at > self._began_at:
            left = link.expires_at - self._began_at
            self._look(left - min(RENEW_S, left / 4))

    async def _live(self) -> None:
        while not self._closed:
            link = self._link
            if link is None:
                return
            problem = await self._follow(link)
            if self._closed or self._link is not link:
                continue  # it was replaced at a quiet moment
            self._tasks.start_soon(link.aclose)  # a goodbye may take seconds when nobody is there
            await self._replace(problem)

    async def _follow(self, link: Link) -> ProviderError:
        """Read a session to its end. Returns why it ended."""
        try:
            async for event in link.events():
                if self._link is not link:
                    break
                if isinstance(event, ProviderError):
                    self._fault(event)
                else:
                    self._take(event)
                    if self._signals.unread:  # of a burst: its first sound waits for no others
                        await anyio.lowlevel.checkpoint()
                if self._expired:
                    return failure("", "session_expired", "the session has reached its time limit")
        except ProviderError as error:
            return unanswered("answer") if self._stuck else error
        return unanswered("answer") if self._stuck else hung_up()

    async def _replace(self, problem: ProviderError) -> None:
        """The session is gone: another one, as fast as it can be had. What the caller says meanwhile is kept for it."""
        assert self._speaker is not None
        assert self._ear is not None
        self._link = None
        self._look_no_more()
        self._ear.listen(None)
        self._speaker.part(problem if self._stuck else None)
        lived = self._clock.now() - self._began_at
        self._short_lives = self._short_lives + 1 if lived < SHORT_LIFE_S else 0
        self._fault(problem)
        for pause in PAUSES_S if self._short_lives < SHORT_LIVES else ():
            await anyio.sleep(pause)
            if self._closed:
                return
            try:
                link = await self._open()
            except ProviderError as error:
                problem = error
                if not error.retryable:
                    break
                self._fault(error)
            else:
                if self._closed:
                    await link.aclose()
                else:
                    self._use(link)
                return
        self._fault(problem, fatal=True)

    def _got_stuck(self) -> None:
        """The session is open and says nothing: it is as good as gone."""
        self._stuck = True
        if self._link is not None:
            self._tasks.start_soon(self._link.aclose)

    # ------------------------------------------------------------------ replacing a session before its time

    def _look(self, after_s: float = 0.0) -> None:
        """See after a while whether the moment is quiet enough for another session."""
        self._look_no_more()
        if not self._closed:
            self._timer = self._clock.call_later(after_s, self._renew_if_quiet)

    def _look_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _quiet(self) -> bool:
        assert self._speaker is not None
        assert self._ear is not None
        return self._link is not None and self._speaker.idle and self._ear.idle

    def _renew_if_quiet(self) -> None:
        if self._renewing or self._link is None:
            return
        if self._quiet:
            self._tasks.start_soon(self._renew)
        else:
            self._look(LOOK_S)

    async def _renew(self) -> None:
        self._renewing, old = True, self._link
        try:
            link = await self._open()
        except ProviderError as error:
            self._fault(error)
            self._look(GRUDGE_S)
            return
        finally:
            self._renewing = False
        if self._closed or self._link is not old or old is None or not self._quiet:
            await link.aclose()
            if self._link is old:
                self._look(LOOK_S)
            return
        self._use(link)
        await old.aclose()

    # ------------------------------------------------------------------ what a session says

    def _take(self, event: ServerEvent) -> None:
        assert self._speaker is not None
        assert self._ear is not None
        match event:
            case Other():
                pass
            case VoiceBegan() | VoiceEnded() | Committed() | CallerWords() | CallerUnclear():
                if isinstance(event, Committed):
                    self._speaker.responses.overtaken()
                self._ear.take(event)
            case SessionTold():
                if self._link is not None:
                    self._link.told(event)
            case Refused():
                self._refused(event)
            case _:
                if isinstance(event, ResponseEnded) and event.amounts:
                    self._tell(Used(STAGE, OPENAI.name, self._speaker.model, event.amounts))
                self._speaker.responses.take(event)

    def _refused(self, event: Refused) -> None:
        assert self._speaker is not None
        if event.code == "session_expired":
            self._expired = True
        elif not self._speaker.refused(event):
            self._fault(failure(event.kind, event.code, event.message, secrets=(self._key,)))

    def _send(self, event: str) -> None:
        if self._link is not None:
            self._link.send(event)

    def _tell(self, signal: ConversationSignal) -> None:
        self._signals.put(signal)

    def _fault(self, error: ProviderError, *, fatal: bool = False) -> None:
        self._tell(Faulted(error.stage or STAGE, error.provider, error.problem, error.fix, fatal))


def _tools(told: Sequence[Mapping[str, Any]], before: Agent, agent: Agent) -> tuple[dict[str, Any], ...]:
    """The tools to tell of after a change of the agent: its own as they are now, and those that every agent has."""
    had = {tool.get("name") for tool in before.tools or ()}
    own = [
        {key: tool[key] for key in ("name", "description", "parameters") if tool.get(key)} for tool in agent.tools or ()
    ]
    return (*own, *(dict(tool) for tool in told if tool["name"] not in had))
