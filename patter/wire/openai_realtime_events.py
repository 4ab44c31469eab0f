"""OpenAI's realtime protocol, the server's side of it: texts in, small values out, whichever shape they have.

It owns reading both shapes' names and fields; it refuses to know sockets, time and what is done with an event. An event that
it does not know is `Other`; one that is broken is a WireError.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from patter.audio.format import AudioFormat
from patter.exceptions import WireError
from patter.wire.openai_realtime import BETA_FORMATS, FORMATS
from patter.wire.stream import object_of, part_of, text_of

LARGEST = 1e15
"""No time in ms, unix time or count of tokens comes near it."""

# --------------------------------------------------------------------------- the session and the caller


@dataclass(frozen=True, slots=True)
class SessionTold:
    """What the session is now. A format of None: the server did not say. `expires_at`: unix seconds, 0.0 if unknown.

    `new`: the session has just been made (nothing of ours is in it yet). `padding_ms` and `silence_ms`: what the voice
    detection adds before and waits after the caller's sound (None: not said)."""

    new: bool
    session_id: str
    model: str
    hears: AudioFormat | None
    plays: AudioFormat | None
    expires_at: float
    padding_ms: float | None
    silence_ms: float | None


@dataclass(frozen=True, slots=True)
class VoiceBegan:
    """The caller speaks: the utterance's sound begins `start_ms` after the first sound ever appended."""

    item_id: str
    start_ms: float


@dataclass(frozen=True, slots=True)
class VoiceEnded:
    """The caller is silent: the utterance's sound ends `end_ms` after the first sound ever appended."""

    item_id: str
    end_ms: float


@dataclass(frozen=True, slots=True)
class Committed:
    """The utterance is an item of the conversation now."""

    item_id: str


@dataclass(frozen=True, slots=True)
class CallerWords:
    """Words of an utterance: more of them, or (`final`) all of them with what writing them down cost."""

    item_id: str
    text: str
    final: bool = False
    amounts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallerUnclear:
    """An utterance's words could not be written down."""

    item_id: str
    code: str
    message: str


# --------------------------------------------------------------------------- responses


@dataclass(frozen=True, slots=True)
class ResponseBegan:
    """A response is being made."""

    response_id: str


@dataclass(frozen=True, slots=True)
class ItemBegan:
    """A response has a new item. `kind`: "message", "function_call", …"""

    response_id: str
    item_id: str
    kind: str


@dataclass(slots=True)  # not frozen: they come ten times a second in every call that speaks
class Sound:
    """More of an item's sound; `base64` is the same as it stood in the event."""

    response_id: str
    item_id: str
    data: bytes
    base64: str


@dataclass(frozen=True, slots=True)
class Words:
    """More of an item's text: the transcript of its sound, or the text of a silent session."""

    response_id: str
    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class CallMade:
    """The model's tool call is complete; `arguments` is its JSON text."""

    response_id: str
    item_id: str
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ResponseEnded:
    """Nothing more comes of a response. `status`: "completed", "cancelled", "failed" or "incomplete".

    `reason` says why it is cancelled or incomplete, `code` and `message` why it failed. `messages` are the ids of its
    messages, `calls` its complete tool calls, `amounts` its tokens by class (cached ones are a subset)."""

    response_id: str
    status: str
    reason: str = ""
    code: str = ""
    message: str = ""
    messages: tuple[str, ...] = ()
    calls: tuple[CallMade, ...] = ()
    amounts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """The server could not use something; `event_id` is the client event at fault, if it says so."""

    kind: str
    code: str
    message: str
    parameter: str = ""
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class Other:
    """An event that tells nothing we need."""

    kind: str


ServerEvent = (
    SessionTold | VoiceBegan | VoiceEnded | Committed | CallerWords | CallerUnclear | ResponseBegan | ItemBegan | Sound
    | Words | CallMade | ResponseEnded | Refused | Other
)  # fmt: skip


def read(text: str) -> ServerEvent:
    """The event that `text` is. Raises WireError if it cannot be read."""
    event = object_of(text)
    kind = event.get("type")
    if type(kind) is not str:
        raise WireError("type is missing or not a string")
    reader = _READERS.get(kind)
    return Other(kind) if reader is None else reader(event)


# --------------------------------------------------------------------------- readers


def _sound(event: dict[str, Any]) -> Sound:
    delta = event.get("delta")
    if type(delta) is not str:
        raise WireError("delta is missing or not a string")
    try:
        data = a2b_base64(delta, strict_mode=True)
    except (Base64Error, ValueError):
        raise WireError("delta is not base64") from None
    return Sound(_id(event, "response_id"), _id(event, "item_id"), data, delta)


def _words(event: dict[str, Any]) -> Words:
    return Words(_id(event, "response_id"), _id(event, "item_id"), _id(event, "delta"))


def _created(event: dict[str, Any]) -> SessionTold:
    return _session(part_of(event, "session"), new=True)


def _updated(event: dict[str, Any]) -> SessionTold:
    return _session(part_of(event, "session"), new=False)


def _session(session: dict[str, Any], *, new: bool) -> SessionTold:
    hearing, speaking = _inner(session, "audio", "input"), _inner(session, "audio", "output")
    flat = {name: known for known, name in BETA_FORMATS.items()}
    detection = _inner(session, "audio", "input", "turn_detection") or _inner(session, "turn_detection")
    return SessionTold(
        new,
        str(session.get("id") or ""),
        str(session.get("model") or ""),
        _format(hearing.get("format")) or flat.get(str(session.get("input_audio_format"))),
        _format(speaking.get("format")) or flat.get(str(session.get("output_audio_format"))),
        _number(session.get("expires_at")) or 0.0,
        _number(detection.get("prefix_padding_ms")),
        _number(detection.get("silence_duration_ms")),
    )


def _format(value: Any) -> AudioFormat | None:
    name = value.get("type") if isinstance(value, dict) else value
    return next((known for known, spelled in FORMATS.items() if spelled == name), None)


def _voice_began(event: dict[str, Any]) -> VoiceBegan:
    return VoiceBegan(_id(event, "item_id"), _ms(event, "audio_start_ms"))


def _voice_ended(event: dict[str, Any]) -> VoiceEnded:
    return VoiceEnded(_id(event, "item_id"), _ms(event, "audio_end_ms"))


def _committed(event: dict[str, Any]) -> Committed:
    return Committed(_id(event, "item_id"))


def _caller_delta(event: dict[str, Any]) -> CallerWords:
    return CallerWords(_id(event, "item_id"), text_of(event, "delta", "event", ""))


def _caller_done(event: dict[str, Any]) -> CallerWords:
    usage = event.get("usage")
    amounts: dict[str, float] = {}
    if isinstance(usage, dict) and usage.get("type") == "duration":
        amounts["audio_seconds"] = _number(usage.get("seconds")) or 0.0
    elif isinstance(usage, dict):
        amounts = {name: _number(usage.get(name)) or 0.0 for name in ("input_tokens", "output_tokens")}
    return CallerWords(_id(event, "item_id"), text_of(event, "transcript", "event"), True, amounts)


def _caller_failed(event: dict[str, Any]) -> CallerUnclear:
    error = event.get("error") if isinstance(event.get("error"), dict) else {}
    assert isinstance(error, dict)
    return CallerUnclear(_id(event, "item_id"), str(error.get("code") or ""), str(error.get("message") or ""))


def _began(event: dict[str, Any]) -> ResponseBegan:
    return ResponseBegan(_id(part_of(event, "response"), "id"))


def _item_began(event: dict[str, Any]) -> ItemBegan:
    item = part_of(event, "item")
    return ItemBegan(_id(event, "response_id"), _id(item, "id"), _id(item, "type"))


def _item_done(event: dict[str, Any]) -> CallMade | Other:
    item, response_id = part_of(event, "item"), _id(event, "response_id")
    call = _call(item, response_id)
    return Other("response.output_item.done") if call is None else call


def _call(item: dict[str, Any], response_id: str) -> CallMade | None:
    """The tool call that an item is; None if it is another one, or was broken off."""
    if item.get("type") != "function_call" or item.get("status", "completed") != "completed":
        return None
    arguments = text_of(item, "arguments", "item", "")
    return CallMade(response_id, str(item.get("id") or ""), _id(item, "call_id"), _id(item, "name"), arguments)


def _ended(event: dict[str, Any]) -> ResponseEnded:
    response = part_of(event, "response")
    response_id = _id(response, "id")
    output = response.get("output") or []
    if not isinstance(output, list) or not all(isinstance(item, dict) for item in output):
        raise WireError("response.output is not a list of objects")
    details, error = _inner(response, "status_details"), _inner(response, "status_details", "error")
    return ResponseEnded(
        response_id,
        text_of(response, "status", "response", "completed"),
        str(details.get("reason") or ""),
        str(error.get("code") or error.get("type") or ""),
        str(error.get("message") or ""),
        tuple(str(item.get("id") or "") for item in output if item.get("type") == "message"),
        tuple(call for item in output if (call := _call(item, response_id)) is not None),
        tokens(_inner(response, "usage")),
    )


def tokens(usage: dict[str, Any]) -> dict[str, float]:
    """Tokens by class, as the price list names them. Older payloads say less: what has no class counts as text."""
    taken, given = _inner(usage, "input_token_details"), _inner(usage, "output_token_details")
    cached = _inner(usage, "input_token_details", "cached_tokens_details")
    all_in, all_out = _number(usage.get("input_tokens")) or 0.0, _number(usage.get("output_tokens")) or 0.0
    all_cached = _number(taken.get("cached_tokens")) or 0.0
    audio_in, audio_out = _number(taken.get("audio_tokens")) or 0.0, _number(given.get("audio_tokens")) or 0.0
    text_in, text_out = _number(taken.get("text_tokens")), _number(given.get("text_tokens"))
    text_in = all_in - audio_in if text_in is None else text_in
    cached_text, cached_audio = _number(cached.get("text_tokens")), _number(cached.get("audio_tokens"))
    if cached_text is None:  # counted as text as far as it can be: what is cached is a subset of what was taken in
        cached_text = min(all_cached - (cached_audio or 0.0), text_in)
    cached_audio = min(all_cached - cached_text, audio_in) if cached_audio is None else cached_audio
    amounts = {
        "input_text_tokens": text_in,
        "cached_text_tokens": cached_text,
        "input_audio_tokens": audio_in,
        "cached_audio_tokens": cached_audio,
        "output_text_tokens": all_out - audio_out if text_out is None else text_out,
        "output_audio_tokens": audio_out,
    }
    return {name: count for name, count in amounts.items() if count > 0}


def _refused(event: dict[str, Any]) -> Refused:
    error = part_of(event, "error")
    kind, code, message, parameter, event_id = (
        str(error.get(name) or "") for name in ("type", "code", "message", "param", "event_id")
    )
    return Refused(kind, code, message, parameter, event_id)


# --------------------------------------------------------------------------- fields


def _id(part: dict[str, Any], name: str) -> str:
    value = part.get(name)
    if type(value) is not str:
        raise WireError(f"{name} is missing or not a string")
    return value


def _ms(event: dict[str, Any], name: str) -> float:
    value = _number(event.get(name))
    if value is None or value < 0:
        raise WireError(f"{name} is missing or not a time in ms")
    return value


def _number(value: Any) -> float | None:
    if type(value) is not int and type(value) is not float:
        return None
    return float(value) if -LARGEST <= value <= LARGEST else None  # no infinity, nor what is no number at all


def _inner(part: dict[str, Any], *names: str) -> dict[str, Any]:
    """The object under a path of names; {} when there is none."""
    for name in names:
        inner = part.get(name)
        if not isinstance(inner, dict):
            return {}
        part = inner
    return part


_READERS: dict[str, Callable[[dict[str, Any]], ServerEvent]] = {
    "response.output_audio.delta": _sound,
    "response.audio.delta": _sound,
    "response.output_audio_transcript.delta": _words,
    "response.audio_transcript.delta": _words,
    "response.output_text.delta": _words,
    "response.text.delta": _words,
    "session.created": _created,
    "session.updated": _updated,
    "input_audio_buffer.speech_started": _voice_began,
    "input_audio_buffer.speech_stopped": _voice_ended,
    "input_audio_buffer.committed": _committed,
    "conversation.item.input_audio_transcription.delta": _caller_delta,
    "conversation.item.input_audio_transcription.completed": _caller_done,
    "conversation.item.input_audio_transcription.failed": _caller_failed,
    "response.created": _began,
    "response.output_item.added": _item_began,
    "response.output_item.done": _item_done,
    "response.done": _ended,
    "error": _refused,
}
