"""The log-mel picture: its shape, its scale and where a tone appears."""

from __future__ import annotations

import numpy as np
import pytest

from patter.providers.embedded.mel import Floats, log_mel, to_samples


def tone(hz: float) -> Floats:
    wave: Floats = np.sin(2 * np.pi * hz * np.arange(16000) / 16000).astype(np.float32)
    return wave


@pytest.mark.parametrize("bands", [80, 128])
def test_a_column_every_ten_milliseconds(bands: int) -> None:
    assert log_mel(tone(440), bands).shape == (bands, 100)


@pytest.mark.parametrize(("hz", "band"), [(500, 12), (1000, 26), (4000, 62)])
def test_a_tone_is_brightest_in_its_band(hz: float, band: int) -> None:
    assert abs(int(log_mel(tone(hz)).mean(axis=1).argmax()) - band) <= 1


def test_the_picture_spans_eight_decades_from_the_loudest_point() -> None:
    picture = log_mel(tone(1000))
    assert picture.max() - picture.min() == pytest.approx(2.0, abs=0.01)
    assert picture.dtype == np.float32


def test_silence_is_flat() -> None:
    assert np.ptp(log_mel(np.zeros(16000, np.float32))) == 0.0


def test_samples_of_full_scale() -> None:
    assert to_samples(b"\x00\x80\x00\x40").tolist() == [-1.0, 0.5]
