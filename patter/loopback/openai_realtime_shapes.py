"""How OpenAI's realtime server spells what it says, in its GA and its beta shape: sessions, items, responses, counts.

It owns the objects inside events; it refuses to know when anything is said.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_24K, AudioFormat

BETA_NAMES = {
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
    "conversation.item.added": "conversation.item.created",
}
"""Events that have another name in the beta shape; `conversation.item.done` is not in it at all."""

GA_FORMATS: dict[str, AudioFormat] = {"audio/pcmu": MULAW_8K, "audio/pcma": ALAW_8K, "audio/pcm": PCM_24K}
BETA_FORMATS: dict[str, AudioFormat] = {"g711_ulaw": MULAW_8K, "g711_alaw": ALAW_8K, "pcm16": PCM_24K}

_GA_SESSION = {"instructions", "output_modalities", "audio", "tools", "tool_choice", "max_output_tokens", "tracing",
    "truncation", "prompt", "include", "type", "model", "reasoning", "parallel_tool_calls"}  # fmt: skip
_GA_INPUT = {"format", "transcription", "noise_reduction", "turn_detection"}
_GA_OUTPUT = {"format", "voice", "speed"}
_BETA_SESSION = {"instructions", "modalities", "voice", "speed", "input_audio_format", "output_audio_format",
    "input_audio_transcription", "input_audio_noise_reduction", "turn_detection", "temperature", "tools", "tool_choice",
    "max_response_output_tokens", "tracing", "model"}  # fmt: skip
_VAD: dict[str, Any] = {
    "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 200, "create_response": True,
    "interrupt_response": True,
}  # fmt: skip


class Refusal(Exception):
    """The server answers with an `error` event. `grave`: no client that knows the protocol would send this."""

    def __init__(self, code: str, message: str, param: str | None = None, *, grave: bool = False) -> None:
        super().__init__(message)
        self.code, self.message, self.param, self.grave = code, message, param, grave


@dataclass
class SessionState:
    """One session's settings, kept in meanings rather than in either shape."""

    shape: str
    session_id: str
    model: str
    expires_at: int
    plain_pcm: bool = False
    """The server takes and gives PCM only, whatever it is asked for."""
    instructions: str = ""
    modalities: list[str] = field(default_factory=lambda: ["audio"])
    voice: Any = "marin"
    hears: str = "audio/pcm"
    speaks: str = "audio/pcm"
    transcription: dict[str, Any] | None = None
    noise_reduction: dict[str, Any] | None = None
    turn_detection: dict[str, Any] | None = field(default_factory=lambda: dict(_VAD))
    tools: list[dict[str, Any]] = field(default_factory=list)

    @property
    def silent(self) -> bool:
        """Whether it answers in text."""
        return self.modalities == ["text"]

    @property
    def hears_format(self) -> AudioFormat:
        return GA_FORMATS[self.hears]

    @property
    def speaks_format(self) -> AudioFormat:
        return GA_FORMATS[self.speaks]

    def update(self, session: Mapping[str, Any], *, has_spoken: bool) -> None:
        """Take a session.update. Raises Refusal."""
        if self.shape == "beta":
            self._update_beta(session, has_spoken)
        else:
            self._update_ga(session, has_spoken)

    def _update_ga(self, session: Mapping[str, Any], has_spoken: bool) -> None:
        if session.get("type") != "realtime":
            raise Refusal("missing_required_parameter", "Missing required parameter: 'session.type'.", "session.type",
                          grave=True)  # fmt: skip
        audio = session.get("audio") or {}
        hearing, speaking = audio.get("input") or {}, audio.get("output") or {}
        _known(session, _GA_SESSION, "session")
        _known(audio, {"input", "output"}, "session.audio")
        _known(hearing, _GA_INPUT, "session.audio.input")
        _known(speaking, _GA_OUTPUT, "session.audio.output")
        if session.get("output_modalities") not in (None, ["audio"], ["text"]):
            raise Refusal("invalid_value", "Invalid modalities.", "session.output_modalities", grave=True)
        self._common(session, session.get("output_modalities"))
        self._hearing(hearing, "transcription", "noise_reduction", "turn_detection")
        self.hears = self._format(hearing.get("format"), self.hears, "session.audio.input.format")
        self.speaks = self._format(speaking.get("format"), self.speaks, "session.audio.output.format")
        self._voice(speaking.get("voice"), has_spoken, "session.audio.output.voice")

    def _update_beta(self, session: Mapping[str, Any], has_spoken: bool) -> None:
        _known(session, _BETA_SESSION, "session")
        self._common(session, session.get("modalities"))
        self._hearing(session, "input_audio_transcription", "input_audio_noise_reduction", "turn_detection")
        names = {name: ga for name, made in BETA_FORMATS.items() for ga, same in GA_FORMATS.items() if same == made}
        for field_name, attribute in (("input_audio_format", "hears"), ("output_audio_format", "speaks")):
            if field_name in session:
                wanted = names.get(session[field_name])
                if wanted is None:
                    raise Refusal("invalid_value", f"Invalid value: {session[field_name]!r}", f"session.{field_name}",
                                  grave=True)  # fmt: skip
                setattr(self, attribute, "audio/pcm" if self.plain_pcm else wanted)
        self._voice(session.get("voice"), has_spoken, "session.voice")

    def _common(self, session: Mapping[str, Any], modalities: list[str] | None) -> None:
        self.instructions = session.get("instructions", self.instructions)
        self.tools = session.get("tools", self.tools)
        if modalities is not None:
            self.modalities = modalities
        for tool in self.tools:
            if tool.get("type") != "function" or not tool.get("name"):
                raise Refusal("invalid_value", "A tool needs type and name.", "session.tools", grave=True)

    def _hearing(self, part: Mapping[str, Any], transcription: str, noise: str, detection: str) -> None:
        self.transcription = part.get(transcription, self.transcription)
        self.noise_reduction = part.get(noise, self.noise_reduction)
        if detection in part:
            given = part[detection]
            base = _VAD if given and given.get("type") == "server_vad" else {}
            self.turn_detection = None if given is None else base | given

    def _format(self, given: Any, before: str, param: str) -> str:
        if given is None:
            return before
        kind = given.get("type") if isinstance(given, Mapping) else None
        if kind not in GA_FORMATS or (kind == "audio/pcm" and given.get("rate", 24000) != 24000):
            raise Refusal("invalid_value", "Invalid format.", param, grave=True)
        return "audio/pcm" if self.plain_pcm else str(kind)

    def _voice(self, given: Any, has_spoken: bool, param: str) -> None:
        if given is None or given == self.voice:
            return
        if has_spoken:
            raise Refusal(
                "cannot_update_voice", "Cannot update a conversation's voice if assistant audio is present.", param
            )
        self.voice = given

    def told(self) -> dict[str, Any]:
        """The session object as the server sends it."""
        made = self._told_beta() if self.shape == "beta" else self._told_ga()
        return copy.deepcopy(made)

    def _told_ga(self) -> dict[str, Any]:
        return {
            "type": "realtime", "object": "realtime.session", "id": self.session_id, "model": self.model,
            "output_modalities": self.modalities, "instructions": self.instructions, "tools": self.tools,
            "tool_choice": "auto", "max_output_tokens": "inf", "tracing": None, "truncation": "auto", "prompt": None,
            "expires_at": self.expires_at, "include": None,
            "audio": {
                "input": {
                    "format": format_of(self.hears), "transcription": self.transcription,
                    "noise_reduction": self.noise_reduction, "turn_detection": self.turn_detection,
                },
                "output": {"format": format_of(self.speaks), "voice": self.voice, "speed": 1},
            },
        }  # fmt: skip

    def _told_beta(self) -> dict[str, Any]:
        spelled = {made: name for name, made in BETA_FORMATS.items()}
        return {
            "object": "realtime.session", "id": self.session_id, "model": self.model, "modalities": self.modalities,
            "instructions": self.instructions, "voice": self.voice, "input_audio_format": spelled[self.hears_format],
            "output_audio_format": spelled[self.speaks_format], "input_audio_transcription": self.transcription,
            "turn_detection": self.turn_detection, "tools": self.tools, "tool_choice": "auto", "temperature": 0.8,
            "max_response_output_tokens": "inf",
        }  # fmt: skip


def format_of(name: str) -> dict[str, Any]:
    """A format as the GA shape spells it."""
    return {"type": name, "rate": 24000} if name == "audio/pcm" else {"type": name}


def _known(part: Mapping[str, Any], names: set[str], where: str) -> None:
    for name in part:
        if name not in names:
            raise Refusal("unknown_parameter", f"Unknown parameter: '{where}.{name}'.", f"{where}.{name}", grave=True)


# --------------------------------------------------------------------------- responses and counts


@dataclass
class Count:
    """Tokens of one response; cached ones are a subset of the input."""

    text_in: int = 0
    audio_in: int = 0
    cached_text: int = 0
    cached_audio: int = 0
    text_out: int = 0
    audio_out: int = 0

    def told(self, *, old: bool) -> dict[str, Any]:
        """The usage object; `old`: as early payloads had it, without the details of what was cached."""
        taken: dict[str, Any] = {
            "text_tokens": self.text_in,
            "audio_tokens": self.audio_in,
            "cached_tokens": self.cached_text + self.cached_audio,
        }
        if not old:
            cached = {"text_tokens": self.cached_text, "audio_tokens": self.cached_audio, "image_tokens": 0}
            taken |= {"image_tokens": 0, "cached_tokens_details": cached}
        given = {"text_tokens": self.text_out, "audio_tokens": self.audio_out}
        all_in, all_out = self.text_in + self.audio_in, self.text_out + self.audio_out
        return {
            "total_tokens": all_in + all_out,
            "input_tokens": all_in,
            "output_tokens": all_out,
            "input_token_details": taken,
            "output_token_details": given,
        }


def response_object(
    state: SessionState,
    response_id: str,
    status: str,
    output: list[dict[str, Any]],
    details: dict[str, Any] | None = None,
    usage: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A response as the server sends it."""
    made: dict[str, Any] = {
        "object": "realtime.response", "id": response_id, "status": status, "status_details": details,
        "output": output, "conversation_id": "conv_" + state.session_id[-8:], "usage": usage, "metadata": None,
    }  # fmt: skip
    if state.shape == "beta":
        spelled = {known: name for name, known in BETA_FORMATS.items()}
        return made | {
            "modalities": state.modalities, "voice": state.voice, "temperature": 0.8, "max_output_tokens": "inf",
            "output_audio_format": spelled[state.speaks_format],
        }  # fmt: skip
    speaks = {"format": format_of(state.speaks), "voice": state.voice}
    return made | {
        "output_modalities": state.modalities,
        "max_output_tokens": "inf",
        "audio": {"output": speaks},
    }
