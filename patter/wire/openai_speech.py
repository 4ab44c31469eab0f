"""OpenAI's speech API on the wire: the request's body, its limits, and the events of a streamed reply.

It owns the JSON and which model takes what; it refuses to know sockets, retries and prices.
"""

from __future__ import annotations

import json
import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from patter.exceptions import WireError

DEFAULT_MODEL = "gpt-4o-mini-tts"
TEXT_LIMIT = 4096
"""Characters of one request."""

LINE_LIMIT = 8 * 1024 * 1024
"""Bytes of one event; the vendor's are some kB."""

CLASSIC_VOICES = ("alloy", "ash", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer")
"""All that the older models have."""

OTHER_VOICES = ("ballad", "cedar", "marin", "verse")
_CLASSIC_MODELS = frozenset(("tts-1", "tts-1-hd", "tts-1-1106", "tts-1-hd-1106"))
_CUSTOM = re.compile(r"voice_\w+")
_SPEEDS = (0.25, 4.0)
_BORDERS = (re.compile(r"(?<=[.!?…])\s+"), re.compile(r"(?<=[,;:—])\s+"), re.compile(r"\s+"))


def is_classic(model: str) -> bool:
    """Whether it is one of the older models: fewer voices, no instructions, no count of tokens; billed by characters."""
    return model in _CLASSIC_MODELS


def misuse(model: str, voice: str, options: Mapping[str, Any]) -> str:
    """What the vendor would refuse or ignore of these settings, as a sentence that names a way out; "" = nothing known."""
    if is_classic(model) and voice not in CLASSIC_VOICES:
        return f"{model} has no voice {voice!r}: choose one of {', '.join(CLASSIC_VOICES)}"
    if is_classic(model) and options.get("instructions"):
        return f"{model} takes no instructions: use {DEFAULT_MODEL}, or leave them out"
    speed = options.get("speed", 1.0)
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not _SPEEDS[0] <= speed <= _SPEEDS[1]:
        return f"speed must be a number from {_SPEEDS[0]} to {_SPEEDS[1]}, not {speed!r}"
    return ""


def request_body(model: str, voice: str, text: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of POST /audio/speech for a streamed reply. `options` as the vendor names them."""
    spoken_by: str | dict[str, str] = {"id": voice} if _CUSTOM.fullmatch(voice) else voice
    body: dict[str, Any] = {"model": model, "voice": spoken_by, "input": text}
    body |= {name: value for name, value in options.items() if name not in ("response_format", "stream_format")}
    body["response_format"] = "pcm"
    if model.startswith(
        "gpt-"
    ):  # billed by tokens, of which only events tell the number; other models do not know events
        body["stream_format"] = "sse"
    return body


def portions(text: str, limit: int = TEXT_LIMIT) -> list[str]:
    """`text` in parts of at most `limit` characters, cut where a sentence, a clause or a word ends."""
    text, parts = text.strip(), []
    while len(text) > limit:
        cut = next((found for border in _BORDERS if (found := _last(border, text[:limit]))), limit)
        parts.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return [*parts, text] if text else parts


def _last(border: re.Pattern[str], text: str) -> int:
    return max((match.start() for match in border.finditer(text)), default=0)


# ------------------------------------------------------------------------------------------------- what comes back


@dataclass(frozen=True, slots=True)
class Sound:
    """A piece of sound: PCM of 24 kHz, any number of bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """The text has been said; the tokens it took (None: not told)."""

    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """The vendor gave up in the middle."""

    message: str
    code: str = ""


SpeechEvent = Sound | Done | Broken


class EventReader:
    """Reads a text/event-stream body: `feed` it bytes as they come, cut anywhere. Raises WireError."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[SpeechEvent]:
        """The events that `data` completes; unknown ones are left out."""
        self._buffer += data
        if b"\n" not in data:
            if len(self._buffer) > LINE_LIMIT:
                raise WireError(f"a line of more than {LINE_LIMIT} bytes")
            return []
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer = bytearray(rest)
        return [event for line in lines if (event := _event(line.rstrip(b"\r"))) is not None]


def _event(line: bytes) -> SpeechEvent | None:
    if not line.startswith(b"data:"):
        return None  # comments, event names, the empty line between events
    text = line[5:].strip()
    if text == b"[DONE]":
        return None
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise WireError("an event is no JSON text") from None
    if not isinstance(message, dict):
        raise WireError("an event is no JSON object")
    if error := message.get("error"):
        told = error if isinstance(error, dict) else {"message": error}
        return Broken(str(told.get("message") or ""), str(told.get("code") or told.get("type") or ""))
    if message.get("type") == "speech.audio.delta":
        return Sound(_sound(message.get("audio")))
    if message.get("type") == "speech.audio.done":
        usage = message.get("usage")
        return _done(usage) if isinstance(usage, dict) else Done()
    return None


def _sound(audio: Any) -> bytes:
    if not isinstance(audio, str):
        raise WireError("audio is missing or not a string")
    try:
        return a2b_base64(audio, strict_mode=True)
    except (Base64Error, ValueError) as error:
        raise WireError(f"audio is not base64: {error}") from None


def _done(usage: dict[str, Any]) -> Done:
    counts = [usage.get(name) for name in ("input_tokens", "output_tokens")]
    taken, given = (count if isinstance(count, int) and count >= 0 else None for count in counts)
    return Done(taken, given)
