"""One reply of the agent, as the session follows it: its text, its sound, and how much of it was heard.

It owns the ledger of a reply's sound, so that a held reply can go on where it stopped; it refuses to decide anything.
"""

from __future__ import annotations

from collections.abc import Iterator

from patter.audio.convert import Converter
from patter.audio.format import AudioChunk, AudioFormat
from patter.signals import ReplyKind
from patter.turns.spoken import SpokenText


class LiveReply:
    """A reply from its first sign of life until all of it is heard or it is cut."""

    def __init__(self, reply_id: int, turn: int, kind: ReplyKind) -> None:
        self.reply_id = reply_id
        self.turn = turn
        self.kind: ReplyKind = kind
        self.words = SpokenText()
        self.complete = False
        """No more text or sound will come."""
        self._sound: list[tuple[float, AudioChunk]] = []
        self._converter: Converter | None = None
        self._from: AudioFormat | None = None

    def add_sound(self, chunk: AudioChunk, text: str, plays: AudioFormat) -> tuple[float, AudioChunk]:
        """More sound, converted to the line's format: (where it stands on the reply's timeline in ms, the sound)."""
        if self._converter is None or self._from != chunk.format:
            self._converter, self._from = Converter(chunk.format, plays), chunk.format
        return self._keep(self._converter.convert_chunk(chunk), text)

    def end_sound(self, plays: AudioFormat) -> tuple[float, AudioChunk] | None:
        """The last few samples that the converter held, if any."""
        rest = self._converter.flush() if self._converter is not None else b""
        return self._keep(AudioChunk(rest, plays), "") if rest else None

    def _keep(self, chunk: AudioChunk, text: str) -> tuple[float, AudioChunk]:
        placed = (self.words.ms, chunk)
        self.words.sound(chunk.ms, text)
        self._sound.append(placed)
        return placed

    def sound_after(self, heard_ms: float) -> Iterator[tuple[float, AudioChunk]]:
        """The sound not heard yet, from `heard_ms` on."""
        for at_ms, chunk in self._sound:
            if at_ms + chunk.ms <= heard_ms:
                continue
            skip = chunk.format.bytes_for(max(0.0, heard_ms - at_ms))
            yield at_ms + chunk.format.ms_of(skip), AudioChunk(chunk.data[skip:], chunk.format)
