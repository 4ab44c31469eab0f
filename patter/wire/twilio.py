"""Twilio Media Streams as text: reads and writes every message of the socket, for the server and for a carrier.

It owns the carrier's spelling (protocol version 1.0.0) and refuses to know sockets, clocks and calls.
"""

from __future__ import annotations

import json
import re
from binascii import b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from patter.audio.format import MULAW_8K, AudioFormat
from patter.exceptions import WireError
from patter.wire.stream import (
    DIGITS,
    Clear,
    Connected,
    Dtmf,
    Mark,
    Media,
    Play,
    ServerMessage,
    Stop,
    StreamMessage,
    Unknown,
    digit_of,
    dtmf_of,
    mark_of,
    media_of,
    object_of,
    part_of,
    server_event,
    server_message,
    sound_of,
    text_of,
)

__all__ = [  # with the neutral messages, so that who speaks Twilio only needs one module
    "DIGITS", "CarrierMessage", "CarrierWriter", "Clear", "Connected", "Dtmf", "Mark", "Media", "Play", "ServerMessage",
    "Start", "Stop", "StreamWriter", "TwilioStream", "Unknown", "read", "read_server", "sound_of",
]  # fmt: skip

_FRAME = re.compile(  # a frame as the carrier has always written it: read without building the objects around it
    r'\{"event":"media","sequenceNumber":"[0-9]{1,15}","media":\{"track":"(inbound|outbound)","chunk":"([0-9]{1,15})",'
    r'"timestamp":"([0-9]{1,15})","payload":"([A-Za-z0-9+/]{1,65536}={0,2})"\},"streamSid":"[A-Za-z0-9]{1,64}"\}'
)
PCM_RATES = (8000, 16000, 24000, 48000)

# --------------------------------------------------------------------------- what the carrier says


@dataclass(frozen=True, slots=True)
class Start:
    """The stream's ids, its audio format and the `<Parameter>`s of the TwiML."""

    stream_sid: str
    account_sid: str
    call_sid: str
    format: AudioFormat
    parameters: dict[str, str] = field(default_factory=dict)
    tracks: tuple[str, ...] = ("inbound",)


CarrierMessage = StreamMessage | Start


def read(text: str) -> CarrierMessage:
    """One message of the carrier. Fields we do not need may be missing or unknown; the others must be right.

    Raises WireError for everything that is not such a message."""
    if (frame := _FRAME.fullmatch(text)) is not None:
        track, chunk, timestamp, payload = frame.groups()
        return Media(payload, track, timestamp, int(chunk))
    message = object_of(text)
    event = message.get("event")
    if event == "media":
        return media_of(message)
    if event == "mark":
        return mark_of(message)
    if event == "dtmf":
        return dtmf_of(message)
    if event == "start":
        return _start(message)
    if event == "stop":
        part_of(message, "stop")
        return Stop()
    if event == "connected":
        return Connected(text_of(message, "version", "connected", ""))
    if isinstance(event, str):
        return Unknown(event)
    raise WireError("a message without an event name")


def _start(message: dict[str, Any]) -> Start:
    start = part_of(message, "start")
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
        account_sid=text_of(start, "accountSid", "start"),
        call_sid=text_of(start, "callSid", "start"),
        format=_format(part_of(start, "mediaFormat")),
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


class TwilioStream:
    """One stream as a transport needs it: sound the same both ways, closing the stream ends the call."""

    __slots__ = ("_writer", "clear", "hears", "plays", "read", "sound")

    shortest_ms = 0.0
    """Sound of any length may be sent."""
    ends_call = True
    """With no verb behind `<Connect>`, a call ends with its stream."""
    presses_keys = False
    """No request of the carrier presses keys and keeps the stream: they are played as tones."""

    def __init__(self, start: Start) -> None:
        self.hears = self.plays = start.format
        self.read = read
        self.sound = sound_of
        self._writer = StreamWriter(start.stream_sid)
        self.clear = self._writer.clear

    def media(self, sound: bytes | memoryview) -> str:
        """Sound to be played."""
        return self._writer.media(sound)

    def mark(self, name: str) -> str:
        """A mark that comes back when everything before it has been played."""
        return self._writer.mark(name)


# --------------------------------------------------------------------------- the carrier's chair


def read_server(text: str, stream_sid: str) -> ServerMessage:
    """One message of the server, read as strictly as the carrier may: what it would ignore or warn of is an error here.

    Raises WireError for other events, a missing or foreign streamSid and payloads that are not base64."""
    message = object_of(text)
    event = server_event(message)
    if message.get("streamSid") != stream_sid:
        raise WireError(f"{event} names the streamSid {message.get('streamSid')!r} instead of {stream_sid!r}")
    return server_message(event, message)


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
        return self._write("dtmf", {"track": "inbound_track", "digit": digit_of(digit)})

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
