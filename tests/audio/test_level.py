"""Levels in decibels of full scale."""

from __future__ import annotations

import numpy as np
import pytest

from patter.audio.level import FLOOR_DBFS, rms_dbfs


def test_a_full_scale_square_wave_is_zero() -> None:
    assert rms_dbfs(np.array([32767, -32767] * 80, np.int16).tobytes()) == pytest.approx(0.0, abs=0.001)


def test_a_tenth_of_the_amplitude_is_twenty_decibels_less() -> None:
    assert rms_dbfs(np.full(160, 3277, np.int16).tobytes()) == pytest.approx(-20.0, abs=0.01)


@pytest.mark.parametrize("pcm", [b"", b"\x01", b"\x00" * 320])
def test_nothing_has_the_level_of_the_floor(pcm: bytes) -> None:
    assert rms_dbfs(pcm) == FLOOR_DBFS
