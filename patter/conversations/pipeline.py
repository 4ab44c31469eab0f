"""The pipeline engine: speech-to-text → responder → text-to-speech as one `Conversation`.

It owns the order of replies and the model's context; it refuses to know the caller's line, which tools exist or what was
heard (the session tells). Replies are made one after another; an interrupted one stops wherever it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from patter.audio.format import AudioChunk
from patter.builders import fill_variables
from patter.clock import Clock
from patter.conversations.context import Context
from patter.conversations.ears import Ears
from patter.conversations.mouth import Mouth
from patter.exceptions import ProviderError
from patter.mailbox import Mailbox
from patter.models import Agent
from patter.ports import Ask, Brief, Responder, Synthesizer, Transcriber, TurnModel, VoiceDetector
from patter.signals import (
    ConnectionUsed,
    ConversationSignal,
    Faulted,
    ReplyAudio,
    ReplyEnded,
    ReplyKind,
    ReplyStarted,
    TextDelta,
    TokensUsed,
    ToolAsked,
    ToolRequest,
    Used,
)

APOLOGY = "I'm sorry, I'm having a technical problem. Could you say that again?"
TOOL_ROUNDS = 8  # a model that asks for tools more often than this within one reply is going round in circles
FINAL_TOOLS = frozenset({"end_call"})  # after these the model is not asked for more words


@dataclass(slots=True)
class _Reply:
    reply_id: int
    kind: ReplyKind
    text: str | None  # given word for word, or None: ask the responder
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class Pipeline:
    """One call's pipeline. Without a transcriber and detector it only reads; without a synthesizer it only writes."""

    def __init__(
        self,
        *,
        responder: Responder,
        clock: Clock,
        transcriber: Transcriber | None = None,
        detector: VoiceDetector | None = None,
        turn_model: TurnModel | None = None,
        synthesizer: Synthesizer | None = None,
    ) -> None:
        self._responder = responder
        self._clock = clock
        self._transcriber = transcriber
        self._detector = detector
        self._turn_model = turn_model
        self._synthesizer = synthesizer
        self._context = Context()
        self._signals: Mailbox[ConversationSignal] = Mailbox()
        self._queue: Mailbox[_Reply] = Mailbox()
        self._waiting: dict[int, _Reply] = {}  # replies made or being made that may still be interrupted
        self._answers: dict[str, anyio.Event] = {}
        self._ears: Ears | None = None
        self._next_reply = 0
        self._agent: Agent | None = None
        self._brief: Brief | None = None

    async def start(self, brief: Brief, tasks: TaskGroup) -> None:
        """Open the ears and load the voice, as far as the line has sound."""
        self._brief, self._agent = brief, brief.agent
        if brief.plays is None:
            self._synthesizer = None
        elif self._synthesizer is not None:
            await self._synthesizer.start()
        if brief.hears is not None and self._transcriber is not None and self._detector is not None:
            settings = brief.agent.turn_taking
            self._ears = Ears(self._transcriber, self._detector, self._turn_model, settings, self._clock, self._tell)
            await self._ears.start(brief.hears, tasks)
        tasks.start_soon(self._make_replies)

    def hear(self, chunk: AudioChunk) -> None:
        """One frame of caller audio."""
        if self._ears is not None:
            self._ears.hear(chunk)

    async def read(self, text: str) -> None:
        """The caller's turn: answer it."""
        self._context.caller(text)
        self._begin("answer", None)

    async def reply(self, utterance: str) -> None:
        """A pipeline's utterances have words: it is never asked for this."""

    async def speak(self, text: str, kind: str = "say") -> None:
        """Say `text` word for word, after what is being said already."""
        self._begin("greeting" if kind == "greeting" else "filler" if kind == "filler" else "say", text)

    async def interrupt(self, reply_id: int, heard: str, heard_ms: float) -> None:
        """Stop making this reply and keep only `heard` of it."""
        reply = self._waiting.pop(reply_id, None)
        if reply is not None:
            reply.scope.cancel()
        self._context.cut(reply_id, heard)

    async def answer(self, tool_id: str, output: str) -> None:
        """A tool's result."""
        self._context.answered(tool_id, output)
        waiting = self._answers.pop(tool_id, None)
        if waiting is not None:
            waiting.set()

    def update(self, agent: Agent) -> None:
        """Use this definition from the next reply on."""
        self._agent = agent
        if self._ears is not None:
            self._ears.settle(agent.turn_taking)

    def straight(self, play: Callable[[ReplyAudio], None]) -> None:
        """Sound goes straight to `play`, whenever nothing that was said before it waits."""
        self._signals.express(ReplyAudio, play)

    async def signals(self) -> AsyncIterator[ConversationSignal]:
        """What the agent's side says, until it is closed."""
        async for signal in self._signals:
            yield signal

    async def aclose(self) -> None:
        """Stop listening and speaking. The providers are shared and stay open."""
        if self._ears is not None:
            await self._ears.aclose()
        self._queue.close()
        self._signals.close()

    def _tell(self, signal: ConversationSignal) -> None:
        self._signals.put(signal)

    def _begin(self, kind: ReplyKind, text: str | None) -> None:
        self._next_reply += 1
        reply = _Reply(self._next_reply, kind, text)
        self._waiting[reply.reply_id] = reply
        self._tell(ReplyStarted(reply.reply_id, kind, self._clock.now()))
        self._queue.put(reply)

    async def _make_replies(self) -> None:
        async for reply in self._queue:
            if not reply.scope.cancel_called:
                with reply.scope:
                    await self._make(reply)
            self._waiting.pop(reply.reply_id, None)

    async def _make(self, reply: _Reply) -> None:
        assert self._brief is not None
        mouth = Mouth(reply.reply_id, self._synthesizer, self._brief.screen, self._clock, self._tell)
        async with anyio.create_task_group() as both:
            both.start_soon(self._voice, mouth)
            if reply.text is None:
                await self._respond(reply, mouth)
            else:
                mouth.write(reply.text)
                mouth.pause()
                self._context.agent(reply.reply_id, mouth.text)
            mouth.close()
        self._tell(ReplyEnded(reply.reply_id, self._clock.now()))

    async def _voice(self, mouth: Mouth) -> None:
        try:
            await mouth.speak()
        except ProviderError as error:
            self._fault(error)

    async def _respond(self, reply: _Reply, mouth: Mouth) -> None:
        for _ in range(TOOL_ROUNDS):
            spoken = len(mouth.text)
            asked: list[ToolRequest] = []
            try:
                asked = await self._one_round(mouth)
            except ProviderError as error:
                self._fault(error)
                mouth.write(f" {APOLOGY}")
            mouth.pause()
            if said := mouth.text[spoken:].strip():
                self._context.agent(reply.reply_id, said)
            if not asked or mouth.blocked:
                return
            self._context.asked(reply.reply_id, asked)
            arrivals = [self._answers.setdefault(tool.tool_id, anyio.Event()) for tool in asked]
            for tool in asked:
                self._tell(ToolAsked(tool.tool_id, tool.name, tool.arguments, reply.reply_id))
            for arrival in arrivals:
                await arrival.wait()
            if mouth.text and all(tool.name in FINAL_TOOLS for tool in asked):
                return

    async def _one_round(self, mouth: Mouth) -> list[ToolRequest]:
        asked: list[ToolRequest] = []
        async with aclosing(self._responder.respond(self._ask())) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                if isinstance(piece, TextDelta):
                    mouth.write(piece.text)
                    if mouth.blocked:
                        break
                elif isinstance(piece, ToolRequest):
                    asked.append(piece)
                elif isinstance(piece, TokensUsed):
                    self._count(piece)
                elif isinstance(piece, ConnectionUsed | Faulted):
                    self._tell(piece)
                else:
                    raise TypeError(f"a responder gave {type(piece).__name__}")
        return asked

    def _ask(self) -> Ask:
        assert self._brief is not None
        assert self._agent is not None
        prompt = fill_variables(self._agent.system_prompt, self._agent.variables)
        tools: Sequence[dict[str, object]] = self._brief.tools
        return Ask(self._brief.call, self._agent, prompt, self._context.messages(), tools)

    def _count(self, tokens: TokensUsed) -> None:
        amounts = {
            "input_tokens": float(tokens.input),
            "cached_tokens": float(tokens.cached),
            "output_tokens": float(tokens.output),
        }
        self._tell(Used("llm", self._responder.name, self._responder.model, amounts))

    def _fault(self, error: ProviderError) -> None:
        self._tell(Faulted(error.stage or "llm", error.provider, error.problem, error.fix))
