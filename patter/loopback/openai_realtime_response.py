"""The played realtime server's answers: thought of, voiced faster than they sound, counted, and stopped on the way.

It owns one session's responses; it refuses to know what is answered (that is plugged in) and when one is due.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import anyio

from patter.audio.convert import Converter
from patter.audio.format import PCM_24K
from patter.loopback.openai_realtime_items import Conversation, Item
from patter.loopback.openai_realtime_model import House, Line, Prompt
from patter.loopback.openai_realtime_shapes import Count, Refusal, SessionState, response_object


class Session(Protocol):
    """What answers need of their session."""

    house: House
    state: SessionState
    conversation: Conversation

    async def say(self, kind: str, **fields: Any) -> None: ...

    def spawn(self, job: Callable[[], Any]) -> None: ...


@dataclass(eq=False)
class Answering:
    """One response while it is made."""

    response_id: str
    asked: dict[str, Any]
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    reason: str = ""
    output: list[Item] = field(default_factory=list)
    count: Count = field(default_factory=Count)


class Responding:
    """The responses of one session, one at a time."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._current: Answering | None = None
        self._cached = Count()

    @property
    def active(self) -> bool:
        """Whether a response is being made."""
        return self._current is not None

    async def begin(self, asked: dict[str, Any]) -> None:
        """Make a response. Raises Refusal while another is being made."""
        if self._current is not None:
            raise Refusal(
                "conversation_already_has_active_response",
                f"Conversation already has an active response in progress: {self._current.response_id}.",
            )
        session = self._session
        answering = self._current = Answering(f"resp_{session.house.number()}", asked)
        told = response_object(session.state, answering.response_id, "in_progress", [])
        await session.say("response.created", response=told)
        session.spawn(partial(self._make, answering))

    def stop(self, reason: str, response_id: Any = None) -> bool:
        """Cancel what is being made. Returns whether there was anything."""
        current = self._current
        if current is None or current.reason or response_id not in (None, current.response_id):
            return False
        current.reason = reason
        current.scope.cancel()
        return True

    async def _make(self, answering: Answering) -> None:
        line = Line()
        with answering.scope:
            line = await self._think(answering)
            if line.failure is None:
                await self._tell(answering, line)
        await self._end(answering, line)

    async def _think(self, answering: Answering) -> Line:
        session, asked = self._session, answering.asked
        for item in session.conversation.items:
            if item.kind == "input_audio":
                await item.understood.wait()
        state = session.state
        tools = [] if asked.get("tool_choice") == "none" else state.tools
        items = session.conversation.remembered()
        prompt = Prompt(str(asked.get("instructions") or state.instructions), items, tools, str(state.voice))
        answering.count = self._counted(prompt)
        if session.house.record:
            session.house.seen.prompts.append(prompt)
        await anyio.sleep(session.house.manners.thinks_s)
        return await session.house.answer(prompt)

    def _counted(self, prompt: Prompt) -> Count:
        """The whole conversation is taken in again for each response; what was there before comes from the cache."""
        audio = sum(len(item.pcm) / 4800 + item.ms / 50 for item in self._session.conversation.items)
        text = len(prompt.instructions) // 4 + sum(len(item["text"]) // 4 for item in prompt.items)
        cached, self._cached = self._cached, Count(text_in=text, audio_in=round(audio))
        taken = Count(text, round(audio))
        taken.cached_text, taken.cached_audio = min(text, cached.text_in), min(round(audio), cached.audio_in)
        return taken

    # ------------------------------------------------------------------ telling it

    async def _tell(self, answering: Answering, line: Line) -> None:
        if line.text:
            await self._say_words(answering, line.text)
        for name, arguments in line.calls:
            await self._call(answering, name, arguments)

    async def _item(self, answering: Answering, item: Item) -> dict[str, Any]:
        """A new item of the response. Returns the fields by which events name it."""
        session = self._session
        item.shape = session.state.shape
        before = session.conversation.add(item)
        answering.output.append(item)
        index = len(answering.output) - 1
        where = {"response_id": answering.response_id, "output_index": index}
        await session.say("response.output_item.added", **where, item=item.told())
        await session.say("conversation.item.added", previous_item_id=before, item=item.told())
        return where | {"item_id": item.item_id}

    async def _done(self, where: dict[str, Any], item: Item) -> None:
        item.status = "completed"
        named = {name: value for name, value in where.items() if name != "item_id"}
        await self._session.say("response.output_item.done", **named, item=item.told())
        await self._session.say("conversation.item.done", previous_item_id=None, item=item.told())

    async def _call(self, answering: Answering, name: str, arguments: str) -> None:
        session = self._session
        number = session.house.number()
        item = Item(f"item_{number}", "call", status="in_progress", call_id=f"call_{number}", name=name)
        where = await self._item(answering, item)
        kind = "response.function_call_arguments"
        for at in range(0, len(arguments), 12):
            await session.say(f"{kind}.delta", **where, call_id=item.call_id, delta=arguments[at : at + 12])
        item.text = arguments
        answering.count.text_out += len(arguments) // 4 + 5
        extra = {} if session.state.shape == "beta" else {"name": name}
        await session.say(f"{kind}.done", **where, call_id=item.call_id, arguments=arguments, **extra)
        await self._done(where, item)

    async def _say_words(self, answering: Answering, text: str) -> None:
        session, silent = self._session, self._session.state.silent
        item_id = f"item_{session.house.number()}"
        item = Item(item_id, "assistant", kind="output_text" if silent else "output_audio", status="in_progress")
        where = await self._item(answering, item) | {"content_index": 0}
        part = {"type": "text", "text": ""} if silent else {"type": "audio", "transcript": ""}
        await session.say("response.content_part.added", **where, part=part)
        if silent:
            await self._write(answering, item, where, text)
        else:
            await self._voice(answering, item, where, text)
        whole = {"type": "text", "text": text} if silent else {"type": "audio", "transcript": text}
        await session.say("response.content_part.done", **where, part=whole)
        named = {name: value for name, value in where.items() if name != "content_index"}
        await self._done(named, item)

    async def _write(self, answering: Answering, item: Item, where: dict[str, Any], text: str) -> None:
        for word in _pieces(text):
            item.text += word
            answering.count.text_out += 1
            await self._session.say("response.output_text.delta", **where, delta=word)
            await anyio.sleep(self._session.house.manners.pause_s)
        await self._session.say("response.output_text.done", **where, text=text)

    async def _voice(self, answering: Answering, item: Item, where: dict[str, Any], text: str) -> None:
        session, manners = self._session, self._session.house.manners
        form = session.state.speaks_format
        pcm = await session.house.synthesize(text, str(session.state.voice))
        converter = Converter(PCM_24K, form)
        sound = converter.convert(pcm) + converter.flush()
        whole_ms, size = form.ms_of(len(sound)), form.bytes_for(manners.piece_ms)
        words = _pieces(text)
        written = 0
        for at in range(0, len(sound), size):
            piece = sound[at : at + size]
            share = (item.ms + len(piece) / len(sound) * whole_ms + manners.words_ahead_ms) / whole_ms
            due = len(words) if share >= 1 else int(share * len(words)) + 1
            if due > written:
                item.text = "".join(words[:due])
                answering.count.text_out += due - written
                delta, written = "".join(words[written:due]), due
                await session.say("response.output_audio_transcript.delta", **where, delta=delta)
            item.ms += form.ms_of(len(piece))
            answering.count.audio_out = round(item.ms / 50)
            session.conversation.has_sound = True
            await session.say("response.output_audio.delta", **where, delta=b2a_base64(piece, newline=False).decode())
            await anyio.sleep(manners.pause_s)
        await session.say("response.output_audio.done", **where)
        await session.say("response.output_audio_transcript.done", **where, transcript=text)

    async def _end(self, answering: Answering, line: Line) -> None:
        session, manners = self._session, self._session.house.manners
        status = "completed"
        details: dict[str, Any] | None = None
        if answering.reason:
            status, details = "cancelled", {"type": "cancelled", "reason": answering.reason}
            for item in answering.output:
                item.status = "incomplete" if item.status == "in_progress" else item.status
        elif line.failure is not None:
            code, message = line.failure
            error = {"type": code, "code": code, "message": message}
            status, details = "failed", {"type": "failed", "error": error}
            answering.count = Count()
        elif line.cut_short:
            status, details = "incomplete", {"type": "incomplete", "reason": line.cut_short}
        output = [item.told() for item in answering.output]
        usage = answering.count.told(old=manners.old_counts or session.state.shape == "beta")
        told = response_object(session.state, answering.response_id, status, output, details, usage)
        self._current = None
        await session.say("response.done", response=told)


def _pieces(text: str) -> list[str]:
    """Words as tokens come: each with the blank before it."""
    words = text.split(" ")
    return [word if at == 0 else f" {word}" for at, word in enumerate(words)]
