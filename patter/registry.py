"""The providers by name: which file makes one, and whose key it needs. A new provider is one file and one line here.

It owns names and where to find their makers; it refuses to load any of them before it is asked for.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Stage = Literal["stt", "tts"]
VENDORS = ("openai", "elevenlabs", "deepgram")
"""Whose keys a `Patter` holds."""
Maker = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """How to get one provider. `make` is a function of (config, bench), or where it stands: "module:function".

    `key` names the vendor whose key (and address) in `keys.Keys` is used when the settings carry none; "" = it needs none.
    `vouch` and `warm` are optional async functions of the same arguments, written likewise: the first raises ProviderError for
    what would certainly fail (it is asked before anybody's telephone rings), the second opens what a call will use."""

    make: Maker | str
    key: str = ""
    vouch: Maker | str = ""
    warm: Maker | str = ""
    source: str = ""
    """The file that it was read from, beside an agent's; "" for all others."""
    digest: str = ""


STT: dict[str, Entry] = {
    "deepgram": Entry(
        "patter.providers.deepgram.maker:make",
        key="deepgram",
        vouch="patter.providers.deepgram.maker:vouch",
        warm="patter.providers.deepgram.maker:warm",
    ),
    "whisper": Entry(
        "patter.providers.openai_audio.transcription_maker:make",
        key="openai",
        vouch="patter.providers.openai_audio.transcription_maker:vouch",
        warm="patter.providers.openai_audio.transcription_maker:warm",
    ),
    "embedded": Entry("patter.providers.embedded.maker:make_transcriber"),
}
"""Makers of a `ports.Transcriber` or `ports.StreamingTranscriber`: called for every call, with (STTConfig, Bench)."""

TTS: dict[str, Entry] = {
    "elevenlabs": Entry("patter.providers.elevenlabs.maker:make", key="elevenlabs"),
    "openai": Entry("patter.providers.openai_audio.speech_maker:make", key="openai"),
    "embedded": Entry("patter.providers.embedded.maker:make_synthesizer"),
}
"""Makers of a `ports.Synthesizer`: called once for all calls with the same settings and line, with (TTSConfig, Bench)."""

_STAGES: dict[str, dict[str, Entry]] = {"stt": STT, "tts": TTS}


def add_provider(
    stage: Stage, name: str, make: Maker | str, *, key: str = "", vouch: Maker | str = "", warm: Maker | str = ""
) -> None:
    """Let `STTConfig(name, …)` or `TTSConfig(name, …)` use a provider of your own. Raises ValueError for a taken name.

    `make(config, bench)` gets the settings and a `providers.bench.Bench`; given as "module:function" it is imported when it
    is first asked for. `key` says whose key of the `Patter` is used without an `api_key`: one of `VENDORS`.
    `vouch` and `warm` are as in `Entry`."""
    if stage not in _STAGES:
        raise ValueError(f"stage must be one of {', '.join(_STAGES)}, not {stage!r}")
    if key and key not in VENDORS:
        raise ValueError(f'key must be one of {", ".join(VENDORS)}, or "" if the settings carry it, not {key!r}')
    entries = _STAGES[stage]
    if name in entries and entries[name].make != make:
        raise ValueError(f"there is a {stage} provider {name!r} already: choose another name")
    entries[name] = Entry(make, key, vouch, warm)


def add_from_file(stage: Stage, reference: str, make: Maker, source: str, digest: str) -> str:
    """Let an agent file's provider `module:function` be used, and return its name here.

    It is the `reference` itself; a second file with the same one gets a number behind it. While `digest` says that nothing
    has been edited, the maker that came first stays, so that what it made can be used again; after an edit the new one counts."""
    entries = _STAGES[stage]
    for number in itertools.count(1):
        name = reference if number == 1 else f"{reference}#{number}"
        entry = entries.get(name)
        if entry is None or entry.source == source:
            break
    if entry is None or entry.digest != digest:
        entries[name] = Entry(make, source=source, digest=digest)
    return name


def names(stage: Stage) -> tuple[str, ...]:
    """The providers of a stage."""
    return tuple(_STAGES[stage])


def entry_of(stage: Stage, name: str) -> Entry | None:
    """How to get a provider; None if nobody has added it."""
    return _STAGES[stage].get(name)


def maker_of(stage: Stage, name: str) -> Maker:
    """The maker of a provider, imported if need be. Raises KeyError for an unknown name."""
    return _found(_STAGES[stage][name].make)


def voucher_of(stage: Stage, name: str) -> Maker | None:
    """What vouches for a provider before a call, if anything does."""
    entry = _STAGES[stage][name]
    return _found(entry.vouch) if entry.vouch else None


def warmer_of(stage: Stage, name: str) -> Maker | None:
    """What makes a provider ready for a call, if anything does."""
    entry = _STAGES[stage][name]
    return _found(entry.warm) if entry.warm else None


def _found(make: Maker | str) -> Maker:
    if not isinstance(make, str):
        return make
    module, _, attribute = make.partition(":")
    found: Maker = getattr(importlib.import_module(module), attribute)
    return found
