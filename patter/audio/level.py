"""How loud a piece of PCM is, in decibels of full scale.

It owns the measure and refuses to judge: whether a level is voice is for voice detection to say.
"""

from __future__ import annotations

import math

import numpy as np

FLOOR_DBFS = -96.0
"""The level of nothing: about one unit of a 16-bit sample."""


def rms_dbfs(pcm: bytes) -> float:
    """Root mean square of 16-bit PCM in dB of full scale (0.0 = a full-scale square wave), at least `FLOOR_DBFS`."""
    samples = np.frombuffer(pcm, np.int16, len(pcm) // 2).astype(np.float32)
    power = float(samples @ samples) / max(1, len(samples))
    return max(FLOOR_DBFS, 10 * math.log10(power) - 20 * math.log10(32768)) if power > 0 else FLOOR_DBFS
