"""The keys of a telephone as sound: what is pressed is heard again on every line, and speech presses nothing."""

from __future__ import annotations

import numpy as np
import pytest

from patter.audio.dtmf import HIGH, LOW, KeyDetector, tones
from patter.audio.format import ALAW_8K, MULAW_8K, PCM_16K, PCM_48K, AudioFormat
from patter.audio.g711 import mulaw_decode

EVERY_KEY = "0123456789*#ABCD"
LINES = [MULAW_8K, ALAW_8K, PCM_16K, PCM_48K]


def heard(sound: bytes, audio: AudioFormat, piece_ms: float = 20.0) -> str:
    """The keys that a detector hears when the sound comes in pieces."""
    detector, size = KeyDetector(audio), audio.bytes_for(piece_ms)
    return "".join(detector.hear(sound[at : at + size]) for at in range(0, len(sound), size))


@pytest.mark.parametrize("audio", LINES, ids=str)
def test_every_key_is_heard_once_in_its_order(audio: AudioFormat) -> None:
    assert heard(tones(EVERY_KEY, audio), audio) == EVERY_KEY


@pytest.mark.parametrize("offset_ms", range(0, 25, 3))
def test_the_same_key_twice_is_two_keys_wherever_the_blocks_lie(offset_ms: int) -> None:
    assert heard(MULAW_8K.quiet(offset_ms) + tones("55#00", MULAW_8K), MULAW_8K, 7.0) == "55#00"


def test_a_key_takes_a_fifth_of_a_second_and_pauses_are_silence() -> None:
    assert len(tones("1", MULAW_8K)) == 1600
    pause = tones("w", MULAW_8K)
    assert pause == b"\xff" * 4000
    assert len(tones("W", PCM_16K)) == 32000
    assert heard(tones("1w2", MULAW_8K), MULAW_8K) == "12"


def test_a_tone_is_two_frequencies_of_telephone_loudness_and_does_not_click() -> None:
    samples = np.frombuffer(tones("6", PCM_16K), "<i2")[:1600].astype(float)
    spectrum = np.abs(np.fft.rfft(samples))
    peaks = sorted(np.argsort(spectrum)[-2:] * 10.0)
    assert peaks == [LOW[1] // 10 * 10, HIGH[2] // 10 * 10 + 10]
    assert 10_000 < np.abs(samples).max() < 16_000
    assert abs(samples[0]) < 100
    assert abs(samples[-1]) < 2000


@pytest.mark.parametrize(
    ("digits", "why"), [("", "no digits"), ("12x", "'x' is not a key"), ("1 2", "' ' is not a key")]
)
def test_what_is_no_key_cannot_be_pressed(digits: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        tones(digits, MULAW_8K)


def test_a_single_tone_noise_and_music_press_nothing() -> None:
    time = np.arange(16000) / 16000
    noise = np.random.default_rng(3).normal(size=16000) * 6000
    chord = 4000 * sum(np.sin(2 * np.pi * f * time) for f in (440, 554, 659, 880))
    for sound in (9000 * np.sin(2 * np.pi * 697 * time), 9000 * np.sin(2 * np.pi * 1336 * time), noise, chord):
        assert heard(sound.astype("<i2").tobytes(), PCM_16K) == ""


def test_tones_are_heard_through_the_noise_of_a_line() -> None:
    clean = np.frombuffer(mulaw_decode(tones("4711", MULAW_8K)), "<i2").astype(float)
    noisy = clean + np.random.default_rng(5).normal(size=clean.size) * 1000
    assert heard(noisy.astype("<i2").tobytes(), AudioFormat("pcm_s16le", 8000)) == "4711"


def test_a_faint_tone_is_an_echo() -> None:
    faint = (np.frombuffer(tones("5", PCM_16K), "<i2") / 100).astype("<i2").tobytes()
    assert heard(faint, PCM_16K) == ""
