"""Changing the rate of a live stream of PCM: a polyphase filter that holds back nothing but its own 1-2 ms.

It owns the filter and its exact carry across chunks of any size; it refuses to know encodings, frames or calls.
Whole recordings, where delay does not matter, go through soxr.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
import numpy.typing as npt

_TAPS_PER_PHASE = 32  # 2 ms at 8 kHz, about -100 dB of aliases, -1 dB at 3.4 kHz; 16 taps would lose 2.8 dB there
_KAISER_BETA = 8.0  # side lobes under the noise of 16-bit samples
_PASS = 0.92  # of the lower Nyquist frequency, so that the edge of the band keeps some room to fall
_ONE = 1 << 20  # taps are whole multiples of 2^-20: products and sums of 16-bit samples stay exact in a double,
# so the result cannot depend on how the stream was cut or in which order the sums were made

_FEW_PHASES = 8  # up to here a product per phase is faster than gathering the right taps for every output

_Floats = npt.NDArray[np.float64]


@lru_cache(maxsize=32)
def _phases(up: int, down: int) -> _Floats:
    """The filter as (up, taps): row p is what output phase p multiplies with the newest `taps` inputs, oldest first."""
    widest = max(up, down)
    count = -(-_TAPS_PER_PHASE * widest // up) * up
    time = np.arange(count) - (count - 1) / 2
    cut = _PASS / widest
    taps = np.sinc(time * cut) * np.kaiser(count, _KAISER_BETA)
    taps *= up / taps.sum()
    phases: _Floats = np.rint(taps.reshape(-1, up).T[:, ::-1] * _ONE)
    phases.setflags(write=False)
    return phases


def _windows(line: _Floats, start: int, count: int, step: int, size: int) -> _Floats:
    """Row i is `size` samples of `line` from `start + i * step` on (a copy, so that the product is one BLAS call)."""
    view: _Floats = np.ndarray((count, size), np.float64, line, start * 8, (step * 8, 8))
    return view.copy()


class Resampler:
    """One mono 16-bit stream from `src_hz` to `dst_hz`, chunk by chunk.

    After N input samples exactly ceil(N * dst / src) output samples have come out, whatever the chunks were; they are
    late by `delay_ms`. The same stream cut in another way gives the same bytes.
    """

    def __init__(self, src_hz: int, dst_hz: int) -> None:
        if src_hz <= 0 or dst_hz <= 0:
            raise ValueError(f"sample rates must be positive, not {src_hz} and {dst_hz} Hz")
        common = gcd(src_hz, dst_hz)
        self.src_hz, self.dst_hz = src_hz, dst_hz
        self._up, self._down = dst_hz // common, src_hz // common
        self._taps = _phases(self._up, self._down) if src_hz != dst_hz else np.ones((1, 1))
        self._reset()

    @property
    def delay_ms(self) -> float:
        """How late the output is: half the filter's length."""
        return (self._taps.size - 1) / 2 / self._up / self.src_hz * 1000

    def _reset(self) -> None:
        self._odd = b""
        self._past = np.zeros(self._taps.shape[1] - 1)
        self._next = 0  # where the next output stands: in steps of 1/up input sample, from the next input

    def process(self, pcm: bytes) -> bytes:
        """The output that `pcm` (any number of bytes) completes."""
        if self.src_hz == self.dst_hz:
            return pcm
        if self._odd:
            pcm = self._odd + pcm
        whole = len(pcm) & ~1
        self._odd = pcm[whole:]
        return self._filter(np.frombuffer(pcm, "<i2", whole // 2).astype(np.float64))

    def flush(self) -> bytes:
        """The end of the stream that is still inside the filter (`delay_ms` of it); the next chunk starts a new stream."""
        if self.src_hz == self.dst_hz:
            return b""
        tail = self._filter(np.zeros(round(self.delay_ms * self.src_hz / 1000)))
        self._reset()
        return tail

    def _filter(self, samples: _Floats) -> bytes:
        fresh = len(samples)
        if not fresh:
            return b""
        line = np.concatenate((self._past, samples))
        self._past = line[fresh:]
        up, down = self._up, self._down
        count = -((self._next - fresh * up) // down)
        if count <= 0:
            self._next -= fresh * up
            return b""
        size = self._taps.shape[1]
        if down == 1:
            # a caller's frame comes here fifty times a second, always to a cold cache: fewest and plainest calls win
            products = np.empty((fresh, up))
            for phase in range(up):
                products[:, phase] = np.correlate(line, self._taps[phase], "valid")
            out = products.ravel()
        elif up <= _FEW_PHASES:
            out = np.empty(count)
            for first in range(min(up, count)):
                place, rows = self._next + first * down, -((first - count) // up)
                out[first::up] = _windows(line, place // up, rows, down, size) @ self._taps[place % up]
        else:
            places = self._next + down * np.arange(count)
            out = np.einsum("ij,ij->i", _windows(line, 0, fresh, 1, size)[places // up], self._taps[places % up])
        self._next += count * down - fresh * up
        out *= 1 / _ONE
        np.rint(out, out=out)
        np.minimum(out, 32767.0, out=out)
        np.maximum(out, -32768.0, out=out)
        return out.astype("<i2").tobytes()


def resample_whole(pcm: bytes, src_hz: int, dst_hz: int) -> bytes:
    """A whole mono 16-bit recording at another rate, by soxr: the best quality, no delay, not for live sound."""
    if src_hz == dst_hz or not pcm:
        return pcm
    import soxr  # a compiled library that live calls never need

    whole: npt.NDArray[np.int16] = soxr.resample(np.frombuffer(pcm, "<i2"), src_hz, dst_hz, quality="HQ")
    return whole.tobytes()
