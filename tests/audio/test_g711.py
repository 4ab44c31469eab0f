"""G.711 against the published properties and the hashes of the reference coder over every input."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from patter.audio.g711 import alaw_decode, alaw_encode, mulaw_decode, mulaw_encode

EVERY_BYTE = bytes(range(256))
EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16).tobytes()
TONE = np.array([round(8000 * math.sin(2 * math.pi * 1000 * n / 8000)) for n in range(160)], "<i2").tobytes()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def samples(pcm: bytes) -> list[int]:
    return [int(value) for value in np.frombuffer(pcm, "<i2")]


def test_decode_tables_are_the_reference_tables() -> None:
    assert sha(mulaw_decode(EVERY_BYTE)) == "3dab54339e520bb2c924826e3b72a917a2b612e9fd12fc867500f1d983a75827"
    assert sha(alaw_decode(EVERY_BYTE)) == "e04788d110e58ff8c70c93b8480190d973e3b67876b6119abbaec766cc75c174"


def test_encoders_equal_the_reference_for_every_sample() -> None:
    assert sha(mulaw_encode(EVERY_SAMPLE)) == "81d633c9e6972a18c74a58720b96cb8ca0bdd096d4060b646dd708c3b846019a"
    assert sha(alaw_encode(EVERY_SAMPLE)) == "38488f6fd710f4686360edc4d38639f96c491595ef93f8eb8d62d5e07ca6ce7b"


def test_a_code_survives_decoding_and_encoding() -> None:
    expected = bytearray(EVERY_BYTE)
    expected[0x7F] = 0xFF  # negative zero becomes zero
    assert mulaw_encode(mulaw_decode(EVERY_BYTE)) == bytes(expected)
    assert alaw_encode(alaw_decode(EVERY_BYTE)) == EVERY_BYTE


@pytest.mark.parametrize(
    ("sample", "mulaw", "alaw"),
    [
        (0, 0xFF, 0xD5),
        (-1, 0x7E, 0x55),
        (1000, 0xCE, 0xFA),
        (-12345, 0x17, 0x3D),
        (32767, 0x80, 0xAA),
        (-32768, 0, 0x2A),
    ],
)
def test_known_samples(sample: int, mulaw: int, alaw: int) -> None:
    pcm = np.array([sample], "<i2").tobytes()
    assert mulaw_encode(pcm) == bytes([mulaw])
    assert alaw_encode(pcm) == bytes([alaw])


def test_loudest_error_is_that_of_clipping() -> None:
    original = np.arange(-32768, 32768)
    assert max(abs(original - samples(mulaw_decode(mulaw_encode(EVERY_SAMPLE))))) == 644
    assert max(abs(original - samples(alaw_decode(alaw_encode(EVERY_SAMPLE))))) == 512


def test_a_frame_of_tone() -> None:
    assert sha(mulaw_encode(TONE)) == "db13fe88c62aa5ccd03dee93d192fa625ab8710bc0b8eeba09af50088398e022"
    assert sha(alaw_encode(TONE)) == "c949870a8a9ba2e5a9e1a0358a0d3e721ff9605cdf10fdd1b01b063fad6656a7"


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(ValueError):
        mulaw_encode(b"\x00\x00\x00")
    with pytest.raises(ValueError):
        alaw_encode(b"\x00")


def test_nothing_stays_nothing() -> None:
    assert mulaw_decode(b"") == mulaw_encode(b"") == alaw_decode(b"") == alaw_encode(b"") == b""
