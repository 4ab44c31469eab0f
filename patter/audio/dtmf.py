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

BLOCK_MS = 25.0  # tells the rows apart (73 Hz), and a 50 ms tone fills at least one block
PURE = 0.7  # of a block's energy lies in the two tones; speech spreads it over many frequencies
TWIST_DB = 10.0  # how unlike the two may be: lines dampen the high ones
QUIET = 200.0  # amplitude below which a tone is echo or crosstalk
SURE = 2  # blocks in a row that must agree

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


class KeyDetector:
    """Hears keys in the sound of one line: a Goertzel filter for each frequency, block by block."""

    def __init__(self, audio: AudioFormat) -> None:
        self._to_pcm = Converter(audio, AudioFormat("pcm_s16le", audio.rate))
        self._block = int(audio.rate * BLOCK_MS / 1000)
        angles = 2 * np.pi * np.outer(LOW + HIGH, np.arange(self._block)) / audio.rate
        self._filters = np.exp(-1j * angles)
        self._pcm = b""
        self._key = ""
        self._agreed = 0

    def hear(self, sound: bytes) -> str:
        """More sound of the line, any size; returns the keys that were recognised in it, mostly none."""
        self._pcm += self._to_pcm.convert(sound)
        keys = ""
        while len(self._pcm) >= 2 * self._block:
            block, self._pcm = self._pcm[: 2 * self._block], self._pcm[2 * self._block :]
            keys += self._hear_block(np.frombuffer(block, "<i2").astype(np.float64))
        return keys

    def _hear_block(self, samples: _Samples) -> str:
        key = self._key_in(samples)
        if key != self._key:
            self._key, self._agreed = key, 0
        self._agreed += 1
        return key if self._agreed == SURE else ""

    def _key_in(self, samples: _Samples) -> str:
        energy = float(samples @ samples)
        if energy < QUIET * QUIET * self._block / 2:
            return ""
        amplitudes = np.abs(self._filters @ samples) * 2 / self._block
        row, column = int(amplitudes[:4].argmax()), int(amplitudes[4:].argmax())
        low, high = amplitudes[row], amplitudes[4 + column]
        pure = (low * low + high * high) * self._block / 2 >= PURE * energy
        alike = min(low, high) * 10 ** (TWIST_DB / 20) >= max(low, high)
        return PAD[row][column] if pure and alike else ""
