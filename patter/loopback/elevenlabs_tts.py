"""ElevenLabs' voices on this machine: streams by HTTP, sentences on a multi-context socket, the account's voices.

It owns what the vendor accepts and how its sound comes; it refuses to be lenient: what the vendor would ignore silently is
reported as a problem of the stage. A sentence is a hum as long as a voice would need for it, unless told otherwise.
"""

from __future__ import annotations

import inspect
import json
import math
from binascii import b2a_base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from aiohttp import web
from anyio.abc import TaskGroup

from patter.audio.format import AudioFormat
from patter.loopback.stage import LoopbackVendor
from patter.loopback.stage_http import Answer, Visit
from patter.loopback.stage_peer import ClientLeft, Peer
from patter.loopback.tones import as_line, hum
from patter.wire.elevenlabs_tts import CONTEXTS_LIMIT, FORMATS, INACTIVITY_S, VOICE_SETTINGS

STREAM = "/v1/text-to-speech/{voice_id}/stream"
SOCKET = "/v1/text-to-speech/{voice_id}/multi-stream-input"
VOICES = "/v1/voices"
MODELS = "/v1/models"

SARAH = "EXAVITQu4vr4xnSDxMaL"
DEFAULT_VOICES = {"Sarah - Warm": SARAH, "George": "JBFqnCBsd6RMkjVDRZzb", "Brian": "nPczCjzI2devNBz1zQrb"}
TEXT_LIMITS = {
    "eleven_flash_v2_5": 40_000,
    "eleven_flash_v2": 30_000,
    "eleven_turbo_v2_5": 40_000,
    "eleven_turbo_v2": 30_000,
    "eleven_multilingual_v2": 10_000,
    "eleven_v3": 3_000,
}
"""Characters of one request, by model."""

_BODY = frozenset(
    (
        "text", "model_id", "language_code", "voice_settings", "pronunciation_dictionary_locators", "seed", "previous_text",
        "next_text", "previous_request_ids", "next_request_ids", "apply_text_normalization",
        "apply_language_text_normalization", "use_pvc_as_ivc",
    )
)  # fmt: skip
_QUERY = frozenset(("output_format", "enable_logging", "optimize_streaming_latency"))
_SOCKET_QUERY = frozenset(
    (
        "model_id", "output_format", "language_code", "enable_logging", "enable_ssml_parsing", "inactivity_timeout",
        "sync_alignment", "auto_mode", "apply_text_normalization", "seed",
    )
)  # fmt: skip
_MESSAGE = frozenset(
    ("text", "context_id", "voice_settings", "generation_config", "pronunciation_dictionary_locators", "flush",
     "close_context", "close_socket")
)  # fmt: skip
_FIRST = frozenset(("voice_settings", "generation_config", "pronunciation_dictionary_locators"))

Voice = Callable[[str], "bytes | Awaitable[bytes]"]
"""How a text sounds, in PCM 8 kHz, at once or awaited."""


@dataclass(slots=True)
class _Context:
    """One stream of text on a socket."""

    text: str = ""
    flushed: int = 0
    closing: bool = False
    speaking: bool = False


@dataclass(slots=True)
class _Room:
    """One socket: who is on the line, its contexts, how its sound comes."""

    peer: Peer
    tasks: TaskGroup
    format: AudioFormat
    contexts: dict[str, _Context] = field(default_factory=dict)


class LoopbackElevenLabsTTS(LoopbackVendor):
    """`voices`: name → id of the account (with `any_voice`, unknown ids are good as well); `key` "" lets any key in. Times in
    seconds.

    Sound comes `first_s` after the text, in pieces of `chunk_ms` that are `between_s` apart; `ragged` cuts a request's pieces
    into odd sizes. `cost` tells the price in a header."""

    def __init__(
        self,
        *,
        voices: Mapping[str, str] | None = None,
        any_voice: bool = False,
        key: str = "",
        voice: Voice = hum,
        first_s: float = 0.0,
        between_s: float = 0.0,
        chunk_ms: float = 100.0,
        ragged: bool = False,
        cost: bool = True,
    ) -> None:
        super().__init__()
        self.voices = dict(DEFAULT_VOICES if voices is None else voices)
        self.first_s, self.between_s = first_s, between_s
        self.spoken: list[str] = []
        """The texts that were asked for, in order."""
        self.left = 0
        """Requests that the client left before their end."""
        self.kept_alive = 0
        self._key, self._cost, self._any_voice, self._voice = key, cost, any_voice, voice
        self._chunk_ms, self._ragged = chunk_ms, ragged

    @property
    def base_url(self) -> str:
        """The address for the client's settings."""
        return self.stage.http

    def program(self) -> None:
        """Add the routes."""
        self.stage.route("POST", STREAM, self._stream)
        self.stage.route("GET", VOICES, self._list_voices)
        self.stage.route("GET", MODELS, self._list_models)
        self.stage.socket(SOCKET, self._socket)

    # --------------------------------------------------------------------------------------------------- by HTTP

    async def _list_voices(self, visit: Visit) -> web.StreamResponse:
        if refusal := self._key_refusal(visit.headers):
            return await visit.answer(_refused(401, *refusal))
        rows = [{"voice_id": voice_id, "name": name, "category": "premade"} for name, voice_id in self.voices.items()]
        return await visit.answer(Answer(body={"voices": rows}))

    async def _list_models(self, visit: Visit) -> web.StreamResponse:
        if refusal := self._key_refusal(visit.headers):
            return await visit.answer(_refused(401, *refusal))
        rows = [{"model_id": model, "name": model, "can_do_text_to_speech": True} for model in TEXT_LIMITS]
        return await visit.answer(Answer(body=rows))

    async def _stream(self, visit: Visit) -> web.StreamResponse:
        body = visit.json if isinstance(visit.json, dict) else {}
        self._strange("the stream's query", set(visit.query) - _QUERY)
        self._strange("the stream's body", set(body) - _BODY)
        self._strange("voice_settings", set(body.get("voice_settings") or {}) - VOICE_SETTINGS)
        format = _format(str(visit.query.get("output_format", [""])[0]))
        if answer := self._stream_refusal(visit, body, format):
            return await visit.answer(answer)
        assert format is not None
        text = str(body["text"])
        self.spoken.append(text)
        try:
            return await self._streamed(visit, text, str(body.get("model_id")), format)
        except (ConnectionError, anyio.get_cancelled_exc_class()):
            self.left += 1
            raise

    async def _streamed(self, visit: Visit, text: str, model: str, format: AudioFormat) -> web.StreamResponse:
        await anyio.sleep(self.first_s)
        headers = {"Content-Type": "audio/basic", "request-id": f"r{len(self.spoken)}"}
        if self._cost:
            headers["character-cost"] = str(credits_of(model, text))
        response = await visit.begin(200, headers)
        for piece in await self._pieces(text, format, ragged=self._ragged):
            await response.write(piece)
            await anyio.sleep(self.between_s)
        return response

    def _stream_refusal(self, visit: Visit, body: dict[str, Any], format: AudioFormat | None) -> Answer | None:
        if refusal := self._key_refusal(visit.headers):
            return _refused(401, *refusal)
        voice_id, model, text = (
            visit.match["voice_id"],
            str(body.get("model_id", "eleven_multilingual_v2")),
            body.get("text"),
        )
        if not self._any_voice and voice_id not in self.voices.values():
            return _refused(404, "voice_not_found", f"A voice with the voice_id {voice_id} was not found.")
        if format is None:
            return _refused(400, "invalid_output_format", "The output format is not known.")
        if model not in TEXT_LIMITS:
            return _refused(400, "model_not_found", f"A model with model ID {model} does not exist.")
        if not isinstance(text, str) or not text.strip():
            return Answer(422, body={"detail": [{"loc": ["body", "text"], "msg": "Field required", "type": "missing"}]})
        if "multilingual" in model and body.get("language_code"):
            return _refused(400, "unsupported_language", f"Model '{model}' does not support the language_code.")
        if len(text) > TEXT_LIMITS[model]:
            return _refused(400, "max_character_limit_exceeded", f"The text exceeds {TEXT_LIMITS[model]} characters.")
        return None

    # --------------------------------------------------------------------------------------------------- by WebSocket

    async def _socket(self, peer: Peer) -> None:
        self._strange("the socket's query", set(peer.query) - _SOCKET_QUERY)
        format = _format(str(peer.query.get("output_format", "")))
        if refusal := self._socket_refusal(peer, format):
            return await _give_up(peer, *refusal)
        assert format is not None
        timeout = float(peer.query.get("inactivity_timeout", 20))
        if timeout > INACTIVITY_S:
            self.stage.problem(f"inactivity_timeout is {timeout:g} s, at most {INACTIVITY_S} are possible")
        async with anyio.create_task_group() as tasks:
            room = _Room(peer, tasks, format)
            while True:
                with anyio.move_on_after(timeout) as idle:
                    message = await self._heard(peer)
                if idle.cancelled_caught:
                    await _give_up(peer, "input_timeout_exceeded", "This socket was idle for too long.")
                    break
                if message is None or await self._take(room, message):
                    break
            tasks.cancel_scope.cancel()
        return None

    async def _heard(self, peer: Peer) -> dict[str, Any] | None:
        try:
            message = await peer.receive()
        except ClientLeft:
            return None
        if not isinstance(message, dict):
            self.stage.problem(f"the socket takes JSON objects, not {str(message)[:40]!r}")
            return None
        return message

    async def _take(self, room: _Room, message: dict[str, Any]) -> bool:
        """Follow one message. Returns whether the socket is over."""
        self._strange("a message", set(message) - _MESSAGE)
        if message.get("close_socket"):
            await room.peer.close(1000)
            return True
        text, name = message.get("text"), message.get("context_id")
        if name is None:
            if text == "":
                self.kept_alive += 1
            else:
                self.stage.problem("a message without context_id that is no keep-alive")
            return False
        context = room.contexts.get(name)
        if context is None:
            return await self._open(room, str(name), message)
        if _FIRST & set(message):
            await _give_up(room.peer, "invalid_message", "voice_settings can only be set in the first message.")
            return True
        self._say(room, str(name), context, message)
        return False

    async def _open(self, room: _Room, name: str, message: dict[str, Any]) -> bool:
        self._strange("voice_settings", set(message.get("voice_settings") or {}) - VOICE_SETTINGS)
        if message.get("text") != " ":
            self.stage.problem(f"the first message of the context {name!r} must have one space as its text")
        if len(room.contexts) >= CONTEXTS_LIMIT:
            told = f"Maximum simultaneous contexts per WebSocket connection exceeded ({CONTEXTS_LIMIT})."
            await _give_up(room.peer, "max_active_conversations", told)
            return True
        room.contexts[name] = _Context()
        return False

    def _say(self, room: _Room, name: str, context: _Context, message: dict[str, Any]) -> None:
        if context.closing:
            self.stage.problem(f"the context {name!r} is closed already")
        if text := message.get("text") or "":
            if not text.endswith(" "):
                self.stage.problem(f"a text must end with a space: {text[-20:]!r}")
            context.text += text
        if message.get("flush"):
            context.flushed = len(context.text)
        context.closing = context.closing or bool(message.get("close_context"))
        if not context.speaking:
            context.speaking = True
            room.tasks.start_soon(self._speak, room, name, context)

    async def _speak(self, room: _Room, name: str, context: _Context) -> None:
        """Say what has been flushed; at the end of a closed context, mark it."""
        said = 0
        try:
            while said < context.flushed:
                text, said = context.text[said : context.flushed].strip(), context.flushed
                if text:
                    await self._give(room, name, text)
            context.speaking = False
            if context.closing:
                del room.contexts[name]
                await room.peer.send({"isFinal": True, "contextId": name})
            context.text, context.flushed = context.text[said:], 0
        except ClientLeft:
            pass  # whoever reads sees it too

    async def _give(self, room: _Room, name: str, text: str) -> None:
        self.spoken.append(text)
        await anyio.sleep(self.first_s)
        for piece in await self._pieces(text, room.format):
            audio = b2a_base64(piece, newline=False).decode("ascii")
            message = {
                "audio": audio,
                "normalizedAlignment": None,
                "alignment": None,
                "contextId": name,
            }
            await room.peer.send(json.dumps(message))
            await anyio.sleep(self.between_s)

    def _socket_refusal(self, peer: Peer, format: AudioFormat | None) -> tuple[str, str] | None:
        if refusal := self._key_refusal(peer.headers):
            return refusal
        voice_id, model = peer.match["voice_id"], str(peer.query.get("model_id", ""))
        if not self._any_voice and voice_id not in self.voices.values():
            return "voice_not_found", f"A voice with voice_id {voice_id} does not exist."
        if model not in TEXT_LIMITS or model == "eleven_v3":
            return "model_not_supported", f"The model {model} cannot be used here."
        if format is None:
            return "invalid_output_format", "The output format is not known."
        if "multilingual" in model and peer.query.get("language_code"):
            return "unsupported_language", f"Model '{model}' does not support the language_code."
        return None

    # ----------------------------------------------------------------------------------------------------- of both

    def _key_refusal(self, headers: Mapping[str, str]) -> tuple[str, str] | None:
        key = headers.get("xi-api-key", "")
        if not key:
            return "needs_authorization", "Neither authorization header nor xi-api-key received."
        return ("invalid_api_key", "Invalid API key") if self._key and key != self._key else None

    async def _pieces(self, text: str, format: AudioFormat, *, ragged: bool = False) -> list[bytes]:
        made = self._voice(text)
        sound = as_line(await made if inspect.isawaitable(made) else made, format)
        size = max(format.sample_bytes, format.bytes_for(self._chunk_ms)) + (1 if ragged else 0)
        return [sound[at : at + size] for at in range(0, len(sound), size)]

    def _strange(self, where: str, names: set[str]) -> None:
        if names:
            self.stage.problem(f"{where} has what the vendor does not know: {', '.join(sorted(names))}")


def credits_of(model: str, text: str) -> int:
    """What the vendor's `character-cost` header says of a text: half a credit a character for the fast models."""
    return math.ceil(len(text) * (0.5 if "flash" in model or "turbo" in model else 1.0))


def _format(name: str) -> AudioFormat | None:
    return next((format for format, spelled in FORMATS.items() if spelled == name), None)


def _refused(status: int, code: str, message: str) -> Answer:
    return Answer(status, body={"detail": {"status": code, "message": message}})


async def _give_up(peer: Peer, code: str, message: str) -> None:
    try:
        await peer.send({"message": message, "error": code, "code": 1008})
    except ClientLeft:
        return
    await peer.close(1008, message[:100])
