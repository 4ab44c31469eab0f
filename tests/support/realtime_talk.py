"""A started realtime conversation and everything it has said, over real sockets to a played vendor.

It owns starting, waiting and the caller's sound; it refuses to judge.
"""

from __future__ import annotations

import math
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio

from patter.audio.convert import Converter
from patter.audio.format import MULAW_8K, PCM_8K, AudioChunk, AudioFormat
from patter.clock import Clock
from patter.conversations.realtime import RealtimeConversation
from patter.conversations.realtime_greeting import GreetingStore
from patter.exceptions import plain_errors
from patter.loopback.openai_realtime import Line, LoopbackRealtime, Manners, Prompt, parrot
from patter.loopback.openai_realtime_model import Answer
from patter.models import Agent, RealtimeConfig
from patter.ports import Brief, CallInfo, Screen
from patter.providers.dialer import Dialer
from patter.providers.openai_realtime import realtime_target
from patter.providers.vendor_http import new_http
from patter.signals import ConversationSignal, ReplyAudio, ReplyText, UtteranceEnded
from tests.support.realtime_judge import judged

Kind = TypeVar("Kind")

WAIT_S = 10.0
_VOICE = b"".join(struct.pack("<h", int(9000 * math.sin(at / 3))) for at in range(160))
KEY = "sk-loopback-0123456789"


def frame(line: AudioFormat, *, loud: bool) -> AudioChunk:
    """20 ms of a caller on that line."""
    pcm = _VOICE if loud else bytes(320)
    return AudioChunk(Converter(PCM_8K, line).convert(pcm), line)


class Talk:
    """One conversation under test."""

    def __init__(self, conversation: RealtimeConversation, clock: Clock, line: AudioFormat | None) -> None:
        self.conversation, self.clock = conversation, clock
        self.said: list[ConversationSignal] = []
        self.notes: list[str] = []
        self.answers = True
        """Whether every utterance is a turn that is answered at once."""
        self._line = line
        self._more = anyio.Event()

    async def collect(self) -> None:
        """Keep what is said."""
        async for signal in self.conversation.signals():
            self.said.append(signal)
            self._more.set()
            self._more = anyio.Event()
            if self.answers and isinstance(signal, UtteranceEnded):
                await self.conversation.reply(signal.utterance)

    def of(self, kind: type[Kind]) -> list[Kind]:
        """The signals of that kind, in order."""
        return [signal for signal in self.said if isinstance(signal, kind)]

    async def until(self, kind: type[Kind], number: int = 1, check: Callable[[Kind], bool] = lambda _: True) -> Kind:
        """The signal of that kind which is the `number`th one to pass `check`, as soon as it has come."""
        with anyio.fail_after(WAIT_S):
            while len(found := [signal for signal in self.of(kind) if check(signal)]) < number:
                await self._more.wait()
        return found[number - 1]

    async def true(self, check: Callable[[], object]) -> None:
        """Wait until something is so."""
        with anyio.fail_after(WAIT_S):
            while not check():
                await anyio.sleep(0.005)

    def speaks(self, loud_ms: int = 400, quiet_ms: int = 600) -> None:
        """The caller makes sound, then is silent: faster than real time, since the vendor hears by the length of sound."""
        assert self._line is not None
        for loud, ms in ((True, loud_ms), (False, quiet_ms)):
            for _ in range(ms // 20):
                self.conversation.hear(frame(self._line, loud=loud))

    def text(self, reply_id: int) -> str:
        """What a reply has said."""
        return " ".join(signal.text for signal in self.of(ReplyText) if signal.reply_id == reply_id)

    def sound(self, reply_id: int) -> list[AudioChunk]:
        """How it sounded."""
        return [signal.chunk for signal in self.of(ReplyAudio) if signal.reply_id == reply_id]

    def ms(self, reply_id: int) -> float:
        """How long it sounded."""
        return sum(chunk.ms for chunk in self.sound(reply_id))


def realtime_agent(base_url: str, prompt: str = "You sell flowers.", **more: Any) -> Agent:
    """An agent whose sessions are at that address. `listening`: fields of its RealtimeConfig."""
    listening = more.pop("listening", {})
    return Agent(
        prompt,
        model=more.pop("model", "gpt-realtime-2.1"),
        realtime=RealtimeConfig(base_url=base_url, **listening),
        **more,
    )


@asynccontextmanager
async def talking(
    agent: Agent,
    line: AudioFormat | None = MULAW_8K,
    *,
    tools: Sequence[dict[str, Any]] = (),
    screen: Screen = lambda _, text: (text, None),
    greetings: GreetingStore | None = None,
    clock: Clock | None = None,
    warm: bool = False,
    before: Callable[[], object] = lambda: None,
    **more: Any,
) -> AsyncIterator[Talk]:
    """A conversation that has started, and is closed at the end. `before` is called when its socket has been warmed."""
    clock = clock or Clock()
    with plain_errors():
        async with new_http() as http, anyio.create_task_group() as tasks:
            dialer = Dialer(http)
            notes: list[str] = []
            conversation = RealtimeConversation(dialer, clock, key=KEY, greetings=greetings, note=notes.append, **more)
            talk = Talk(conversation, clock, line)
            talk.notes = notes
            try:
                if warm:
                    await dialer.warm(realtime_target(KEY, agent.model, agent.realtime.base_url))
                before()
                await conversation.start(Brief(CallInfo("CA1"), agent, line, line, screen, tools), tasks)
                tasks.start_soon(talk.collect)
                yield talk
            finally:
                with anyio.CancelScope(shield=True):
                    await conversation.aclose()
                    await dialer.aclose()
                tasks.cancel_scope.cancel()


async def understood(pcm: bytes) -> str:
    """What every caller says."""
    return "do you deliver"


def _lines(*lines: Line | str) -> Answer:
    left = [Line(line) if isinstance(line, str) else line for line in lines]

    async def answer(prompt: Prompt) -> Line:
        if prompt.dictated:
            return Line(prompt.dictated)
        return left.pop(0) if left else Line("Nothing more.")

    return answer


def house(*lines: Line | str, manners: Manners | None = None) -> LoopbackRealtime:
    """A vendor that says what is dictated, else these lines one after the other (none: it repeats the caller)."""
    answer = _lines(*lines) if lines else parrot
    return LoopbackRealtime(answer=answer, transcribe=understood, manners=manners or Manners(), record=True)


def sent(vendor: LoopbackRealtime, kind: str, session: int = -1) -> list[dict[str, Any]]:
    """What the client sent of this kind, in a session."""
    received = vendor.sessions[session].peer.received
    return [event for event in received if isinstance(event, dict) and event["type"] == kind]


def judge(vendor: LoopbackRealtime) -> None:
    """OpenAI's own types know everything that was said by either side."""
    for session in vendor.sessions:
        for event in session.peer.received:
            assert isinstance(event, dict)
            judged(event, "client", session.state.shape)
    for event in vendor.seen.sent:
        judged(event, "server", vendor.sessions[0].state.shape)
