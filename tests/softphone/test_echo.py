"""What reaches the line of the agent's own voice, with a canceller and without."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import soxr

from patter.audio.level import rms_dbfs
from patter.providers.embedded.silero import SileroDetector
from patter.softphone.device import LOUD_DBFS
from patter.softphone.echo import BLOCK_MS, CONVERGED_MS, HOLD_MS, LEAK_MS, EchoGuard

BLOCK = 320
RATE = 16_000


def blocks(sound: npt.NDArray[np.int16]) -> list[bytes]:
    return [sound[at : at + BLOCK].tobytes() for at in range(0, len(sound) - BLOCK + 1, BLOCK)]


@pytest.fixture(scope="module")
def agent_voice() -> npt.NDArray[np.float64]:
    """The embedded voice, as an agent uses it, 16 kHz at about −20 dBFS."""
    hibari = pytest.importorskip("hibari")
    spoken = hibari.Hibari()(
        "Thank you for calling Riverside Dental. We are open Monday to Friday, from eight until five. "
        "Would you like to book an appointment for a cleaning, or do you have a question about your last visit?"
    )
    return loud(soxr.resample(np.asarray(spoken, np.float64).ravel(), 24_000, RATE))


@pytest.fixture(scope="module")
def caller_voice() -> npt.NDArray[np.float64]:
    """The same voice with other words."""
    hibari = pytest.importorskip("hibari")
    spoken = hibari.Hibari()("No, wait a moment please, I need to ask my husband first.")
    return loud(soxr.resample(np.asarray(spoken, np.float64).ravel(), 24_000, RATE))


def loud(sound: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(sound / np.sqrt(np.mean(sound**2)) * 0.1)


def room(far: npt.NDArray[np.float64], delay_ms: float = 80.0, level_db: float = -12.0) -> npt.NDArray[np.float64]:
    """The speaker as the microphone hears it: late, quieter, with a decaying tail of 120 ms."""
    random = np.random.default_rng(7)
    tail = random.standard_normal(int(0.12 * RATE)) * np.exp(-np.arange(int(0.12 * RATE)) / (0.03 * RATE))
    tail[0] = 4.0
    answer = np.concatenate([np.zeros(int(delay_ms * RATE / 1000)), tail])
    echo = np.convolve(far, answer)[: len(far)]
    return echo * (10 ** (level_db / 20) * np.sqrt(np.mean(far**2)) / np.sqrt(np.mean(echo**2)))


def int16(sound: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    return np.asarray(np.clip(sound, -1, 1) * 32767, np.int16)


def test_switched_off_nothing_is_touched() -> None:
    loud = b"\x10\x20" * BLOCK
    assert EchoGuard().clean(loud, loud) is loud


def test_half_duplex_closes_the_microphone_while_the_speaker_plays_and_a_little_longer() -> None:
    guard = EchoGuard(state="half-duplex")
    voice, quiet = int16(np.sin(np.arange(BLOCK) / 5) * 0.1).tobytes(), bytes(BLOCK * 2)
    assert guard.clean(voice, quiet) == voice
    assert guard.clean(voice, voice) == quiet
    opened = [guard.clean(voice, quiet) == voice for _ in range(20)]
    assert opened.index(True) == pytest.approx(HOLD_MS / BLOCK_MS, abs=1)
    assert all(opened[opened.index(True) :])
    assert guard.state == "half-duplex"


def cleaned(near: npt.NDArray[np.float64], far: npt.NDArray[np.float64]) -> bytes:
    guard = EchoGuard.best()
    assert guard.state == "on"
    return b"".join(
        guard.clean(mine, theirs) for mine, theirs in zip(blocks(int16(near)), blocks(int16(far)), strict=True)
    )


@pytest.mark.local
@pytest.mark.parametrize("delay_ms", [40.0, 80.0, 150.0])
def test_an_echo_12_db_down_stays_below_speech_from_the_first_word(
    agent_voice: npt.NDArray[np.float64], delay_ms: float
) -> None:
    pytest.importorskip("pywebrtc_audio")
    echo = room(agent_voice, delay_ms)
    out = cleaned(echo, agent_voice)
    levels = [rms_dbfs(out[at : at + 640]) for at in range(0, len(out), 640)]
    assert max(rms_dbfs(block) for block in blocks(int16(echo))) > -33
    assert max(levels) < LOUD_DBFS
    assert max(SileroDetector().probabilities(out)) < 0.5


@pytest.mark.local
def test_the_callers_own_words_come_through_while_the_agent_speaks(
    agent_voice: npt.NDArray[np.float64], caller_voice: npt.NDArray[np.float64]
) -> None:
    pytest.importorskip("pywebrtc_audio")
    words = np.zeros(len(agent_voice))
    words[5 * RATE : 5 * RATE + len(caller_voice)] = caller_voice[: len(words) - 5 * RATE]
    spoken = slice(2 * 5 * RATE, 2 * (5 * RATE + len(caller_voice)))
    out = cleaned(room(agent_voice) + words, agent_voice)
    assert rms_dbfs(out[spoken]) > rms_dbfs(int16(words).tobytes()[spoken]) - 12
    assert max(SileroDetector().probabilities(out[spoken])) > 0.8


@pytest.mark.local
def test_what_is_said_in_silence_is_not_touched_by_the_gate(caller_voice: npt.NDArray[np.float64]) -> None:
    pytest.importorskip("pywebrtc_audio")
    out = cleaned(caller_voice, np.zeros(len(caller_voice)))
    assert rms_dbfs(out) > rms_dbfs(int16(caller_voice).tobytes()) - 3


class LostCanceller:
    """Knows the room perfectly until it is lost; then everything comes through."""

    lost = False

    def process(self, near: npt.NDArray[np.int16], far: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        return near if self.lost else np.zeros_like(near)


def tone(dbfs: float) -> bytes:
    return int16(np.sin(np.arange(BLOCK) / 5) * 10 ** (dbfs / 20) * np.sqrt(2)).tobytes()


def converged() -> tuple[EchoGuard, LostCanceller]:
    """A guard that has learnt a room in which the speaker comes back 12 dB softer."""
    canceller = LostCanceller()
    guard = EchoGuard(canceller=canceller)
    for _ in range(int(CONVERGED_MS / BLOCK_MS)):
        assert not any(guard.clean(tone(-32), tone(-20)))
    canceller.lost = True
    return guard, canceller


def test_an_echo_that_slips_through_after_a_stall_of_the_sound_card_is_held_back() -> None:
    guard, canceller = converged()
    for _ in range(3):
        assert not any(any(guard.clean(tone(-33), tone(-20))) for _ in range(int(LEAK_MS / BLOCK_MS)))
        canceller.lost = False
        for _ in range(50):
            guard.clean(tone(-33), tone(-20))
        canceller.lost = True


def test_a_caller_louder_than_the_echo_is_let_through_at_once_and_a_soft_one_soon() -> None:
    guard, _ = converged()
    assert guard.clean(tone(-28), tone(-20)) == tone(-28)
    heard = [any(guard.clean(tone(-33), tone(-20))) for _ in range(50)]
    assert heard.index(True) == int(LEAK_MS / BLOCK_MS)
    assert all(heard[heard.index(True) :])
