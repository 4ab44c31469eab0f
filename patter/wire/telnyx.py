"""Telnyx media streaming as text: reads and writes every message of the socket, for the server and for a carrier.

It owns the carrier's spelling (protocol version 1.0.0) and refuses to know sockets, clocks, calls and the REST API.
"""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from patter.audio.byteorder import OrderProbe, swapped
from patter.audio.format import ALAW_8K, MULAW_8K, AudioFormat
from patter.exceptions import WireError
from patter.wire.stream import (
    Connected,
    Play,
    ServerMessage,
    Stop,
    StreamError,
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

AUTH_TOKEN = "x-telnyx-streaming-auth-token"  # noqa: S105 - the name of the header, and of the field in `connected`
L16_RATES = (8000, 16000, 24000, 48000)
SHORTEST_MS = 20.0  # of one media message
LONGEST_MS = 30_000.0
UNKNOWN_ERROR, MALFORMED_FRAME, INVALID_MEDIA, RATE_LIMIT_REACHED = 100002, 100003, 100004, 100005

# --------------------------------------------------------------------------- what the carrier says


@dataclass(frozen=True, slots=True)
class Start:
    """The stream's ids, the format of the caller's sound, and what the request that opened the stream gave along."""

    stream_id: str
    call_control_id: str
    format: AudioFormat
    client_state: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


CarrierMessage = StreamMessage | Start


def read(text: str) -> CarrierMessage:
    """One message of the carrier. Fields we do not need may be missing or unknown; the others must be right.

    Raises WireError for everything that is not such a message."""
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
        return Stop()
    if event == "error":
        return _error(part_of(message, "payload"))
    if event == "connected":
        return _connected(message)
    if isinstance(event, str):
        return Unknown(event)
    raise WireError("a message without an event name")


def _connected(message: dict[str, Any]) -> Connected:
    nested = message.get("connected")  # the documents put the token here, or at the top: both are read
    token = nested.get(AUTH_TOKEN) if isinstance(nested, dict) else None
    token = token if token is not None else message.get(AUTH_TOKEN, "")
    if not isinstance(token, str):
        raise WireError("the token of connected is not a string")
    return Connected(text_of(message, "version", "connected", ""), token)


def _start(message: dict[str, Any]) -> Start:
    start = part_of(message, "start")
    stream_id = message.get("stream_id")
    if not isinstance(stream_id, str) or not stream_id:
        raise WireError("start has no stream_id")
    parameters = start.get("custom_parameters") or {}
    if not isinstance(parameters, dict):
        raise WireError("start.custom_parameters is not an object")
    client_state = start.get("client_state")
    if not isinstance(client_state, (str, type(None))):
        raise WireError("start.client_state is not a string")
    return Start(
        stream_id=stream_id,
        call_control_id=text_of(start, "call_control_id", "start"),
        format=_format(part_of(start, "media_format")),
        client_state=client_state or "",
        parameters={str(name): str(value) for name, value in parameters.items()},
    )


def _format(spelled: dict[str, Any]) -> AudioFormat:
    encoding, rate, channels = (spelled.get(name) for name in ("encoding", "sample_rate", "channels"))
    if channels not in (1, None):
        raise WireError(f"start.media_format has {str(channels)[:8]} channels; only mono is supported")
    if encoding == "PCMU" and rate in (8000, None):
        return MULAW_8K
    if encoding == "PCMA" and rate in (8000, None):
        return ALAW_8K
    if encoding == "L16" and type(rate) is int and rate in L16_RATES:
        return AudioFormat("pcm_s16le", rate)
    raise WireError(
        f"start.media_format {str(encoding)[:20]!r} at {str(rate)[:12]} Hz is not supported (PCMU 8000, PCMA 8000, L16)"
    )


def _error(payload: dict[str, Any]) -> StreamError:
    code = payload.get("code")
    if not isinstance(code, (int, str)):
        raise WireError("error.code is missing or not a number")
    return StreamError(str(code)[:20], text_of(payload, "title", "error", ""), text_of(payload, "detail", "error", ""))


# --------------------------------------------------------------------------- what the server says


class TelnyxStream:
    """One stream as a transport needs it. What is sent has the codec that was asked for, whatever the caller's has.

    The byte order of L16 is not documented: it is told from the caller's first sound, and then used for both ways."""

    __slots__ = ("_probe", "_swapping", "hears", "plays", "read", "sound")

    clear = '{"event":"clear"}'
    shortest_ms = SHORTEST_MS
    ends_call = False
    """A call outlives its stream."""
    presses_keys = True

    def __init__(self, start: Start, plays: AudioFormat) -> None:
        self.hears, self.plays = start.format, plays
        self.read = read
        self._probe = OrderProbe()
        self._swapping = False
        self.sound = sound_of if start.format.encoding != "pcm_s16le" else self._probed

    def _probed(self, payload: str) -> bytes:
        """Sound of a line whose byte order is not known yet; the line's first loud frame usually settles it."""
        sound = sound_of(payload)
        if len(sound) % 2:
            raise WireError("media ends inside a sample")
        self._probe.hear(sound)
        self._swapping = self._probe.order == "big" and self.plays.encoding == "pcm_s16le"
        return swapped(sound) if self._probe.order == "big" else sound

    def media(self, sound: bytes | memoryview) -> str:
        """Sound in the format of `plays`, from 20 ms to 30 s."""
        payload = b2a_base64(swapped(sound) if self._swapping else sound, newline=False).decode("ascii")
        return f'{{"event":"media","media":{{"payload":"{payload}"}}}}'

    def mark(self, name: str) -> str:
        """A mark that comes back when everything before it has been played."""
        return f'{{"event":"mark","mark":{{"name":{json.dumps(name)}}}}}'


# --------------------------------------------------------------------------- the carrier's chair


def read_server(text: str, plays: AudioFormat | None = None, *, big_endian: bool = False) -> ServerMessage:
    """One message of the server, read as strictly as the carrier may: what it would refuse or misplay is an error here.

    With `plays`, the codec the stream was opened with, sound must last 20 ms to 30 s. `big_endian`: how this carrier reads
    L16. Raises WireError."""
    message = object_of(text)
    said = server_message(server_event(message), message)
    if not isinstance(said, Play) or plays is None:
        return said
    if len(said.sound) % plays.sample_bytes:
        raise WireError("media ends inside a sample")
    ms = plays.ms_of(len(said.sound))
    if not SHORTEST_MS <= ms <= LONGEST_MS:
        raise WireError(f"media lasts {ms:g} ms; 20 ms to 30 s are taken")
    return Play(swapped(said.sound)) if big_endian and plays.encoding == "pcm_s16le" else said


class CarrierWriter:
    """Writes the carrier's messages of one stream, with their running numbers. `audio` is the caller's sound.

    `client_state` and the numbers are those of the call; `big_endian`: how this carrier writes L16."""

    def __init__(
        self,
        stream_id: str,
        call_control_id: str,
        audio: AudioFormat = MULAW_8K,
        *,
        call_session_id: str = "",
        user_id: str = "",
        caller: str = "",
        callee: str = "",
        client_state: str | None = None,
        auth_token: str = "",
        big_endian: bool = False,
    ) -> None:
        self.stream_id = stream_id
        self._format = audio
        self._call = {"user_id": user_id, "call_control_id": call_control_id}
        self._about: dict[str, Any] = {
            "call_session_id": call_session_id,
            "from": caller,
            "to": callee,
            "tags": [],
            "client_state": client_state,
        }
        self._auth_token = auth_token
        self._swapping = big_endian and audio.encoding == "pcm_s16le"
        self._id = json.dumps(stream_id)
        self._sequence = 0
        self._chunk = 0

    def connected(self, auth_token: str = "") -> str:
        """The first message of the socket; with the token that `streaming_start` was given."""
        token = auth_token or self._auth_token
        message: dict[str, Any] = {"event": "connected", "version": "1.0.0"}
        return _compact({**message, "connected": {AUTH_TOKEN: token}} if token else message)

    def start(self, parameters: Mapping[str, str] | None = None) -> str:
        """The stream begins; `parameters` are the custom ones of the request that opened it."""
        encoding = {"mulaw": "PCMU", "alaw": "PCMA", "pcm_s16le": "L16"}[self._format.encoding]
        start: dict[str, Any] = {**self._call, **self._about}
        if parameters:
            start["custom_parameters"] = dict(parameters)
        start["media_format"] = {"encoding": encoding, "sample_rate": self._format.rate, "channels": 1}
        return self._write("start", start)

    def media(self, sound: bytes, timestamp_ms: int) -> str:
        """One frame from the caller, `timestamp_ms` after the stream began."""
        self._sequence += 1
        self._chunk += 1
        payload = b2a_base64(swapped(sound) if self._swapping else sound, newline=False).decode("ascii")
        return (
            f'{{"event":"media","sequence_number":"{self._sequence}","stream_id":{self._id},"media":{{"track":"inbound",'
            f'"chunk":"{self._chunk}","timestamp":"{timestamp_ms}","payload":"{payload}"}}}}'
        )

    def dtmf(self, digit: str, at: float = 0.0) -> str:
        """The caller pressed a key at `at` (seconds since the epoch). Raises WireError for anything that is not one."""
        occurred = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return self._write("dtmf", {"digit": digit_of(digit)}, occurred_at=occurred)

    def mark(self, name: str) -> str:
        """A mark comes back."""
        return self._write("mark", {"name": name})

    def stop(self) -> str:
        """The stream ends."""
        return self._write("stop", self._call)

    def error(self, code: int, title: str, detail: str) -> str:
        """Something of the server's could not be used (codes: `INVALID_MEDIA` and its neighbours). Errors bear no number."""
        payload = {"code": code, "title": title, "detail": detail}
        return _compact({"event": "error", "stream_id": self.stream_id, "payload": payload})

    def _write(self, event: str, part: Mapping[str, Any], **more: str) -> str:
        self._sequence += 1
        envelope = {"event": event, "sequence_number": str(self._sequence), "stream_id": self.stream_id, **more}
        return _compact({**envelope, event: part})


def _compact(message: Mapping[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))
