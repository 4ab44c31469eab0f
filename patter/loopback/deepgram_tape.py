"""What a played recogniser has heard: voice by loudness, and the sound of any stretch for whoever turns it into words.

It owns the audio of one stream, counted in seconds since its beginning; it refuses to know words and messages.
"""

from __future__ import annotations

from collections.abc import Iterator

from patter.audio.convert import Converter
from patter.audio.format import PCM_16K, AudioFormat, Encoding
from patter.audio.level import rms_dbfs

WINDOW_MS = 20
ENCODINGS: dict[str, Encoding] = {"linear16": "pcm_s16le", "mulaw": "mulaw", "alaw": "alaw"}


class Tape:
    """One stream. Feed it; it says of every 20 ms whether they are loud."""

    def __init__(self, encoding: str, rate: int, loud_dbfs: float) -> None:
        """Raises ValueError for an encoding that it cannot hear."""
        if encoding not in ENCODINGS:
            raise ValueError(f"a loopback recogniser hears {', '.join(ENCODINGS)}, not {encoding or 'containers'}")
        self.heard_s = 0.0
        """Seconds so far."""
        self._format = AudioFormat(ENCODINGS[encoding], rate)
        self._loud_dbfs = loud_dbfs
        self._window = self._format.bytes_for(WINDOW_MS)
        self._levels = Converter(self._format, AudioFormat("pcm_s16le", rate))
        self._audio = bytearray()  # from `_start` on
        self._start = 0  # bytes forgotten
        self._looked = 0  # bytes judged

    def feed(self, data: bytes) -> Iterator[tuple[float, bool]]:
        """(second at which it ends, whether it is loud) of every window that is complete now."""
        self._audio += data
        while (self._start + len(self._audio)) - self._looked >= self._window:
            at = self._looked - self._start
            loud = rms_dbfs(self._levels.convert(bytes(self._audio[at : at + self._window]))) > self._loud_dbfs
            self._looked += self._window
            self.heard_s = self._format.ms_of(self._looked) / 1000
            yield self.heard_s, loud

    def cut(self, start_s: float, end_s: float) -> bytes:
        """That stretch as PCM 16 kHz."""
        first, last = (max(0, self._format.bytes_for(second * 1000) - self._start) for second in (start_s, end_s))
        converter = Converter(self._format, PCM_16K)
        return converter.convert(bytes(self._audio[first:last])) + converter.flush()

    def forget(self, until_s: float) -> None:
        """Nobody will ask for what was before."""
        size = min(self._format.bytes_for(until_s * 1000), self._looked) - self._start
        if size > 0:
            del self._audio[:size]
            self._start += size
