"""Voice activity by loudness, for machines without the neural detector.

It owns one caller's noise floor; it refuses to say where voice begins (see `patter.audio.vad`).
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from patter.audio.reblock import Reblocker

_RATE = 16000
_WINDOW = 512
_LOW_HZ, _HIGH_HZ = 250, 3500  # voice on a telephone; mains hum and its rumble lie below
_BLOCK = 8  # windows (256 ms) of which the quietest is remembered
_BLOCKS = 8  # the floor is the quietest of the last 2 s: nobody speaks so long without a gap between two words
_FIRST_FLOOR_DBFS = -50.0  # until the line has been heard for three blocks
_FIRST_BLOCKS = 3
_LEAST_FLOOR_DBFS = -60.0  # on a line that is quieter, a breath would be voice
_VOICE_DB = 9.0  # above the floor; steady noise stays within 3
_SLOPE_DB = 1.5


class LevelDetector:
    """Speech probability of one caller, per window of 32 ms of PCM 16 kHz, from how far it stands above the noise floor.

    It cannot tell voice from any other sound that comes and goes: music, a slammed door, a dog or another person in the room
    are voice to it, and a caller no more than 9 dB above the noise, or one tone held for over two seconds, is not. Sound
    that begins and stays (a hum, a fan) counts as voice for up to two seconds. The neural detector has none of these faults."""

    window_ms: float = _WINDOW * 1000 / _RATE
    # Medians over synthesised sentences through the mu-law line: the first voiced window begins 3 ms before to 15 ms after the
    # first sound, the first quiet one 21 ms after the last (in noise of -50 dBFS 29 ms before: soft endings drown in it).
    lag_ms: float = 0
    tail_ms: float = 16

    def __init__(self) -> None:
        self._windows = Reblocker(2 * _WINDOW)
        self._shape = np.hanning(_WINDOW).astype(np.float32)
        size = _WINDOW * 32768.0**2 * float(self._shape @ self._shape) / 2  # the power of a full-scale sine is 1/2
        self._unit_db = 10 * math.log10(size * 0.5)
        self._band = slice(round(_LOW_HZ * _WINDOW / _RATE), round(_HIGH_HZ * _WINDOW / _RATE) + 1)
        self._minima: deque[float] = deque([_FIRST_FLOOR_DBFS] * _FIRST_BLOCKS, maxlen=_BLOCKS)
        self._quietest = 0.0
        self._counted = 0
        self._floor = _FIRST_FLOOR_DBFS

    def probabilities(self, pcm_16k: bytes) -> list[float]:
        """One probability for every window that `pcm_16k` (any number of bytes) completes."""
        return [self._probability(self._level(window)) for window in self._windows.push(pcm_16k)]

    def _level(self, window: bytes) -> float:
        """dBFS of the voice's band."""
        spectrum = np.fft.rfft(np.frombuffer(window, np.int16) * self._shape)[self._band]
        power = float(np.vdot(spectrum, spectrum).real)
        return 10 * math.log10(power) - self._unit_db if power > 1.0 else -120.0

    def _probability(self, level: float) -> float:
        self._quietest = min(self._quietest, level) if self._counted else level
        self._counted += 1
        floor = max(_LEAST_FLOOR_DBFS, min(self._floor, self._quietest))
        if self._counted == _BLOCK:
            self._counted = 0
            if len(self._minima) <= _FIRST_BLOCKS and self._minima[0] == _FIRST_FLOOR_DBFS:
                self._minima.popleft()
            self._minima.append(self._quietest)
            self._floor = min(self._minima)
        return 1 / (1 + math.exp(min(60.0, (floor + _VOICE_DB - level) / _SLOPE_DB)))
