"""Measures recorded sound: where a known clip lies (cross-correlation), where sound begins and ends (level)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from patter.audio.convert import Converter
from patter.audio.format import PCM_8K, AudioFormat

Samples = npt.NDArray[np.float32]

STEP_MS = 10
SOUND_DBFS = -45.0  # speech is 20 dB above this, the line's silence 30 dB below


def samples(data: bytes, audio: AudioFormat) -> Samples:
    """8 kHz samples in -1..1."""
    pcm = Converter(audio, PCM_8K).convert(data)
    return np.frombuffer(pcm, np.int16).astype(np.float32) / np.float32(32768)


def levels(sound: Samples) -> Samples:
    """dBFS of every 10 ms."""
    step = STEP_MS * 8
    whole = sound[: len(sound) // step * step].reshape(-1, step)
    return np.asarray(20 * np.log10(np.sqrt((whole**2).mean(axis=1)) + 1e-9), np.float32)


def bounds(sound: Samples) -> tuple[float, float]:
    """(first, last) ms of sound in a clip."""
    loud = np.flatnonzero(levels(sound) > SOUND_DBFS)
    return float(loud[0]) * STEP_MS, float(loud[-1] + 1) * STEP_MS


def place(clip: Samples, recording: Samples, near_ms: float, reach_ms: float = 400) -> float:
    """Where `clip` begins in `recording`, in ms, searched around `near_ms` by cross-correlation."""
    start = max(0, int((near_ms - reach_ms) * 8))
    window = recording[start : start + len(clip) + int(2 * reach_ms * 8)]
    return (start + int(np.argmax(np.correlate(window, clip, "valid")))) / 8


def first_sound(sound: Samples, after_ms: float) -> float | None:
    """When sound begins after `after_ms`, or None."""
    loud = np.flatnonzero(levels(sound[int(after_ms * 8) :]) > SOUND_DBFS)
    return after_ms + float(loud[0]) * STEP_MS if len(loud) else None


def last_sound(sound: Samples, after_ms: float, before_ms: float) -> float | None:
    """When the last sound between the two moments ends, or None."""
    loud = np.flatnonzero(levels(sound[int(after_ms * 8) : int(before_ms * 8)]) > SOUND_DBFS)
    return after_ms + float(loud[-1] + 1) * STEP_MS if len(loud) else None
