"""An engine that hears sound itself and does what a test says, on a fake line: what such an engine is asked is kept.

It owns nothing but its lists; it refuses to answer by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from patter.audio.format import PCM_16K, AudioChunk
from patter.bus import Bus
from patter.call.outfit import Outfit, Wiring
from patter.call.session import CallSession
from patter.call.toolbox import Toolbox
from patter.clock import Clock
from patter.events import CallEnded, Event
from patter.exceptions import ProviderError
from patter.guard import Guards
from patter.mailbox import Mailbox
from patter.models import Agent
from patter.ports import Brief, CallInfo
from patter.signals import (
    CallerTranscribed,
    ConversationSignal,
    ReplyAudio,
    ReplyEnded,
    ReplyKind,
    ReplyReached,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    SpeechStopped,
    ToolAsked,
    UtteranceEnded,
)
from tests.support.parts import MS_PER_CHARACTER, FakeLine
from tests.support.virtual_time import virtual_clock


class ScriptedEngine:
    """Keeps what it is asked, and says what the test makes it say."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said: Mailbox[ConversationSignal] = Mailbox()
        self._replies = 0
        self.last: list[ConversationSignal] = []
        """What it says when it is closed."""
        self.refusal: ProviderError | None = None
        """Why it cannot be opened."""
        self.mute = False
        """It has lost its voice: what it should speak it does not."""
        self.asked: list[tuple[str, Any]] = []
        """What it was asked, in order: ("read", text), ("reply", utterance), ("interrupt", (id, heard)), ("answer", …)."""

    # ------------------------------------------------------------------ ports.Conversation

    async def start(self, brief: Brief, tasks: TaskGroup) -> None:
        if self.refusal is not None:
            raise self.refusal

    def hear(self, chunk: AudioChunk) -> None:
        """It hears what the test says it hears."""

    async def read(self, text: str) -> None:
        self.asked.append(("read", text))

    async def reply(self, utterance: str) -> None:
        self.asked.append(("reply", utterance))

    async def speak(self, text: str, kind: str = "say") -> None:
        self.asked.append(("speak", text))
        if not self.mute:
            self.says(text, "greeting" if kind == "greeting" else "filler" if kind == "filler" else "say")

    async def interrupt(self, reply_id: int, heard: str, heard_ms: float) -> None:
        self.asked.append(("interrupt", (reply_id, heard)))

    async def answer(self, tool_id: str, output: str) -> None:
        self.asked.append(("answer", (tool_id, output)))

    async def guide(self, text: str) -> None:
        self.asked.append(("guide", text))

    def update(self, agent: Agent) -> None:
        """It stays as it is."""

    def straight(self, play: Callable[[ReplyAudio], None]) -> None:
        self._said.express(ReplyAudio, play)

    async def signals(self) -> AsyncIterator[ConversationSignal]:
        async for signal in self._said:
            yield signal

    async def aclose(self) -> None:
        self.tell(*self.last)
        self._said.close()

    # ------------------------------------------------------------------ what a test makes it do

    def of(self, what: str) -> list[Any]:
        """What it was asked of this kind."""
        return [about for kind, about in self.asked if kind == what]

    def tell(self, *signals: ConversationSignal) -> None:
        """Say anything."""
        for signal in signals:
            self._said.put(signal)

    def says(self, text: str, kind: ReplyKind = "answer", *, whole: bool = True, sound: bool = True) -> int:
        """A reply, 50 ms of sound a character; `whole` False: more could come."""
        self._replies += 1
        number, now = self._replies, self._clock.now()
        self.tell(
            ReplyStarted(number, kind, now), ReplyReached(number, "first_token", now), ReplyText(number, text, now)
        )
        for at in range(0, len(text) * MS_PER_CHARACTER if sound else 0, 200):
            chunk = AudioChunk(PCM_16K.quiet(min(200, len(text) * MS_PER_CHARACTER - at)), PCM_16K)
            self.tell(ReplyAudio(number, chunk, "" if at else text))
        if whole:
            self.tell(ReplyEnded(number, now))
        return number

    def asks(self, tool_id: str, name: str) -> None:
        """Ask for a tool, in the reply made last."""
        self.tell(ToolAsked(tool_id, name, "{}", self._replies))

    async def hears(self, seconds: float, utterance: str = "", *, text: str = "", answered: bool = False) -> None:
        """The caller speaks for so long; half a second of silence later the engine takes the utterance for complete."""
        began = self._clock.now()
        await anyio.sleep(0.1)
        self.tell(SpeechStarted(began, self._clock.now()))
        await anyio.sleep(seconds - 0.1 + 0.5)
        now, ended = self._clock.now(), began + seconds
        self.tell(SpeechStopped(ended, now), UtteranceEnded(text, ended, now, now, now, answered, utterance))
        await anyio.lowlevel.checkpoint()

    def understands(self, utterance: str, text: str) -> None:
        """The words of an utterance."""
        self.tell(CallerTranscribed(utterance, text, self._clock.now()))


@dataclass
class Scene:
    """One call over that engine."""

    clock: Clock
    engine: ScriptedEngine
    line: FakeLine
    session: CallSession
    events: list[Event] = field(default_factory=list)

    def of(self, *kinds: type[Event]) -> list[Any]:
        """The events of these kinds, in order."""
        return [event for event in self.events if isinstance(event, kinds)]

    @property
    def ended(self) -> CallEnded:
        """How the call ended."""
        last = self.events[-1]
        assert isinstance(last, CallEnded)
        return last


def set_scene(agent: Agent | None = None) -> Scene:
    """A call ready to be played (inside a virtual loop)."""
    clock = virtual_clock()
    bus, seen = Bus(clock), list[Event]()
    bus.add_sink(seen.append)
    engine, line = ScriptedEngine(clock), FakeLine(clock)

    def rework(_: object, agent: Agent) -> Any:
        return Toolbox(agent.tools), Guards(agent.guardrails).screen

    wiring = Wiring(lambda _, agent: Outfit(engine, *rework(_, agent), tts="scripted/test"), rework)
    session = CallSession(CallInfo("CA1"), agent or Agent("Be brief."), line, bus, clock, wiring)
    return Scene(clock, engine, line, session, seen)


async def play(scene: Scene, act: Callable[[], Awaitable[None]]) -> None:
    """Run the call while `act` happens; the caller hangs up at its end, if nobody has before."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.session.run)
        await anyio.lowlevel.checkpoint()
        await act()
        if not scene.session.over:
            await scene.session.hang_up("caller_hung_up")
