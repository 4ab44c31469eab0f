"""WAV files of 16-bit PCM: reading one whole, and writing one that stays readable if the process dies.

It owns the file's header and nothing else; what is recorded and when is for others to say.
"""

from __future__ import annotations

import os
import struct
import wave
from pathlib import Path
from types import TracebackType

import numpy as np

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_LARGEST = 0xFFFF_FFFF - 36  # bytes of sound that a header can tell: 37 hours of a telephone call
_REFRESH_SECONDS = 0.5  # what the header of a killed process is behind at most, for two small writes a second


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


def repair(path: str | Path) -> float:
    """Make a file that `WavWriter` left unfinished tell all its sound; returns how many seconds that is.

    A file without any sound is deleted (0.0). Raises OSError, and ValueError if somebody else made the file."""
    with open(path, "r+b") as file:
        head = file.read(_HEADER.size)
        size = file.seek(0, os.SEEK_END) - _HEADER.size
        if size > 0:
            fields = _HEADER.unpack(head)
            frame = fields[9]
            if (fields[0], fields[2], fields[11]) != (b"RIFF", b"WAVE", b"data") or not frame or not fields[7]:
                raise ValueError(f"{path} was not written as a recording")
            size = min(size - size % frame, _LARGEST - _LARGEST % frame)
            if fields[12] != size:
                file.seek(0)
                file.write(_header(size, fields[6], fields[7]))
                file.flush()
                os.fsync(file.fileno())
            return float(size / fields[8])
    Path(path).unlink()
    return 0.0


def _header(size: int, channels: int, rate: int) -> bytes:
    frame, size = 2 * channels, min(size, _LARGEST)
    return _HEADER.pack(
        b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, channels, rate, rate * frame, frame, 16, b"data", size
    )


def _own(path: str, flags: int) -> int:
    """A new file is for its user's eyes and ears only."""
    return os.open(path, flags, 0o600)


class WavWriter:
    """Writes interleaved 16-bit PCM at `rate` Hz; the header on disk is true to within a second at any moment.

    A write that fails (OSError) has written nothing: it may be tried again, or `skip` leaves silence in its place."""

    def __init__(self, path: str | Path, rate: int, channels: int = 1) -> None:
        self.path, self.rate, self.channels = Path(path), rate, channels
        self._file = open(path, "wb", buffering=0, opener=_own)  # noqa: SIM115 - lives as long as the writer
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
        self._put(_HEADER.size + self._written, pcm)
        self._written += len(pcm)
        if self._written - self._stated >= self._refresh_bytes:
            self._write_header()

    def skip(self, size: int) -> None:
        """Leave silence of so many bytes (whole frames): files keep no room for it until something follows."""
        self._written += size

    def _write_header(self) -> None:
        self._put(0, _header(self._written, self.channels, self.rate))
        self._stated = self._written

    def _put(self, at: int, data: bytes) -> None:
        self._file.seek(at)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) or 0 :]

    def close(self) -> None:
        """Write the final header and close the file; more than once is fine."""
        if not self._file.closed:
            try:
                self._file.truncate(_HEADER.size + self._written)
                self._write_header()
            finally:
                self._file.close()

    def __enter__(self) -> WavWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
