"""Voice activity by loudness: what is voice to it, what is not, and how its floor follows the line."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest

from patter.audio.convert import Converter
from patter.audio.format import MULAW_8K, PCM_16K
from patter.audio.vad import VoiceGate, VoiceGateConfig, VoicePaused, VoiceStarted
from patter.ports import VoiceDetector
from patter.providers.level_detector import LevelDetector
from tests.support.tone_speech import speech

Sound = npt.NDArray[np.float64]
RATE = 16000


def noise(seconds: float, dbfs: float, seed: int = 1) -> Sound:
    count = int(seconds * RATE)
    return np.random.default_rng(seed).standard_normal(count) * 32768 * 10 ** (dbfs / 20)


def hum(seconds: float, dbfs: float, hz: float) -> Sound:
    at = np.arange(int(seconds * RATE)) / RATE
    return np.asarray(np.sin(2 * np.pi * hz * at) * 32768 * 10 ** (dbfs / 20) * np.sqrt(2))


def words(*said: str) -> Sound:
    return np.frombuffer(speech(*said, line=PCM_16K), np.int16).astype(np.float64)


def detected(*sounds: Sound, line: bool = False) -> list[float]:
    """Probabilities, with the sound in frames of 20 ms."""
    pcm = np.clip(np.concatenate(sounds), -32768, 32767).astype(np.int16).tobytes()
    if line:
        pcm = Converter(MULAW_8K, PCM_16K).convert(Converter(PCM_16K, MULAW_8K).convert(pcm))
    detector: VoiceDetector = LevelDetector()
    return [one for at in range(0, len(pcm), 640) for one in detector.probabilities(pcm[at : at + 640])]


@pytest.mark.parametrize("dbfs", [-120, -70, -60, -50, -45])
def test_steady_noise_is_no_voice_from_the_first_window_on(dbfs: float) -> None:
    assert max(detected(noise(8, dbfs))) < 0.35


@pytest.mark.parametrize("hz", [50, 100, 180])
def test_the_hum_of_the_mains_is_no_voice_even_when_it_is_loud(hz: float) -> None:
    windows = detected(hum(4, -25, hz) + noise(4, -60))
    assert sum(one > 0.5 for one in windows) == 0


def test_a_tone_that_stays_is_no_voice_any_more_after_two_seconds() -> None:
    windows = detected(noise(3, -60), hum(5, -25, 1000) + noise(5, -60))
    voiced = [at * 0.032 for at, one in enumerate(windows) if one > 0.5]
    assert voiced
    assert max(voiced) < 3 + 2.3


@pytest.mark.parametrize("floor", [-90, -60, -50])
@pytest.mark.parametrize("line", [False, True])
def test_words_stand_out_of_the_noise_and_begin_and_end_where_they_are(floor: float, *, line: bool) -> None:
    said = words("alpha", "golf", "papa")
    sound = np.concatenate([np.zeros(2 * RATE), said, np.zeros(RATE)])
    sound += noise(len(sound) / RATE + 0.001, floor)[: len(sound)]
    gate = VoiceGate(VoiceGateConfig(lag_ms=LevelDetector.lag_ms, tail_ms=LevelDetector.tail_ms))
    found = []
    for at, probability in enumerate(detected(sound, line=line)):
        if event := gate.push(probability, LevelDetector.window_ms):
            end_ms = (at + 1) * LevelDetector.window_ms
            found.append((type(event), end_ms - getattr(event, "began_ms_ago", 0) - getattr(event, "ended_ms_ago", 0)))
    assert [kind for kind, _ in found] == [VoiceStarted, VoicePaused]
    assert found[0][1] == pytest.approx(2000, abs=60)
    assert found[1][1] == pytest.approx(2000 + len(said) / 16 - 80, abs=60)


def test_a_caller_who_speaks_from_the_first_moment_is_heard() -> None:
    windows = detected(words("alpha", "golf", "papa"))
    assert sum(one > 0.5 for one in windows) >= 12


def test_a_call_from_the_street_is_followed_up_and_down() -> None:
    loud = noise(6, -35)
    windows = detected(noise(4, -60), loud, noise(6, -60), words("alpha"))
    in_the_noise = windows[int(7 / 0.032) : int(10 / 0.032)]
    assert max(in_the_noise) < 0.5
    assert max(windows[-8:]) > 0.9, "after the noise a voice is found again"


def test_it_costs_next_to_nothing() -> None:
    """A bound so wide that only something foolish (a loop in Python) breaks it: a frame takes some 15 µs."""
    detector, frame = LevelDetector(), noise(0.02, -30).astype(np.int16).tobytes()
    began = time.process_time()
    for _ in range(2000):
        detector.probabilities(frame)
    assert (time.process_time() - began) / 2000 < 300e-6
