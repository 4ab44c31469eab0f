"""Frames back in order: pure counting, whatever the frames hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.transports.reorder import FAR, WINDOW, Reorderer


def heard(numbers: list[int]) -> list[int | None]:
    """What comes out for frames in this order, with the fast path that its reader takes; each frame holds its number."""
    order, out = Reorderer(), list[int | None]()
    for number in numbers:
        if number == order.due:
            order.due += 1
            out.append(number)
        else:
            out += [int(frame) if frame is not None else None for frame in order.take(number, b"%d" % number)]
    return out + [int(frame) for frame in order.rest() if frame is not None]


def test_frames_in_order_never_leave_the_fast_path() -> None:
    order = Reorderer()
    for number in range(1, 100):
        assert order.due == number
        order.due += 1


@pytest.mark.parametrize(
    ("came", "out"),
    [
        ([2, 1, 3], [1, 2, 3]),
        ([1, 4, 3, 2, 5], [1, 2, 3, 4, 5]),
        ([1, 3, 4, 5, 2, 6], [1, 2, 3, 4, 5, 6]),
        ([1, 3, 4, 5, 6, 2, 7], [1, None, 3, 4, 5, 6, 7]),
        ([1, 1, 2, 2, 3], [1, 2, 3]),
        ([1, 3, 3, 3, 3, 2], [1, 2, 3]),
        ([1, 4, 5, 6, 7, 8], [1, None, None, 4, 5, 6, 7, 8]),
        ([1, 3, 5, 7, 9, 11, 13, 15], [1, None, 3, None, 5, None, 7, None, 9, 11, 13, 15]),
        ([1, 2, 500, 501], [1, 2, 500, 501]),
        ([1, 3, 900, 901], [1, 3, 900, 901]),
        ([400, 401, 1, 2, 3], [400, 401, 1, 2, 3]),
        ([0, 0, 1, 2], [0, 0, 1, 2]),
    ],
)
def test_order_loss_doubles_and_new_counts(came: list[int], out: list[int | None]) -> None:
    assert heard(came) == out


@given(st.lists(st.integers(0, 12), min_size=200, max_size=200))
def test_frames_that_are_at_most_three_late_all_come_out_in_order(jitter: list[int]) -> None:
    lateness = [min(WINDOW, late // 4) for late in jitter]
    came = [number for _, number in sorted((number + late, number) for number, late in enumerate(lateness, 1))]
    assert heard(came) == list(range(1, 201))


@given(st.sets(st.integers(1, 300), max_size=45))
def test_time_goes_on_whatever_is_lost(lost: set[int]) -> None:
    came = [number for number in range(1, 301) if number not in lost] + [301, 302, 303, 304, 305]
    out = heard(came)
    assert [frame for frame in out if frame is not None] == came
    if not lost:
        assert len(out) == 305
    silences = sum(frame is None for frame in out)
    assert silences == len(lost)


@given(st.lists(st.integers(0, 10**15), max_size=50))
def test_no_numbers_whatever_make_it_hold_much_or_repeat(numbers: list[int]) -> None:
    order, out = Reorderer(), 0
    for number in numbers:
        out += len(order.take(number, b""))
    assert out <= len(numbers) * (FAR + WINDOW + 1)
    assert len(order.rest()) <= WINDOW
