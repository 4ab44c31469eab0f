"""How loud a piece of PCM is, in decibels of full scale.

It owns the measure and refuses to judge: whether a level is voice is for voice detection to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from patter.audio.format import AudioFormat
from patter.audio.g711 import alaw_decode, mulaw_decode

FLOOR_DBFS = -96.0
"""The level of nothing: about one unit of a 16-bit sample."""


_FULL_DB = 20 * math.log10(32768)


def _squares(decode: Callable[[bytes], bytes]) -> tuple[float, ...]:
    """The power of each code of a companding law."""
    return tuple(np.square(np.frombuffer(decode(bytes(range(256))), np.int16).astype(np.float64)).tolist())


_SQUARES = {"mulaw": _squares(mulaw_decode), "alaw": _squares(alaw_decode)}


def dbfs_of(audio: AudioFormat) -> Callable[[bytes], float]:
    """`rms_dbfs` for sound of this format. G.711 by a table, since a telephone's frame is too short to wake up numpy for, and
    of every third sample, which gives the level of any voice within 3 dB (not that of a pure tone at a third of the rate)."""
    squares = _SQUARES.get(audio.encoding)
    if squares is None:
        return rms_dbfs
    square = squares.__getitem__

    def level(codes: bytes) -> float:
        third = codes[::3]
        return _dbfs(sum(map(square, third)) / max(1, len(third)))

    return level


def rms_dbfs(pcm: bytes) -> float:
    """Root mean square of 16-bit PCM in dB of full scale (0.0 = a full-scale square wave), at least `FLOOR_DBFS`."""
    samples = np.frombuffer(pcm, np.int16, len(pcm) // 2).astype(np.float32)
    return _dbfs(float(samples @ samples) / max(1, len(samples)))


def _dbfs(power: float) -> float:
    return max(FLOOR_DBFS, 10 * math.log10(power) - _FULL_DB) if power > 0 else FLOOR_DBFS
