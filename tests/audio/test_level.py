"""Levels in decibels of full scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_16K, AudioFormat
from patter.audio.g711 import alaw_decode, alaw_encode, mulaw_decode, mulaw_encode
from patter.audio.level import FLOOR_DBFS, dbfs_of, rms_dbfs


def test_a_full_scale_square_wave_is_zero() -> None:
    assert rms_dbfs(np.array([32767, -32767] * 80, np.int16).tobytes()) == pytest.approx(0.0, abs=0.001)


def test_a_tenth_of_the_amplitude_is_twenty_decibels_less() -> None:
    assert rms_dbfs(np.full(160, 3277, np.int16).tobytes()) == pytest.approx(-20.0, abs=0.01)


@pytest.mark.parametrize("pcm", [b"", b"\x01", b"\x00" * 320])
def test_nothing_has_the_level_of_the_floor(pcm: bytes) -> None:
    assert rms_dbfs(pcm) == FLOOR_DBFS


@pytest.mark.parametrize(
    ("audio", "encode", "decode"), [(MULAW_8K, mulaw_encode, mulaw_decode), (ALAW_8K, alaw_encode, alaw_decode)]
)
@pytest.mark.parametrize("loudness", [30, 300, 3_000, 9_000])
def test_the_level_of_a_telephones_frame_is_that_of_its_pcm(
    audio: AudioFormat, encode: Callable[[bytes], bytes], decode: Callable[[bytes], bytes], loudness: int
) -> None:
    dice = np.random.default_rng(loudness)
    level = dbfs_of(audio)
    for pitch in range(80, 320, 10):
        seconds = np.arange(160) / 8_000
        waves = [np.sin(2 * np.pi * pitch * order * seconds + dice.uniform(0, 6)) / order for order in range(1, 10)]
        for sound in (np.sum(waves, axis=0), dice.standard_normal(160)):
            codes = encode((sound * loudness).clip(-32_768, 32_767).astype(np.int16).tobytes())
            assert level(codes) == pytest.approx(rms_dbfs(decode(codes)), abs=3.0), pitch
    assert level(b"") == FLOOR_DBFS


def test_the_level_of_pcm_is_exact() -> None:
    pcm = np.random.default_rng(1).integers(-9_000, 9_000, 320).astype(np.int16).tobytes()
    assert dbfs_of(PCM_16K)(pcm) == rms_dbfs(pcm)
