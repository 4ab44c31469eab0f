"""Many random calls through a pipeline: whatever is said, interrupted, foreseen or broken, replies end, protocols hold, and
everything is paid for exactly once. Virtual time; a seed that fails fails again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator

import anyio
import pytest

from patter.audio.format import PCM_16K
from patter.conversations.pipeline import Pipeline
from patter.exceptions import ProviderError
from patter.models import Agent
from patter.ports import Ask, Brief, CallInfo
from patter.signals import (
    ConversationSignal,
    Message,
    ReplyEnded,
    ReplyStarted,
    ResponderPiece,
    TextDelta,
    TokensUsed,
    ToolAsked,
    ToolRequest,
    Used,
)
from tests.support.parts import ToneSynthesizer
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio

DELTAS = ("Hello there. ", "This is half a ", "sentence, yes. ", "Ok. ")
CALL = CallInfo("CA1", "+15550001111", "+15550002222", "inbound", "loopback")
STEPS = 25


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


class MoodyResponder:
    """Takes its time, fails before and after its first words, asks for tools; counts who has not been closed."""

    name, model = "moody", "test"

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.asked: list[list[Message]] = []
        self.under_way = self._tools = 0

    async def respond(self, ask: Ask) -> AsyncIterator[ResponderPiece]:
        dice, told = self._dice, False
        self.asked.append(list(ask.messages))
        self.under_way += 1
        try:
            await anyio.sleep(dice.random() * 0.3)
            if dice.random() < 0.15:
                raise ProviderError("it failed", provider="moody", stage="llm", retryable=dice.random() < 0.5)
            for _ in range(dice.randint(0, 4)):
                yield TextDelta(dice.choice(DELTAS))
                await anyio.sleep(dice.random() * 0.1)
            if dice.random() < 0.15:
                raise ProviderError("it broke off", provider="moody", stage="llm", retryable=True)
            for _ in range(dice.choice([0, 0, 1, 2])):
                self._tools += 1
                yield ToolRequest(f"tool-{self._tools}", dice.choice(["find", "end_call"]), "{}")
            told = True
            yield TokensUsed(5, 3)
        finally:
            self.under_way -= 1
            if not told:
                ask.count(TokensUsed(5, 1))

    async def aclose(self) -> None: ...


class Scene:
    """One call: what came of it, and who plays the session."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.responder = MoodyResponder(self.dice)
        self.voice = ToneSynthesizer(self.dice.choice([0.0, 0.06, 0.3]))
        self.pipeline = Pipeline(responder=self.responder, clock=virtual_clock(), synthesizer=self.voice)
        self.heard: list[ConversationSignal] = []
        self.started: list[int] = []
        self.interrupted: set[int] = set()

    def screen(self, so_far: str, piece: str) -> tuple[str, str | None]:
        return ("No.", "guard") if self.dice.random() < 0.05 else (piece, None)

    async def play(self) -> None:
        async with anyio.create_task_group() as tasks:
            brief = Brief(CALL, Agent("p", provider="pipeline"), None, PCM_16K, self.screen)
            await self.pipeline.start(brief, tasks)
            tasks.start_soon(self._follow)
            for number in range(STEPS):
                await self._step(number)
                await anyio.sleep(self.dice.choice([0, 0, 0.01, 0.3, 1.0]))
            await anyio.sleep(60)
            await self.pipeline.aclose()
            tasks.cancel_scope.cancel()

    async def _step(self, number: int) -> None:
        dice, pipeline, kind = self.dice, self.pipeline, self.dice.random()
        if kind < 0.4:
            if dice.random() < 0.6:
                pipeline._prepare(f"say {number}")
            await anyio.sleep(dice.random() * 0.2)
            if dice.random() < 0.3:
                pipeline._discard()
            await pipeline.read(f"{dice.choice(['say', 'say', 'other'])} {number}")
        elif kind < 0.6:
            await pipeline.speak(f"Text number {number}. And more of it.", dice.choice(["say", "filler", "greeting"]))
        else:
            for reply_id in [one for one in self.started if one not in self.interrupted]:
                self.interrupted.add(reply_id)
                await pipeline.interrupt(reply_id, dice.choice(["", "Hello", "Hello there."]), 100.0)

    async def _follow(self) -> None:
        async with anyio.create_task_group() as tools:
            async for signal in self.pipeline.signals():
                self.heard.append(signal)
                if isinstance(signal, ReplyStarted):
                    self.started.append(signal.reply_id)
                elif isinstance(signal, ToolAsked):
                    tools.start_soon(self._run, signal.tool_id)

    async def _run(self, tool_id: str) -> None:
        await anyio.sleep(self.dice.random() * 0.5)
        await self.pipeline.answer(tool_id, '{"ok": true}')

    def spent(self, stage: str, amount: str) -> float:
        return sum(one.amounts.get(amount, 0.0) for one in self.heard if isinstance(one, Used) and one.stage == stage)


def in_order(messages: list[Message]) -> bool:
    """Whether a chat server would take this: every tool's call is followed by its result, and nobody says nothing."""
    open_calls: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            open_calls.remove(str(message["tool_call_id"]))
            continue
        calls = message.get("tool_calls") or []
        if open_calls or not (message["content"] or calls):
            return False
        open_calls = {str(call["id"]) for call in calls}
    return not open_calls


@pytest.mark.parametrize("first_seed", range(0, 40, 10))
async def test_whatever_happens_replies_end_and_everything_is_paid_once(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + 10):
        scene = Scene(seed)
        await scene.play()
        assert len(scene.responder.asked) > 3, seed
        assert scene.voice.spoken, seed
        ended = Counter(one.reply_id for one in scene.heard if isinstance(one, ReplyEnded))
        ran = Counter(one.tool_id for one in scene.heard if isinstance(one, ToolAsked))
        assert set(scene.started) - set(ended) <= scene.interrupted, seed
        assert set(ended.values()) | set(ran.values()) <= {1}, seed
        assert all(in_order(messages) for messages in scene.responder.asked), seed
        assert scene.responder.under_way == 0, seed
        assert scene.spent("llm", "input_tokens") == 5 * len(scene.responder.asked), seed
        assert scene.spent("tts", "characters") == sum(map(len, scene.voice.spoken)), seed
