"""Deepgram's streaming recognition, version 1 (Nova and older): the query, what the server says, what a client may say.

It owns the spelling and the checks on untrusted fields; it refuses to know sockets, clocks and what a turn is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from patter.audio.format import AudioFormat, Encoding
from patter.exceptions import WireError
from patter.wire.stream import object_of, part_of

PATH = "/v1/listen"
ENCODINGS: dict[Encoding, str] = {"pcm_s16le": "linear16", "mulaw": "mulaw", "alaw": "alaw"}

KEEP_ALIVE = '{"type":"KeepAlive"}'
FINALIZE = '{"type":"Finalize"}'
CLOSE_STREAM = '{"type":"CloseStream"}'

_KNOWS_KEYWORDS = re.compile(r"(nova(-2)?|enhanced|base)(-[a-z]+)*")
"""Families that take `keywords`; nova-3 and all that are newer take `keyterm`, and either refuses the other's."""

# --------------------------------------------------------------------------- the query


def nova_parameters(
    model: str,
    hears: AudioFormat,
    *,
    language: str = "en",
    keyterms: Iterable[str] = (),
    endpointing_ms: int = 300,
    utterance_end_ms: int = 1000,
) -> dict[str, Any]:
    """What a call asks for. `smart_format` is left out: it holds final words back for up to 3 s after a number."""
    words = [term for term in keyterms if term]
    return {
        "model": model,
        "language": language,
        **sound_parameters(hears),
        "channels": 1,
        "interim_results": True,
        "punctuate": True,
        "endpointing": endpointing_ms,
        "utterance_end_ms": utterance_end_ms,
        "vad_events": True,
        ("keywords" if _KNOWS_KEYWORDS.fullmatch(model) else "keyterm"): words,
    }


def sound_parameters(hears: AudioFormat) -> dict[str, Any]:
    """What raw audio must be described by; the same in both versions."""
    return {"encoding": ENCODINGS[hears.encoding], "sample_rate": hears.rate}


def query_of(parameters: Mapping[str, Any]) -> str:
    """The query string: lists become repeated keys, None and empty lists are left out."""
    pairs: list[tuple[str, str]] = []
    for name, value in parameters.items():
        values = value if isinstance(value, list | tuple) else () if value is None else (value,)
        pairs += [(name, _spelled(item)) for item in values]
    return urlencode(pairs)


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# --------------------------------------------------------------------------- what the server says


@dataclass(frozen=True, slots=True)
class Word:
    """One word as it is to be read, with its place in seconds of the stream."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Results:
    """Words of the range `start`..`end` (seconds of the stream). `is_final`: it will not be revised; `speech_final`: the
    caller paused at its end; `from_finalize`: it was asked for."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    is_final: bool = False
    speech_final: bool = False
    from_finalize: bool = False


@dataclass(frozen=True, slots=True)
class VoiceHeard:
    """`SpeechStarted`: voice began at `timestamp`; words may or may not follow."""

    timestamp: float


@dataclass(frozen=True, slots=True)
class UtteranceEnd:
    """No word for as long as was asked; the last one ended at `last_word_end` (-1.0: there was none)."""

    last_word_end: float


@dataclass(frozen=True, slots=True)
class Metadata:
    """The last message after CloseStream: `duration` seconds of audio are billed."""

    request_id: str
    duration: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """`Error`, `ConfigureFailure` or a `Warning`: something was not understood or not done; the stream goes on."""

    code: str
    description: str


@dataclass(frozen=True, slots=True)
class Other:
    """A message that needs no attention: an acknowledgement, or a kind this version does not know."""

    kind: str


ServerMessage = Results | VoiceHeard | UtteranceEnd | Metadata | Refusal | Other


def read_server(text: str) -> ServerMessage:
    """One text message of the server. Raises WireError if it cannot be read."""
    message = object_of(text)
    kind = message.get("type")
    match kind:
        case "Results":
            return _results(message)
        case "SpeechStarted":
            return VoiceHeard(seconds_of(message, "timestamp"))
        case "UtteranceEnd":
            return UtteranceEnd(number_of(message, "last_word_end"))
        case "Metadata":
            return Metadata(str(message.get("request_id", "")), seconds_of(message, "duration"))
        case "Error":
            code = message.get("variant") or message.get("code") or ""
            return Refusal(str(code), str(message.get("description") or message.get("message") or ""))
        case "ConfigureFailure" | "Warning":
            return Refusal(str(message.get("code", "")), str(message.get("description", "")))
        case str():
            return Other(kind)
    raise WireError("type is missing or not a string")


def _results(message: dict[str, Any]) -> Results:
    alternatives = part_of(message, "channel").get("alternatives")
    best = alternatives[0] if isinstance(alternatives, list) and alternatives else {"transcript": ""}
    if not isinstance(best, dict) or not isinstance(best.get("transcript"), str):
        raise WireError("channel.alternatives.transcript is missing or not a string")
    start = seconds_of(message, "start")
    return Results(
        start,
        start + seconds_of(message, "duration"),
        best["transcript"].strip(),
        words_of(best.get("words", [])),
        is_final=message.get("is_final") is True,
        speech_final=message.get("speech_final") is True,
        from_finalize=message.get("from_finalize") is True,
    )


def words_of(items: object) -> tuple[Word, ...]:
    """The words of a message, as far as they carry their place. Raises WireError."""
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise WireError("words is not a list of objects")
    return tuple(
        Word(
            str(item.get("punctuated_word") or item.get("word", "")), seconds_of(item, "start"), seconds_of(item, "end")
        )
        for item in items
        if item.get("start") is not None and item.get("end") is not None
    )


def number_of(message: Mapping[str, Any], name: str) -> float:
    """The number under `name`. Raises WireError."""
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e9 < value < 1e9:
        raise WireError(f"{name} is missing or not a number")
    return float(value)


def seconds_of(message: Mapping[str, Any], name: str) -> float:
    """The duration or place in the stream under `name`. Raises WireError."""
    return max(0.0, number_of(message, name))


# --------------------------------------------------------------------------- why it closed

_ENDS = {
    "NET-0000": ("it had nothing to say in time: a fault on its side, or too little audio", "", True),
    "NET-0001": ("it heard nothing from us for ten seconds and closed the connection", "", True),
    "DATA-0000": ("it cannot read the audio", "check `encoding` and `sample_rate` in the settings' options", False),
}


def end_of(reason: str) -> tuple[str, str, bool]:
    """(what it means, what to do, whether a new connection may help) of a close reason; ("", "", True) if unknown."""
    return next((meaning for code, meaning in _ENDS.items() if code in reason), ("", "", True))
