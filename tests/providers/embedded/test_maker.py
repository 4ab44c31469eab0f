"""The makers of the embedded engines: what is shared by calls, and what is said where the extra is missing."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.models import STTConfig, TTSConfig
from patter.providers.bench import Bench
from patter.providers.dialer import Dialer
from patter.providers.embedded.hibari import DEFAULT_VOICE
from patter.providers.embedded.maker import WHISPER, make_synthesizer, make_transcriber
from patter.providers.embedded.whisper_model import WhisperModel
from patter.registry import maker_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with aiohttp.ClientSession() as http:
        yield Bench(http, Dialer(http), Clock())


@pytest.mark.local
async def test_calls_share_one_model_and_one_engine_a_voice(bench: Bench) -> None:
    ears = [make_transcriber(STTConfig("embedded", ""), bench) for _ in range(2)]
    assert ears[0] is not ears[1]
    assert [key for key in bench.shared if key.startswith(WHISPER)] == [WHISPER]
    first = make_synthesizer(TTSConfig("embedded", ""), bench)
    assert make_synthesizer(TTSConfig("embedded", "", "alloy"), bench) is first
    assert first.voice == DEFAULT_VOICE, "the default of the settings is another vendor's voice"
    assert make_synthesizer(TTSConfig("embedded", "", "bella"), bench) is not first


async def test_a_model_that_is_there_already_is_used(bench: Bench) -> None:
    model = WhisperModel("somewhere")
    bench.shared[WHISPER] = model
    assert make_transcriber(STTConfig("embedded", ""), bench).model == model.name


async def test_a_missing_extra_is_said_with_how_to_get_it(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makers = [
        (maker_of("stt", "embedded"), STTConfig("embedded", ""), "stt"),
        (maker_of("tts", "embedded"), TTSConfig("embedded", ""), "tts"),
    ]
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    gone = ("onnxruntime", "ctranslate2", "hibari")
    monkeypatch.setattr(sys, "modules", {name: module for name, module in sys.modules.items() if name not in gone})
    for make, config, stage in makers:
        with pytest.raises(ProviderError) as caught:
            make(config, bench)
        assert caught.value.stage == stage
        assert str(caught.value).count("pip install") == 1
    assert not bench.shared


async def test_a_directory_without_a_model_is_named(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"model\.bin"):
        make_transcriber(STTConfig("embedded", "", model=str(tmp_path)), bench)
