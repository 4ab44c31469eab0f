"""The caller's sound on its way to the vendor: passed on or converted, and dated by its last loud frame."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable

import pytest

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_8K, PCM_16K, AudioChunk, AudioFormat
from patter.audio.g711 import alaw_decode, mulaw_decode
from patter.audio.level import FLOOR_DBFS, rms_dbfs
from patter.conversations.stored_agent_ear import AgentEar, level_dbfs
from patter.conversations.stored_agent_start import kind_of, language_of, refused_overrides
from patter.loopback.tones import as_line, tone
from patter.wire.elevenlabs_convai import Failure, Overrides

FRAME_MS = 20


def frames(sound: bytes, line: AudioFormat) -> list[AudioChunk]:
    size = line.bytes_for(FRAME_MS)
    return [AudioChunk(sound[at : at + size], line) for at in range(0, len(sound), size)]


def follow(ear: AgentEar, chunks: list[AudioChunk], begins: float) -> float:
    """Feed frames from `begins` on; returns when the next one would come."""
    for number, chunk in enumerate(chunks):
        ear.follow(chunk, begins + number * FRAME_MS / 1000)
    return begins + len(chunks) * FRAME_MS / 1000


def test_the_same_format_goes_on_as_it_came_without_being_spelt_again() -> None:
    ear, spelling = AgentEar(MULAW_8K, MULAW_8K), b64encode(b"\x10" * 160).decode()
    assert ear.payload(AudioChunk(b"\x10" * 160, MULAW_8K, spelling)) is spelling
    assert ear.payload(AudioChunk(b"\x10" * 160, MULAW_8K)) == spelling


def test_another_format_is_converted_even_if_the_frame_brings_its_spelling() -> None:
    ear = AgentEar(MULAW_8K, PCM_8K)
    assert len(b64decode(ear.payload(AudioChunk(b"\xff" * 160, MULAW_8K, "////")))) == 320


@pytest.mark.parametrize("line", [MULAW_8K, ALAW_8K, PCM_16K])
def test_the_last_loud_frame_dates_the_end_of_speech(line: AudioFormat) -> None:
    ear = AgentEar(line, MULAW_8K)
    spoken = follow(ear, frames(as_line(tone(200.0, 600.0), line), line), 100.0)
    follow(ear, frames(line.quiet(800), line), spoken)
    assert ear.loud_at == pytest.approx(spoken, abs=0.05)


@pytest.mark.parametrize(("line", "decode"), [(MULAW_8K, mulaw_decode), (ALAW_8K, alaw_decode)])
def test_the_level_of_g711_is_that_of_what_it_stands_for(line: AudioFormat, decode: Callable[[bytes], bytes]) -> None:
    ear, sound = AgentEar(line, line), as_line(tone(200.0, 20.0, 0.2), line)
    assert level_dbfs(sound, ear._powers) == pytest.approx(rms_dbfs(decode(sound)), abs=0.01)
    assert level_dbfs(b"", ear._powers) == FLOOR_DBFS


def test_a_click_is_no_voice() -> None:
    ear = AgentEar(MULAW_8K, MULAW_8K)
    follow(ear, frames(MULAW_8K.quiet(200) + as_line(tone(200.0, 20.0), MULAW_8K) + MULAW_8K.quiet(200), MULAW_8K), 1.0)
    assert ear.loud_at == 0.0


def test_the_noise_of_a_line_is_learnt() -> None:
    ear = AgentEar(PCM_16K, PCM_16K)
    hum = frames(as_line(tone(120.0, 30_000.0, 0.008), PCM_16K), PCM_16K)  # about -45 dBFS
    quiet = follow(ear, hum, 1.0)
    assert ear.loud_at < quiet - 10
    spoken = follow(ear, frames(as_line(tone(200.0, 400.0, 0.1), PCM_16K), PCM_16K), quiet)
    follow(ear, hum[:100], spoken)
    assert ear.loud_at == pytest.approx(spoken, abs=0.1)


@pytest.mark.parametrize(("tag", "language"), [("de-AT", "de"), ("pt-BR", "pt-br"), ("pt-PT", "pt"), ("EN", "en")])
def test_languages_are_written_as_the_vendor_does(tag: str, language: str) -> None:
    assert language_of(tag) == language


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure(1008, "override_error", "anything"), "override_error"),
        (Failure(1008, "", "Override for field 'first_message' is not allowed by config."), "override_error"),
        (Failure(1008, "", "Missing required dynamic variables in tools: {'x'}"), "missing_dynamic_variable"),
        (Failure(1008, "missing_dynamic_variable_transfer", ""), "missing_dynamic_variable"),
        (Failure(1002, "", "llm_timeout"), "llm_timeout"),
        (Failure(1011, "unknown", "boom"), ""),
    ],
)
def test_the_vendors_reasons_are_recognised_by_word_or_sentence(failure: Failure, kind: str) -> None:
    assert kind_of(failure) == kind


def test_the_override_that_a_sentence_names_is_found_among_those_that_were_sent() -> None:
    sent = Overrides("p", "f", None, "v")
    assert refused_overrides(Failure(1008, "", "Override for field 'voice_id' is not allowed"), sent) == ("voice_id",)
    assert refused_overrides(Failure(1008, "", "Overrides are not allowed"), sent) == (
        "prompt",
        "first_message",
        "voice_id",
    )
