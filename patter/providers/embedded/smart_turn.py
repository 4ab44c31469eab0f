"""How complete an utterance sounds, by the smart-turn network, in a thread.

It owns the network's eight-second view of the sound; it refuses to decide turns, and to be believed alone: on
synthesised speech it calls most unfinished sentences complete.
"""

from __future__ import annotations

import anyio
import anyio.to_thread
import numpy as np

from patter.providers.embedded.mel import RATE, Floats, log_mel, to_samples
from patter.providers.embedded.onnx import open_model

_SECONDS = 8
_SAMPLES = _SECONDS * RATE
_EPSILON = 1e-7


def features(pcm_16k: bytes) -> Floats:
    """(1, 80, 800): the last eight seconds, padded in front, at zero mean and unit variance."""
    samples = np.zeros(_SAMPLES, np.float32)
    newest = to_samples(pcm_16k[-2 * _SAMPLES :])
    if len(newest):
        samples[-len(newest) :] = newest
    samples = (samples - samples.mean()) / np.sqrt(samples.var() + np.float32(_EPSILON))
    return np.ascontiguousarray(log_mel(samples)[None])


class SmartTurn:
    """The turn model of all calls. One judgement takes about 0.1 s of one core."""

    def __init__(self) -> None:
        self._one_at_a_time = anyio.CapacityLimiter(1)

    def load(self) -> None:
        """Open the model now instead of at the first judgement (blocking). Raises ProviderError."""
        self._judge(b"")

    async def complete(self, pcm_16k: bytes) -> float:
        """How likely the caller is done, 0.0 to 1.0. Raises ProviderError."""
        return await anyio.to_thread.run_sync(self._judge, pcm_16k, limiter=self._one_at_a_time)

    def _judge(self, pcm_16k: bytes) -> float:
        session = open_model("smart-turn-v3.2-cpu.onnx", stage="vad", provider="smart-turn")
        return float(session.run(None, {"input_features": features(pcm_16k)})[0].reshape(-1)[0])
