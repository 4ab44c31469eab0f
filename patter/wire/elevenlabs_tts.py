"""ElevenLabs' text-to-speech on the wire: addresses, request bodies, the messages of its multi-context socket.

It owns the JSON and the vendor's names of formats; it refuses to know sockets, requests, retries and prices.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from patter import json_text
from patter.audio.format import ALAW_8K, MULAW_8K, PCM_8K, PCM_16K, PCM_24K, AudioFormat
from patter.exceptions import WireError

DEFAULT_MODEL = "eleven_flash_v2_5"
INACTIVITY_S = 180
"""How long the vendor keeps a silent socket, at most (its own default is 20 s)."""

CONTEXTS_LIMIT = 5
"""So many contexts may be open on one socket; a sixth makes the vendor close it with all that is on it."""

FORMATS: Mapping[AudioFormat, str] = {
    MULAW_8K: "ulaw_8000",
    ALAW_8K: "alaw_8000",
    PCM_8K: "pcm_8000",
    PCM_16K: "pcm_16000",
    PCM_24K: "pcm_24000",
}
"""What every plan may ask for; the vendor makes these itself, so that a phone line needs no conversion."""

VOICE_SETTINGS = frozenset(
    ("stability", "similarity_boost", "style", "use_speaker_boost", "speed", "clone_strength"),
)
_QUERY = frozenset(("enable_logging", "optimize_streaming_latency"))
_FIRST_MESSAGE = frozenset(("generation_config", "pronunciation_dictionary_locators"))
_ONE_LANGUAGE = frozenset(("eleven_flash_v2", "eleven_turbo_v2", "eleven_monolingual_v1"))
_NO_SOCKET = frozenset(("eleven_v3",))


def format_for(line: AudioFormat | None) -> AudioFormat:
    """What to ask for on a line that plays `line`: the same if the vendor makes it, else 24 kHz (None: 16 kHz)."""
    if line is None:
        return PCM_16K
    return line if line in FORMATS else PCM_24K


def has_socket(model: str) -> bool:
    """Whether the model speaks over a WebSocket too."""
    return model not in _NO_SOCKET


def takes_language(model: str) -> bool:
    """Whether the model may be told the language: some know only one, and the multilingual ones hear it in the text."""
    return model not in _ONE_LANGUAGE and "multilingual" not in model


@dataclass(frozen=True, slots=True)
class Manner:
    """How everything is said: one voice, one model, one format. `language` is ISO 639-1 or "" (the model decides).

    `options` as the vendor names them: voice settings (also together under `voice_settings`), fields of the request,
    parameters of the address."""

    voice_id: str
    model: str = DEFAULT_MODEL
    format: AudioFormat = MULAW_8K
    language: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def voice_settings(self) -> dict[str, Any]:
        """The settings of the voice that differ from its stored ones; {} = none."""
        together = self.options.get("voice_settings")
        single = {name: value for name, value in self.options.items() if name in VOICE_SETTINGS}
        return (dict(together) if isinstance(together, Mapping) else {}) | single

    def stream_path(self) -> str:
        """Path and query of the request that streams one text."""
        query = {"output_format": FORMATS[self.format]}
        query |= {name: _worded(value) for name, value in self.options.items() if name in _QUERY}
        return f"/v1/text-to-speech/{quote(self.voice_id, safe='')}/stream?{urlencode(query)}"

    def stream_body(self, text: str) -> dict[str, Any]:
        """The body of that request."""
        body: dict[str, Any] = {"text": text, "model_id": self.model}
        if self._language():
            body["language_code"] = self._language()
        if settings := self.voice_settings:
            body["voice_settings"] = settings
        taken = VOICE_SETTINGS | _QUERY | _FIRST_MESSAGE | {"voice_settings", "language_code"}
        body |= {name: value for name, value in self.options.items() if name not in taken}
        if "pronunciation_dictionary_locators" in self.options:
            body["pronunciation_dictionary_locators"] = self.options["pronunciation_dictionary_locators"]
        return body

    def socket_path(self) -> str:
        """Path and query of the socket. What is sent are whole sentences, so that the vendor need not wait for more."""
        query: dict[str, str] = {"model_id": self.model, "output_format": FORMATS[self.format]}
        if self._language():
            query["language_code"] = self._language()
        query |= {"auto_mode": "true", "inactivity_timeout": str(INACTIVITY_S)}
        taken = VOICE_SETTINGS | _FIRST_MESSAGE | {"voice_settings", "language_code", "optimize_streaming_latency"}
        query |= {name: _worded(value) for name, value in self.options.items() if name not in taken}
        return f"/v1/text-to-speech/{quote(self.voice_id, safe='')}/multi-stream-input?{urlencode(query)}"

    def sentence(self, context: str, text: str) -> tuple[str, str, str]:
        """The messages that say one text in a context of its own.

        The context is closed at once: what has been flushed is still spoken, and then the vendor marks its end."""
        first: dict[str, Any] = {"text": " ", "context_id": context}
        if settings := self.voice_settings:
            first["voice_settings"] = settings
        first |= {name: value for name, value in self.options.items() if name in _FIRST_MESSAGE}
        return (
            json_text.dumps(first),
            json_text.dumps({"text": f"{text.strip()} ", "context_id": context, "flush": True}),
            json_text.dumps({"context_id": context, "close_context": True}),
        )

    def _language(self) -> str:
        told = self.options.get("language_code", self.language if takes_language(self.model) else "")
        return str(told).partition("-")[0].lower()


KEEP_ALIVE = '{"text": ""}'
"""Starts the socket's time of inactivity anew; without a context, so that it opens none."""

CLOSE_SOCKET = '{"close_socket": true}'

# ------------------------------------------------------------------------------------------------- what comes back


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of a context's sound, still in base64 ("" = none); `final`: nothing more of this context will come."""

    context: str
    audio: str = ""
    final: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """The vendor gives up; it closes the socket next. `context` "" = it does not say which one it means."""

    code: str
    message: str
    context: str = ""


def read(text: str | bytes) -> Said | Fault | None:
    """One message of the socket; None for a kind that may be ignored. Raises WireError."""
    try:
        message = json_text.loads(text)
    except (ValueError, RecursionError):
        raise WireError("not a JSON text") from None
    if not isinstance(message, dict):
        raise WireError("not a JSON object")
    context = message.get("contextId", message.get("context_id"))
    context = context if isinstance(context, str) else ""
    audio, final = message.get("audio"), message.get("isFinal", message.get("is_final"))
    if audio is not None and not isinstance(audio, str):
        raise WireError("audio is not a string")
    if audio or final is True:
        return Said(context, audio or "", final is True)
    if message.get("error") or (message.get("message") and "audio" not in message):
        return Fault(str(message.get("error") or ""), str(message.get("message") or ""), context)
    return None


def sound_of(audio: str) -> bytes:
    """The bytes of a piece of sound. Raises WireError if it is not base64."""
    try:
        return a2b_base64(audio, strict_mode=True)
    except (Base64Error, ValueError) as error:
        raise WireError(f"audio is not base64: {error}") from None


def billed_characters(cost: str, model: str, text: str) -> float | None:
    """The characters billed for `text`, by the `character-cost` header; None if it is missing or unreadable.

    It counts characters, or credits, of which flash, turbo and conversational models need half a one for a character.
    Our price of them is by the character: so their credits count twice, if that is nearer to the length of the text."""
    try:
        counted = float(cost)
    except ValueError:
        return None
    if not 0.0 <= counted < 1e9:
        return None
    cheap = any(word in model for word in ("flash", "turbo", "conversational"))
    if cheap and abs(2 * counted - len(text)) < abs(counted - len(text)):
        return 2 * counted
    return counted


def _worded(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
