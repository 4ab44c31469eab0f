"""The pipeline engine: speech-to-text → responder → text-to-speech as one `Conversation`.

It owns the order of replies and the model's context; it refuses to know the caller's line, which tools exist or what was
heard (the session tells). Replies are made one after another, fillers beside them; an interrupted one stops wherever it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from patter.audio.format import AudioChunk
from patter.builders import fill_variables
from patter.clock import Clock
from patter.conversations.context import Context
from patter.conversations.draft import Draft
from patter.conversations.hearing import Hearing, Recogniser
from patter.conversations.mouth import Mouth
from patter.exceptions import PatterError, ProviderError
from patter.mailbox import Mailbox
from patter.models import Agent
from patter.ports import (
    Ask,
    Brief,
    Responder,
    StreamingTranscriber,
    Synthesizer,
    Transcriber,
    TurnModel,
    VoiceDetector,
)
from patter.signals import (
    ConnectionUsed,
    ConversationSignal,
    Faulted,
    ReplyAudio,
    ReplyEnded,
    ReplyKind,
    ReplyReached,
    ReplyStarted,
    ReplyText,
    ResponderPiece,
    TextDelta,
    TokensUsed,
    ToolAsked,
    ToolRequest,
    Used,
)

RETRY_S = 0.25
LONGEST_WAIT_S = 2.0  # a model that asks to be left alone for longer is out for this turn
LATE_S = 3.0  # who has heard silence for so long is not made to wait for another try
TOOL_ROUNDS = 8  # a model that asks for tools more often than this within one reply is going round in circles
STEPS_TO_ASK = 3  # turns of the loop: the reply's task begins, the HTTP client's own task writes, the loop sends
STEPS_TO_SPEAK = 2  # the voice's task asks for the sentence, the loop sends: before more of the text is read
FINAL_TOOLS = frozenset({"end_call"})  # after these the model is not asked for more words


_FACTS = frozenset({ReplyStarted, ReplyReached, ReplyText, ConnectionUsed, Used})
"""What is told for the record: the next byte to a vendor goes first."""


@dataclass(slots=True)
class _Reply:
    reply_id: int
    kind: ReplyKind
    text: str | None  # given word for word, or None: ask the responder
    draft: Draft | None = None  # what the responder was asked early
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class Pipeline:
    """One call's pipeline. Without a `transcriber` (with its `detector`) or a `listener` it only reads; without a
    `synthesizer` it only writes.

    `fallback_ears` make the recognisers that take over when one fails. `guided`: whether the responder reads the system
    prompt. `drafts`: whether the responder may be asked early,
    perhaps in vain, when the recogniser foresees the end of a turn (no: asking it has effects)."""

    def __init__(
        self,
        *,
        responder: Responder,
        clock: Clock,
        transcriber: Transcriber | None = None,
        detector: VoiceDetector | None = None,
        turn_model: TurnModel | None = None,
        synthesizer: Synthesizer | None = None,
        listener: StreamingTranscriber | None = None,
        fallback_ears: Sequence[Callable[[], Recogniser]] = (),
        drafts: bool = True,
        guided: bool = True,
    ) -> None:
        self._responder = responder
        self._clock = clock
        first = listener or transcriber
        self._hearing = Hearing(
            [*([lambda: first] if first is not None else []), *fallback_ears],
            detector,
            turn_model,
            clock,
            self._tell,
            prepare=self._prepare,
            discard=self._discard,
            lost=self._not_understood,
        )
        self._hears = first is not None or bool(fallback_ears)
        self._drafts = drafts
        self._guided = guided
        self._guidance: list[str] = []
        self._synthesizer = synthesizer
        self._context = Context()
        self._signals: Mailbox[ConversationSignal] = Mailbox()
        self._queue: Mailbox[_Reply] = Mailbox()
        self._waiting: dict[int, _Reply] = {}  # replies made or being made that may still be interrupted
        self._answers: dict[str, anyio.Event] = {}
        self._fillers: set[int] = set()  # they bridge a silence: the model is not told of them
        self._voice = anyio.Lock(fast_acquire=True)
        self._draft: Draft | None = None
        self._tasks: TaskGroup | None = None
        self._next_reply = 0
        self._agent: Agent | None = None
        self._brief: Brief | None = None

    async def start(self, brief: Brief, tasks: TaskGroup) -> None:
        """Load the voice, and begin to open the ears, as far as the line has sound: the greeting does not wait for ears."""
        self._brief, self._agent = brief, brief.agent
        if brief.plays is None:
            self._synthesizer = None
        elif self._synthesizer is not None:
            await self._synthesizer.start()
        self._tasks = tasks
        if brief.hears is not None and self._hears:
            limit_s = brief.agent.recovery.silence_limit_ms / 1000
            self._hearing.start(brief.agent.turn_taking, brief.hears, tasks, limit_s)
        tasks.start_soon(self._make_replies)

    def hear(self, chunk: AudioChunk) -> None:
        """One frame of caller audio."""
        self._hearing.hear(chunk)

    async def read(self, text: str) -> None:
        """The caller's turn: answer it."""
        self._context.caller(text)
        draft, self._draft = self._draft, None
        if draft is not None and not draft.answers(self._ask()):
            draft.discard()
            draft = None
        self._begin(_Reply(self._number(), "answer", None, draft))
        for _ in range(STEPS_TO_ASK):
            await asyncio.sleep(0)  # whoever gave the turn tells the world of it when the question is on its way

    async def reply(self, utterance: str) -> None:
        """A pipeline's utterances have words: it is never asked for this."""

    async def speak(self, text: str, kind: str = "say") -> None:
        """Say `text` word for word, after what is being said already."""
        if kind == "filler":
            reply = _Reply(self._number(), "filler", text)
            self._fillers.add(reply.reply_id)
            self._announce(reply)
            if self._tasks is not None:  # beside the reply that may be waiting for a tool
                self._tasks.start_soon(self._make_one, reply)
        else:
            self._begin(_Reply(self._number(), "greeting" if kind == "greeting" else "say", text))

    async def interrupt(self, reply_id: int, heard: str, heard_ms: float) -> None:
        """Stop making this reply and keep only `heard` of it."""
        reply = self._waiting.pop(reply_id, None)
        if reply is not None:
            reply.scope.cancel()
            if reply.draft is not None:
                reply.draft.discard()
        if reply_id not in self._fillers:
            self._context.cut(reply_id, heard)

    async def answer(self, tool_id: str, output: str) -> None:
        """A tool's result."""
        self._context.answered(tool_id, output)
        waiting = self._answers.pop(tool_id, None)
        if waiting is not None:
            waiting.set()

    async def guide(self, text: str) -> None:
        """The instructions grow: chat templates that take no second system message are many."""
        if not self._guided:
            raise PatterError("This call is answered by a handler or a script: there is no model to guide.")
        self._guidance.append(text)
        self._discard()

    def update(self, agent: Agent) -> None:
        """Use this definition from the next reply on."""
        self._agent = agent
        self._hearing.settle(agent.turn_taking)

    def straight(self, play: Callable[[ReplyAudio], None]) -> None:
        """Sound goes straight to `play`, whenever nothing that was said before it waits."""
        self._signals.express(ReplyAudio, play)

    def signals(self) -> AsyncIterator[ConversationSignal]:
        """What the agent's side says, until it is closed."""
        return aiter(self._signals)

    async def aclose(self) -> None:
        """Stop listening and speaking. The providers are shared and stay open."""
        self._discard()
        await self._hearing.aclose()
        self._queue.close()
        self._signals.close()

    def _tell(self, signal: ConversationSignal) -> None:
        if type(signal) in _FACTS:
            self._signals.put_late(signal)
        else:
            self._signals.put(signal)

    # ------------------------------------------------------------------ replies, one after another

    def _number(self) -> int:
        self._next_reply += 1
        return self._next_reply

    def _begin(self, reply: _Reply) -> None:
        self._announce(reply)
        self._queue.put(reply)

    def _announce(self, reply: _Reply) -> None:
        self._waiting[reply.reply_id] = reply
        self._tell(ReplyStarted(reply.reply_id, reply.kind, self._clock.now()))

    async def _make_replies(self) -> None:
        async for reply in self._queue:
            await self._make_one(reply)

    async def _make_one(self, reply: _Reply) -> None:
        if not reply.scope.cancel_called:
            with reply.scope:
                await self._make(reply)
        self._waiting.pop(reply.reply_id, None)

    async def _make(self, reply: _Reply) -> None:
        assert self._brief is not None
        mouth = Mouth(reply.reply_id, self._synthesizer, self._brief.screen, self._clock, self._tell, self._voice)
        async with anyio.create_task_group() as both:
            both.start_soon(self._speak, mouth)
            if reply.text is None:
                await self._respond(reply, mouth)
            elif reply.kind == "filler":
                mouth.recite(reply.text)
            else:
                mouth.write(reply.text)
                mouth.pause()
                self._context.agent(reply.reply_id, mouth.text)
            mouth.close()
        self._tell(ReplyEnded(reply.reply_id, self._clock.now()))

    async def _speak(self, mouth: Mouth) -> None:
        try:
            await mouth.speak()
        except ProviderError as error:
            self._fault(error)

    # ------------------------------------------------------------------ asking the responder

    async def _respond(self, reply: _Reply, mouth: Mouth) -> None:
        for _ in range(TOOL_ROUNDS):
            spoken = len(mouth.text)
            asked = await self._round(reply, mouth)
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

    async def _round(self, reply: _Reply, mouth: Mouth) -> list[ToolRequest]:
        """Ask once, and once more if that failed before anything was said; then apologise."""
        for again in (True, False):
            draft, reply.draft = reply.draft, None
            pieces = draft.pieces() if draft is not None else self._responder.respond(self._ask())
            asked: list[ToolRequest] = []
            asked_at = self._clock.now()
            try:
                await self._take(pieces, mouth, asked)
            except ProviderError as error:
                self._fault(error)
                late = self._clock.now() - asked_at > LATE_S
                if not again or mouth.began or late or not _worth_another_try(error):
                    break
                await anyio.sleep(RETRY_S if error.retry_after_s is None else error.retry_after_s)
            else:
                return asked
        assert self._agent is not None
        mouth.recite(self._agent.recovery.apology)
        return []

    async def _take(self, pieces: AsyncIterator[ResponderPiece], mouth: Mouth, asked: list[ToolRequest]) -> None:
        mouth.began = False
        async with aclosing(pieces):  # type: ignore[type-var]
            async for piece in pieces:
                if isinstance(piece, TextDelta):
                    if mouth.write(piece.text):
                        for _ in range(STEPS_TO_SPEAK):
                            await asyncio.sleep(0)
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

    # ------------------------------------------------------------------ asking it early

    def _prepare(self, text: str) -> None:
        """The caller is probably done with `text`: begin the answer, unless another reply is still being made."""
        if not self._drafts or self._waiting or self._tasks is None or not text.strip():
            return
        ask = self._ask(likely=text)
        if self._draft is not None and self._draft.answers(ask):
            return
        self._discard()
        self._draft = Draft(self._responder, ask, self._count)
        self._tasks.start_soon(self._draft.write)

    def _discard(self) -> None:
        """The caller goes on after all."""
        if self._draft is not None:
            self._draft.discard()
            self._draft = None

    def _ask(self, *, likely: str = "") -> Ask:
        assert self._brief is not None
        assert self._agent is not None
        prompt = "\n\n".join((fill_variables(self._agent.system_prompt, self._agent.variables), *self._guidance))
        tools: Sequence[dict[str, object]] = self._brief.tools
        return Ask(self._brief.call, self._agent, prompt, self._context.messages(likely=likely), tools, self._count)

    def _not_understood(self) -> None:
        """What the caller said is lost: without a word they would wait for an answer."""
        if self._agent is not None and self._agent.recovery.apology.strip():
            self._begin(_Reply(self._number(), "say", self._agent.recovery.apology))

    def _count(self, tokens: TokensUsed) -> None:
        amounts = {
            "input_tokens": float(tokens.input),
            "cached_tokens": float(tokens.cached),
            "output_tokens": float(tokens.output),
        }
        provider, model = tokens.provider or self._responder.name, tokens.model or self._responder.model
        self._tell(Used("llm", provider, model, amounts))

    def _fault(self, error: ProviderError) -> None:
        self._tell(Faulted(error.stage or "llm", error.provider, error.problem, error.fix))


def _worth_another_try(error: ProviderError) -> bool:
    return error.retryable and error.tries == 1 and (error.retry_after_s or 0.0) <= LONGEST_WAIT_S
