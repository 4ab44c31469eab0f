"""Sounds a telephone network makes itself: the machine's beep, and a hum where somebody would speak.

It owns plain tones; it refuses to know who hears them.
"""

from __future__ import annotations

import numpy as np

from patter.audio.convert import Converter
from patter.audio.format import PCM_8K, AudioFormat

BEEP_HZ, BEEP_MS = 1000.0, 400.0
HUM_HZ = 180.0
MS_PER_LETTER = 60.0  # an unhurried voice says about 1000 letters a minute


def tone(hz: float, ms: float, loudness: float = 0.3) -> bytes:
    """A sine in PCM 8 kHz; `loudness` of full scale. Its ends are smooth, so that it does not click."""
    count = int(ms * 8)
    wave = np.sin(2 * np.pi * hz * np.arange(count) / 8000) * loudness * 32767
    edge = min(count // 2, 40)
    ramp = np.linspace(0.0, 1.0, edge, endpoint=False)
    wave[:edge] *= ramp
    wave[count - edge :] *= ramp[::-1]
    return wave.astype("<i2").tobytes()


def hum(text: str) -> bytes:
    """As long as a voice would need for `text`, in PCM 8 kHz."""
    return tone(HUM_HZ, max(1, len(text)) * MS_PER_LETTER, 0.1)


def as_line(pcm_8k: bytes, line: AudioFormat) -> bytes:
    """PCM 8 kHz in the line's format."""
    converter = Converter(PCM_8K, line)
    return converter.convert(pcm_8k) + converter.flush()
