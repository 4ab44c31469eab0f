"""An engine that answers by itself, as voice-to-voice models do: a machine's greeting gets none of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup

from patter.audio.format import PCM_16K, AudioChunk
from patter.bus import Bus
from patter.call.outfit import Outfit, Wiring
from patter.call.session import CallSession
from patter.call.toolbox import Toolbox
from patter.events import AgentSaid, CallEnded, Event, ToolCalled
from patter.guard import Guards
from patter.mailbox import Mailbox
from patter.models import Agent
from patter.ports import Brief, CallInfo
from patter.signals import (
    ConversationSignal,
    ReplyAudio,
    ReplyEnded,
    ReplyKind,
    ReplyStarted,
    ReplyText,
    ToolAsked,
)
from tests.support.parts import FakeLine
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio
MESSAGE = "Please call us back."


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


class Stubborn:
    """Makes every reply at once and stops at nothing. `sound_ms` of sound for each (0: it has lost its voice)."""

    def __init__(self, sound_ms: int = 1000) -> None:
        self.clock = virtual_clock()
        self.said: Mailbox[ConversationSignal] = Mailbox()
        self.interrupted: list[int] = []
        self.sound_ms = sound_ms
        self._replies = 0

    async def start(self, brief: Brief, tasks: TaskGroup) -> None:
        """Ready."""

    def hear(self, chunk: AudioChunk) -> None:
        """It hears nothing."""

    async def read(self, text: str) -> None:
        """It reads nothing."""

    async def speak(self, text: str, kind: str = "say") -> None:
        self.reply(text, "greeting" if kind == "greeting" else "say")

    def reply(self, text: str, kind: ReplyKind = "answer") -> int:
        """A whole reply."""
        self._replies += 1
        number, now = self._replies, self.clock.now()
        self.said.put(ReplyStarted(number, kind, now))
        self.said.put(ReplyText(number, text, now))
        if self.sound_ms:
            self.said.put(ReplyAudio(number, AudioChunk(PCM_16K.quiet(self.sound_ms), PCM_16K), text))
        self.said.put(ReplyEnded(number, now))
        return number

    async def interrupt(self, reply_id: int, heard: str, heard_ms: float) -> None:
        self.interrupted.append(reply_id)

    async def answer(self, tool_id: str, output: str) -> None:
        """It asks in vain."""

    async def guide(self, text: str) -> None:
        """It takes no advice."""

    def update(self, agent: Agent) -> None:
        """It stays as it is."""

    def straight(self, play: Callable[[ReplyAudio], None]) -> None:
        """Sound takes the express lane."""
        self.said.express(ReplyAudio, play)

    async def signals(self) -> AsyncIterator[ConversationSignal]:
        async for signal in self.said:
            yield signal

    async def aclose(self) -> None:
        self.said.close()


async def play(
    engine: Stubborn, line: FakeLine, scene: Callable[[], Awaitable[None]], voicemail: str = MESSAGE
) -> list[Event]:
    """One call to its own end; everything it said."""
    bus, events = Bus(engine.clock), list[Event]()
    bus.add_sink(events.append)
    wiring = Wiring(
        lambda _, agent: Outfit(engine, Toolbox([]), Guards([]).screen, tts="stubborn/test"),
        lambda _, agent: (Toolbox([]), Guards([]).screen),
    )
    session = CallSession(CallInfo("CA1"), Agent("Be brief."), line, bus, engine.clock, wiring, voicemail=voicemail)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.run)
        await anyio.lowlevel.checkpoint()
        await scene()
    return events


async def test_what_it_answers_to_a_machine_is_cut_before_it_begins_and_its_tools_are_not_run() -> None:
    engine = Stubborn()
    line, answers = FakeLine(engine.clock), list[int]()

    async def scene() -> None:
        line.answers("machine", ready=False)
        await anyio.sleep(1.0)
        answers.append(engine.reply("How can I help you, machine?"))
        engine.said.put(ToolAsked("t1", "end_call", "{}", answers[0]))
        await anyio.sleep(1.0)
        line.answers("machine")
        await anyio.sleep(0.5)
        answers.append(engine.reply("Hello, machine?"))

    events = await play(engine, line, scene)
    ended = events[-1]
    assert isinstance(ended, CallEnded)
    assert ended.reason == "voicemail_left"
    assert engine.interrupted == answers
    assert [event.text for event in events if isinstance(event, AgentSaid)] == [MESSAGE]
    assert not [event for event in events if isinstance(event, ToolCalled)]
    assert {reply for _, reply, _ in line.played} == {2}


async def test_a_message_of_which_no_sound_was_made_was_not_left() -> None:
    engine = Stubborn(sound_ms=0)
    line = FakeLine(engine.clock)
    line.can_announce = True

    async def scene() -> None:
        line.answers("machine")

    events = await play(engine, line, scene)
    ended = events[-1]
    assert isinstance(ended, CallEnded)
    assert (ended.reason, line.announced) == ("voicemail_left", [MESSAGE])
    assert "no sound" in ended.detail
