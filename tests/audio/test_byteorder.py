"""Which way round samples are, told from the sound."""

from __future__ import annotations

import numpy as np
import pytest

from patter.audio.byteorder import OrderProbe, swapped

TIME = np.arange(320) / 16000
SOUNDS = {
    "a voice": 3000 * np.sin(2 * np.pi * 180 * TIME) + 900 * np.sin(2 * np.pi * 2300 * TIME),
    "a loud voice": 30000 * np.sin(2 * np.pi * 300 * TIME),
    "a hissing s": 4000 * np.sin(2 * np.pi * 5200 * TIME),
    "the noise of a quiet line": np.random.default_rng(1).normal(size=320) * 3,
    "an offset and nothing else": np.full(320, 8.0),
}


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("name", SOUNDS)
def test_one_frame_of_any_sound_settles_it(name: str, order: str) -> None:
    probe = OrderProbe()
    probe.hear(SOUNDS[name].astype("<i2" if order == "little" else ">i2").tobytes())
    assert probe.order == order


def test_silence_and_noise_of_full_loudness_settle_nothing_until_a_voice_does() -> None:
    probe = OrderProbe()
    noise = np.random.default_rng(2).integers(-32768, 32767, 320).astype(">i2").tobytes()
    for sound in (bytes(640), b"", noise):
        probe.hear(sound)
        assert probe.order is None
    for _ in range(20):
        probe.hear(SOUNDS["a voice"].astype(">i2").tobytes())
    assert probe.order == "big"


def test_the_verdict_stands() -> None:
    probe = OrderProbe()
    probe.hear(SOUNDS["a voice"].astype("<i2").tobytes())
    for _ in range(50):
        probe.hear(SOUNDS["a loud voice"].astype(">i2").tobytes())
    assert probe.order == "little"


def test_swapping_twice_gives_the_sound_back() -> None:
    assert swapped(b"\x01\x02\x03\x04") == b"\x02\x01\x04\x03"
    assert swapped(swapped(bytes(range(100)))) == bytes(range(100))
    with pytest.raises(ValueError):
        swapped(b"\x01\x02\x03")
