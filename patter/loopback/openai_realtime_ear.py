"""The played realtime server's ear: the caller's appended sound, where voice begins and ends in it, by loudness.

It owns the buffer and positions in ms of everything appended; it refuses to know sessions and events.
"""

from __future__ import annotations

from dataclasses import dataclass

from patter.audio.convert import Converter
from patter.audio.format import PCM_24K, AudioFormat
from patter.audio.level import rms_dbfs

LOUD_DBFS = -42.0  # a voice on a telephone is 20 dB above this, its noise 10 dB below
ONSET_MS = 60.0
SEMANTIC_MS = 700  # what stands for a model's patience


@dataclass(frozen=True, slots=True)
class Began:
    """Voice began: the utterance's sound starts here (the padding before it included)."""

    start_ms: int


@dataclass(frozen=True, slots=True)
class Ended:
    """There was silence for long enough: the utterance's sound (PCM 24 kHz) ends here."""

    end_ms: int
    pcm: bytes


class VoiceEar:
    """One session's input buffer. `feed` it what is appended."""

    def __init__(self) -> None:
        self.ms = 0.0
        self.speaking = False
        self._converter: Converter | None = None
        self._plain: Converter | None = None
        self._pcm = bytearray()
        self._pcm_from = 0.0
        self._loud_ms = self._quiet_ms = 0.0

    @property
    def buffered_ms(self) -> float:
        """How much has not been committed."""
        return PCM_24K.ms_of(len(self._pcm))

    def feed(self, data: bytes, form: AudioFormat, detection: dict[str, object] | None) -> Began | Ended | None:
        """Take one append; says what has become certain with it."""
        if self._converter is None or self._converter.src != form:
            self._converter = Converter(form, PCM_24K)
            self._plain = Converter(form, AudioFormat("pcm_s16le", form.rate))
        pcm = self._converter.convert(data)
        length = form.ms_of(len(data))
        self.ms += length
        self._pcm += pcm
        if detection is None:
            return None
        assert self._plain is not None
        if (
            rms_dbfs(self._plain.convert(data)) >= LOUD_DBFS
        ):  # as it came: a resampler would smear it over the next frame
            self._loud_ms, self._quiet_ms = self._loud_ms + length, 0.0
        else:
            self._loud_ms, self._quiet_ms = 0.0, self._quiet_ms + length
        return self._judge(detection)

    def _judge(self, detection: dict[str, object]) -> Began | Ended | None:
        padding = float(str(detection.get("prefix_padding_ms", 300)))
        if not self.speaking:
            if self._loud_ms < ONSET_MS:
                self._forget_before(self.ms - padding - 500)
                return None
            self.speaking = True
            start = max(0.0, self.ms - self._loud_ms - padding)
            self._forget_before(start)
            return Began(int(start))
        if self._quiet_ms < float(str(detection.get("silence_duration_ms", SEMANTIC_MS))):
            return None
        return Ended(int(self.ms), self.take())

    def take(self) -> bytes:
        """Commit: everything buffered, as PCM 24 kHz."""
        pcm = bytes(self._pcm)
        self.clear()
        return pcm

    def clear(self) -> None:
        """Forget what is buffered."""
        self._pcm.clear()
        self._pcm_from = self.ms
        self.speaking = False
        self._loud_ms = self._quiet_ms = 0.0

    def _forget_before(self, ms: float) -> None:
        extra = PCM_24K.bytes_for(max(0.0, ms - self._pcm_from))
        if extra > 0:
            del self._pcm[:extra]
            self._pcm_from += PCM_24K.ms_of(extra)
