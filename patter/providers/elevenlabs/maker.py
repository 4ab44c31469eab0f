"""Makes the voice that an agent's settings ask for, by WebSocket or by HTTP, in the format of its line.

It owns the choice between the two; it refuses to connect.

By WebSocket unless the model has none: over warm connections both give the first sound after one message each way, but an
interruption closes a request's connection, which the next sentence must open anew, while a socket stays as it is.
"""

from __future__ import annotations

from patter.models import TTSConfig
from patter.providers.bench import Bench
from patter.providers.elevenlabs.account import base_of
from patter.providers.elevenlabs.http_voice import ElevenLabsHttpVoice
from patter.providers.elevenlabs.socket_voice import ElevenLabsSocketVoice
from patter.providers.elevenlabs.speaker import Speaker
from patter.wire.elevenlabs_tts import DEFAULT_MODEL, format_for, has_socket

WAYS = ("", "websocket", "http")


def make(config: TTSConfig, bench: Bench) -> ElevenLabsHttpVoice | ElevenLabsSocketVoice:
    """The Synthesizer for `config`. Raises ValueError for settings that cannot be used."""
    if config.streaming not in WAYS:
        raise ValueError(f'streaming must be "websocket" or "http", not {config.streaming!r}')
    model = config.model or DEFAULT_MODEL
    speaker = Speaker(
        http=bench.http,
        key=config.api_key or bench.key,
        base=base_of(config.base_url or bench.base_url),
        voice=config.voice,
        model=model,
        format=format_for(bench.plays),
        language=bench.language,
        options=dict(config.options),
    )
    if config.streaming == "http":
        return ElevenLabsHttpVoice(speaker, bench.clock)
    if not has_socket(model):
        if config.streaming:
            bench.note(f"{model} has no WebSocket: its voice comes by HTTP.")
        return ElevenLabsHttpVoice(speaker, bench.clock)
    return ElevenLabsSocketVoice(speaker, bench.dialer, bench.clock, bench.tasks)
