"""Buckets of latencies: how wrong a percentile of them can be."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.observe.segments import nearest_rank
from patter.store.buckets import ERROR, bucket, percentile, value


@given(st.floats(1 / 64, 1e7))
def test_a_bucket_stands_for_each_of_its_values_within_the_error(ms: float) -> None:
    assert abs(value(bucket(ms)) - ms) <= (ERROR + 1e-6) * ms


@given(
    st.lists(st.floats(0, 60_000).map(lambda ms: round(ms * 64) / 64), min_size=1, max_size=200), st.integers(1, 100)
)
def test_a_percentile_of_buckets_is_that_of_the_values_within_the_error(values: list[float], percent: int) -> None:
    counts = Counter(bucket(ms) for ms in values)
    exact = nearest_rank(values, percent)
    assert abs(percentile(counts, percent) - exact) <= (ERROR + 1e-6) * exact


@pytest.mark.parametrize("counts", [{}, {5: 0}])
def test_nothing_has_the_percentile_zero(counts: dict[int, int]) -> None:
    assert percentile(counts, 95) == 0.0
