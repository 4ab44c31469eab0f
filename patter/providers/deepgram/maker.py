"""Makes the recogniser that Deepgram settings ask for: which protocol, which parameters, which address.

It owns those choices; it refuses to connect.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from patter.audio.format import MULAW_8K, AudioFormat
from patter.models import STTConfig
from patter.providers.bench import Bench
from patter.providers.deepgram.account import WARM_S as WARM_S
from patter.providers.deepgram.account import check_key, target
from patter.providers.deepgram.flux import FluxTranscriber
from patter.providers.deepgram.nova import NovaTranscriber
from patter.providers.dialer import Target
from patter.wire.deepgram import PATH as NOVA_PATH
from patter.wire.deepgram import nova_parameters, query_of
from patter.wire.deepgram_flux import PATH as FLUX_PATH
from patter.wire.deepgram_flux import bounded_timeout, flux_parameters

DEFAULT_MODEL = "nova-3"
EAGER = 0.5  # the confidence at which an answer is prepared: half of the usual way from its least value to the sure one
LEAST_PAUSE_MS = 100  # pauses between words are shorter
_FAMILY = re.compile(r"(nova-2|enhanced|base)(-[a-z]+)+")


def make(config: STTConfig, bench: Bench) -> NovaTranscriber | FluxTranscriber:
    """A recogniser for one call. Models whose name begins with "flux" speak the second protocol, all others the first.

    Raises ValueError for an address that cannot be used."""
    model = config.model or DEFAULT_MODEL
    usual = target_of(config, bench)

    def target_for(hears: AudioFormat) -> Target:
        return usual if hears == bench.hears else target_of(config, replace(bench, hears=hears))

    if is_flux(model):
        given = "eot_timeout_ms" in config.options
        timeout_ms = None if given else bounded_timeout(bench.turn_taking.max_silence_ms)
        return FluxTranscriber(bench.dialer, bench.clock, target_for, model=model, timeout_ms=timeout_ms)
    priced_as = price_model(config, bench.language)
    return NovaTranscriber(bench.dialer, bench.clock, target_for, model=model, price_model=priced_as)


def target_of(config: STTConfig, bench: Bench) -> Target:
    """Where the recogniser will connect, for `Dialer.warm` (at most `WARM_S` seconds ahead). Raises ValueError."""
    model, hears = config.model or DEFAULT_MODEL, bench.hears or MULAW_8K
    parameters: dict[str, Any]
    if is_flux(model):
        path = FLUX_PATH
        parameters = flux_parameters(
            model,
            hears,
            language=_hint(config, bench),
            keyterms=config.keyterms,
            eager_threshold=EAGER if config.eager else None,
            timeout_ms=bounded_timeout(bench.turn_taking.max_silence_ms),
        )
    else:
        path = NOVA_PATH
        parameters = nova_parameters(
            model,
            hears,
            language=_language(config, bench),
            keyterms=config.keyterms,
            endpointing_ms=max(LEAST_PAUSE_MS, bench.turn_taking.pause_ms),
        )
    query = query_of(parameters | config.options)
    return target(bench.base_url or config.base_url, bench.key or config.api_key, path, query, model)


async def vouch(config: STTConfig, bench: Bench) -> None:
    """Raise ProviderError for a key that the vendor does not know. What the key may do shows only when a socket is opened."""
    await check_key(bench.http, bench.base_url or config.base_url, bench.key or config.api_key)


async def warm(config: STTConfig, bench: Bench) -> None:
    """Open the socket of a call that is about to begin. Raises ProviderError."""
    await bench.dialer.warm(target_of(config, bench), WARM_S)


def is_flux(model: str) -> bool:
    """Whether a model speaks the second protocol."""
    return model.startswith("flux")


def price_model(config: STTConfig, language: str = "en") -> str:
    """The model as the price list calls it: those for special uses cost what their family costs.

    `language` is the agent's."""
    model = config.model or DEFAULT_MODEL
    if found := _FAMILY.fullmatch(model):
        return found[1]
    several = (config.options.get("language") or config.language or language) == "multi"
    family = model.removesuffix("-general")
    return f"{family}-multilingual" if family == "nova-3" and several else family


def _language(config: STTConfig, bench: Bench) -> str:
    return config.language or bench.language


def _hint(config: STTConfig, bench: Bench) -> str:
    """What a model of many languages is told to expect: "en" stands in settings by itself, so then the agent's counts."""
    return bench.language if config.language == STTConfig.language else _language(config, bench)
