"""WAV files of 16-bit PCM: reading one whole, and writing one that stays readable if the process dies.

It owns the file's header and nothing else; what is recorded and when is for others to say.
"""

from __future__ import annotations

import struct
import wave
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_REFRESH_SECONDS = 1.0  # what a killed process loses at most, for one small write a second


def read_wav(path: str | Path) -> tuple[bytes, int]:
    """(mono 16-bit PCM, rate in Hz) of a mono or stereo 16-bit WAV file; stereo is averaged.

    Raises OSError if it cannot be read and ValueError, saying what is wrong, if it is another kind of file."""
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path} is not a PCM WAV file ({str(error) or 'it is empty'})") from error
    if width != 2 or channels not in (1, 2):
        raise ValueError(f"{path} has {channels} channels of {8 * width} bits; mono or stereo of 16 bits is needed")
    data = data[: len(data) - len(data) % (2 * channels)]
    if channels == 1:
        return data, rate
    mixed = np.frombuffer(data, np.int16).reshape(-1, 2).astype(np.int32).sum(axis=1) >> 1
    return mixed.astype(np.int16).tobytes(), rate


class WavWriter:
    """Writes interleaved 16-bit PCM at `rate` Hz; the header on disk is true to within a second at any moment."""

    def __init__(self, path: str | Path, rate: int, channels: int = 1) -> None:
        self.path, self.rate, self.channels = Path(path), rate, channels
        self._file: BinaryIO = open(path, "wb")  # noqa: SIM115 - lives as long as the writer, closed by `close`
        self._written = 0
        self._stated = 0
        self._refresh_bytes = int(_REFRESH_SECONDS * rate) * 2 * channels
        self._write_header()

    @property
    def seconds(self) -> float:
        """How much has been written."""
        return self._written / (2 * self.channels * self.rate)

    def write(self, pcm: bytes) -> None:
        """Append whole frames (one sample of every channel)."""
        self._file.write(pcm)
        self._written += len(pcm)
        if self._written - self._stated >= self._refresh_bytes:
            self._write_header()

    def _write_header(self) -> None:
        frame = 2 * self.channels
        size = self._written
        self._file.seek(0)
        self._file.write(
            _HEADER.pack(
                b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, self.channels, self.rate, self.rate * frame, frame, 16, b"data", size
            )
        )  # fmt: skip
        self._file.seek(0, 2)
        self._file.flush()
        self._stated = size

    def close(self) -> None:
        """Write the final header and close the file; more than once is fine."""
        if not self._file.closed:
            self._write_header()
            self._file.close()

    def __enter__(self) -> WavWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
