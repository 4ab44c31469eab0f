"""The parameters of Twilio's REST requests: which exist, which are required, what may stand in them, and the refusals.

It owns names, shapes and error codes, as tables; it refuses to know calls and what a request does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from patter.exceptions import WireError
from patter.wire import twiml

BAD_REQUEST = 20001
NOT_FOUND = 20404
LONGEST_RING_S = 600
LONGEST_CALL_S = 14_400
E164 = re.compile(r"\+[1-9]\d{6,14}")
_KEYS = re.compile(r"[0-9A-D#*wW]{1,32}")
_SID = re.compile(r"[A-Z]{2}[0-9a-f]{32}")


class Refused(Exception):
    """A request that is not done. `innocent`: even a faultless program meets it, because a call may end at any moment."""

    def __init__(self, code: int, message: str, status: int = 400, *, innocent: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.innocent = code, message, status, innocent

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return error_body(self.status, self.code, self.message)


def error_body(status: int, code: int, message: str) -> dict[str, Any]:
    """An error as the API words it."""
    return {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }


Check = Callable[[str], str]
"""Says what is wrong with a value, "" = nothing."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. `code`: of its refusal; `many`: it may be given more than once; `missing`: the refusal if it is not."""

    check: Check
    code: int = BAD_REQUEST
    many: bool = False
    missing: int = 0


@dataclass(frozen=True, slots=True)
class Fields:
    """A form that was checked."""

    values: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, list[str]] = field(default_factory=dict)

    def get(self, name: str, default: str = "") -> str:
        """The value, or `default`."""
        return self.values.get(name, default)

    def whole(self, name: str, default: int) -> int:
        """The value as a number."""
        return int(self.values.get(name, default))

    def __contains__(self, name: str) -> bool:
        return name in self.values or name in self.lists


def read_form(pairs: Sequence[tuple[str, str]], table: Mapping[str, Parameter]) -> Fields:
    """The form, if all of it is right. Raises Refused for the first thing that is not."""
    values: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        parameter = table.get(name)
        if parameter is None:
            raise Refused(BAD_REQUEST, f"The parameter '{name}' does not exist here")
        if problem := parameter.check(value):
            raise Refused(parameter.code, f"The parameter '{name}' {problem}")
        if parameter.many:
            lists.setdefault(name, []).append(value)
        elif name in values:
            raise Refused(BAD_REQUEST, f"The parameter '{name}' was given twice")
        else:
            values[name] = value
    for name, parameter in table.items():
        if parameter.missing and name not in values:
            raise Refused(parameter.missing, f"A '{name}' parameter is required")
    return Fields(values, lists)


# --------------------------------------------------------------------------- single values


def _any(_: str) -> str:
    return ""


def _one_of(*names: str) -> Check:
    return lambda value: "" if value in names else f"must be one of {', '.join(names)}"


def _whole(low: int, high: int) -> Check:
    def check(value: str) -> str:
        right = value.isascii() and value.isdecimal() and low <= int(value) <= high
        return "" if right else f"must be a whole number from {low} to {high}"

    return check


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is not an absolute http:// or https:// URL"
    return "has an underscore in its host" if "_" in parts.hostname else ""


def _url_or_nothing(value: str) -> str:
    return _url(value) if value else ""


def _number(value: str) -> str:
    return "" if E164.fullmatch(value) else f"is not a phone number: {value[:40]!r}"


def _sid_or_nothing(value: str) -> str:
    return "" if not value or _SID.fullmatch(value) else "is not a SID"


def _inline(value: str) -> str:
    if len(value) > twiml.INLINE_LIMIT:
        return f"is longer than {twiml.INLINE_LIMIT} characters"
    try:
        twiml.read(value)
    except WireError as problem:
        return f"is no TwiML: {problem}"
    return ""


_METHOD = Parameter(_one_of("GET", "POST"))
_ADDRESS = Parameter(_url)
_WHATEVER = Parameter(_any)
_FLAG = Parameter(_one_of("true", "false"))

_RECORDING = {
    "RecordingChannels": Parameter(_one_of("mono", "dual")),
    "RecordingTrack": Parameter(_one_of("inbound", "outbound", "both")),
    "RecordingStatusCallback": _ADDRESS,
    "RecordingStatusCallbackMethod": _METHOD,
    "RecordingStatusCallbackEvent": Parameter(_one_of("in-progress", "completed", "absent"), many=True),
    "RecordingConfigurationId": _WHATEVER,
    "Trim": Parameter(_one_of("trim-silence", "do-not-trim")),
}
_GUIDANCE = {
    "Url": Parameter(_url, 21205),
    "Method": _METHOD,
    "FallbackUrl": _ADDRESS,
    "FallbackMethod": _METHOD,
    "Twiml": Parameter(_inline),
    "StatusCallback": _ADDRESS,
    "StatusCallbackMethod": _METHOD,
    "TimeLimit": Parameter(_whole(1, LONGEST_CALL_S)),
}
CREATE_CALL = {
    "To": Parameter(_number, 21211, missing=21201),
    "From": Parameter(_number, 21212, missing=21213),
    **_GUIDANCE,
    **_RECORDING,
    "ApplicationSid": Parameter(_sid_or_nothing, 21218),
    "StatusCallbackEvent": Parameter(_one_of("initiated", "ringing", "answered", "completed"), many=True),
    "SendDigits": Parameter(lambda value: "" if _KEYS.fullmatch(value) else "must be up to 32 of 0-9 A-D # * w W"),
    "Timeout": Parameter(_whole(1, LONGEST_RING_S)),
    "Record": _FLAG,
    "MachineDetection": Parameter(_one_of("Enable", "DetectMessageEnd")),
    "MachineDetectionTimeout": Parameter(_whole(3, 120)),
    "MachineDetectionSpeechThreshold": Parameter(_whole(1000, 6000)),
    "MachineDetectionSpeechEndThreshold": Parameter(_whole(500, 5000)),
    "MachineDetectionSilenceTimeout": Parameter(_whole(2000, 10_000)),
    "AsyncAmd": _FLAG,
    "AsyncAmdStatusCallback": _ADDRESS,
    "AsyncAmdStatusCallbackMethod": _METHOD,
    **dict.fromkeys(("CallReason", "CallToken", "Byoc", "SipAuthUsername", "SipAuthPassword"), _WHATEVER),
    **dict.fromkeys(("CallerId", "Passports", "ClientNotificationUrl"), _WHATEVER),
}
UPDATE_CALL = {**_GUIDANCE, "Status": Parameter(_one_of("completed", "canceled"))}
START_RECORDING = dict(_RECORDING)
CONTROL_RECORDING = {
    "Status": Parameter(_one_of("paused", "in-progress", "stopped"), missing=BAD_REQUEST),
    "PauseBehavior": Parameter(_one_of("skip", "silence")),
}
UPDATE_NUMBER = {
    "VoiceUrl": Parameter(_url_or_nothing, 21205),
    "VoiceFallbackUrl": Parameter(_url_or_nothing),
    "StatusCallback": Parameter(_url_or_nothing),
    **dict.fromkeys(("VoiceMethod", "VoiceFallbackMethod", "StatusCallbackMethod"), _METHOD),
    **dict.fromkeys(("VoiceApplicationSid", "TrunkSid"), Parameter(_sid_or_nothing)),
    "VoiceReceiveMode": Parameter(_one_of("voice", "fax")),
    "VoiceCallerIdLookup": _FLAG,
    "FriendlyName": _WHATEVER,
}
_PAGE = {
    "PageSize": Parameter(_whole(1, 1000)),
    "Page": Parameter(_whole(0, 1_000_000)),
    "PageToken": _WHATEVER,
}
LIST_NUMBERS = {**_PAGE, "PhoneNumber": _WHATEVER, "FriendlyName": _WHATEVER}
LIST_CALLS = {**_PAGE, "To": _WHATEVER, "From": _WHATEVER, "Status": _WHATEVER, "ParentCallSid": _WHATEVER}
LIST_RECORDINGS = dict(_PAGE)
NOTHING: dict[str, Parameter] = {}
