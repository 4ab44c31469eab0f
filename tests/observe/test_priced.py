"""Everything that is used by default, or in place of a name that is gone, has a price; so has a sentence that was cut off."""

from __future__ import annotations

from datetime import date

import pytest

from patter.conversations.realtime import TRANSCRIBES
from patter.conversations.stored_agent import MODEL as STORED_AGENT
from patter.models import Agent, STTConfig
from patter.observe.cost import Prices
from patter.providers import openai_chat, retired
from patter.providers.deepgram import maker as deepgram
from patter.providers.openai_audio import transcription_maker
from patter.providers.openai_audio.transcription import amounts
from patter.wire import elevenlabs_tts, openai_speech
from patter.wire.openai_transcription import Usage

CHAT = ("input_tokens", "cached_tokens", "output_tokens")
LIVE = tuple(f"{kind}_{what}_tokens" for kind in ("input", "cached", "output") for what in ("text", "audio"))
TODAY = date(2026, 11, 22)


def heard(model: str) -> set[str]:
    """What may be counted of a transcript: by tokens, and by time where the vendor did not say."""
    return {*amounts(model, Usage(0, 5, 5), 3.0), *amounts(model, None, 3.0)}


def told(model: str) -> tuple[str, set[str]]:
    """(stage, amounts) of an OpenAI model."""
    if "transcribe" in model or "whisper" in model:
        return "stt", heard(model)
    return "llm", set(LIVE if "realtime" in model else CHAT)


DEFAULTS = [
    ("openai", openai_chat.DEFAULT_MODEL, *told(openai_chat.DEFAULT_MODEL)),
    ("openai", transcription_maker.DEFAULT_MODEL, *told(transcription_maker.DEFAULT_MODEL)),
    ("openai", openai_speech.DEFAULT_MODEL, "tts", {"input_tokens", "output_tokens", "characters"}),
    ("openai", retired.living(Agent.model, TODAY)[0], "llm", set(LIVE)),
    *(("openai", model, *told(model)) for model in TRANSCRIBES.values()),
    ("elevenlabs", elevenlabs_tts.DEFAULT_MODEL, "tts", {"characters"}),
    ("elevenlabs", STORED_AGENT, "llm", {"seconds"}),
    *(("openai", row.successor, *told(row.successor)) for row in retired.TABLE.values() if row.successor),
]


@pytest.mark.parametrize("used", DEFAULTS, ids=lambda used: f"{used[0]}-{used[1]}")
def test_what_is_used_by_default_has_a_price(used: tuple[str, str, str, set[str]]) -> None:
    provider, model, stage, counted = used
    prices = Prices.load()
    assert [amount for amount in sorted(counted) if prices.row(provider, stage, model, amount) is None] == []


@pytest.mark.parametrize(
    ("model", "language", "called"),
    [
        (deepgram.DEFAULT_MODEL, "de", "nova-3"),
        ("nova-3-general", "multi", "nova-3-multilingual"),
        ("nova-2-phonecall", "en", "nova-2"),
        ("nova-2-general", "multi", "nova-2"),
        ("enhanced-phonecall", "en", "enhanced"),
        ("base-general", "en", "base"),
        ("flux-general-multi", "de", "flux-general-multi"),
    ],
)
def test_deepgrams_models_are_priced_by_their_family(model: str, language: str, called: str) -> None:
    assert deepgram.price_model(STTConfig("deepgram", "k", language, model=model)) == called
    assert deepgram.price_model(STTConfig("deepgram", "k", model=model, options={"language": language})) == called
    assert Prices.load().row("deepgram", "stt", called, "audio_seconds") is not None
