"""Makes the embedded engines' parts of a call. Models and voices are loaded once and shared by all calls.

It owns what is shared and under which key; it refuses to load anything before it is used.
"""

from __future__ import annotations

from patter.exceptions import ProviderError
from patter.models import STTConfig, TTSConfig
from patter.providers.bench import Bench
from patter.providers.embedded.hibari import HibariSynthesizer, voice_missing
from patter.providers.embedded.onnx import INSTALL
from patter.providers.embedded.whisper import WhisperTranscriber
from patter.providers.embedded.whisper_model import WhisperModel, recognition_missing

WHISPER = "whisper"
"""The key of the shared recognition model; one of another directory has ":" and the directory behind it."""

VOICE = "hibari:"
"""How the keys of the shared voices begin; the voice's name follows."""


def make_transcriber(config: STTConfig, bench: Bench) -> WhisperTranscriber:
    """One call's ears on the shared model. `config.model` is another model's directory. Raises ProviderError."""
    key = f"{WHISPER}:{config.model}" if config.model else WHISPER
    if key not in bench.shared:
        _check(recognition_missing(config.model), "whisper", "stt")
        bench.shared[key] = WhisperModel(config.model)
    model = bench.shared[key]
    assert isinstance(model, WhisperModel), f"{key} in the shared things is somebody else's"
    return WhisperTranscriber(model, bench.clock, config.language or bench.language)


def make_synthesizer(config: TTSConfig, bench: Bench) -> HibariSynthesizer:
    """The voice that all calls share. Raises ProviderError where it is not installed."""
    voice = "" if config.voice == TTSConfig.voice else config.voice  # the API's default voice is another vendor's
    key = f"{VOICE}{voice}"
    if key not in bench.shared:
        _check(voice_missing(), "hibari", "tts")
        bench.shared[key] = HibariSynthesizer(voice)
    made = bench.shared[key]
    assert isinstance(made, HibariSynthesizer), f"{key} in the shared things is somebody else's"
    return made


def _check(gap: str, provider: str, stage: str) -> None:
    if gap:
        problem, _, fix = gap.rstrip(".").partition(f": {INSTALL}")
        raise ProviderError(problem, provider=provider, stage=stage, fix=f"{INSTALL}{fix}" if INSTALL in gap else "")
