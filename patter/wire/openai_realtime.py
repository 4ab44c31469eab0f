"""OpenAI's realtime protocol, our side of it: every client event as a text, in today's shape (GA) or the first one (beta).

It owns field names and how the two shapes spell one meaning; it refuses to know sockets, time and what a call is. What the
server says is read by `openai_realtime_events`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_24K, AudioFormat
from patter.models import RealtimeConfig

Shape = Literal["ga", "beta"]

PREFIX_MS = 300
"""Sound before the first voice that the server takes into an utterance (we ask for its usual value, to know it)."""

FORMATS = {MULAW_8K: "audio/pcmu", ALAW_8K: "audio/pcma", PCM_24K: "audio/pcm"}
BETA_FORMATS = {MULAW_8K: "g711_ulaw", ALAW_8K: "g711_alaw", PCM_24K: "pcm16"}
"""The only formats there are; PCM is always 24 kHz."""


def format_for(line: AudioFormat) -> AudioFormat:
    """What to ask for on a line: its own G.711, which then passes through untouched, else PCM 24 kHz."""
    return line if line in (MULAW_8K, ALAW_8K) else PCM_24K


# --------------------------------------------------------------------------- the session


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What a session is told. `hears`/`plays`: what we send and want to get (None: a line without sound that way).

    `tools`: dicts with name, description, parameters. `language` hints the transcription ("" = none)."""

    instructions: str
    voice: str
    hears: AudioFormat | None
    plays: AudioFormat | None
    listening: RealtimeConfig = field(default=RealtimeConfig())
    transcription_model: str = ""
    language: str = ""
    tools: Sequence[Mapping[str, Any]] = ()


def session_update(settings: SessionSettings, shape: Shape) -> str:
    """The event that makes a new session ours."""
    session = _beta_session(settings) if shape == "beta" else _ga_session(settings)
    return json.dumps({"type": "session.update", "session": session})


def session_change(before: SessionSettings, after: SessionSettings, shape: Shape) -> str:
    """The event that changes a running session, with nothing in it but what differs and may change; "" if nothing does.

    Voice and formats stay: the server refuses another voice after the first sound."""
    session: dict[str, Any] = {}
    if after.instructions != before.instructions:
        session["instructions"] = after.instructions
    if list(after.tools) != list(before.tools):
        session["tools"] = [_tool(tool) for tool in after.tools]
    hearing: dict[str, Any] = {}
    if after.hears is not None:
        if _turn_detection(after.listening) != _turn_detection(before.listening):
            hearing["turn_detection"] = _turn_detection(after.listening)
        if _transcription(after) != _transcription(before):
            hearing["transcription"] = _transcription(after)
        if after.listening.noise_reduction != before.listening.noise_reduction:
            hearing["noise_reduction"] = _noise_reduction(after.listening)
    if hearing:
        session |= (
            {_BETA_HEARING[key]: value for key, value in hearing.items()}
            if shape == "beta"
            else {"audio": {"input": hearing}}
        )
    if not session:
        return ""
    return json.dumps({"type": "session.update", "session": (_GA_KIND if shape == "ga" else {}) | session})


_GA_KIND = {"type": "realtime"}
_BETA_HEARING = {
    "turn_detection": "turn_detection",
    "transcription": "input_audio_transcription",
    "noise_reduction": "input_audio_noise_reduction",
}


def _ga_session(settings: SessionSettings) -> dict[str, Any]:
    session: dict[str, Any] = _GA_KIND | {
        "instructions": settings.instructions,
        "output_modalities": ["text" if settings.plays is None else "audio"],
        "tools": [_tool(tool) for tool in settings.tools],
        "tool_choice": "auto",
    }
    audio: dict[str, Any] = {}
    if settings.hears is not None:
        audio["input"] = {"format": _ga_format(settings.hears)} | _hearing(settings)
    if settings.plays is not None:
        voice: Any = {"id": settings.voice} if settings.voice.startswith("voice_") else settings.voice
        audio["output"] = {"format": _ga_format(settings.plays), "voice": voice}
    return session | ({"audio": audio} if audio else {})


def _beta_session(settings: SessionSettings) -> dict[str, Any]:
    session: dict[str, Any] = {
        "instructions": settings.instructions,
        "modalities": ["text"] if settings.plays is None else ["text", "audio"],
        "tools": [_tool(tool) for tool in settings.tools],
        "tool_choice": "auto",
    }
    if settings.hears is not None:
        session["input_audio_format"] = BETA_FORMATS[settings.hears]
        session |= {_BETA_HEARING[key]: value for key, value in _hearing(settings).items()}
    if settings.plays is not None:
        session |= {"output_audio_format": BETA_FORMATS[settings.plays], "voice": settings.voice}
    return session


def _ga_format(wanted: AudioFormat) -> dict[str, Any]:
    name = FORMATS[wanted]
    return {"type": name, "rate": wanted.rate} if wanted == PCM_24K else {"type": name}


def _hearing(settings: SessionSettings) -> dict[str, Any]:
    hearing: dict[str, Any] = {
        "turn_detection": _turn_detection(settings.listening),
        "transcription": _transcription(settings),
    }
    if settings.listening.noise_reduction:
        hearing["noise_reduction"] = _noise_reduction(settings.listening)
    return hearing


def _turn_detection(listening: RealtimeConfig) -> dict[str, Any]:
    """Who decides that the caller is done; whether that is a turn, and whether it interrupts, is decided on our side."""
    ours = {"create_response": False, "interrupt_response": False}
    if listening.turn_detection == "semantic_vad":
        return {"type": "semantic_vad", "eagerness": listening.eagerness} | ours
    return {
        "type": "server_vad",
        "threshold": listening.threshold,
        "prefix_padding_ms": PREFIX_MS,
        "silence_duration_ms": listening.silence_ms,
    } | ours


def _transcription(settings: SessionSettings) -> dict[str, Any] | None:
    if not settings.transcription_model:
        return None
    return {"model": settings.transcription_model} | ({"language": settings.language} if settings.language else {})


def _noise_reduction(listening: RealtimeConfig) -> dict[str, Any] | None:
    return {"type": listening.noise_reduction} if listening.noise_reduction else None


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function"} | {key: tool[key] for key in ("name", "description", "parameters") if tool.get(key)}


# --------------------------------------------------------------------------- the caller's sound

APPEND_HEAD = '{"type":"input_audio_buffer.append","audio":"'
APPEND_TAIL = '"}'
"""Fifty times a second: base64 needs no escaping, so the event is the two joined around it."""


def append(base64: str) -> str:
    """One frame of the caller's sound, in the session's input format."""
    return APPEND_HEAD + base64 + APPEND_TAIL


# --------------------------------------------------------------------------- the conversation's items

Item = dict[str, Any]


def caller_text(item_id: str, text: str) -> Item:
    """What the caller typed, or said in an earlier session."""
    return {"id": item_id, "type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def guidance(item_id: str, text: str) -> Item:
    """What the model is told beside the conversation."""
    return {"id": item_id, "type": "message", "role": "system", "content": [{"type": "input_text", "text": text}]}


def caller_sound(item_id: str, base64: str) -> Item:
    """What the caller said, as sound in the session's input format."""
    return {"id": item_id, "type": "message", "role": "user", "content": [{"type": "input_audio", "audio": base64}]}


def agent_text(item_id: str, text: str, shape: Shape) -> Item:
    """What the agent said (its sound cannot be created)."""
    kind = "text" if shape == "beta" else "output_text"
    return {"id": item_id, "type": "message", "role": "assistant", "content": [{"type": kind, "text": text}]}


def tool_call(item_id: str, call_id: str, name: str, arguments: str) -> Item:
    """A tool call of the model, made in an earlier session."""
    return {"id": item_id, "type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def tool_output(call_id: str, output: str) -> Item:
    """What a tool answered."""
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def create(item: Item, *, after: str | None = None, event_id: str = "") -> str:
    """Add `item` to the conversation: behind the item `after` ("root": first of all), or at its end."""
    event: dict[str, Any] = {"type": "conversation.item.create"}
    if after is not None:
        event["previous_item_id"] = after
    return _named(event | {"item": item}, event_id)


def truncate(item_id: str, heard_ms: int, event_id: str = "") -> str:
    """Forget what the caller has not heard of an item of the agent's."""
    event = {"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0, "audio_end_ms": heard_ms}
    return _named(event, event_id)


def delete(item_id: str, event_id: str = "") -> str:
    """Forget an item."""
    return _named({"type": "conversation.item.delete", "item_id": item_id}, event_id)


# --------------------------------------------------------------------------- responses


def respond(instructions: str = "", *, tools: bool = True, event_id: str = "") -> str:
    """Ask for a response. `instructions` stand in place of the session's; `tools` False: words only."""
    response: dict[str, Any] = {"instructions": instructions} if instructions else {}
    if not tools:
        response["tool_choice"] = "none"
    event: dict[str, Any] = {"type": "response.create"}
    return _named(event | ({"response": response} if response else {}), event_id)


def cancel(response_id: str = "", event_id: str = "") -> str:
    """Stop a response that is being made."""
    event = {"type": "response.cancel"} | ({"response_id": response_id} if response_id else {})
    return _named(event, event_id)


def _named(event: dict[str, Any], event_id: str) -> str:
    return json.dumps({"event_id": event_id} | event if event_id else event)
