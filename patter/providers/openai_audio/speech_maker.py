"""Makes the OpenAI voice that an agent's settings ask for.

It owns which setting comes from where; it refuses to connect.
"""

from __future__ import annotations

from patter.models import TTSConfig
from patter.providers.bench import Bench
from patter.providers.openai_audio.place import Place
from patter.providers.openai_audio.speech import OpenAISpeech


def make(config: TTSConfig, bench: Bench) -> OpenAISpeech:
    """The Synthesizer for `config`. Raises ValueError for settings that cannot be used."""
    if config.streaming not in ("", "http"):
        raise ValueError(f"this voice comes by HTTP only: streaming cannot be {config.streaming!r}")
    base_url, key = config.base_url or bench.base_url, config.api_key or bench.key
    place = Place.of(base_url, key, "the api_key of the tts settings", bench.vendor_url)
    return OpenAISpeech(
        bench.http,
        bench.clock,
        key=place.key,
        base=place.root,
        vendor=place.vendor,
        model=config.model,
        voice=config.voice,
        options=config.options,
    )
