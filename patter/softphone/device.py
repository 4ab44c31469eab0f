"""What stands at the telephone: the shape of a device, its levels, and the sentence when it does not work.

It owns the seam between a line and whoever speaks and listens; it refuses to know sound cards, files and voices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from patter.audio.format import PCM_16K, AudioFormat
from patter.audio.level import FLOOR_DBFS, rms_dbfs
from patter.exceptions import PatterError

LOUD_DBFS = -50.0
"""Above this a frame carries speech: the embedded voice is at −20 dBFS, line noise and its µ-law steps below −65."""


class DeviceProblem(PatterError):
    """A device cannot be used: what is wrong, and what the user can do."""

    def __init__(self, problem: str, fix: str = "") -> None:
        self.problem, self.fix = problem, fix
        super().__init__(f"{problem} — {fix}" if fix else problem)


class Device(Protocol):
    """One call's mouth and ear. `mouth` and `hear` speak the line's format, 20 ms at a time."""

    pulls: bool
    """True: has a clock of its own and takes frames from `pull` itself; False: the line gives them to `hear`."""
    ear_delay_s: float
    """How long after a pull a frame has been heard to its end (devices with a clock)."""
    underruns: int
    dropped: int

    @property
    def aec(self) -> str:
        """ "on", "half-duplex" or "off"."""

    def open(self, pull: Callable[[], bytes]) -> None:
        """Start. Raises DeviceProblem."""

    def mouth(self) -> bytes:
        """The caller's next 20 ms; fewer bytes mean silence."""

    def hear(self, frame: bytes) -> None:
        """The 20 ms that the caller hears now."""

    def levels(self) -> tuple[float, float]:
        """Loudest (microphone, speaker) frame since the last call, in dBFS."""

    def problem(self) -> DeviceProblem | None:
        """Why the device has stopped working during the call, if it has."""

    def finished(self) -> bool:
        """Whether whoever stands at the telephone wants to hang up."""

    def close(self) -> None: ...


class Meter:
    """The loudest frame since it was last read."""

    def __init__(self) -> None:
        self._loudest = FLOOR_DBFS

    def add(self, pcm: bytes) -> float:
        """Measure a frame of 16-bit PCM; returns its level in dBFS."""
        level = rms_dbfs(pcm)
        self._loudest = max(self._loudest, level)
        return level

    def take(self) -> float:
        """The loudest level since the last `take`, rounded for showing."""
        loudest, self._loudest = self._loudest, FLOOR_DBFS
        return round(loudest, 1)


def pcm_of(line: AudioFormat) -> AudioFormat:
    """The PCM format at the line's own rate."""
    return AudioFormat("pcm_s16le", line.rate)


DEVICE_FORMAT = PCM_16K
"""What is measured and cleaned of echo: the rate of voice detection and echo cancellation."""
