"""OpenAI's Realtime sockets when they only write down what they hear (session type "transcription"): events both ways.

It owns the shape of the session and what its events mean; it refuses to know sockets, clocks and calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from patter.exceptions import WireError
from patter.wire.openai_transcription import MOST, Usage, iso_639_1, read_usage, takes_keywords, takes_prompt

QUERY = "intent=transcription"
"""What the address of such a socket ends in; with a model in it, it would be a conversation's."""

PREFIX_MS = 300
"""How much before the first sound `speech_started` points, as we ask for it."""

COMMIT = '{"type":"input_audio_buffer.commit"}'
LEAST_COMMIT_MS = 100  # less is refused


def hears_by_itself(model: str) -> bool:
    """Whether the session may find voice and pauses; the models made for live sound refuse to, and must be told."""
    return not model.startswith(("gpt-live-transcribe", "gpt-realtime-whisper"))


# -------------------------------------------------------------------------------------------------------- what we say


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """How the session listens. `audio` is "audio/pcm" (24 kHz), "audio/pcmu" or "audio/pcma".

    `turn_detection`: "server_vad", "semantic_vad" or "" (we say where an utterance ends). `silence_ms` and `threshold` are
    server_vad's, `eagerness` is semantic_vad's. `noise_reduction`: "", "near_field" or "far_field". `transcription` goes
    into the transcription's settings as it is."""

    model: str
    audio: str
    language: str = ""
    keyterms: Sequence[str] = ()
    turn_detection: str = "server_vad"
    silence_ms: int = 300
    threshold: float = 0.5
    eagerness: str = "auto"
    noise_reduction: str = ""
    transcription: Mapping[str, Any] = field(default_factory=dict)


def session_update(request: LiveRequest) -> str:
    """The message that makes the session what `request` says."""
    transcription: dict[str, Any] = {"model": request.model}
    if code := iso_639_1(request.language):
        transcription["language"] = code
    if request.keyterms and takes_keywords(request.model):
        transcription["keywords"] = list(request.keyterms)
    elif request.keyterms and takes_prompt(request.model):
        transcription["prompt"] = ", ".join(request.keyterms)
    form: dict[str, Any] = {"type": request.audio}
    if request.audio == "audio/pcm":
        form["rate"] = 24000
    hearing: dict[str, Any] = {
        "format": form,
        "transcription": transcription | dict(request.transcription),
        "turn_detection": _turn_detection(request),
    }
    if request.noise_reduction:
        hearing["noise_reduction"] = {"type": request.noise_reduction}
    session = {"type": "transcription", "audio": {"input": hearing}}
    return json.dumps({"type": "session.update", "session": session})


def _turn_detection(request: LiveRequest) -> dict[str, Any] | None:
    if request.turn_detection == "semantic_vad":
        return {"type": "semantic_vad", "eagerness": request.eagerness}
    if not request.turn_detection:
        return None
    return {
        "type": "server_vad",
        "threshold": request.threshold,
        "prefix_padding_ms": PREFIX_MS,
        "silence_duration_ms": request.silence_ms,
    }


def append(sound_base64: str) -> str:
    """The message that adds sound; the base64 is trusted to be base64."""
    return f'{{"type":"input_audio_buffer.append","audio":"{sound_base64}"}}'


# ------------------------------------------------------------------------------------------------- what the vendor says


@dataclass(frozen=True, slots=True)
class SessionReady:
    """The session is as it says. `audio` is the format it takes ("" if it does not say)."""

    audio: str


@dataclass(frozen=True, slots=True)
class VoiceBegan:
    """Somebody speaks; the utterance's sound begins at `start_ms` of what was appended (padding included)."""

    item: str
    start_ms: float


@dataclass(frozen=True, slots=True)
class VoiceEnded:
    """The pause at the end of the utterance ends at `end_ms` of what was appended."""

    item: str
    end_ms: float


@dataclass(frozen=True, slots=True)
class Committed:
    """The sound so far is an utterance of its own now."""

    item: str


@dataclass(frozen=True, slots=True)
class Words:
    """More words of an utterance."""

    item: str
    text: str


@dataclass(frozen=True, slots=True)
class Completed:
    """All words of an utterance."""

    item: str
    text: str
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Wordless:
    """The utterance could not be transcribed."""

    item: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something is wrong: with the event we sent, or with the session (`ends` it)."""

    code: str
    message: str

    @property
    def ends(self) -> bool:
        """Whether this session is over, but a new one would do."""
        return self.code == "session_expired"

    @property
    def hopeless(self) -> bool:
        """Whether a new session would end the same way."""
        return self.code in HOPELESS


HOPELESS = frozenset(
    {
        "insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached", "invalid_api_key",
        "model_not_found", "beta_api_shape_disabled", "unsupported_country_region_territory",
    }
)  # fmt: skip

LiveEvent = SessionReady | VoiceBegan | VoiceEnded | Committed | Words | Completed | Wordless | Complaint

_TRANSCRIPTION = "conversation.item.input_audio_transcription."
_BUFFER = "input_audio_buffer."


def read_event(message: str | bytes) -> LiveEvent | None:
    """One message of the vendor; None for events that nobody needs. Raises WireError when it is no event."""
    try:
        event = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise WireError("the message is no JSON") from error
    if not isinstance(event, dict) or not isinstance(kind := event.get("type"), str):
        raise WireError("the message is no event")
    item = str(event.get("item_id") or "")
    if kind.startswith(_TRANSCRIPTION):
        return _transcription(kind.removeprefix(_TRANSCRIPTION), item, event)
    if kind.startswith(_BUFFER):
        return _buffer(kind.removeprefix(_BUFFER), item, event)
    if kind == "session.updated":
        return SessionReady(_audio(event.get("session")))
    if kind == "error":
        return Complaint(*_error(event.get("error")))
    return None


def _transcription(kind: str, item: str, event: Mapping[str, Any]) -> LiveEvent | None:
    if kind == "delta":
        return Words(item, str(event.get("delta") or ""))
    if kind == "completed":
        return Completed(item, str(event.get("transcript") or "").strip(), read_usage(event.get("usage")))
    return Wordless(item, *_error(event.get("error"))) if kind == "failed" else None


def _buffer(kind: str, item: str, event: Mapping[str, Any]) -> LiveEvent | None:
    if kind == "speech_started":
        return VoiceBegan(item, _ms(event, "audio_start_ms"))
    if kind == "speech_stopped":
        return VoiceEnded(item, _ms(event, "audio_end_ms"))
    return Committed(item) if kind == "committed" else None


def _ms(event: Mapping[str, Any], name: str) -> float:
    value = event.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MOST:
        raise WireError(f"{name} is no position")
    return float(value)


def _audio(session: Any) -> str:
    for name in ("audio", "input", "format"):
        session = session.get(name) if isinstance(session, dict) else None
    kind = session.get("type") if isinstance(session, dict) else ""
    return kind if isinstance(kind, str) else ""


def _error(error: Any) -> tuple[str, str]:
    """(code, message); the type stands in where there is no code."""
    if not isinstance(error, dict):
        return "", str(error or "")
    return str(error.get("code") or error.get("type") or ""), str(error.get("message") or "")
