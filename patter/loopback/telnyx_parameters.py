"""The parameters of Telnyx' call commands: which exist, which are required, and what may stand in them.

It owns names and shapes, as tables; it refuses to know calls and what a command does.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from patter.loopback.telnyx_refusal import Refusal

Check = Callable[[Any], tuple[str, str] | None]
"""Says what is wrong with a value: a code and half a sentence; None = it is right."""

EVENTS = frozenset(
    "call.initiated call.answered call.bridged call.hangup call.speak.started call.speak.ended call.dtmf.received "
    "call.recording.saved call.machine.detection.ended call.machine.greeting.ended call.machine.premium.detection.ended "
    "call.machine.premium.greeting.ended streaming.started streaming.stopped streaming.failed".split()
)
DETECTION = ("premium", "detect", "detect_beep", "detect_words", "greeting_end", "disabled")
CODECS = ("PCMU", "PCMA", "L16")  # of the real list this carrier does not speak G722, OPUS and AMR-WB
RATES = {"PCMU": (8000,), "PCMA": (8000,), "L16": (16000, 24000, 48000)}
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_E164 = re.compile(r"\+[1-9]\d{1,14}")


# --------------------------------------------------------------------------- single values


def _text(longest: int, shortest: int = 1) -> Check:
    def check(value: Any) -> tuple[str, str] | None:
        if not isinstance(value, str):
            return "10015", "must be a string"
        if not shortest <= len(value) <= longest:
            return "10015", f"must have {shortest} to {longest} characters, not {len(value)}"
        return None

    return check


def _one_of(*values: str) -> Check:
    return lambda value: None if value in values else ("10032", f"must be one of {', '.join(values)}")


def _whole(low: int, high: int) -> Check:
    def check(value: Any) -> tuple[str, str] | None:
        if type(value) is int and low <= value <= high:
            return None
        return "10015", f"must be a whole number from {low} to {high}"

    return check


def _flag(value: Any) -> tuple[str, str] | None:
    return None if isinstance(value, bool) else ("10015", "must be true or false")


def _number(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, str):
        return "10002", "must be a string"
    if value.startswith("sip:") and "@" in value:
        return None
    return None if _E164.fullmatch(value) else ("10016", 'must be a number such as "+15551234567" or a SIP URI')


def _state(value: Any) -> tuple[str, str] | None:
    try:
        b64decode(value, validate=True)
    except (ValueError, TypeError):
        return "90017", "must be valid base64"
    return None


def _url(*schemes: str) -> Check:
    def check(value: Any) -> tuple[str, str] | None:
        parts = urlsplit(value) if isinstance(value, str) else None
        if parts is None or parts.scheme not in schemes or not parts.hostname or len(value) > 2048:
            return "10015", f"must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}"
        return None

    return check


def _pairs(value: Any) -> tuple[str, str] | None:
    right = isinstance(value, list) and all(
        isinstance(item, dict) and item.keys() == {"name", "value"} and all(isinstance(v, str) for v in item.values())
        for item in value
    )
    return None if right else ("10015", 'must be a list of {"name": …, "value": …} with strings')


def _object(value: Any) -> tuple[str, str] | None:
    return None if isinstance(value, dict) else ("10015", "must be an object")


def _urls_by_event(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        return "10015", "must be an object"
    for event, urls in value.items():
        if event not in EVENTS:
            return "90057", f"has the unknown event {event!r}"
        if not isinstance(urls, list) or any(_WEB(url) for url in urls) or not urls:
            return "10015", f"must have a list of URLs for {event}"
    return None


def _policies(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        return "10015", "must be an object"
    for event, policy in value.items():
        waits = policy.get("retries_ms") if isinstance(policy, dict) else None
        if not isinstance(waits, list) or any(type(ms) is not int or ms < 0 for ms in waits):
            return "10015", f'must have {{"retries_ms": […]}} for {event}'
        if len(waits) > 5 or sum(waits) > 60_000:
            return "10015", f"may retry {event} five times within 60000 ms at most"
    return None


_WEB = _url("http", "https")
_DIGITS = re.compile(r"[0-9A-D*#wW]{1,100}")


def _digits(value: Any) -> tuple[str, str] | None:
    right = isinstance(value, str) and _DIGITS.fullmatch(value)
    return None if right else ("10015", "may have 0-9, A-D, *, #, w and W only")


# --------------------------------------------------------------------------- commands

_COMMON: dict[str, Check] = {"client_state": _state, "command_id": _text(255)}
_WEBHOOKS: dict[str, Check] = {
    "webhook_url": _WEB,
    "webhook_url_method": _one_of("POST"),  # GET exists; nobody could verify its signature
    "webhook_urls": _urls_by_event,
    "webhook_urls_method": _one_of("POST"),
    "webhook_retries_policies": _policies,
}
_STREAM: dict[str, Check] = {
    "stream_url": _url("wss", "ws"),
    "stream_track": _one_of("inbound_track"),  # the other tracks exist; this carrier does not send them
    "stream_codec": _one_of(*CODECS, "default"),
    "stream_bidirectional_mode": _one_of("rtp", "mp3"),
    "stream_bidirectional_codec": _one_of(*CODECS),
    "stream_bidirectional_target_legs": _one_of("self"),  # nor does it play into other legs
}
_STREAM_START: dict[str, Check] = {  # the answer command does not have these
    "stream_bidirectional_sampling_rate": _whole(8000, 48000),
    "stream_auth_token": _text(4000),
    "custom_parameters": _pairs,
}
_RECORD: dict[str, Check] = {
    "record": _one_of("record-from-answer"),
    "record_channels": _one_of("single", "dual"),
    "record_format": _one_of("wav"),  # mp3 exists; this carrier writes WAV only
}
_PARTY: dict[str, Check] = {
    "from_display_name": _text(128),
    "privacy": _one_of("id", "none"),
    "timeout_secs": _whole(5, 600),
    "time_limit_secs": _whole(30, 14400),
    "answering_machine_detection": _one_of(*DETECTION),
    "answering_machine_detection_config": _object,
    "park_after_unbridge": _one_of("self"),
}


@dataclass(frozen=True, slots=True)
class Command:
    """What may and what must be given."""

    fields: Mapping[str, Check]
    required: tuple[str, ...] = field(default=())


DIAL = Command(
    _COMMON | _WEBHOOKS | _STREAM | _STREAM_START | _RECORD | _PARTY
    | {"connection_id": _text(64), "to": _number, "from": _number, "link_to": _text(256), "bridge_on_answer": _flag,
       "bridge_intent": _flag},
    ("connection_id", "to", "from"),
)  # fmt: skip
COMMANDS: dict[str, Command] = {
    "answer": Command(_COMMON | _WEBHOOKS | _STREAM | _RECORD | {"preferred_codecs": _text(256)}),
    "reject": Command(
        _COMMON | {"cause": _one_of("CALL_REJECTED", "USER_BUSY", "NOT_FOUND", "TEMPORARILY_UNAVAILABLE")}, ("cause",)
    ),
    "hangup": Command(_COMMON | {"reason": _text(256)}),
    "transfer": Command(
        _COMMON | _WEBHOOKS | _PARTY | {"to": _number, "from": _number, "target_leg_client_state": _state}, ("to",)
    ),
    "bridge": Command(
        _COMMON | {"call_control_id": _text(256), "park_after_unbridge": _one_of("self")}, ("call_control_id",)
    ),
    "speak": Command(
        _COMMON
        | {
            "payload": _text(3000),
            "voice": _text(256),
            "payload_type": _one_of("text", "ssml"),
            "service_level": _one_of("basic", "premium"),
            "language": _text(16),
            "stop": _one_of("current", "all"),
            "target_legs": _one_of("self"),
        },
        ("payload", "voice"),
    ),
    "send_dtmf": Command(_COMMON | {"digits": _digits, "duration_millis": _whole(100, 500)}, ("digits",)),
    "record_start": Command(
        _COMMON
        | {
            "channels": _one_of("single", "dual"),
            "format": _one_of("wav"),
            "max_length": _whole(0, 14400),
            "recording_track": _one_of("both"),
            "custom_file_name": _text(40),
        },
        ("channels", "format"),
    ),
    "record_stop": Command(_COMMON),
    "streaming_start": Command(_COMMON | _STREAM | _STREAM_START, ("stream_url",)),
    "streaming_stop": Command(_COMMON | {"stream_id": _text(64)}),
    "client_state_update": Command(_COMMON, ("client_state",)),
}


def check(command: Command, fields: Mapping[str, Any]) -> list[str]:
    """Raise Refusal for the first thing that is wrong; returns sentences on what would be accepted and then ignored."""
    for name in command.required:
        if name not in fields:
            raise Refusal("10004", f"{name} is required", f"/{name}")
    for name, value in fields.items():
        if name not in command.fields:
            raise Refusal("10015", f"{name} is no parameter of this command", f"/{name}")
        fault = command.fields[name](value)
        if fault is not None:
            raise Refusal(fault[0], f"{name} {fault[1]}", f"/{name}")
    return _check_stream(fields)


def _check_stream(fields: Mapping[str, Any]) -> list[str]:
    given = [name for name in fields if name in _STREAM or name in _STREAM_START]
    if given and "stream_url" not in fields:
        raise Refusal("10004", f"{given[0]} needs a stream_url", "/stream_url")
    codec = fields.get("stream_bidirectional_codec", "PCMU")
    rate = fields.get("stream_bidirectional_sampling_rate")
    if rate is not None and rate not in RATES[codec]:
        raise Refusal("10032", f"{codec} cannot have {rate} Hz", "/stream_bidirectional_sampling_rate")
    url = urlsplit(fields.get("stream_url", ""))
    if url.scheme == "ws" and url.hostname not in _THIS_MACHINE:
        return ["stream_url should begin with wss://: anybody on the way can listen"]
    if fields.get("stream_bidirectional_mode", "mp3") != "rtp" and "stream_bidirectional_codec" in fields:
        return ["stream_bidirectional_codec is ignored without stream_bidirectional_mode rtp"]
    return []
