"""The caller's sound on its way to an agent at the vendor: its format, its spelling, and when the caller was last loud.

It owns one stream of frames; it refuses to judge turns. The loudness only dates the end of what the vendor transcribes.
"""

from __future__ import annotations

import math
from binascii import b2a_base64
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from patter.audio.convert import Converter
from patter.audio.format import AudioChunk, AudioFormat, Encoding
from patter.audio.g711 import alaw_decode, mulaw_decode
from patter.audio.level import FLOOR_DBFS, rms_dbfs

QUIETEST_VOICE_DBFS = -50.0  # what is below is no voice on any telephone line
OVER_NOISE_DB = 9.0  # voice stands out of the line's noise by more than this, its dying breath does not
NOISE_RISE_DB = 0.04  # a frame: 2 dB a second, so that a louder room is learnt between two sentences
NOISE_FALL_DB = 1.0  # a frame: a lost one is silence, and must not pass for a quiet room
LOUDEST_NOISE_DBFS = -35.0


def _powers(decode: Callable[[bytes], bytes]) -> npt.NDArray[np.float32]:
    """The power of every code of a G.711 law, full scale being 1: one look-up instead of decoding and squaring."""
    values = np.frombuffer(decode(bytes(range(256))), np.int16) / 32768
    return (values * values).astype(np.float32)


_POWERS: dict[Encoding, npt.NDArray[np.float32]] = {"mulaw": _powers(mulaw_decode), "alaw": _powers(alaw_decode)}


def level_dbfs(sound: bytes, powers: npt.NDArray[np.float32] | None) -> float:
    """As `rms_dbfs`, also for G.711 with its law's `powers`; None: 16-bit PCM."""
    if powers is None:
        return rms_dbfs(sound)
    power = float(powers.take(np.frombuffer(sound, np.uint8)).sum()) / max(1, len(sound))
    return max(FLOOR_DBFS, 10 * math.log10(power)) if power > 0 else FLOOR_DBFS


class AgentEar:
    """One caller's frames: `hears` is the line's format, `wants` the stored agent's."""

    def __init__(self, hears: AudioFormat, wants: AudioFormat) -> None:
        self._converter = Converter(hears, wants)
        self._powers = _POWERS.get(hears.encoding)
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
        level = level_dbfs(chunk.data, self._powers)
        loud = level > max(QUIETEST_VOICE_DBFS, self._noise + OVER_NOISE_DB)
        if loud and self._was_loud:  # one frame alone is a click
            self.loud_at = now
        self._was_loud = loud
        step = max(-NOISE_FALL_DB, min(NOISE_RISE_DB, level - self._noise))
        self._noise = min(self._noise + step, LOUDEST_NOISE_DBFS)
