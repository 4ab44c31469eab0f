"""The engines behind one shape, each with its own world: the same plan of what the caller says and the model answers.

It owns building these worlds (faked parts of a pipeline, vendors played on loopback); it refuses to judge what comes of them.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio

from patter.audio.convert import Converter
from patter.audio.format import MULAW_8K, PCM_8K, AudioChunk, AudioFormat
from patter.clock import Clock
from patter.conversations.pipeline import Pipeline
from patter.conversations.realtime import RealtimeConversation
from patter.conversations.stored_agent import StoredAgent as StoredAgentConversation
from patter.conversations.stored_agent_door import AgentDoor
from patter.exceptions import ProviderError
from patter.loopback.elevenlabs_convai import LoopbackConvai, StoredAgent, Turn
from patter.loopback.elevenlabs_convai_agents import History
from patter.loopback.openai_realtime import Line, LoopbackRealtime, Prompt
from patter.loopback.tones import tone
from patter.models import Agent, RealtimeConfig
from patter.ports import Brief, CallInfo, Conversation, Screen
from patter.providers.dialer import Dialer
from patter.providers.vendor_http import new_http
from patter.signals import (
    CallerTranscribed,
    ConversationSignal,
    ReplyAudio,
    ReplyText,
    ResponderPiece,
    TextDelta,
    TokensUsed,
    ToolRequest,
    UtteranceEnded,
)
from tests.support.parts import LinesResponder, LoudnessDetector, ScriptedTranscriber, ToneSynthesizer

PATIENCE_S = 20.0  # the machine is shared
SAY = ": "  # an agent that is asked to say something finds it behind this
Signal = TypeVar("Signal")


@dataclass(frozen=True)
class Said:
    """What the model answers: words, or a tool that it wants to use."""

    text: str = ""
    tool: str = ""


@dataclass
class Plan:
    """What will be understood of the caller's sound, and answered to each turn."""

    heard: str = "hello there"
    answers: deque[Said] = field(default_factory=deque)
    greeting: str = ""
    screen: Screen = lambda _, text: (text, None)

    def next_answer(self) -> Said:
        """The next one; a model that has nothing planned agrees."""
        return self.answers.popleft() if self.answers else Said("All right.")


class Talk:
    """A started conversation: what it has said so far, and the caller's side of it."""

    def __init__(self, conversation: Conversation, line: AudioFormat | None, clock: Clock) -> None:
        self.conversation, self.clock = conversation, clock
        self.said: list[ConversationSignal] = []
        self.over = anyio.Event()
        self.remembers: Callable[[], str] = str
        """What the model was told of the call when it was last asked."""
        self.breaks: Callable[[], Awaitable[None]]
        """Let the vendor fail once."""
        self._line = line or MULAW_8K
        self._more = anyio.Event()

    async def collect(self) -> None:
        """Read its signals, until it is closed."""
        self.conversation.straight(self._take)
        async for signal in self.conversation.signals():
            self._take(signal)
        self.over.set()

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

    async def until_said(self, text: str) -> int:
        """Wait for a reply that says this; returns its number."""
        said = await self.until(ReplyText, fits=lambda piece: text in self.text(piece.reply_id))
        return said.reply_id

    def text(self, reply_id: int) -> str:
        """All text of a reply."""
        return " ".join(piece.text.strip() for piece in self.of(ReplyText) if piece.reply_id == reply_id)

    def sound(self, reply_id: int) -> bytes:
        """All sound of a reply."""
        return b"".join(piece.chunk.data for piece in self.of(ReplyAudio) if piece.reply_id == reply_id)

    def speak(self, seconds: float = 0.6, silence: float = 1.2) -> None:
        """The caller makes a sound of so many seconds, all at once, and is silent."""
        line = Converter(PCM_8K, self._line)
        loud = line.convert(tone(300.0, seconds * 1000)) + line.flush()
        sound, size = loud + self._line.quiet(silence * 1000), self._line.bytes_for(20)
        for at in range(0, len(sound), size):
            frame = sound[at : at + size]
            self.conversation.hear(AudioChunk(frame, self._line, b64encode(frame).decode()))

    async def take_turn(self) -> str:
        """What a session does with an utterance when the agent is quiet; returns the caller's words."""
        ended = await self.until(UtteranceEnded)
        if ended.answered:
            return ended.text
        if not ended.utterance:
            await self.conversation.read(ended.text)
            return ended.text
        await self.conversation.reply(ended.utterance)
        words = await self.until(CallerTranscribed, fits=lambda told: told.utterance == ended.utterance)
        return words.text


@asynccontextmanager
async def talking(conversation: Conversation, clock: Clock, agent: Agent, plan: Plan, line: AudioFormat | None,
                  **world: Any) -> AsyncIterator[Talk]:  # fmt: skip
    """Start a conversation and listen to it."""
    talk = Talk(conversation, line, clock)
    for name, value in world.items():
        setattr(talk, name, value)
    tools = [{"name": "find", "description": "", "parameters": {"type": "object", "properties": {}}}]
    async with anyio.create_task_group() as tasks:
        try:
            await conversation.start(Brief(CallInfo("CA1"), agent, line, line, plan.screen, tools), tasks)
            tasks.start_soon(talk.collect)
            if plan.greeting:
                await conversation.speak(plan.greeting, "greeting")
            yield talk
        finally:
            with anyio.CancelScope(shield=True):
                await conversation.aclose()
            tasks.cancel_scope.cancel()


# ---------------------------------------------------------------------------------------------------- the pipeline


class Planned(LinesResponder):
    """A model that answers by plan, and fails when it is told to."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(delay=0.01)
        self._plan, self._tools = plan, 0
        self.fault: ProviderError | None = None

    async def respond(self, ask: Any) -> AsyncIterator[ResponderPiece]:
        answer, fault, self.fault = self._plan.next_answer(), self.fault, None
        self._tools += 1
        wanted: list[ResponderPiece] = [ToolRequest(f"t{self._tools}", answer.tool, "{}")] if answer.tool else []
        said: list[ResponderPiece] = [TextDelta(answer.text)] if answer.text else []
        if fault is not None:
            self._plan.answers.appendleft(answer)
        self._lines = [[fault] if fault is not None else [*said, *wanted, TokensUsed(20, 5)]]
        async for piece in super().respond(ask):
            yield piece


class Unhurried(ToneSynthesizer):
    """Makes its sound in pieces, with a breath between them."""

    async def synthesize(self, text: str) -> AsyncIterator[AudioChunk]:
        async for chunk in super().synthesize(text):
            yield chunk
            await anyio.sleep(0.005)


@asynccontextmanager
async def pipeline(plan: Plan, line: AudioFormat | None) -> AsyncIterator[Talk]:
    """Faked parts around the real pipeline."""
    clock, model = Clock(), Planned(plan)
    conversation = Pipeline(
        responder=model,
        clock=clock,
        transcriber=ScriptedTranscriber(clock, [plan.heard], delay=0.02),
        detector=LoudnessDetector(),
        synthesizer=Unhurried(delay=0.01),
    )

    async def breaks() -> None:
        model.fault = ProviderError("it is busy", provider="lines", stage="llm", retryable=True)

    def remembers() -> str:
        return json.dumps([model.asked[-1].system_prompt, *model.asked[-1].messages])

    agent = Agent("Be brief.", provider="pipeline", first_message=plan.greeting)
    async with talking(conversation, clock, agent, plan, line, breaks=breaks, remembers=remembers) as talk:
        yield talk


# ---------------------------------------------------------------------------------------------------- realtime


@asynccontextmanager
async def realtime(plan: Plan, line: AudioFormat | None) -> AsyncIterator[Talk]:
    """A session with a realtime server."""

    async def answer(prompt: Prompt) -> Line:
        if prompt.dictated:
            return Line(prompt.dictated)
        said = plan.next_answer()
        return Line(said.text, calls=[(said.tool, "{}")] if said.tool else [])

    async def transcribe(pcm: bytes) -> str:
        return plan.heard

    vendor = LoopbackRealtime(answer=answer, transcribe=transcribe, record=True)
    vendor.manners.pause_s, vendor.manners.piece_ms = 0.005, 100.0
    async with vendor, new_http() as http:
        dialer, clock = Dialer(http), Clock()
        conversation = RealtimeConversation(dialer, clock, key="sk-loopback")
        agent = Agent("Be brief.", first_message=plan.greeting, realtime=RealtimeConfig(base_url=vendor.base_url))

        async def breaks() -> None:
            vendor.stage.cut_all()

        def remembers() -> str:
            return json.dumps([dict(item) for item in vendor.seen.prompts[-1].items])

        async with talking(conversation, clock, agent, plan, line, breaks=breaks, remembers=remembers) as talk:
            yield talk
        await dialer.aclose()


# ---------------------------------------------------------------------------------------------------- a stored agent


@asynccontextmanager
async def stored_agent(plan: Plan, line: AudioFormat | None) -> AsyncIterator[Talk]:
    """A conversation with an agent that is stored at its vendor."""

    async def think(history: History) -> Turn:
        role, text = history[-1]
        if role == "user" and text.startswith("Say"):
            return Turn(text.partition(SAY)[2])
        said = plan.next_answer()
        return Turn(said.text, tools=[(said.tool, {})] if said.tool else ())

    async def transcribe(sound: bytes, form: AudioFormat) -> str:
        return plan.heard

    async def speak(text: str, form: AudioFormat) -> bytes:
        return form.quiet(20.0 * len(text))

    played = StoredAgent(
        first_message="", think=think, transcribe=transcribe, speak=speak, aligned=True, chunk_ms=50.0, pace=0.2
    )
    async with LoopbackConvai(played) as vendor, new_http() as http:
        dialer, clock = Dialer(http), Clock()
        door = AgentDoor(http, dialer, key="loopback", base_url=vendor.stage.http)
        agent = Agent("", agent_id=played.agent_id, provider="elevenlabs_convai", first_message=plan.greeting)

        async def breaks() -> None:
            vendor.stage.cut_all()

        def remembers() -> str:
            return json.dumps([text for talk in vendor.talks for _, text in talk.history])

        conversation = StoredAgentConversation(door, clock)
        async with talking(conversation, clock, agent, plan, line, breaks=breaks, remembers=remembers) as talk:
            yield talk
        await dialer.aclose()


Engine = Callable[[Plan, AudioFormat | None], AbstractAsyncContextManager[Talk]]
ENGINES: dict[str, Engine] = {"pipeline": pipeline, "realtime": realtime, "stored agent": stored_agent}
