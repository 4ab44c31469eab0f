"""The embedded engines themselves, each with real sound."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import anyio
import numpy as np
import pytest

from patter.audio.convert import Converter
from patter.audio.format import MULAW_8K, PCM_16K, PCM_24K
from patter.audio.vad import VoiceGate, VoiceGateConfig, VoicePaused, VoiceStarted
from patter.exceptions import ProviderError
from patter.ports import Synthesizer, TurnModel, VoiceDetector
from patter.providers.embedded.hibari import HibariSynthesizer, clauses, voice_missing
from patter.providers.embedded.mel import to_samples
from patter.providers.embedded.silero import SileroDetector, detector_missing
from patter.providers.embedded.smart_turn import SmartTurn
from patter.providers.embedded.whisper_model import NoLongerWanted, WhisperModel, loop, recognition_missing, segments

SENTENCE = "I would like to book an appointment for next Tuesday afternoon."


def test_looking_for_engines_loads_none_of_them() -> None:
    code = (
        "import sys, json\n"
        "from patter.providers.embedded import hibari, silero, whisper, whisper_model, smart_turn\n"
        "hibari.voice_missing(), silero.detector_missing(), whisper_model.recognition_missing()\n"
        "print(json.dumps([name for name in ('onnxruntime', 'ctranslate2', 'hibari') if name in sys.modules]))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == []


def test_where_nothing_is_installed_every_engine_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "modules", {name: module for name, module in sys.modules.items() if "." not in name
                                         and name not in ("onnxruntime", "ctranslate2", "hibari")})  # fmt: skip
    for gap in (voice_missing(), detector_missing(), recognition_missing()):
        assert "pip install" in gap
        assert gap.endswith(".")


def test_a_long_text_gives_its_first_clause_away_early() -> None:
    text = "Yes, of course, I can move it to Wednesday at three, and I will send you a message. Is that fine with you?"
    first, *rest = clauses(text)
    assert first == "Yes, of course,"
    assert " ".join([first, *rest]) == text
    assert all(len(piece.split()) >= 3 for piece in rest)
    assert clauses("One short sentence, with a comma.") == ["One short sentence, with a comma."]
    assert clauses("") == []
    assert clauses("word " * 30) == ["word " * 30]


def test_a_loop_is_found_where_the_tokens_begin_again() -> None:
    assert loop([1, 2, 3, 4, 5, 1, 2, 3]) == 5
    assert loop([1, 2, 3, 4] * 3) == 4
    assert loop([7, 7, 7]) == 3
    assert loop([1, 2, 3, 4, 5, 6]) == 6


def test_long_speech_is_cut_where_it_is_quiet() -> None:
    speech = np.full(40 * 16000, 0.5, np.float32)
    speech[20 * 16000 : 20 * 16000 + 3200] = 0.0
    first, second = segments(speech)
    assert len(first) / 16000 == pytest.approx(20.1, abs=0.11)
    assert len(first) + len(second) == len(speech)


async def say(text: str, line: bool = True) -> bytes:
    """`text` by the embedded voice as PCM 16 kHz, through the phone line, with half a second of silence around."""
    voice: Synthesizer = HibariSynthesizer()
    there, back = Converter(PCM_24K, MULAW_8K), Converter(MULAW_8K, PCM_16K)
    pcm = PCM_24K.quiet(500)
    async for chunk in voice.synthesize(text):
        assert chunk.format == PCM_24K
        assert 0 < chunk.ms <= 200
        pcm += chunk.data
    return back.convert(there.convert(pcm + PCM_24K.quiet(500)))


@pytest.mark.local
@pytest.mark.anyio
async def test_what_is_said_on_the_phone_line_is_understood() -> None:
    model = WhisperModel()
    model.load()
    assert model.name == "whisper-base"
    text = await anyio.to_thread.run_sync(model.transcribe, to_samples(await say(SENTENCE)))
    assert text == SENTENCE
    assert model.transcribe(np.zeros(16000, np.float32)) == ""
    with pytest.raises(NoLongerWanted):
        model.transcribe(np.zeros(16000, np.float32), wanted=lambda: False)
    noise = np.random.default_rng(0).standard_normal(24000).astype(np.float32)
    assert model.transcribe(noise * np.float32(0.01)) == ""


@pytest.mark.local
@pytest.mark.anyio
async def test_voice_is_detected_where_it_is() -> None:
    detector: VoiceDetector = SileroDetector()
    speech = await say(SENTENCE)
    gate = VoiceGate(VoiceGateConfig(lag_ms=detector.lag_ms, tail_ms=detector.tail_ms))
    told = []
    for start in range(0, len(speech), 640):
        for probability in detector.probabilities(speech[start : start + 640]):
            event = gate.push(probability, detector.window_ms)
            told += [(event, (start + 640) / 32)] if event else []
    (started, start_ms), (paused, pause_ms) = told[0], told[-1]
    assert isinstance(started, VoiceStarted)
    assert isinstance(paused, VoicePaused)
    loud = np.flatnonzero(np.abs(to_samples(speech)) > 0.02) / 16
    assert start_ms - started.began_ms_ago == pytest.approx(loud[0], abs=80)
    assert pause_ms - paused.ended_ms_ago == pytest.approx(loud[-1], abs=80)
    assert pause_ms - loud[-1] < 330
    assert max(SileroDetector().probabilities(bytes(32000))) < 0.3


@pytest.mark.local
@pytest.mark.anyio
async def test_the_turn_model_answers_with_a_likelihood() -> None:
    model: TurnModel = SmartTurn()
    assert await model.complete((await say("My name is Sarah Johnson."))[:-8000]) > 0.5
    assert 0.0 <= await model.complete(b"") <= 1.0


@pytest.mark.local
@pytest.mark.anyio
async def test_text_without_words_has_no_sound() -> None:
    voice = HibariSynthesizer()
    assert [chunk async for chunk in voice.synthesize("🎉")] == []
    assert [chunk async for chunk in voice.synthesize("")] == []


@pytest.mark.local
@pytest.mark.anyio
async def test_an_unknown_voice_names_those_there_are() -> None:
    with pytest.raises(ProviderError, match=r"no voice 'alloy'.*heart"):
        await HibariSynthesizer("alloy").start()


@pytest.mark.local
def test_a_damaged_model_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"nonsense")
    (tmp_path / "vocabulary.json").write_text("[]")
    with pytest.raises(ProviderError, match="cannot be loaded"):
        WhisperModel(str(tmp_path)).load()
