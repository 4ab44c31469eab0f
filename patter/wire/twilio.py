"""Twilio Media Streams as text: reads and writes every message of the socket, for the server and for a carrier.

It owns the carrier's spelling (protocol version 1.0.0) and refuses to know sockets, clocks and calls.
"""

from __future__ import annotations

import json
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from patter.audio.format import MULAW_8K, AudioFormat
from patter.exceptions import WireError

DIGITS = "0123456789*#"
PCM_RATES = (8000, 16000, 24000, 48000)

# --------------------------------------------------------------------------- what the carrier says


@dataclass(frozen=True, slots=True)
class Connected:
    """The first message: who speaks which version."""

    protocol: str
    version: str


@dataclass(frozen=True, slots=True)
class Start:
    """The stream's ids, its audio format and the `<Parameter>`s of the TwiML."""

    stream_sid: str
    account_sid: str
    call_sid: str
    format: AudioFormat
    parameters: dict[str, str] = field(default_factory=dict)
    tracks: tuple[str, ...] = ("inbound",)


@dataclass(slots=True)  # not frozen: there are fifty a second of it on every call, and freezing triples the price
class Media:
    """One frame of sound, still in base64 (`sound_of` decodes it). `timestamp`: digits, ms since the stream began, or ""."""

    payload: str
    track: str
    timestamp: str


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
    """The carrier ended the stream: the call is over."""

    account_sid: str
    call_sid: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A kind of message this version does not know; it may be ignored."""

    event: str


CarrierMessage = Connected | Start | Media | Dtmf | Mark | Stop | Unknown


def read(text: str) -> CarrierMessage:
    """One message of the carrier. Fields we do not need may be missing or unknown; the others must be right.

    Raises WireError for everything that is not such a message."""
    message = _object(text)
    event = message.get("event")
    if event == "media":
        media = _part(message, "media")
        return Media(
            _text(media, "payload", "media"),
            _text(media, "track", "media", "inbound"),
            _text(media, "timestamp", "media", ""),
        )
    if event == "mark":
        return Mark(_text(_part(message, "mark"), "name", "mark"))
    if event == "dtmf":
        return Dtmf(_digit(_text(_part(message, "dtmf"), "digit", "dtmf")))
    if event == "start":
        return _start(message)
    if event == "stop":
        stop = _part(message, "stop")
        return Stop(_text(stop, "accountSid", "stop", ""), _text(stop, "callSid", "stop", ""))
    if event == "connected":
        return Connected(_text(message, "protocol", "connected", ""), _text(message, "version", "connected", ""))
    if isinstance(event, str):
        return Unknown(event)
    raise WireError("a message without an event name")


def sound_of(payload: str) -> bytes:
    """The bytes of a media payload. Raises WireError if it is not base64."""
    try:
        return a2b_base64(payload, strict_mode=True)
    except (Base64Error, ValueError) as error:
        raise WireError(f"media payload is not base64: {error}") from None


def _start(message: dict[str, Any]) -> Start:
    start = _part(message, "start")
    stream_sid = start.get("streamSid", message.get("streamSid"))
    if not isinstance(stream_sid, str) or not stream_sid:
        raise WireError("start has no streamSid")
    parameters = start.get("customParameters") or {}
    if not isinstance(parameters, dict):
        raise WireError("start.customParameters is not an object")
    tracks = start.get("tracks", ["inbound"])
    if not isinstance(tracks, list):
        raise WireError("start.tracks is not a list")
    return Start(
        stream_sid=stream_sid,
        account_sid=_text(start, "accountSid", "start"),
        call_sid=_text(start, "callSid", "start"),
        format=_format(_part(start, "mediaFormat")),
        parameters={str(name): str(value) for name, value in parameters.items()},
        tracks=tuple(str(track) for track in tracks),
    )


def _format(spelled: dict[str, Any]) -> AudioFormat:
    encoding, rate, channels = (spelled.get(name) for name in ("encoding", "sampleRate", "channels"))
    if channels not in (1, None):
        raise WireError(f"start.mediaFormat has {channels!r} channels; only mono is supported")
    if encoding == "audio/x-mulaw" and rate in (8000, None):
        return MULAW_8K
    if encoding == "audio/l16" and type(rate) is int and rate in PCM_RATES:
        return AudioFormat("pcm_s16le", rate)
    raise WireError(f"start.mediaFormat {encoding!r} at {rate!r} Hz is not supported (audio/x-mulaw 8000, audio/l16)")


# --------------------------------------------------------------------------- what the server says


class StreamWriter:
    """Writes the server's three messages to one stream. The frame is built once; only the payload is put in."""

    __slots__ = ("_mark", "_media", "clear")

    def __init__(self, stream_sid: str) -> None:
        sid = json.dumps(stream_sid)
        self._media = f'{{"event":"media","streamSid":{sid},"media":{{"payload":"'
        self._mark = f'{{"event":"mark","streamSid":{sid},"mark":{{"name":'
        self.clear = f'{{"event":"clear","streamSid":{sid}}}'
        """Drops what is queued; the carrier then returns every pending mark at once."""

    def media(self, sound: bytes | memoryview) -> str:
        """Sound in the stream's own format, of any length."""
        return self._media + b2a_base64(sound, newline=False).decode("ascii") + '"}}'

    def mark(self, name: str) -> str:
        """A mark that comes back when everything before it has been played."""
        return self._mark + json.dumps(name) + "}}"


# --------------------------------------------------------------------------- the carrier's chair


@dataclass(frozen=True, slots=True)
class Play:
    """The server queued sound."""

    sound: bytes


@dataclass(frozen=True, slots=True)
class Clear:
    """The server dropped what is queued."""


ServerMessage = Play | Mark | Clear


def read_server(text: str, stream_sid: str) -> ServerMessage:
    """One message of the server, read as strictly as the carrier may: what it would ignore or warn of is an error here.

    Raises WireError for other events, a missing or foreign streamSid and payloads that are not base64."""
    message = _object(text)
    event = message.get("event")
    if event not in ("media", "mark", "clear"):
        raise WireError(f"event {event!r} is not one a server may send")
    if message.get("streamSid") != stream_sid:
        raise WireError(f"{event} names the streamSid {message.get('streamSid')!r} instead of {stream_sid!r}")
    if event == "media":
        sound = sound_of(_text(_part(message, "media"), "payload", "media"))
        if not sound:
            raise WireError("media carries no sound")
        return Play(sound)
    if event == "mark":
        return Mark(_text(_part(message, "mark"), "name", "mark"))
    return Clear()


class CarrierWriter:
    """Writes the carrier's messages of one stream, with their running numbers."""

    def __init__(self, stream_sid: str, account_sid: str, call_sid: str, audio: AudioFormat = MULAW_8K) -> None:
        self.stream_sid = stream_sid
        self._ids = {"accountSid": account_sid, "callSid": call_sid}
        self._format = audio
        self._sid = json.dumps(stream_sid)
        self._sequence = 0
        self._chunk = 0

    def connected(self) -> str:
        """The first message of the socket."""
        return '{"event":"connected","protocol":"Call","version":"1.0.0"}'

    def start(self, parameters: Mapping[str, str] | None = None) -> str:
        """The stream begins; `parameters` are the TwiML's."""
        encoding = "audio/x-mulaw" if self._format.encoding == "mulaw" else "audio/l16"
        start = {
            **self._ids,
            "streamSid": self.stream_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": encoding, "sampleRate": self._format.rate, "channels": 1},
            "customParameters": dict(parameters or {}),
        }
        return self._write("start", start)

    def media(self, sound: bytes, timestamp_ms: int) -> str:
        """One frame from the caller, `timestamp_ms` after the stream began."""
        self._sequence += 1
        self._chunk += 1
        payload = b2a_base64(sound, newline=False).decode("ascii")
        return (
            f'{{"event":"media","sequenceNumber":"{self._sequence}","media":{{"track":"inbound","chunk":"{self._chunk}",'
            f'"timestamp":"{timestamp_ms}","payload":"{payload}"}},"streamSid":{self._sid}}}'
        )

    def dtmf(self, digit: str) -> str:
        """The caller pressed a key. Raises WireError for anything that is not one."""
        return self._write("dtmf", {"track": "inbound_track", "digit": _digit(digit)})

    def mark(self, name: str) -> str:
        """A mark comes back."""
        return self._write("mark", {"name": name})

    def stop(self) -> str:
        """The call is over."""
        return self._write("stop", self._ids)

    def _write(self, event: str, part: Mapping[str, Any]) -> str:
        self._sequence += 1
        message = {
            "event": event,
            "sequenceNumber": str(self._sequence),
            event: part,
            "streamSid": self.stream_sid,
        }
        return json.dumps(message, separators=(",", ":"))


# --------------------------------------------------------------------------- the shapes of JSON


def _object(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise WireError("not a JSON text") from None
    if not isinstance(message, dict):
        raise WireError("not a JSON object")
    return message


def _part(message: dict[str, Any], name: str) -> dict[str, Any]:
    part = message.get(name)
    if not isinstance(part, dict):
        raise WireError(f"{name} is missing or not an object")
    return part


def _text(part: dict[str, Any], name: str, where: str, missing: str | None = None) -> str:
    value = part.get(name, missing)
    if not isinstance(value, str):
        raise WireError(f"{where}.{name} is missing or not a string")
    return value


def _digit(value: str) -> str:
    if len(value) != 1 or value not in DIGITS:
        raise WireError(f"{value[:8]!r} is not a key of a telephone")
    return value
