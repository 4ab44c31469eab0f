"""G.711: mu-law and A-law to and from 16-bit PCM, by tables made once from the rules of ITU-T G.711.

It owns the companding laws and refuses to know rates, frames or carriers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MULAW_BIAS = 33  # of the 14-bit form; lifts every magnitude into a segment
_MULAW_CLIP = 8158  # with the bias the largest value of the highest segment
_ALAW_INVERT = 0x55  # even bits are inverted on the wire

_Codes = npt.NDArray[np.uint8]
_Samples = npt.NDArray[np.int16]


def _mulaw_values() -> _Samples:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code >> 4) & 7)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_values() -> _Samples:
    code = np.arange(256, dtype=np.int32) ^ _ALAW_INVERT
    exponent = (code >> 4) & 7
    step = ((code & 0x0F) << 4) + 8
    magnitude = np.where(exponent > 0, (step + 0x100) << np.maximum(exponent - 1, 0), step)
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _all_samples() -> npt.NDArray[np.int32]:
    """Every 16-bit sample at the index of its unsigned bit pattern."""
    return np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)


def _mulaw_codes() -> _Codes:
    # 14 bits by arithmetic shift first: the form of the telephone switches' reference code, which differs from the
    # 16-bit textbook form in 381 negative samples.
    linear = _all_samples() >> 2
    magnitude = np.minimum(np.abs(linear), _MULAW_CLIP) + _MULAW_BIAS
    segment = np.frexp(magnitude.astype(np.float64))[1] - 6  # bits above the lowest segment's six
    code = (segment << 4) | ((magnitude >> (segment + 1)) & 0x0F)
    codes: _Codes = (code ^ np.where(linear < 0, 0x7F, 0xFF)).astype(np.uint8)
    return codes


def _alaw_codes() -> _Codes:
    linear = _all_samples() >> 3
    magnitude = np.where(linear < 0, -linear - 1, linear)
    segment = np.maximum(np.frexp(magnitude.astype(np.float64))[1] - 5, 0)
    code = (segment << 4) | ((magnitude >> np.maximum(segment, 1)) & 0x0F)
    codes: _Codes = (code ^ np.where(linear < 0, _ALAW_INVERT, _ALAW_INVERT | 0x80)).astype(np.uint8)
    return codes


_MULAW_VALUES, _ALAW_VALUES = _mulaw_values(), _alaw_values()
_MULAW_CODES, _ALAW_CODES = _mulaw_codes(), _alaw_codes()


def mulaw_decode(data: bytes) -> bytes:
    """mu-law bytes → 16-bit little-endian PCM, two bytes a sample."""
    return _MULAW_VALUES.take(np.frombuffer(data, np.uint8)).tobytes()


def mulaw_encode(pcm: bytes) -> bytes:
    """16-bit little-endian PCM (whole samples, else ValueError) → mu-law, one byte a sample."""
    return _MULAW_CODES.take(np.frombuffer(pcm, np.uint16)).tobytes()


def alaw_decode(data: bytes) -> bytes:
    """A-law bytes → 16-bit little-endian PCM, two bytes a sample."""
    return _ALAW_VALUES.take(np.frombuffer(data, np.uint8)).tobytes()


def alaw_encode(pcm: bytes) -> bytes:
    """16-bit little-endian PCM (whole samples, else ValueError) → A-law, one byte a sample."""
    return _ALAW_CODES.take(np.frombuffer(pcm, np.uint16)).tobytes()
