"""Voice activity by the Silero network, one small state per call over one shared model.

It owns the 32 ms windows and the network's memory; it refuses to say where voice begins (see `patter.audio.vad`).
"""

from __future__ import annotations

import numpy as np

from patter.audio.reblock import Reblocker
from patter.providers.embedded.mel import RATE, to_samples
from patter.providers.embedded.onnx import INSTALL, open_model, runtime_installed

_WINDOW = 512  # the only size the network knows at 16 kHz
_CONTEXT = 64  # samples of the window before, put in front of each window
_RATE = np.array(RATE, np.int64)


class SileroDetector:
    """Speech probability of one caller, per window of 32 ms of PCM 16 kHz. About 0.25 ms of CPU a window."""

    window_ms: float = _WINDOW * 1000 / RATE
    # Medians over 20 synthesised sentences through the mu-law line, with and without noise: the first voiced window begins
    # 0 to 55 ms after the first sound, the first quiet one 33 to 113 ms after the last.
    lag_ms: float = 16
    tail_ms: float = 72

    def __init__(self) -> None:
        """Raises ProviderError when the runtime or the model is missing."""
        self._session = open_model("silero_vad.onnx", stage="vad", provider="silero")
        self._windows = Reblocker(2 * _WINDOW)
        self._state = np.zeros((2, 1, 128), np.float32)
        self._input = np.zeros((1, _CONTEXT + _WINDOW), np.float32)

    def probabilities(self, pcm_16k: bytes) -> list[float]:
        """One probability for every window that `pcm_16k` (any number of bytes) completes."""
        return [self._window(window) for window in self._windows.push(pcm_16k)]

    def _window(self, window: bytes) -> float:
        self._input[0, :_CONTEXT] = self._input[0, -_CONTEXT:]
        self._input[0, _CONTEXT:] = to_samples(window)
        probability, self._state = self._session.run(None, {"input": self._input, "state": self._state, "sr": _RATE})
        return float(probability[0, 0])


def detector_missing() -> str:
    """Why voice cannot be detected on this machine, and the fix, as a sentence; "" when it can. Loads nothing."""
    return "" if runtime_installed() else f"Voice detection needs onnxruntime: {INSTALL}."
