"""The log-mel picture of speech that Whisper and the turn model look at, in numpy.

It owns the maths (25 ms windows every 10 ms at 16 kHz, Slaney's mel scale) and refuses to know any model.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

RATE = 16000
HOP = 160
_WINDOW = 400
_LINEAR_HZ = 200 / 3  # below 1 kHz a mel is this many Hz
_BREAK_MEL = 15.0  # 1 kHz; above, every mel is a constant ratio
_LOG_STEP = np.log(6.4) / 27
_FLOOR = 1e-10
_RANGE = 8.0  # decades below the loudest point that are kept

Floats = npt.NDArray[np.float32]


@lru_cache(maxsize=4)
def _filters(bands: int) -> Floats:
    """Triangles of equal area on the mel scale: (bands, frequencies)."""
    top = _BREAK_MEL + np.log(RATE / 2 / 1000) / _LOG_STEP
    mels = np.linspace(0, top, bands + 2)
    hertz = np.where(mels < _BREAK_MEL, _LINEAR_HZ * mels, 1000 * np.exp(_LOG_STEP * (mels - _BREAK_MEL)))
    distance = hertz[:, None] - np.fft.rfftfreq(_WINDOW, 1 / RATE)[None, :]
    widths = np.diff(hertz)[:, None]
    triangles = np.maximum(0, np.minimum(-distance[:-2] / widths[:-1], distance[2:] / widths[1:]))
    filters: Floats = (triangles * (2 / (hertz[2:] - hertz[:-2]))[:, None]).astype(np.float32)
    return filters


@lru_cache(maxsize=1)
def _hann() -> Floats:
    window: Floats = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
    return window


def log_mel(samples: Floats, bands: int = 80) -> Floats:
    """(bands, len(samples) / 160) of mono samples at 16 kHz, scaled to about -1…1 by the loudest point."""
    padded = np.pad(samples, _WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::HOP][: len(samples) // HOP]
    spectrum = np.fft.rfft(frames * _hann(), axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    picture = np.log10(np.maximum(_filters(bands) @ power.T, _FLOOR))
    scaled: Floats = (np.maximum(picture, picture.max() - _RANGE) + 4) / 4
    return scaled


def to_samples(pcm_16k: bytes) -> Floats:
    """16-bit PCM as floats of -1…1."""
    return np.frombuffer(pcm_16k, np.int16).astype(np.float32) / np.float32(32768)
