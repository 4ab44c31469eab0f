"""The live resampler: exact lengths, no dependence on chunking, and the quality the phone line needs."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.audio.resample import Resampler, resample_whole

RATES = (8000, 16000, 24000, 44100, 48000)
PAIRS = [(src, dst) for src in RATES for dst in RATES if src != dst]


def noise(count: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).integers(-32768, 32768, count, dtype=np.int16).tobytes()


def tone(hz: float, rate: int, seconds: float = 1.0) -> bytes:
    time = np.arange(int(rate * seconds)) / rate
    wave: npt.NDArray[np.int16] = np.rint(16000 * np.sin(2 * np.pi * hz * time)).astype(np.int16)
    return wave.tobytes()


def middle(pcm: bytes) -> npt.NDArray[np.float64]:
    wave = np.frombuffer(pcm, "<i2").astype(np.float64)
    return wave[len(wave) // 4 : 3 * len(wave) // 4]


def decibels(wave: npt.NDArray[np.float64]) -> float:
    return 20 * math.log10(math.sqrt(2 * float(np.mean(wave**2))) / 16000 + 1e-9)


@given(
    pair=st.sampled_from(PAIRS),
    count=st.integers(0, 900),
    cuts=st.lists(st.integers(0, 1800), max_size=12),
    seed=st.integers(0, 99),
)
def test_any_cut_of_the_stream_gives_the_same_bytes(
    pair: tuple[int, int], count: int, cuts: list[int], seed: int
) -> None:
    stream = noise(count, seed)
    whole = Resampler(*pair)
    expected = whole.process(stream) + whole.flush()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    cut_up = Resampler(*pair)
    pieces = [cut_up.process(stream[start:end]) for start, end in pairwise(edges)]
    assert b"".join(pieces) + cut_up.flush() == expected


@pytest.mark.parametrize(("src", "dst"), PAIRS)
def test_the_length_is_exact_after_every_chunk(src: int, dst: int) -> None:
    resampler, given_in, got_out = Resampler(src, dst), 0, 0
    for size in (1, 7, 160, 441, 3, 960):
        given_in += size
        got_out += len(resampler.process(noise(size))) // 2
        assert got_out == -(-given_in * dst // src)


@pytest.mark.parametrize(("src", "dst"), [pair for pair in PAIRS if 44100 not in pair])
def test_a_20_ms_frame_gives_a_20_ms_frame(src: int, dst: int) -> None:
    resampler = Resampler(src, dst)
    assert {len(resampler.process(noise(src // 50))) for _ in range(9)} == {dst // 50 * 2}


@pytest.mark.parametrize(("src", "dst"), PAIRS)
def test_the_delay_is_at_most_two_milliseconds_and_is_as_told(src: int, dst: int) -> None:
    resampler = Resampler(src, dst)
    assert resampler.delay_ms < 2.1
    click = np.zeros(src // 10, "<i2")
    click[src // 50] = 20000
    out = np.frombuffer(resampler.process(click.tobytes()), "<i2").astype(np.float64)
    centre = float(np.sum(np.arange(len(out)) * np.abs(out)) / np.sum(np.abs(out)))
    assert abs(centre * 1000 / dst - 20 - resampler.delay_ms) < 0.15


@pytest.mark.parametrize(("src", "dst"), [(8000, 16000), (16000, 8000), (24000, 8000), (48000, 16000), (44100, 16000)])
def test_speech_passes_and_aliases_do_not(src: int, dst: int) -> None:
    assert abs(decibels(middle(Resampler(src, dst).process(tone(1000, src))))) < 0.1
    assert abs(decibels(middle(Resampler(src, dst).process(tone(3000, src))))) < 0.3
    if src > dst:
        assert decibels(middle(Resampler(src, dst).process(tone(dst * 0.625, src)))) < -75


def test_full_scale_is_clipped_and_does_not_wrap() -> None:
    square = np.where(np.arange(4000) // 20 % 2, 32767, -32768).astype("<i2")
    out = np.frombuffer(Resampler(8000, 16000).process(square.tobytes()), "<i2").astype(int)
    assert max(abs(np.diff(out))) < 60000
    assert out.max() == 32767
    assert out.min() == -32768


def test_flush_gives_the_tail_and_starts_afresh() -> None:
    resampler = Resampler(8000, 16000)
    first = resampler.process(noise(333)) + resampler.flush()
    assert resampler.process(noise(333)) + resampler.flush() == first


def test_equal_rates_pass_through_untouched() -> None:
    frame = noise(160)
    assert Resampler(8000, 8000).process(frame) is frame


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        Resampler(0, 8000)


def test_a_whole_recording_keeps_length_and_level() -> None:
    out = resample_whole(tone(1000, 24000), 24000, 8000)
    assert len(out) == 2 * 8000
    assert abs(decibels(middle(out))) < 0.05
    assert resample_whole(b"", 24000, 8000) == b""
