"""ElevenLabs' Agents (ConvAI) socket: text frames of JSON, read into plain values and written from them.

It owns the vendor's spelling of a conversation; it refuses to know sockets, replies and turns. Events that this reader does
not know are not errors: the vendor adds some every few months.
"""

from __future__ import annotations

import json
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from patter import json_text
from patter.audio.format import MULAW_8K, AudioFormat
from patter.exceptions import WireError

FORMATS: dict[str, AudioFormat] = {
    "ulaw_8000": MULAW_8K,
    **{f"pcm_{rate}": AudioFormat("pcm_s16le", rate) for rate in (8000, 16000, 22050, 24000, 44100, 48000)},
}
"""The vendor's names of the formats that a stored agent may be set to, for either direction."""

# --------------------------------------------------------------------------- what the vendor says


@dataclass(frozen=True, slots=True)
class Metadata:
    """The conversation has begun. The stored agent decides both formats; they may differ."""

    conversation_id: str
    plays: AudioFormat
    hears: AudioFormat


@dataclass(slots=True)  # not frozen: there are many a second
class AgentAudio:
    """Sound of the agent in base64 (`sound_of` decodes it). `spoken`: the characters it says, where the vendor tells."""

    payload: str
    event_id: int | None
    spoken: str = ""


@dataclass(frozen=True, slots=True)
class AgentSaid:
    """All the words of a reply, told before they are heard."""

    text: str
    event_id: int | None


@dataclass(frozen=True, slots=True)
class AgentCorrected:
    """What the vendor thinks was heard of a reply that was interrupted (the caller's side of a call knows better)."""

    original: str
    corrected: str
    event_id: int | None


@dataclass(frozen=True, slots=True)
class AgentDone:
    """All of a reply has been sent (only agents that are set to tell it do)."""

    event_id: int | None


@dataclass(frozen=True, slots=True)
class CallerSaid:
    """Words of the caller; tentative ones are replaced by the next."""

    text: str
    tentative: bool = False


@dataclass(frozen=True, slots=True)
class Interruption:
    """The caller took the floor: everything older than `event_id` is void."""

    event_id: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a pong with the same `event_id`."""

    event_id: int


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """A tool on our side is wanted; `arguments` is JSON text."""

    tool_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolDone:
    """A tool on the vendor's side was used. `kind`: "system", "webhook", "mcp" or "client"."""

    tool_id: str
    name: str
    kind: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the conversation is about to be closed. `kind` is the vendor's word for it, or ""."""

    code: int
    kind: str = ""
    said: str = ""


Event = (
    Metadata
    | AgentAudio
    | AgentSaid
    | AgentCorrected
    | AgentDone
    | CallerSaid
    | Interruption
    | Ping
    | ToolCalled
    | ToolDone
    | Failure
)


def read(text: str | bytes) -> Event | None:
    """One frame of the vendor's; None for events that do not matter here. Raises WireError for what is no such frame."""
    if isinstance(text, bytes):
        raise WireError("a binary frame in a conversation of text frames")
    try:
        message = json_text.loads(text)
    except ValueError:
        raise WireError("a frame that is not JSON") from None
    except RecursionError:
        raise WireError("a frame that is nested too deeply") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise WireError("a frame without a type")
    reader = _READERS.get(message["type"])
    return reader(message) if reader is not None else None


def sound_of(payload: str) -> bytes:
    """The bytes of an `AgentAudio`. Raises WireError if it is not base64."""
    try:
        return a2b_base64(payload, strict_mode=True)
    except (Base64Error, ValueError) as error:
        raise WireError(f"audio is not base64: {error}") from None


def _body(message: Mapping[str, Any], key: str) -> dict[str, Any]:
    body = message.get(key)
    if not isinstance(body, dict):
        raise WireError(f"{message['type']} without its {key}")
    return body


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise WireError(f"{key} is not a text")
    return value


def _id(body: Mapping[str, Any]) -> int | None:
    """The running number of an event; servers before 2025 left it out of some."""
    value = body.get("event_id")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise WireError("event_id is not a whole number")
    return value


def _needed_id(body: Mapping[str, Any]) -> int:
    value = _id(body)
    if value is None:
        raise WireError("event_id is missing")
    return value


def _metadata(message: dict[str, Any]) -> Metadata:
    body = _body(message, "conversation_initiation_metadata_event")
    formats = [FORMATS.get(_text(body, key)) for key in ("agent_output_audio_format", "user_input_audio_format")]
    if formats[0] is None or formats[1] is None:
        raise WireError("the stored agent uses an audio format that is not known here")
    return Metadata(_text(body, "conversation_id"), formats[0], formats[1])


def _audio(message: dict[str, Any]) -> AgentAudio:
    body = _body(message, "audio_event")
    alignment = body.get("alignment")
    chars = alignment.get("chars") if isinstance(alignment, dict) else None
    spoken = "".join(char for char in chars if isinstance(char, str)) if isinstance(chars, list) else ""
    return AgentAudio(_text(body, "audio_base_64"), _id(body), spoken)


def _said(message: dict[str, Any]) -> AgentSaid:
    body = _body(message, "agent_response_event")
    return AgentSaid(_text(body, "agent_response").strip(), _id(body))


def _corrected(message: dict[str, Any]) -> AgentCorrected:
    body = _body(message, "agent_response_correction_event")
    return AgentCorrected(_text(body, "original_agent_response"), _text(body, "corrected_agent_response"), _id(body))


def _done(message: dict[str, Any]) -> AgentDone:
    body = message.get("agent_response_complete_event")
    return AgentDone(_id(body) if isinstance(body, dict) else None)


def _heard(message: dict[str, Any]) -> CallerSaid:
    return CallerSaid(_text(_body(message, "user_transcription_event"), "user_transcript").strip())


def _guessed(message: dict[str, Any]) -> CallerSaid:
    body = _body(message, "tentative_user_transcription_event")
    return CallerSaid(_text(body, "user_transcript").strip(), tentative=True)


def _tool_called(message: dict[str, Any]) -> ToolCalled:
    body = _body(message, "client_tool_call")
    parameters = body.get("parameters")
    arguments = json.dumps(parameters if isinstance(parameters, dict) else {})
    return ToolCalled(_text(body, "tool_call_id"), _text(body, "tool_name"), arguments)


def _tool_done(message: dict[str, Any]) -> ToolDone:
    body = _body(message, "agent_tool_response")
    ok = body.get("is_error") is not True and body.get("is_called") is not False
    return ToolDone(str(body.get("tool_call_id") or ""), _text(body, "tool_name"), str(body.get("tool_type") or ""), ok)


def _failure(message: dict[str, Any]) -> Failure:
    body = _body(message, "error_event")
    code = body.get("code")
    said = next((str(body[key]) for key in ("message", "reason", "debug_message") if body.get(key)), "")
    return Failure(code if isinstance(code, int) else 0, str(body.get("error_type") or ""), said)


_READERS: dict[str, Callable[[dict[str, Any]], Event]] = {
    "conversation_initiation_metadata": _metadata,
    "audio": _audio,
    "agent_response": _said,
    "agent_response_correction": _corrected,
    "agent_response_complete": _done,
    "user_transcript": _heard,
    "tentative_user_transcript": _guessed,
    "interruption": lambda message: Interruption(_needed_id(_body(message, "interruption_event"))),
    "ping": lambda message: Ping(_needed_id(_body(message, "ping_event"))),
    "client_tool_call": _tool_called,
    "agent_tool_response": _tool_done,
    "error": _failure,
}

# --------------------------------------------------------------------------- what we say


@dataclass(frozen=True, slots=True)
class Overrides:
    """What of the stored agent is replaced for this conversation; None leaves it as it is stored.

    A `first_message` of "" lets the caller speak first."""

    prompt: str | None = None
    first_message: str | None = None
    language: str | None = None
    voice_id: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are set, as the vendor calls them."""
        return tuple(name for name in self.__dataclass_fields__ if getattr(self, name) is not None)

    def to_dict(self) -> dict[str, Any]:
        """As `conversation_config_override` wants it; {} when nothing is replaced."""
        agent: dict[str, Any] = {} if self.prompt is None else {"prompt": {"prompt": self.prompt}}
        agent |= {key: value for key in ("first_message", "language") if (value := getattr(self, key)) is not None}
        said: dict[str, Any] = {"agent": agent} if agent else {}
        return said if self.voice_id is None else said | {"tts": {"voice_id": self.voice_id}}


@dataclass(frozen=True, slots=True)
class Initiation:
    """The first message: how this conversation differs from the stored agent."""

    overrides: Overrides = Overrides()
    variables: Mapping[str, Any] = field(default_factory=dict)

    def write(self) -> str:
        """The frame."""
        message: dict[str, Any] = {"type": "conversation_initiation_client_data"}
        if overrides := self.overrides.to_dict():
            message["conversation_config_override"] = overrides
        if self.variables:
            message["dynamic_variables"] = dict(self.variables)
        return json.dumps(message)


def write_audio(payload: str) -> str:
    """A frame of the caller's sound, from its base64. The only message without a type."""
    return '{"user_audio_chunk":"' + payload + '"}'


def write_pong(event_id: int) -> str:
    """The answer to a ping."""
    return '{"type":"pong","event_id":' + str(event_id) + "}"


def write_tool_result(tool_id: str, result: str, *, is_error: bool) -> str:
    """The result of a tool on our side; the vendor takes texts only."""
    message = {"type": "client_tool_result", "tool_call_id": tool_id, "result": result, "is_error": is_error}
    return json.dumps(message)


def write_user_message(text: str) -> str:
    """A turn of the caller as text: the agent answers it."""
    return json.dumps({"type": "user_message", "text": text})


def write_context(text: str, context_id: str = "") -> str:
    """Something the agent should know and not answer. A later one with the same `context_id` replaces it."""
    message = {"type": "contextual_update", "text": text}
    return json.dumps(message | ({"context_id": context_id} if context_id else {}))


def write_activity() -> str:
    """The caller is there: the agent should not begin to speak of itself for a moment."""
    return '{"type":"user_activity"}'
