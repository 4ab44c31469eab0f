"""Makes the OpenAI voice that an agent's settings ask for.

It owns which setting comes from where; it refuses to connect.
"""

from __future__ import annotations

from patter.models import TTSConfig
from patter.providers.address import checked_base
from patter.providers.bench import Bench
from patter.providers.openai_audio.speech import BASE, OpenAISpeech


def make(config: TTSConfig, bench: Bench) -> OpenAISpeech:
    """The Synthesizer for `config`. Raises ValueError for settings that cannot be used."""
    if config.streaming not in ("", "http"):
        raise ValueError(f"this voice comes by HTTP only: streaming cannot be {config.streaming!r}")
    base = config.base_url or bench.base_url
    return OpenAISpeech(
        bench.http,
        bench.clock,
        key=config.api_key or bench.key,
        base=checked_base(base, "base_url") if base else BASE,
        model=config.model,
        voice=config.voice,
        options=config.options,
    )
