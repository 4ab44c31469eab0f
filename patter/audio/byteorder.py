"""Which way round the bytes of 16-bit samples are: told from the sound itself, for lines that do not say.

It owns that judgement and the swapping; it refuses to know lines and carriers.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

ByteOrder = Literal["little", "big"]

CLEAR_CUT = 4.0  # how much smoother one reading must be; sound read the wrong way round is noise, tens of times rougher


def swapped(pcm: bytes | memoryview) -> bytes:
    """The same samples with their bytes the other way round. Raises ValueError for half a sample."""
    return np.frombuffer(pcm, np.int16).byteswap().tobytes()


class OrderProbe:
    """Listens to the first sounds of a line until one reading is clearly smoother than the other."""

    __slots__ = ("_big", "_little", "order")

    def __init__(self) -> None:
        self.order: ByteOrder | None = None
        """The verdict, or None as long as there is none."""
        self._little = self._big = 0.0

    def hear(self, sound: bytes) -> None:
        """A frame as it came, whole samples. Silence says nothing; noise of full loudness hardly anything."""
        if self.order is not None or sound.count(0) == len(sound):
            return
        self._little += _roughness(sound, "<i2")
        self._big += _roughness(sound, ">i2")
        if self._big > CLEAR_CUT * self._little:
            self.order = "little"
        elif self._little > CLEAR_CUT * self._big:
            self.order = "big"


def _roughness(sound: bytes, reading: str) -> float:
    """How far neighbouring samples are apart, all in all; a constant counts by its level, or both readings would tie."""
    samples = np.frombuffer(sound, reading).astype(np.int32)
    return float(np.abs(np.diff(samples)).sum() + np.abs(samples).mean())
