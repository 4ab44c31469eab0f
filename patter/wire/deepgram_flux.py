"""Deepgram's streaming recognition, version 2 (Flux): the query, the events of a turn, what a client may say.

It owns the spelling and the checks on untrusted fields; it refuses to know sockets, clocks and version 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from patter.audio.format import AudioFormat
from patter.exceptions import WireError
from patter.wire.deepgram import Other, Refusal, Word, number_of, seconds_of, sound_parameters, words_of
from patter.wire.stream import object_of, text_of

PATH = "/v2/listen"
FORCE_END_TURN = '{"type":"ForceEndTurn"}'

TIMEOUT_MS = (500, 60_000)
"""The least and the most `eot_timeout_ms` may be."""

TurnEvent = Literal["Update", "StartOfTurn", "EagerEndOfTurn", "TurnResumed", "EndOfTurn"]
_EVENTS: dict[str, TurnEvent] = {event: event for event in get_args(TurnEvent)}


def flux_parameters(
    model: str,
    hears: AudioFormat,
    *,
    language: str = "",
    keyterms: Iterable[str] = (),
    eager_threshold: float | None = None,
    timeout_ms: int | None = None,
) -> dict[str, Any]:
    """What a call asks for. Nothing of version 1 is understood here; only the multilingual model takes a language."""
    hints = [language] if language not in ("", "multi") and model.endswith("-multi") else []
    return {
        "model": model,
        **sound_parameters(hears),
        "eager_eot_threshold": eager_threshold,
        "eot_timeout_ms": timeout_ms,
        "keyterm": [term for term in keyterms if term],
        "language_hint": hints,
    }


def configure(timeout_ms: int) -> str:
    """The message that changes the longest silence within a turn, in ms."""
    return json.dumps({"type": "Configure", "thresholds": {"eot_timeout_ms": timeout_ms}}, separators=(",", ":"))


def bounded_timeout(ms: float) -> int:
    """`ms` as the vendor takes it."""
    return int(min(max(ms, TIMEOUT_MS[0]), TIMEOUT_MS[1]))


@dataclass(frozen=True, slots=True)
class Turn:
    """`TurnInfo`: `text` is everything said in the turn so far; the window is in seconds of the stream."""

    event: TurnEvent
    index: int
    window_start: float
    window_end: float
    text: str
    words: tuple[Word, ...] = ()
    confidence: float = 0.0
    trigger: str = ""


@dataclass(frozen=True, slots=True)
class Fatal:
    """`Error`: the server closes the stream after it."""

    code: str
    description: str


ServerMessage = Turn | Fatal | Refusal | Other


def read_server(text: str) -> ServerMessage:
    """One text message of the server. Raises WireError if it cannot be read."""
    message = object_of(text)
    kind = message.get("type")
    match kind:
        case "TurnInfo":
            return _turn(message)
        case "Error":
            return Fatal(str(message.get("code", "")), str(message.get("description", "")))
        case "ConfigureFailure" | "Warning":
            return Refusal(str(message.get("code") or kind), str(message.get("description") or ""))
        case str():
            return Other(kind)
    raise WireError("type is missing or not a string")


def _turn(message: dict[str, Any]) -> ServerMessage:
    event = _EVENTS.get(str(message.get("event")))
    if event is None:
        return Other(f"TurnInfo {str(message.get('event'))[:30]}")
    return Turn(
        event,
        int(number_of(message, "turn_index")),
        seconds_of(message, "audio_window_start"),
        seconds_of(message, "audio_window_end"),
        text_of(message, "transcript", "TurnInfo").strip(),
        words_of(message.get("words", [])),
        number_of(message, "end_of_turn_confidence") if "end_of_turn_confidence" in message else 0.0,
        str(message.get("trigger") or ""),
    )


def fatal_may_pass(fatal: Fatal) -> bool:
    """Whether a new connection may help: not when the server did not understand us."""
    return "UNPARSABLE" not in fatal.code
