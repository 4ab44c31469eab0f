"""The agent's side of a realtime call: replies from their beginning to their end, with guardrails and tools in between.

It owns what the call is told of each reply; it refuses to know how sessions are opened, whose response is next, and what the
caller does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from patter.audio.format import AudioChunk
from patter.clock import Clock
from patter.conversations.realtime_captions import Captions, Pace
from patter.conversations.realtime_greeting import GreetingKey, GreetingStore, says
from patter.conversations.realtime_link import Link
from patter.conversations.realtime_memory import Memory
from patter.conversations.realtime_reply import Reply
from patter.conversations.realtime_responses import Piece, Responses
from patter.exceptions import ProviderError
from patter.ports import Brief
from patter.providers.openai_account import OPENAI
from patter.providers.openai_realtime import failure
from patter.signals import (
    ConversationSignal,
    Faulted,
    Guarded,
    ReplyAudio,
    ReplyEnded,
    ReplyKind,
    ReplyReached,
    ReplyStage,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
    ToolAsked,
)
from patter.wire.openai_realtime import create, delete, truncate
from patter.wire.openai_realtime_events import CallMade, Refused, ResponseEnded, Sound, Words

TOOL_ROUNDS = 8  # a model that asks for tools more often than this within one reply is going round in circles
FINAL_TOOLS = frozenset({"end_call"})  # after these the model is not asked for more words
REMEMBERED = 8  # replies that may still be interrupted: more are never in the caller's ear
LATE = "cut"
"""Events that tidy up begin with this name: what the server says against them is of no consequence."""


class Speaker:
    """One call's replies."""

    def __init__(
        self,
        brief: Brief,
        memory: Memory,
        clock: Clock,
        tell: Callable[[ConversationSignal], None],
        greetings: GreetingStore | None = None,
    ) -> None:
        self.responses = Responses(self, clock)
        self.model = self.voice = self.apology = ""
        self._sounding_until = 0.0
        self._brief, self._memory, self._clock, self._tell = brief, memory, clock, tell
        self._greetings = greetings
        self._link: Link | None = None
        self._pace = Pace()
        self._replies: dict[int, Reply] = {}
        self._owners: dict[str, Reply] = {}
        self._tripped = ("", "")
        self._count = 0

    @property
    def idle(self) -> bool:
        """Nothing is being made, waits to be made, or can still be in the caller's ear."""
        return self.responses.idle and self._clock.now() >= self._sounding_until

    # ------------------------------------------------------------------ the session's life

    def join(self, link: Link) -> None:
        """Speak through this session, which has been told everything, from now on."""
        cut_off = self.responses.join(link)
        self._link = link
        self._carry_over(cut_off)
        self.responses.advance()

    def part(self, stuck: ProviderError | None = None) -> None:
        """The session is gone: what was being made goes on in the next one; `stuck`: as a failed try."""
        self._link = None
        self._carry_over(self.responses.part(), stuck)

    def _carry_over(self, reply: Reply | None, stuck: ProviderError | None = None) -> None:
        for known in self._replies.values():
            known.forget_items()
        if reply is None or reply.over:
            return
        reply.broken = True
        self._memory.cut(reply.reply_id, reply.captions.break_off())
        if reply.tools:
            self._settle(reply)
        elif stuck is not None:
            self._try_again(reply, stuck)
        else:
            self.responses.ask(reply, first=True)

    # ------------------------------------------------------------------ what is asked for

    def answer(self) -> None:
        """Answer the caller: with what the server has begun to answer by itself, if it has."""
        reply = self._begin("answer", None)
        if not self.responses.adopt(reply):
            self.responses.ask(reply)

    def speak(self, kind: ReplyKind, words: str, *, screened: bool = True, first: bool = False) -> None:
        """Say `words` as they are; a greeting whose sound is kept is told at once."""
        guardrail: str | None = None
        if screened:
            words, guardrail = self._brief.screen("", words)
        reply = self._begin(kind, words, screened=screened and guardrail is None)
        if guardrail is not None:
            self._tell(Guarded(guardrail, reply.reply_id))
        if not words.strip():
            self._end(reply)
            return
        key = self._greeting(reply)
        kept = self._greetings.get(key) if self._greetings is not None and key is not None else None
        if kept:
            self._recite(reply, words, kept)
        else:
            self.responses.ask(reply, first=first)

    def interrupt(self, reply_id: int, heard: str, heard_ms: float) -> None:
        """Stop a reply, and let the session forget what was not heard of it."""
        for entry, old, item in self._memory.cut(reply_id, heard):
            self._send(delete(old, f"{LATE}_{old}"))
            if item is not None:
                self._send(create(item, after=self._memory.before(entry), event_id=f"{LATE}_{item['id']}"))
        self._sounding_until = self._clock.now()
        reply = self._replies.get(reply_id)
        if reply is None:
            return
        reply.over = True
        self.responses.drop(reply)
        newest = next(reversed(reply.items), "")
        for spoken in reply.items.values():
            ms, broken = spoken.heard(heard_ms), reply.broken and spoken.item_id == newest
            if not ms and not self.responses.busy_with(reply):
                self._send(delete(spoken.item_id, f"{LATE}_{spoken.item_id}"))
            elif broken or ms < int(spoken.ms):
                self._send(truncate(spoken.item_id, ms, f"{LATE}_{spoken.item_id}"))
        reply.items.clear()

    def answered(self, call_id: str, output: str) -> None:
        """A tool's result: the model gets it whatever became of the reply."""
        self._memory.answered(call_id, output)
        reply = self._owners.pop(call_id, None)
        if reply is not None:
            reply.calls.discard(call_id)
            if not self.responses.busy_with(reply):
                self._settle(reply)
        self.responses.advance()

    def _begin(self, kind: ReplyKind, words: str | None, *, screened: bool = True) -> Reply:
        self._count += 1
        reply = Reply(self._count, kind, words, Captions(self._pace, self._passes if screened else _anything))
        self._replies[self._count] = reply
        self._replies.pop(self._count - REMEMBERED, None)
        self._tell(ReplyStarted(reply.reply_id, kind, self._clock.now()))
        return reply

    # ------------------------------------------------------------------ responses (`Maker`)

    def make(self, reply: Reply, piece: Piece) -> None:
        """More of a reply."""
        match piece:
            case Words(_, item_id, text):
                if text.strip():
                    self._reach(reply, "first_token")
                self._write(reply, item_id, reply.writes(item_id, text))
            case Sound():
                self._sound(reply, piece)
            case CallMade():
                self._ask_tool(reply, piece)

    def made(self, reply: Reply, end: ResponseEnded) -> None:
        """A response of a reply is over."""
        if end.status == "failed":
            self.failed(reply, failure("", end.code, end.message))
            return
        for call in end.calls:
            self._ask_tool(reply, call)
        self._write(reply, "", reply.captions.close())
        if reply.over:
            return
        if end.status == "cancelled" and end.reason == "turn_detected":
            reply.over = reply.broken = True
            self._tell(ReplyWithdrawn(reply.reply_id, "caller", self._clock.now()))
            return
        if end.status == "incomplete":
            self._tell(
                Faulted("llm", OPENAI.name, f"an answer was cut short by the model ({end.reason or 'no reason'})")
            )
        self._lay_rest(reply)
        self._settle(reply)

    def failed(self, reply: Reply, error: ProviderError) -> None:
        """A response could not be made: one more try, then an apology, then nothing."""
        self._tell(Faulted("llm", error.provider, error.problem, error.fix))
        if not reply.over:
            self._try_again(reply, error)

    def _try_again(self, reply: Reply, error: ProviderError) -> None:
        reply.tries += 1
        reply.broken = True
        if reply.tries == 1 and error.retryable:
            self.responses.ask_again(reply)
        elif reply.words is None and self.apology and error.retryable:
            reply.words = f"{reply.captions.text} {self.apology}".strip()
            self.responses.ask_again(reply)
        else:
            self._end(reply)

    def unwanted(self, end: ResponseEnded, reply: Reply | None) -> None:
        """What the session has of an answer that nobody has heard anything of is forgotten."""
        items = [*end.messages, *(call.item_id for call in end.calls if not self._memory.knows(call.call_id))]
        for item_id in items:
            if item_id and (reply is None or item_id not in reply.sounded):
                self._send(delete(item_id, f"{LATE}_{item_id}"))

    def free(self) -> None:
        """Results of tools wait until no response is being made."""
        for item in self._memory.outputs() if self._link is not None else ():
            self._send(create(item))

    def refused(self, event: Refused) -> bool:
        """The server could not use something. Returns whether that is dealt with, or of no consequence."""
        late = event.event_id.startswith(LATE) or event.parameter.endswith("item_id")
        return self.responses.refused(event) or late or "already shorter" in event.message

    # ------------------------------------------------------------------ words and sound

    def _write(self, reply: Reply, item_id: str, passed: str) -> None:
        """Words that have passed: a silent line shows them at once, otherwise they wait for their sound."""
        if passed:
            self._memory.said(reply.reply_id, item_id or reply.writing, passed)
            if self._brief.plays is None:
                self._tell(ReplyText(reply.reply_id, passed, self._clock.now()))
                reply.captions.rest()
                reply.sounded.add(item_id or reply.writing)
        if reply.captions.stopped and not reply.over:
            self._guard(reply)

    def _sound(self, reply: Reply, sound: Sound) -> None:
        assert self._link is not None
        chunk = reply.sounds(sound, self._link.plays) if self._link.plays is not None else None
        if chunk is None:
            return
        self._reach(reply, "first_token")
        self._reach(reply, "first_audio")
        if reply.kind == "greeting" and self._greetings is not None:
            reply.kept.append(chunk)
        self._play(reply, chunk, reply.captions.sound(chunk.ms))

    def _play(self, reply: Reply, chunk: AudioChunk, text: str) -> None:
        now = self._clock.now()
        if text:
            self._tell(ReplyText(reply.reply_id, text, now))
        self._sounding_until = max(self._sounding_until, now) + chunk.ms / 1000
        self._tell(ReplyAudio(reply.reply_id, chunk, text))

    def _lay_rest(self, reply: Reply) -> None:
        """Words that the estimate has not reached yet were spoken by the end of the sound."""
        rest, link = reply.captions.rest(), self._link
        if rest and link is not None and link.plays is not None and self._brief.plays is not None:
            self._play(reply, AudioChunk(b"", link.plays), rest)

    def _recite(self, reply: Reply, words: str, chunks: Sequence[AudioChunk]) -> None:
        """Tell a greeting that was kept; the session only learns that it was said."""
        reply.captions.write(words)
        reply.captions.close()
        if reply.captions.stopped:
            self._guard(reply)
            return
        self._reach(reply, "first_token")
        self._reach(reply, "first_audio")
        for chunk in chunks:
            self._play(reply, chunk, reply.captions.sound(chunk.ms))
        self._lay_rest(reply)
        self._send(create(self._memory.recited(reply.reply_id, words)))
        reply.over = True
        self._tell(ReplyEnded(reply.reply_id, self._clock.now()))

    def _end(self, reply: Reply) -> None:
        reply.over = True
        if not reply.broken:
            reply.captions.learn()
            key = self._greeting(reply)
            if key is not None and self._greetings is not None and reply.kept and says(reply.captions.text, key.text):
                self._greetings.put(key, reply.kept)
        self._tell(ReplyEnded(reply.reply_id, self._clock.now()))

    def _greeting(self, reply: Reply) -> GreetingKey | None:
        if reply.kind != "greeting" or not reply.words or self._link is None or self._link.plays is None:
            return None
        return GreetingKey(reply.words, self.voice, self.model, self._link.plays)

    def _reach(self, reply: Reply, stage: ReplyStage) -> None:
        if stage not in reply.reached:
            reply.reached.add(stage)
            self._tell(ReplyReached(reply.reply_id, stage, self._clock.now()))

    # ------------------------------------------------------------------ guardrails

    def _passes(self, so_far: str, piece: str) -> bool:
        replacement, guardrail = self._brief.screen(so_far, piece)
        if guardrail is not None:
            self._tripped = (guardrail, replacement)
        return guardrail is None

    def _guard(self, reply: Reply) -> None:
        """A guardrail tripped: nothing more of this reply is told, and its replacement is said instead."""
        guardrail, replacement = self._tripped
        reply.over = True
        self.responses.drop(reply)
        self._tell(Guarded(guardrail, reply.reply_id))
        self._tell(ReplyWithdrawn(reply.reply_id, "guardrail", self._clock.now()))
        if replacement.strip():
            self.speak(reply.kind, replacement, screened=False, first=True)

    # ------------------------------------------------------------------ tools

    def _ask_tool(self, reply: Reply, call: CallMade) -> None:
        if self._memory.knows(call.call_id):
            return
        self._memory.asked(reply.reply_id, call.item_id, call.call_id, call.name, call.arguments)
        reply.calls.add(call.call_id)
        reply.tools.append(call.name)
        self._owners[call.call_id] = reply
        self._tell(ToolAsked(call.call_id, call.name, call.arguments or "{}", reply.reply_id))

    def _settle(self, reply: Reply) -> None:
        """A reply's response is over: when all its tools have answered the model goes on, or the reply has ended."""
        if reply.over or reply.calls:
            return
        tools, reply.tools = reply.tools, []
        reply.rounds += bool(tools)
        enough = reply.rounds > TOOL_ROUNDS or (bool(reply.captions.text) and FINAL_TOOLS.issuperset(tools))
        if not tools or enough:
            self._end(reply)
        else:
            reply.tries, reply.broken = 0, False
            self.responses.ask(reply, first=True)

    def _send(self, event: str) -> None:
        if self._link is not None:
            self._link.send(event)


def _anything(so_far: str, piece: str) -> bool:
    """What we say of our own accord is not screened again."""
    return True
