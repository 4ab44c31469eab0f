"""The caller's sound on its way to an agent at the vendor: its format, its spelling, and when the caller was last loud.

It owns one stream of frames; it refuses to judge turns. The loudness only dates the end of what the vendor transcribes.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable

from patter.audio.convert import Converter
from patter.audio.format import AudioChunk, AudioFormat, Encoding
from patter.audio.g711 import alaw_decode, mulaw_decode
from patter.audio.level import FLOOR_DBFS, rms_dbfs

QUIETEST_VOICE_DBFS = -50.0  # what is below is no voice on any telephone line
OVER_NOISE_DB = 9.0  # voice stands out of the line's noise by more than this, its dying breath does not
NOISE_RISE_DB = 0.04  # a frame: 2 dB a second, so that a louder room is learnt between two sentences
LOUDEST_NOISE_DBFS = -35.0
_DECODE: dict[Encoding, Callable[[bytes], bytes]] = {"mulaw": mulaw_decode, "alaw": alaw_decode}


class AgentEar:
    """One caller's frames: `hears` is the line's format, `wants` the stored agent's."""

    def __init__(self, hears: AudioFormat, wants: AudioFormat) -> None:
        self._converter = Converter(hears, wants)
        self._decode = _DECODE.get(hears.encoding)
        self._noise = QUIETEST_VOICE_DBFS
        self._was_loud = False
        self.loud_at = 0.0
        """When the last frame of voice came, in the clock's seconds; 0.0 = none yet."""

    def payload(self, chunk: AudioChunk) -> str:
        """The frame in base64, in the stored agent's format; as it came where the formats are the same."""
        if self._converter.identity and chunk.base64:
            return chunk.base64
        return b2a_base64(self._converter.convert(chunk.data), newline=False).decode("ascii")

    def follow(self, chunk: AudioChunk, now: float) -> None:
        """Listen to how loud the frame is."""
        level = rms_dbfs(self._decode(chunk.data) if self._decode else chunk.data)
        loud = level > max(QUIETEST_VOICE_DBFS, self._noise + OVER_NOISE_DB)
        if loud and self._was_loud:  # one frame alone is a click
            self.loud_at = now
        self._was_loud = loud
        self._noise = max(FLOOR_DBFS, min(level, self._noise + NOISE_RISE_DB, LOUDEST_NOISE_DBFS))
