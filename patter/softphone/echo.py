"""Keeps the agent's own voice out of the microphone: a canceller where there is one, else one side at a time.

It owns that choice and what is muted meanwhile; it refuses to know devices, lines and who speaks.
"""

from __future__ import annotations

from collections import deque
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from patter.audio.level import FLOOR_DBFS, rms_dbfs

EchoState = Literal["on", "half-duplex", "off"]

BLOCK_MS = 20.0
FAR_LOUD_DBFS = -55.0  # below this an echo 12 dB down drowns in the room
HOLD_MS = 150.0  # how long a room goes on ringing after the speaker stops
DEAF_MS = 1_000.0  # of sound from the speaker in which the canceller knows the room too little to let anything through
CONVERGED_MS = 3_000.0  # of sound from the speaker until nothing of it comes back; measured with 40-200 ms of delay
LOUDER_DB = 6.0  # than any echo so far: then it is the caller, although the canceller is still learning
TAIL_BLOCKS = 15  # 300 ms: device latency and room together
LEAK_MS = 240.0  # a sound card that stalled moves the echo in time, and the canceller needs so long to find it again


class EchoGuard:
    """Cleans 20 ms blocks of 16 kHz PCM. Not thread-safe."""

    def __init__(self, *, canceller: Any | None = None, state: EchoState = "off") -> None:
        self.state: EchoState = "on" if canceller is not None else state
        self._canceller = canceller
        self._learnt_ms = 0.0
        self._hold_ms = 0.0
        self._far_levels: deque[float] = deque([FLOOR_DBFS] * TAIL_BLOCKS, maxlen=TAIL_BLOCKS)
        self._coupling_db = FLOOR_DBFS  # how loud the speaker came back at most, relative to itself
        self._leaked_ms = 0.0

    @staticmethod
    def best_state() -> EchoState:
        """What `best` would give, without building it."""
        return "on" if find_spec("pywebrtc_audio") is not None else "half-duplex"

    @classmethod
    def best(cls) -> EchoGuard:
        """Echo cancellation with noise suppression if its library is here, else half-duplex."""
        try:
            import pywebrtc_audio
        except ImportError:
            return cls(state="half-duplex")
        return cls(
            canceller=pywebrtc_audio.AudioProcessor(
                sample_rate=16000, echo_cancellation=True, noise_suppression=True, high_pass_filter=True
            )
        )

    def clean(self, near: bytes, far: bytes) -> bytes:
        """The microphone's block without what the speaker plays in `far` (the block given to the speaker now)."""
        if self.state == "off":
            return near
        far_level = rms_dbfs(far)
        loud = far_level > FAR_LOUD_DBFS
        self._hold_ms = HOLD_MS if loud else max(0.0, self._hold_ms - BLOCK_MS)
        if self._canceller is None:
            return bytes(len(near)) if self._hold_ms > 0.0 else near
        out = self._canceller.process(np.frombuffer(near, np.int16), np.frombuffer(far, np.int16))
        clean = np.asarray(out, np.int16).tobytes()
        self._far_levels.append(far_level)
        if self._learnt_ms < CONVERGED_MS:
            muted = self._may_be_echo(rms_dbfs(near))
            self._learnt_ms += BLOCK_MS if muted and loud else 0.0
        else:
            muted = self._leaks(rms_dbfs(near), rms_dbfs(clean))
        return bytes(len(near)) if muted else clean

    def _may_be_echo(self, near_level: float) -> bool:
        """Whether this block of the microphone can be the speaker's, while the canceller still learns."""
        if self._hold_ms <= 0.0:
            return False
        louder_by = near_level - max(self._far_levels)
        if self._learnt_ms < DEAF_MS:
            self._coupling_db = max(self._coupling_db, louder_by)
            return True
        return louder_by < self._coupling_db + LOUDER_DB

    def _leaks(self, near_level: float, clean_level: float) -> bool:
        """Whether the speaker slips through for a moment: no louder than an echo, and not for long, or it is the caller."""
        echo_like = self._hold_ms > 0.0 and near_level <= max(self._far_levels) + self._coupling_db
        if not echo_like or clean_level <= FAR_LOUD_DBFS:
            self._leaked_ms = max(0.0, self._leaked_ms - BLOCK_MS / 4)
            return False
        self._leaked_ms = min(self._leaked_ms + BLOCK_MS, 2 * LEAK_MS)
        return self._leaked_ms <= LEAK_MS
