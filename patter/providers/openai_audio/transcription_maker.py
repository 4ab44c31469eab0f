"""Makes speech-to-text by OpenAI's models: by utterance, or live over a socket, as the model and the settings want it.

It owns that choice and the default model; it refuses to listen.
"""

from __future__ import annotations

from patter.models import STTConfig
from patter.ports import StreamingTranscriber, Transcriber
from patter.providers import openai_account
from patter.providers.bench import Bench
from patter.providers.openai_audio.live_session import target
from patter.providers.openai_audio.live_transcription import OWN_OPTIONS, LiveTranscriber
from patter.providers.openai_audio.live_utterances import LiveUtteranceTranscriber
from patter.providers.openai_audio.place import Place
from patter.providers.openai_audio.transcription import OpenAITranscriber
from patter.wire.openai_live_transcription import hears_by_itself
from patter.wire.openai_transcription import Request

DEFAULT_MODEL = "gpt-transcribe"  # OpenAI's named replacement for the models that end in February 2027


def make(config: STTConfig, bench: Bench) -> Transcriber | StreamingTranscriber:
    """Speech-to-text for one call. Raises ValueError for an address or options that cannot be used.

    The models for live sound (gpt-live-transcribe, gpt-realtime-whisper) always listen over a socket, and are told where
    utterances end. The others take an utterance at a time, or with `options={"realtime": True}` every frame over a socket,
    where the vendor finds voice and pauses ("turn_detection": "server_vad" or "semantic_vad")."""
    place = _place(config, bench)
    model, note = place.living(config.model or DEFAULT_MODEL)
    if note:
        bench.note(note)
    options = {name: value for name, value in config.options.items() if name != "realtime"}
    request = Request(model, config.language or bench.language, config.keyterms, options)
    if not hears_by_itself(model):
        return LiveUtteranceTranscriber(bench.dialer, bench.clock, place, request)
    if config.options.get("realtime"):
        return LiveTranscriber(bench.dialer, bench.clock, place, request, bench.turn_taking)
    if unknown := [name for name in options if name in OWN_OPTIONS]:
        raise ValueError(f"options[{unknown[0]!r}] needs options['realtime'] = True")
    return OpenAITranscriber(bench.http, bench.clock, place, request)


async def vouch(config: STTConfig, bench: Bench) -> None:
    """Raise ProviderError for a key or a model that the vendor does not know."""
    place = _place(config, bench)
    model, _ = place.living(config.model or DEFAULT_MODEL)
    await openai_account.vouch(bench.http, place.key, place.root, model, "stt")


async def warm(config: STTConfig, bench: Bench) -> None:
    """Open the connection of a call that is about to begin: a socket, or one for the first request. Raises ProviderError."""
    place = _place(config, bench)
    model, _ = place.living(config.model or DEFAULT_MODEL)
    if config.options.get("realtime") or not hears_by_itself(model):
        await bench.dialer.warm(target(place))
    else:
        await vouch(config, bench)


def _place(config: STTConfig, bench: Bench) -> Place:
    base_url, key = config.base_url or bench.base_url, config.api_key or bench.key
    return Place.of(base_url, key, "the api_key of the stt settings", bench.vendor_url)
