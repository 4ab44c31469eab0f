"""A conversation with a stored agent over real sockets, with everything it said, and a caller who makes sound.

It owns starting and ending one; it refuses to judge it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio

from patter.audio.convert import Converter
from patter.audio.format import MULAW_8K, PCM_8K, AudioChunk, AudioFormat
from patter.clock import Clock
from patter.conversations.stored_agent import StoredAgent
from patter.conversations.stored_agent_door import AgentDoor
from patter.loopback.tones import tone
from patter.models import Agent
from patter.ports import Brief, CallInfo, Screen
from patter.providers.dialer import CONNECT_S, Dialer
from patter.providers.vendor_http import new_http
from patter.signals import ConversationSignal, ReplyAudio

KEY = "sk_loopback_0123456789"
AGENT_ID = "agent_loopback"
PATIENCE_S = 20.0  # the machine is shared
Signal = TypeVar("Signal")


def stored(**fields: object) -> Agent:
    """An agent's definition that leaves the stored one as it is, unless `fields` say otherwise."""
    return Agent(**({"system_prompt": "", "agent_id": AGENT_ID, "provider": "elevenlabs_convai"} | fields))  # type: ignore[arg-type]


class Talk:
    """A started conversation: what it has said so far, and the caller's side of it."""

    def __init__(self, conversation: StoredAgent, line: AudioFormat | None, clock: Clock) -> None:
        self.conversation, self.clock = conversation, clock
        self.said: list[ConversationSignal] = []
        self._line = line or MULAW_8K
        self._more = anyio.Event()

    async def collect(self) -> None:
        """Read its signals, until it is closed."""
        self.conversation.straight(self._take)
        async for signal in self.conversation.signals():
            self._take(signal)

    def _take(self, signal: ConversationSignal) -> None:
        self.said.append(signal)
        self._more.set()
        self._more = anyio.Event()

    def of(self, kind: type[Signal]) -> list[Signal]:
        """The signals of a kind so far."""
        return [signal for signal in self.said if isinstance(signal, kind)]

    async def until(
        self, kind: type[Signal], count: int = 1, fits: Callable[[Signal], bool] = lambda _: True
    ) -> Signal:
        """Wait for the `count`-th signal of a kind that fits."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                found = [signal for signal in self.of(kind) if fits(signal)]
                if len(found) >= count:
                    return found[count - 1]
                await self._more.wait()

    def sound(self, reply_id: int) -> bytes:
        """All sound of a reply."""
        return b"".join(chunk.chunk.data for chunk in self.of(ReplyAudio) if chunk.reply_id == reply_id)

    def speak(self, seconds: float = 0.6, silence: float = 1.0) -> None:
        """The caller makes a sound of so many seconds, all at once, and is silent."""
        line = Converter(PCM_8K, self._line)
        loud = line.convert(tone(300.0, seconds * 1000)) + line.flush()
        self.feed(loud + self._line.quiet(silence * 1000))

    def feed(self, sound: bytes) -> None:
        """The caller's sound, in frames of 20 ms as a carrier sends them."""
        size = self._line.bytes_for(20)
        for at in range(0, len(sound), size):
            frame = sound[at : at + size]
            base64 = b64encode(frame).decode() if self._line == MULAW_8K else ""
            self.conversation.hear(AudioChunk(frame, self._line, base64))


@asynccontextmanager
async def door_to(base_url: str, connect_s: float = CONNECT_S, heartbeat_s: float = 10.0) -> AsyncIterator[AgentDoor]:
    """The way in to a vendor that is played."""
    async with new_http() as http:
        dialer = Dialer(http, connect_s=connect_s, heartbeat_s=heartbeat_s)
        yield AgentDoor(http, dialer, key=KEY, base_url=base_url)
        await dialer.aclose()


@asynccontextmanager
async def talking(
    base_url: str,
    agent: Agent | None = None,
    line: AudioFormat | None = MULAW_8K,
    screen: Screen = lambda _, text: (text, None),
    connect_s: float = CONNECT_S,
    heartbeat_s: float = 10.0,
) -> AsyncIterator[Talk]:
    """A conversation with the stored agent at `base_url`, on a line of this format (None: text)."""
    clock = Clock()
    async with door_to(base_url, connect_s, heartbeat_s) as door, anyio.create_task_group() as tasks:
        conversation = StoredAgent(door, clock)
        talk = Talk(conversation, line, clock)
        brief = Brief(CallInfo("CA1"), agent or stored(), line, line, screen)
        try:
            await conversation.start(brief, tasks)
            tasks.start_soon(talk.collect)
            yield talk
        finally:
            with anyio.CancelScope(shield=True):
                await conversation.aclose()
            tasks.cancel_scope.cancel()
