"""What a run of audio bytes is: its encoding and its rate. Audio always carries its format with it.

It owns sizes and durations and refuses to know any vendor's spelling of them. Everything is mono.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Encoding = Literal["pcm_s16le", "mulaw", "alaw"]


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Mono audio: `encoding` of each sample and `rate` in Hz."""

    encoding: Encoding
    rate: int

    @property
    def sample_bytes(self) -> int:
        """Bytes a sample: 2 for PCM, 1 for G.711."""
        return 2 if self.encoding == "pcm_s16le" else 1

    @property
    def silence(self) -> bytes:
        """One sample of silence on the wire."""
        return {"pcm_s16le": b"\x00\x00", "mulaw": b"\xff", "alaw": b"\xd5"}[self.encoding]

    def bytes_for(self, ms: float) -> int:
        """Whole-sample size in bytes of `ms` milliseconds."""
        return int(self.rate * ms / 1000) * self.sample_bytes

    def ms_of(self, size: int) -> float:
        """Duration in ms of `size` bytes."""
        return size * 1000 / (self.rate * self.sample_bytes)

    def quiet(self, ms: float) -> bytes:
        """`ms` milliseconds of silence."""
        return self.silence * int(self.rate * ms / 1000)


MULAW_8K = AudioFormat("mulaw", 8000)
ALAW_8K = AudioFormat("alaw", 8000)
PCM_8K = AudioFormat("pcm_s16le", 8000)
PCM_16K = AudioFormat("pcm_s16le", 16000)
PCM_24K = AudioFormat("pcm_s16le", 24000)
PCM_48K = AudioFormat("pcm_s16le", 48000)


@dataclass(
    slots=True
)  # nobody changes one, but freezing triples the price, and there are fifty a second of it on every call
class AudioChunk:
    """Bytes of audio with their format; any whole number of samples.

    `base64` is the same sound as it stood on the wire, if it came so: who sends it on as base64 need not encode it again."""

    data: bytes
    format: AudioFormat
    base64: str = field(default="", repr=False, compare=False)

    @property
    def ms(self) -> float:
        """Duration in milliseconds."""
        return self.format.ms_of(len(self.data))
