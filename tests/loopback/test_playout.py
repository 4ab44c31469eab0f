"""The carrier's buffer: real-time order, marks where they stand, clear at once, gaps counted."""

from __future__ import annotations

import threading

from patter.audio.format import MULAW_8K
from patter.loopback.playout import Playout


def make() -> tuple[Playout, list[str]]:
    passed: list[str] = []
    return Playout(MULAW_8K, passed.append), passed


def test_sound_of_any_sizes_comes_out_in_frames_and_ends_in_silence() -> None:
    playout, _ = make()
    playout.put(b"a" * 100)
    playout.put(b"b" * 100)
    assert playout.queued_ms == 25.0
    assert playout.next_frame() == b"a" * 100 + b"b" * 60
    assert playout.next_frame() == b"b" * 40 + b"\xff" * 120
    assert playout.next_frame() == b"\xff" * 160
    assert playout.queued_ms == 0.0


def test_a_mark_is_passed_when_all_before_it_has_been_played() -> None:
    playout, passed = make()
    playout.put(b"a" * 160)
    playout.mark("one")
    playout.put(b"b" * 80)
    playout.mark("two")
    playout.next_frame()
    assert passed == []
    playout.next_frame()
    assert passed == ["one", "two"]


def test_clear_drops_the_sound_and_names_the_marks() -> None:
    playout, passed = make()
    playout.put(b"a" * 480)
    playout.mark("one")
    playout.mark("two")
    playout.next_frame()
    assert playout.clear() == ["one", "two"]
    assert playout.next_frame() == b"\xff" * 160
    assert passed == []
    playout.put(b"b" * 160)
    assert playout.next_frame() == b"b" * 160


def test_a_gap_inside_speech_is_an_underrun_and_a_pause_is_none() -> None:
    playout, _ = make()
    playout.put(b"a" * 160)
    for _ in range(3):
        playout.next_frame()
    playout.put(b"a" * 160)
    playout.next_frame()
    assert playout.underruns == 1
    for _ in range(40):
        playout.next_frame()
    playout.put(b"a" * 160)
    playout.next_frame()
    assert playout.underruns == 1


def test_the_pause_behind_a_mark_is_the_speakers_own() -> None:
    playout, _ = make()
    playout.put(b"a" * 160)
    playout.mark("end of a reply")
    for _ in range(3):
        playout.next_frame()
    playout.put(b"a" * 160)
    playout.next_frame()
    assert playout.underruns == 0


def test_beyond_ten_minutes_sound_is_thrown_away_and_counted() -> None:
    playout, _ = make()
    minute = bytes(8000 * 60)
    for _ in range(12):
        playout.put(minute)
    assert playout.overflows == 1
    assert playout.queued_ms == 11 * 60_000


def test_every_mark_comes_back_exactly_once_however_clear_and_playout_race() -> None:
    playout, passed = make()
    cleared: list[str] = []
    total = 3_000
    done = threading.Event()

    def play() -> None:
        while not done.is_set():
            playout.next_frame()

    player = threading.Thread(target=play)
    player.start()
    for number in range(total):
        playout.put(b"x" * 40)
        playout.mark(str(number))
        if number % 7 == 0:
            cleared += playout.clear()
    cleared += playout.clear()
    done.set()
    player.join()
    assert sorted(passed + cleared, key=int) == [str(number) for number in range(total)]
