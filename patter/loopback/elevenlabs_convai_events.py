"""What ElevenLabs' Agents socket sends, as dicts: for the loopback vendor, and for strict scripts.

It owns the vendor's shapes; it refuses to decide when anything is said.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from patter.audio.format import AudioFormat
from patter.loopback.stage_peer import Message

Event = dict[str, Any]

FORMATS: dict[str, AudioFormat] = {
    "ulaw_8000": AudioFormat("mulaw", 8000),
    "pcm_8000": AudioFormat("pcm_s16le", 8000),
    "pcm_16000": AudioFormat("pcm_s16le", 16000),
    "pcm_22050": AudioFormat("pcm_s16le", 22050),
    "pcm_24000": AudioFormat("pcm_s16le", 24000),
    "pcm_44100": AudioFormat("pcm_s16le", 44100),
    "pcm_48000": AudioFormat("pcm_s16le", 48000),
}
DEFAULT_EVENTS = frozenset(
    {
        "audio", "interruption", "agent_response", "user_transcript", "tentative_user_transcript",
        "conversation_initiation_metadata", "ping",
    }
)  # fmt: skip
"""What an agent sends unless its settings say otherwise. Errors and tools on the client's side always come."""


def is_audio(message: Message) -> bool:
    """Whether a client's message is sound: for scripts."""
    return isinstance(message, dict) and "user_audio_chunk" in message


def metadata(plays: str = "ulaw_8000", hears: str = "ulaw_8000", conversation_id: str = "conv_loopback") -> Event:
    """The conversation has begun, in these formats."""
    body = {
        "conversation_id": conversation_id,
        "agent_output_audio_format": plays,
        "user_input_audio_format": hears,
    }
    return {"type": "conversation_initiation_metadata", "conversation_initiation_metadata_event": body}


def agent_response(text: str, event_id: int) -> Event:
    """The words of a reply."""
    return {"type": "agent_response", "agent_response_event": {"agent_response": text, "event_id": event_id}}


def audio(sound: bytes, event_id: int, alignment: Mapping[str, Any] | None = None) -> Event:
    """Sound of a reply."""
    body: Event = {"audio_base_64": b64encode(sound).decode("ascii"), "event_id": event_id}
    return {"type": "audio", "audio_event": body | ({"alignment": dict(alignment)} if alignment else {})}


def alignment(text: str, ms: float) -> Event:
    """The characters of `text`, spread evenly over `ms` of sound."""
    each = ms / max(1, len(text))
    return {
        "chars": list(text),
        "char_start_times_ms": [int(at * each) for at in range(len(text))],
        "char_durations_ms": [int(each)] * len(text),
    }


def user_transcript(text: str, event_id: int) -> Event:
    """What the caller said."""
    return {"type": "user_transcript", "user_transcription_event": {"user_transcript": text, "event_id": event_id}}


def tentative_user_transcript(text: str, event_id: int) -> Event:
    """What the caller seems to be saying."""
    body = {"user_transcript": text, "event_id": event_id}
    return {"type": "tentative_user_transcript", "tentative_user_transcription_event": body}


def interruption(event_id: int) -> Event:
    """The caller has the floor."""
    return {"type": "interruption", "interruption_event": {"event_id": event_id}}


def correction(original: str, corrected: str, event_id: int) -> Event:
    """What was heard of an interrupted reply."""
    body = {"original_agent_response": original, "corrected_agent_response": corrected, "event_id": event_id}
    return {"type": "agent_response_correction", "agent_response_correction_event": body}


def ping(event_id: int, ping_ms: int | None = None) -> Event:
    """Is anybody there?"""
    return {"type": "ping", "ping_event": {"event_id": event_id, "ping_ms": ping_ms}}


def client_tool_call(tool_id: str, name: str, parameters: Mapping[str, Any], event_id: int) -> Event:
    """A tool on the client's side is wanted."""
    body = {"tool_name": name, "tool_call_id": tool_id, "parameters": dict(parameters), "event_id": event_id}
    return {"type": "client_tool_call", "client_tool_call": body}


def agent_tool_response(
    tool_id: str, name: str, event_id: int, *, kind: str = "system", is_error: bool = False
) -> Event:
    """A tool on the vendor's side was used."""
    body = {
        "tool_name": name,
        "tool_call_id": tool_id,
        "tool_type": kind,
        "is_error": is_error,
        "is_called": True,
        "event_id": event_id,
    }
    return {"type": "agent_tool_response", "agent_tool_response": body}


def error(code: int, kind: str, message: str) -> Event:
    """Why the conversation is about to be closed."""
    return {"type": "error", "error_event": {"code": code, "error_type": kind, "message": message}}
