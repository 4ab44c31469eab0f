"""The tones of a telephone's keys: made for a line, and heard in its sound.

It owns the frequencies and timing of ITU-T Q.23/Q.24; it refuses to know who presses keys, and why.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from patter.audio.convert import Converter
from patter.audio.format import AudioFormat

LOW = (697.0, 770.0, 852.0, 941.0)  # Hz, the rows of the pad
HIGH = (1209.0, 1336.0, 1477.0, 1633.0)  # Hz, its columns
PAD = ("123A", "456B", "789C", "*0#D")
PAUSES = {"w": 500.0, "W": 1000.0}  # ms
ON_MS, OFF_MS = 100.0, 100.0  # twice what every receiver must recognise
RAMP_MS = 5.0  # a tone that is switched on at full level clicks, and a click is every frequency
AMPLITUDE = (7_000.0, 8_500.0)  # low and high: together half of full scale; lines dampen the high tones more

_Samples = npt.NDArray[np.float64]


def tones(digits: str, audio: AudioFormat) -> bytes:
    """The sound of pressing `digits` (0-9 * # A-D, w = half a second of pause, W = a second), in the format of the line.

    Raises ValueError, naming what cannot be pressed."""
    if not digits:
        raise ValueError("there are no digits to send")
    pieces: list[_Samples] = []
    for key in digits:
        if key in PAUSES:
            pieces.append(np.zeros(int(audio.rate * PAUSES[key] / 1000)))
            continue
        pieces += [_tone(*_frequencies(key), audio.rate), np.zeros(int(audio.rate * OFF_MS / 1000))]
    pcm = np.concatenate(pieces).round().astype("<i2").tobytes()
    return Converter(AudioFormat("pcm_s16le", audio.rate), audio).convert(pcm)


def _frequencies(key: str) -> tuple[float, float]:
    for row, keys in enumerate(PAD):
        if len(key) == 1 and key in keys:
            return LOW[row], HIGH[keys.index(key)]
    raise ValueError(f"{key!r} is not a key of a telephone (0-9 * # A-D, w for a pause)")


def _tone(low: float, high: float, rate: int) -> _Samples:
    time = np.arange(int(rate * ON_MS / 1000)) / rate
    both = AMPLITUDE[0] * np.sin(2 * np.pi * low * time) + AMPLITUDE[1] * np.sin(2 * np.pi * high * time)
    edge = np.minimum(time, time[-1] - time) * 1000 / RAMP_MS
    shaped: _Samples = both * np.clip(edge, 0.0, 1.0)
    return shaped
