"""The six segments: what each means, and that they always add up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.observe.segments import NAMES, Moments, nearest_rank, segments

moment = st.floats(min_value=1.7e9, max_value=1.7e9 + 60, allow_nan=False)
maybe = st.none() | moment


@given(st.builds(Moments, moment, moment, maybe, maybe, maybe, maybe, maybe, maybe))
def test_segments_are_never_negative_and_sum_exactly_to_the_total(moments: Moments) -> None:
    parts, total = segments(moments)
    assert tuple(parts) == NAMES
    assert all(part >= 0 for part in parts.values())
    assert sum(parts.values()) == total == math.fsum(reversed(parts.values()))
    assert total == pytest.approx(max(0.0, (moments.playing - moments.began) * 1000), abs=0.01)


def test_a_spoken_turn() -> None:
    parts, total = segments(
        Moments(
            began=100.0,
            recognition=100.2,  # 200 ms of silence start recognition
            transcript=100.45,
            committed=100.55,  # the words were ready, the turn was not
            first_token=100.6,
            first_sentence=100.75,
            first_audio=100.85,
            playing=100.9,
        )
    )
    expected = dict(zip(NAMES, (300, 250, 50, 150, 100, 50), strict=True))
    assert parts == pytest.approx(expected, abs=0.02)
    assert total == pytest.approx(900, abs=0.02)


def test_recognition_that_began_during_speech_is_not_negative_endpointing() -> None:
    parts, total = segments(
        Moments(began=10.0, recognition=9.8, transcript=10.1, committed=10.3, first_token=10.4, playing=10.5)
    )
    assert parts["endpointing"] == pytest.approx(200, abs=0.02)
    assert parts["transcription"] == pytest.approx(100, abs=0.02)
    assert total == pytest.approx(500, abs=0.02)


def test_a_stage_that_nobody_reported_gives_its_time_to_the_next_one() -> None:
    parts, _ = segments(Moments(began=1.0, committed=1.0, first_token=1.25, playing=1.5))
    assert parts == {**dict.fromkeys(NAMES, 0.0), "first_token": 250.0, "playout": 250.0}


@pytest.mark.parametrize(
    ("count", "percent", "rank"), [(1, 95, 1), (10, 95, 10), (20, 95, 19), (100, 95, 95), (3, 50, 2), (4, 50, 2)]
)
def test_the_percentile_is_nearest_rank(count: int, percent: float, rank: int) -> None:
    values = [float(number) for number in range(count, 0, -1)]
    assert nearest_rank(values, percent) == rank


def test_no_samples_no_percentile() -> None:
    assert nearest_rank([], 95) == 0.0
