"""Whose server speaks OpenAI's audio protocols: its name, its prices, and which of its models have ended."""

from __future__ import annotations

from datetime import date

import aiohttp
import pytest

from patter.clock import Clock
from patter.models import STTConfig, TTSConfig
from patter.observe.cost import Prices
from patter.providers import retired
from patter.providers.bench import Bench
from patter.providers.dialer import Dialer
from patter.providers.openai_audio import speech_maker, transcription_maker
from patter.providers.openai_audio.place import Place

pytestmark = pytest.mark.anyio
PROXY, LOCAL, OTHER = "https://proxy.example/v1", "http://127.0.0.1:9/v1", "https://speech.example/v1"


@pytest.mark.parametrize(
    ("base_url", "called"),
    [("", "openai"), ("https://api.openai.com/v1", "openai"), (PROXY, "openai"), (LOCAL, "local"),
     (OTHER, "speech.example")],
)  # fmt: skip
async def test_both_stages_call_a_server_by_the_same_name(
    http: aiohttp.ClientSession, base_url: str, called: str
) -> None:
    bench = Bench(http, Dialer(http), Clock(), "k", vendor_url=PROXY)
    stt = transcription_maker.make(STTConfig("whisper", "", base_url=base_url), bench)
    tts = speech_maker.make(TTSConfig("openai", "", base_url=base_url), bench)
    assert (stt.name, tts.name) == (called, called)


def test_a_voice_of_this_machine_costs_nothing() -> None:
    assert Prices.load().cost("tts", "local", "kokoro", {"characters": 100.0}) == (0.0, True)


def test_only_openais_own_models_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(retired.TABLE, "whisper-1", retired.Retired(date(2026, 1, 1), "gpt-transcribe", "a test"))
    assert Place.of("", "k", "a setting").living("whisper-1")[0] == "gpt-transcribe"
    assert Place.of(PROXY, "k", "a setting", PROXY).living("whisper-1")[0] == "gpt-transcribe"
    assert Place.of(LOCAL, "k", "a setting").living("whisper-1") == ("whisper-1", "")
