"""Stretches of voice from probabilities: what is told, when, and how far back it began or ended."""

from __future__ import annotations

import pytest

from patter.audio.vad import VoiceEvent, VoiceGate, VoiceGateConfig, VoicePaused, VoiceResumed, VoiceStarted

EXACT = VoiceGateConfig(min_speech_ms=96, pause_ms=192, resume_ms=64, lag_ms=0, tail_ms=0)


def told(gate: VoiceGate, probabilities: list[float], window_ms: float = 32) -> list[tuple[int, VoiceEvent]]:
    """(index of the window, event) for every event."""
    events = [(index, gate.push(p, window_ms)) for index, p in enumerate(probabilities)]
    return [(index, event) for index, event in events if event is not None]


def test_voice_is_told_once_it_has_lasted_the_minimum() -> None:
    gate = VoiceGate(EXACT)
    assert told(gate, [0.1, 0.9, 0.9, 0.9, 0.9]) == [(3, VoiceStarted(96))]
    assert gate.speaking
    assert gate.voice_ms == 128


def test_a_click_is_no_voice() -> None:
    gate = VoiceGate(EXACT)
    assert told(gate, [0.9, 0.9, 0.1] * 5) == []
    assert not gate.speaking


def test_between_the_thresholds_nothing_changes() -> None:
    gate = VoiceGate(EXACT)
    assert told(gate, [0.4] * 9) == []
    assert told(gate, [0.6, 0.4, 0.4, 0.4]) == [(2, VoiceStarted(96))]
    assert gate.silence_ms == 0.0


def test_a_short_gap_is_part_of_the_voice() -> None:
    gate = VoiceGate(EXACT)
    assert told(gate, [0.9] * 3 + [0.1] * 5 + [0.9]) == [(2, VoiceStarted(96))]
    assert gate.voice_ms == 9 * 32


def test_voice_does_not_grow_during_silence() -> None:
    gate = VoiceGate(EXACT)
    told(gate, [0.9] * 4 + [0.1] * 3)
    assert gate.speaking
    assert gate.voice_ms == 128
    assert gate.silence_ms == 96


def test_a_pause_says_when_the_last_sound_was() -> None:
    gate = VoiceGate(EXACT)
    assert told(gate, [0.9] * 3 + [0.1] * 7)[1:] == [(8, VoicePaused(192))]
    assert not gate.speaking
    assert gate.in_utterance
    assert gate.voice_ms == 0.0
    assert gate.silence_ms == 224


def test_after_a_pause_voice_resumes_sooner_than_it_starts() -> None:
    gate = VoiceGate(EXACT)
    told(gate, [0.9] * 3 + [0.1] * 8)
    assert told(gate, [0.9, 0.9, 0.9]) == [(1, VoiceResumed(64))]
    assert gate.voice_ms == 96


def test_a_taken_utterance_makes_the_next_voice_a_start() -> None:
    gate = VoiceGate(EXACT)
    told(gate, [0.9] * 3 + [0.1] * 8)
    gate.end()
    assert not gate.in_utterance
    assert told(gate, [0.9] * 4) == [(2, VoiceStarted(96))]


def test_an_utterance_taken_in_the_middle_starts_a_new_one_of_its_own_length() -> None:
    gate = VoiceGate(EXACT)
    told(gate, [0.9] * 50)
    gate.end()
    assert told(gate, [0.9] * 4) == [(2, VoiceStarted(96))]


def test_the_lag_and_tail_of_the_detector_are_made_good() -> None:
    gate = VoiceGate(VoiceGateConfig(lag_ms=16, tail_ms=72))
    events = told(gate, [0.9] * 10 + [0.1] * 10)
    assert events == [(3, VoiceStarted(128 + 16)), (13, VoicePaused(4 * 32 + 72))]


@pytest.mark.parametrize("window_ms", [10, 16, 32])
def test_times_are_in_ms_whatever_the_window(window_ms: float) -> None:
    gate = VoiceGate(EXACT)
    (first, started), (second, paused) = told(
        gate, [0.9] * int(960 / window_ms) + [0.0] * int(960 / window_ms), window_ms
    )
    assert isinstance(started, VoiceStarted)
    assert isinstance(paused, VoicePaused)
    assert (first + 1) * window_ms == pytest.approx(started.began_ms_ago)
    assert started.began_ms_ago == pytest.approx(96, abs=window_ms)
    assert (second + 1) * window_ms - 960 == pytest.approx(paused.ended_ms_ago)


def test_silence_before_any_voice_is_not_counted() -> None:
    gate = VoiceGate(EXACT)
    assert told(gate, [0.0] * 100) == []
    assert gate.silence_ms == 0.0
