"""The timetable of a paced stream."""

from __future__ import annotations

import pytest

from patter.audio.pacing import Pacer


def test_small_delays_do_not_move_the_timetable() -> None:
    pacer = Pacer(100.0)
    moments = []
    for late in (0.0, 0.004, 0.019, 0.055, 0.001):
        moments.append(pacer.due)
        pacer.sent(pacer.due + late)
    assert moments == pytest.approx([100.0, 100.02, 100.04, 100.06, 100.08])
    assert pacer.slips == 0


def test_an_hour_of_frames_does_not_drift() -> None:
    pacer = Pacer(0.0)
    for _ in range(180_000):
        pacer.sent(pacer.due + 0.003)
    assert pacer.due == pytest.approx(3600.0, abs=1e-6)


def test_too_late_starts_a_new_timetable() -> None:
    pacer = Pacer(0.0)
    assert pacer.sent(0.061) == pytest.approx(0.081)
    assert pacer.slips == 1
    assert pacer.sent(0.081) == pytest.approx(0.101)


def test_waiting_is_never_negative() -> None:
    pacer = Pacer(1.0)
    assert pacer.wait(0.995) == pytest.approx(0.005)
    assert pacer.wait(1.5) == 0.0


@pytest.mark.parametrize(
    ("now", "frames"), [(0.99, 0), (1.0, 1), (1.019, 1), (1.02, 2), (1.059, 3), (1.0601, 1), (9.0, 1)]
)
def test_a_late_sender_catches_up_within_reason(now: float, frames: int) -> None:
    assert Pacer(1.0).frames_due(now) == frames
