"""One stream of audio from one format to another: decode, change the rate, encode, with carry between chunks.

It owns the order of those steps and leaves equal formats untouched; it refuses to know who speaks which format.
"""

from __future__ import annotations

from collections.abc import Callable

from patter.audio.format import AudioChunk, AudioFormat, Encoding
from patter.audio.g711 import alaw_decode, alaw_encode, mulaw_decode, mulaw_encode
from patter.audio.resample import Resampler

_DECODE: dict[Encoding, Callable[[bytes], bytes]] = {"mulaw": mulaw_decode, "alaw": alaw_decode}
_ENCODE: dict[Encoding, Callable[[bytes], bytes]] = {"mulaw": mulaw_encode, "alaw": alaw_encode}


class Converter:
    """One stream from format `src` to format `dst`. Any chunk sizes; half a PCM sample waits for its other half."""

    def __init__(self, src: AudioFormat, dst: AudioFormat) -> None:
        self.src, self.dst = src, dst
        self.identity = src == dst
        self._decode = _DECODE.get(src.encoding)
        self._encode = _ENCODE.get(dst.encoding)
        self._resampler = Resampler(src.rate, dst.rate) if src.rate != dst.rate else None
        self._odd = b""

    def convert(self, data: bytes) -> bytes:
        """The bytes of `dst` that `data` gives now; equal formats give back the same object."""
        if self.identity:
            return data
        pcm = self._decode(data) if self._decode else self._whole_samples(data)
        return self._out(self._resampler.process(pcm) if self._resampler else pcm)

    def convert_chunk(self, chunk: AudioChunk) -> AudioChunk:
        """As `convert`, for a chunk in `src`; equal formats give back the same object."""
        return chunk if self.identity else AudioChunk(self.convert(chunk.data), self.dst)

    def flush(self) -> bytes:
        """The end of the stream that is still inside (at most 2 ms); half a sample left over is dropped."""
        self._odd = b""
        return self._out(self._resampler.flush()) if self._resampler else b""

    def _whole_samples(self, data: bytes) -> bytes:
        if self._odd:
            data = self._odd + data
        whole = len(data) & ~1
        self._odd = data[whole:]
        return data if whole == len(data) else data[:whole]

    def _out(self, pcm: bytes) -> bytes:
        return self._encode(pcm) if self._encode else pcm
