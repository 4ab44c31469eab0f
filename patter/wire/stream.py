"""What carriers and servers say on a media stream, whatever a carrier's spelling, and the shapes of JSON both share.

It owns the neutral messages and the checks on untrusted fields; it refuses to know any carrier, sockets and calls.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from dataclasses import dataclass, field
from typing import Any

from patter import json_text
from patter.exceptions import WireError

DIGITS = "0123456789*#"
MAX_COUNT_DIGITS = 15  # a running number of a stream never comes near this

# --------------------------------------------------------------------------- what a carrier says


@dataclass(frozen=True, slots=True)
class Connected:
    """The first message: the protocol's version, and the token the stream was asked for with (where the carrier has one)."""

    version: str
    auth_token: str = field(default="", repr=False)


@dataclass(slots=True)  # not frozen: there are fifty a second of it on every call, and freezing triples the price
class Media:
    """One frame of sound, still in base64 (`sound_of` decodes it). `timestamp`: digits, ms since the stream began, or "".

    `chunk` counts the frames of a track, usually from 1; 0 says that the carrier does not count."""

    payload: str
    track: str
    timestamp: str
    chunk: int = 0


@dataclass(frozen=True, slots=True)
class Dtmf:
    """One key: `0-9`, `*` or `#`."""

    digit: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark: from the carrier it was passed (or flushed by a clear), to the carrier it is asked for."""

    name: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The carrier ended the stream: the call is over, or has left the stream."""


@dataclass(frozen=True, slots=True)
class StreamError:
    """The carrier could not use something that was sent to it."""

    code: str
    title: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A kind of message this version does not know; it may be ignored."""

    event: str


StreamMessage = Connected | Media | Dtmf | Mark | Stop | StreamError | Unknown
"""What comes on a stream besides its `start`, which is each carrier's own."""

# --------------------------------------------------------------------------- what a server says


@dataclass(frozen=True, slots=True)
class Play:
    """The server queued sound."""

    sound: bytes


@dataclass(frozen=True, slots=True)
class Clear:
    """The server dropped what is queued."""


ServerMessage = Play | Mark | Clear

# --------------------------------------------------------------------------- fields of untrusted messages


def object_of(text: str) -> dict[str, Any]:
    """The JSON object that `text` is. Raises WireError if it is none."""
    try:
        message = json_text.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise WireError("not a JSON text") from None
    if not isinstance(message, dict):
        raise WireError("not a JSON object")
    return message


def part_of(message: dict[str, Any], name: str) -> dict[str, Any]:
    """The object under `name`. Raises WireError if there is none."""
    part = message.get(name)
    if not isinstance(part, dict):
        raise WireError(f"{name} is missing or not an object")
    return part


def text_of(part: dict[str, Any], name: str, where: str, missing: str | None = None) -> str:
    """The string under `name`, or `missing`. Raises WireError for anything else."""
    value = part.get(name, missing)
    if not isinstance(value, str):
        raise WireError(f"{where}.{name} is missing or not a string")
    return value


def digit_of(value: str) -> str:
    """`value`, if it is one key. Raises WireError."""
    if len(value) != 1 or value not in DIGITS:
        raise WireError(f"{value[:8]!r} is not a key of a telephone")
    return value


def sound_of(payload: str) -> bytes:
    """The bytes of a media payload. Raises WireError if it is not base64."""
    try:
        return a2b_base64(payload, strict_mode=True)
    except (Base64Error, ValueError) as error:
        raise WireError(f"media payload is not base64: {error}") from None


# --------------------------------------------------------------------------- messages both carriers spell alike


def media_of(message: dict[str, Any]) -> Media:
    """The frame in a carrier's `media` message: the one reader that runs fifty times a second. Raises WireError."""
    media = message.get("media")
    if type(media) is not dict:
        raise WireError("media is missing or not an object")
    payload, track = media.get("payload"), media.get("track", "inbound")
    if type(payload) is not str or type(track) is not str:
        raise WireError(f"media.{'track' if type(payload) is str else 'payload'} is missing or not a string")
    timestamp, chunk = media.get("timestamp", ""), media.get("chunk", "0")
    if type(timestamp) is not str:
        timestamp = _digits(timestamp, "timestamp")
    if type(chunk) is not str or not chunk.isdecimal() or len(chunk) > MAX_COUNT_DIGITS:
        chunk = _digits(chunk, "chunk")
    return Media(payload, track, timestamp, int(chunk))


def _digits(value: object, name: str) -> str:
    """Both carriers write running numbers as strings of digits; a JSON number would be as clear, and nothing else is."""
    if type(value) is int and 0 <= value < 10**MAX_COUNT_DIGITS:
        return str(value)
    raise WireError(f"media.{name} is not a number in digits")


def mark_of(message: dict[str, Any]) -> Mark:
    """The mark in a message of either side. Raises WireError."""
    return Mark(text_of(part_of(message, "mark"), "name", "mark"))


def dtmf_of(message: dict[str, Any]) -> Dtmf:
    """The key in a carrier's `dtmf` message. Raises WireError."""
    return Dtmf(digit_of(text_of(part_of(message, "dtmf"), "digit", "dtmf")))


def play_of(message: dict[str, Any]) -> Play:
    """The sound in a server's `media` message. Raises WireError, also for no sound at all."""
    sound = sound_of(text_of(part_of(message, "media"), "payload", "media"))
    if not sound:
        raise WireError("media carries no sound")
    return Play(sound)


def server_event(message: dict[str, Any]) -> str:
    """Which of its three messages a server sent. Raises WireError for any other."""
    event = message.get("event")
    if event not in ("media", "mark", "clear"):
        raise WireError(f"event {str(event)[:20]!r} is not one a server may send")
    return str(event)


def server_message(event: str, message: dict[str, Any]) -> ServerMessage:
    """What the server said, once its envelope has been checked. Raises WireError."""
    if event == "media":
        return play_of(message)
    if event == "mark":
        return mark_of(message)
    return Clear()
