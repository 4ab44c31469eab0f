"""One reply of a realtime engine while it is made: its words, its sound, the vendor's items it consists of, its tool calls.

It owns that bookkeeping; it refuses to send anything or to decide what comes next.
"""

from __future__ import annotations

from dataclasses import dataclass

from patter.audio.format import AudioChunk, AudioFormat
from patter.conversations.realtime_captions import Captions
from patter.signals import ReplyKind, ReplyStage
from patter.wire.openai_realtime_events import Sound

SAY = (
    "Say the following text to the caller, word for word, in the language it is written in. Say nothing before it, nothing "
    "after it, and do not answer it.\n\n"
)
GO_ON = "\n\nYour last answer broke off. Go on right after its last words, without repeating them and without mentioning it."


@dataclass(slots=True, eq=False)
class SpokenItem:
    """A message of the reply: where its sound begins on the reply's timeline, and how much of it was passed on."""

    item_id: str
    start_ms: float
    ms: float = 0.0

    def heard(self, heard_ms: float) -> int:
        """How much of it the caller heard, when they heard `heard_ms` of the reply. Never more than was sent."""
        return int(min(max(heard_ms - self.start_ms, 0.0), self.ms))


class Reply:
    """From the moment it is begun until it is made, cut or given up. `words` None: the model chooses them."""

    def __init__(self, reply_id: int, kind: ReplyKind, words: str | None, captions: Captions) -> None:
        self.reply_id = reply_id
        self.kind: ReplyKind = kind
        self.words = words
        self.captions = captions
        self.items: dict[str, SpokenItem] = {}
        self.sounded: set[str] = set()
        """All items that anything was passed on of, also in earlier sessions."""
        self.calls: set[str] = set()
        """Its tool calls that have no result yet."""
        self.tools: list[str] = []
        """The names of all tools it asked for in its newest response."""
        self.rounds = 0
        self.tries = self.blocked = 0
        self.over = False
        """Made, cut or given up: nothing more may be told of it."""
        self.broken = False
        """Its last response was stopped: the vendor may have more of it than we got."""
        self.reached: set[ReplyStage] = set()
        self.kept: list[AudioChunk] = []
        self.writing = ""
        """The item whose words come."""
        self._odd = b""

    def instructions(self, prompt: str) -> str:
        """What a response to this reply is told in place of the session's instructions; "" = nothing."""
        said = len(self.captions.text.split())
        if self.words is not None:
            return SAY + " ".join(self.words.split()[said:])
        return prompt + GO_ON if self.broken and said else ""

    def writes(self, item_id: str, text: str) -> str:
        """More words of an item. Returns those that may be told now."""
        before = self.captions.close() if self.writing not in ("", item_id) else ""
        self.writing = item_id
        return " ".join(piece for piece in (before, self.captions.write(text)) if piece)

    def sounds(self, sound: Sound, form: AudioFormat) -> AudioChunk | None:
        """More sound of an item: whole samples of it (None: not one yet)."""
        data, base64 = sound.data, sound.base64
        if form.sample_bytes == 2 and (self._odd or len(data) & 1):
            data, base64 = self._odd + data, ""
            whole = len(data) & ~1
            data, self._odd = data[:whole], data[whole:]
        if not data:
            return None
        item = self.items.get(sound.item_id)
        if item is None:
            item = self.items[sound.item_id] = SpokenItem(sound.item_id, self.captions.ms)
            self.sounded.add(sound.item_id)
        chunk = AudioChunk(data, form, base64)
        item.ms += chunk.ms
        return chunk

    def forget_items(self) -> None:
        """The session that knew its items is gone."""
        self.items.clear()
        self.writing, self._odd = "", b""
