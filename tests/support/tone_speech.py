"""Speech that can be checked word by word: every word is a tone of its own, so nothing is lost or doubled unnoticed.

It owns the dictionary and both directions; it refuses to know who listens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from patter.audio.convert import Converter
from patter.audio.format import PCM_16K, AudioChunk, AudioFormat

WORDS = tuple(
    "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa".split()
)
LOWEST_HZ, STEP_HZ = 400.0, 150.0
WORD_MS, GAP_MS = 160, 80
FRAME_MS = 20
LOUD = 0.02  # of full scale, as RMS
LEAST_MS = 40  # of a tone that is a word


def speech(*words: str, line: AudioFormat) -> bytes:
    """The words, with a short gap after each."""
    pcm = b"".join(_tone(word) + PCM_16K.quiet(GAP_MS) for word in words)
    converter = Converter(PCM_16K, line)
    return converter.convert(pcm) + converter.flush()


def frames(audio: bytes, line: AudioFormat) -> Iterator[AudioChunk]:
    """The audio as a line gives it, 20 ms at a time."""
    step = line.bytes_for(FRAME_MS)
    for start in range(0, len(audio) - step + 1, step):
        yield AudioChunk(audio[start : start + step], line)


def understood(pcm_16k: bytes) -> str:
    """The words in a piece of sound."""
    samples = np.frombuffer(pcm_16k, np.int16).astype(np.float32) / 32768
    step = 160  # 10 ms
    blocks = samples[: len(samples) // step * step].reshape(-1, step)
    loud = np.sqrt((blocks**2).mean(axis=1)) > LOUD
    words: list[str] = []
    edges = np.flatnonzero(np.diff(np.concatenate(([False], loud, [False])).astype(np.int8)))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        if (last - first) * 10 >= LEAST_MS:
            words.append(_word(samples[first * step : last * step]))
    return " ".join(words)


def _tone(word: str) -> bytes:
    hz = LOWEST_HZ + STEP_HZ * WORDS.index(word)
    at = np.arange(16 * WORD_MS) / 16000
    return (np.sin(2 * np.pi * hz * at) * 0.3 * 32767).astype("<i2").tobytes()


def _word(samples: npt.NDArray[np.floating[Any]]) -> str:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 16000))
    return WORDS[min(len(WORDS) - 1, max(0, round((float(np.argmax(spectrum)) - LOWEST_HZ) / STEP_HZ)))]
