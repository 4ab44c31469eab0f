"""The conversation so far, item by item as the vendor keeps it, so that a new session can be given it.

It owns order, words, and what was heard of the agent's; it refuses to know sockets and when a session is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from patter.audio.format import AudioChunk
from patter.turns.spoken import join
from patter.wire.openai_realtime import (
    Item,
    Shape,
    agent_text,
    caller_sound,
    caller_text,
    guidance,
    tool_call,
    tool_output,
)


@dataclass(slots=True, eq=False)
class Entry:
    """One item. `role`: "caller", "guide", "agent", "call" or "output"; `item_id` is its name in the present session
    ("" = it is not in it yet). `sound` is kept of an utterance until its words are known."""

    role: str
    item_id: str = ""
    text: str = ""
    reply_id: int = 0
    call_id: str = ""
    name: str = ""
    written: bool = False
    """We made it ourselves, as text: the session has no sound of it."""
    sound: Sequence[AudioChunk] = ()


class Memory:
    """The items of one call, in order."""

    def __init__(self, shape: Shape) -> None:
        self._shape: Shape = shape
        self._entries: list[Entry] = []
        self._named = 0

    # ------------------------------------------------------------------ the caller

    def heard(self, item_id: str, sound: Sequence[AudioChunk]) -> None:
        """An utterance whose words are not known yet. Only the newest one's sound is kept: words come in a second or two."""
        for entry in self._entries:
            entry.sound = ()
        self._entries.append(Entry("caller", item_id, sound=sound))

    def understood(self, item_id: str, text: str) -> None:
        """The words of an utterance; "" when there were none, or nobody could tell."""
        for entry in reversed(self._entries):
            if entry.role == "caller" and entry.item_id == item_id:
                entry.text, entry.sound = text, ()
                return

    def typed(self, text: str) -> Item:
        """The caller's turn as text: the item to create."""
        entry = Entry("caller", self._name(), text, written=True)
        self._entries.append(entry)
        return caller_text(entry.item_id, text)

    def guided(self, text: str) -> Item:
        """What the model was told beside the conversation: the item to create."""
        entry = Entry("guide", self._name(), text, written=True)
        self._entries.append(entry)
        return guidance(entry.item_id, text)

    @property
    def unclear(self) -> bool:
        """Whether the newest utterance still has no words."""
        last = next((entry for entry in reversed(self._entries) if entry.role == "caller"), None)
        return last is not None and bool(last.sound)

    # ------------------------------------------------------------------ the agent

    def said(self, reply_id: int, item_id: str, text: str) -> None:
        """More words of an item of the agent's."""
        entry = next((known for known in reversed(self._entries) if known.item_id == item_id), None)
        if entry is None:
            self._entries.append(Entry("agent", item_id, text, reply_id))
        else:
            entry.text = join((entry.text, text))

    def recited(self, reply_id: int, text: str) -> Item:
        """The agent said this without the session's help: the item to create."""
        entry = Entry("agent", self._name(), text, reply_id, written=True)
        self._entries.append(entry)
        return agent_text(entry.item_id, text, self._shape)

    def cut(self, reply_id: int, heard: str) -> list[tuple[Entry, str, Item | None]]:
        """The caller heard only `heard` of a reply: the rest was never said.

        Returns what that changes of items which we wrote as text: (entry, its old name, what to create in its place)."""
        left, rewritten = heard, list[tuple[Entry, str, Item | None]]()
        for entry in [entry for entry in self._entries if entry.role == "agent" and entry.reply_id == reply_id]:
            if left.startswith(entry.text):
                left = left[len(entry.text) :].lstrip()
                continue
            entry.text, left = left, ""
            if entry.written and entry.item_id:
                old, entry.item_id = entry.item_id, self._name()
                made = agent_text(entry.item_id, entry.text, self._shape) if entry.text else None
                rewritten.append((entry, old, made))
        return rewritten

    def before(self, entry: Entry) -> str:
        """The name of the item before this one; "root" if it is the first."""
        at = self._entries.index(entry)
        earlier = (known for known in reversed(self._entries[:at]) if known.role != "output" and _tells(known))
        return next((known.item_id for known in earlier if known.item_id), "root")

    # ------------------------------------------------------------------ tools

    def asked(self, reply_id: int, item_id: str, call_id: str, name: str, arguments: str) -> None:
        """The model asked for a tool."""
        self._entries.append(Entry("call", item_id, arguments, reply_id, call_id, name))

    def knows(self, call_id: str) -> bool:
        """Whether this tool was asked for."""
        return any(entry.role == "call" and entry.call_id == call_id for entry in self._entries)

    def answered(self, call_id: str, output: str) -> None:
        """A tool's result, kept whatever became of its reply."""
        self._entries.append(Entry("output", text=output, call_id=call_id))

    def outputs(self) -> Iterator[Item]:
        """The results that the session does not have yet; they count as given."""
        for entry in self._entries:
            if entry.role == "output" and not entry.item_id:
                entry.item_id = entry.call_id
                yield tool_output(entry.call_id, entry.text)

    # ------------------------------------------------------------------ a new session

    def retold(self, base64: Callable[[Sequence[AudioChunk]], str]) -> Iterator[Item]:
        """Everything that was said, as items for a new session; from now on they have the names they get here."""
        for entry in self._entries:
            entry.item_id, entry.written = "", True
            if not _tells(entry):
                continue
            entry.item_id = entry.call_id if entry.role == "output" else self._name()
            match entry.role:
                case "caller" if entry.text:
                    yield caller_text(entry.item_id, entry.text)
                case "caller":
                    yield caller_sound(entry.item_id, base64(entry.sound))
                case "guide":
                    yield guidance(entry.item_id, entry.text)
                case "agent":
                    yield agent_text(entry.item_id, entry.text, self._shape)
                case "call":
                    yield tool_call(entry.item_id, entry.call_id, entry.name, entry.text or "{}")
                case _:
                    yield tool_output(entry.call_id, entry.text)

    def _name(self) -> str:
        self._named += 1
        return f"item_patter_{self._named}"


def _tells(entry: Entry) -> bool:
    """Whether there is anything to tell of it: a cough has no words, and of an unheard reply nothing is left."""
    return bool(entry.text or entry.sound) or entry.role in ("call", "output")
