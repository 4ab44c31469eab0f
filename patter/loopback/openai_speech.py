"""OpenAI's speech on this machine: streamed as bytes or as events with the count of tokens, and its refusals.

It owns what the vendor accepts and how its sound comes; it refuses to be lenient: what the vendor would ignore silently is
reported as a problem of the stage. A text is a hum as long as a voice would need for it, unless told otherwise.
"""

from __future__ import annotations

import inspect
import json
from binascii import b2a_base64
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from aiohttp import web

from patter.audio.format import PCM_24K
from patter.loopback.stage import LoopbackVendor
from patter.loopback.stage_http import Answer, Visit
from patter.loopback.tones import as_line, hum
from patter.wire.openai_speech import CLASSIC_VOICES, OTHER_VOICES, TEXT_LIMIT, is_classic

SPEECH = "/v1/audio/speech"
MODELS = "/v1/models"
DEFAULT_MODELS = ("gpt-4o-mini-tts", "tts-1", "tts-1-hd")
TOKENS_PER_S = 21  # of sound, about what the vendor's price by the minute comes to

_BODY = frozenset(("model", "input", "voice", "instructions", "response_format", "speed", "stream_format"))

Voice = Callable[[str], "bytes | Awaitable[bytes]"]
"""How a text sounds, in PCM 8 kHz, at once or awaited."""


class LoopbackOpenAISpeech(LoopbackVendor):
    """`key` "" lets any key in. Times in seconds.

    Sound comes `first_s` after the text, in pieces of `chunk_ms` that are `between_s` apart; `ragged` cuts them into odd
    sizes."""

    def __init__(
        self,
        *,
        models: tuple[str, ...] = DEFAULT_MODELS,
        key: str = "",
        voice: Voice = hum,
        first_s: float = 0.0,
        between_s: float = 0.0,
        chunk_ms: float = 100.0,
        ragged: bool = False,
    ) -> None:
        super().__init__()
        self.first_s, self.between_s = first_s, between_s
        self.spoken: list[str] = []
        """The texts that were asked for, in order."""
        self.left = 0
        """Requests that the client left before their end."""
        self.gives_up_after: int | None = None
        """So many pieces of the next event stream are followed by an error."""
        self.ends_silently = False
        """Events end without the last one."""
        self._models, self._key = models, key
        self._chunk_ms, self._ragged = chunk_ms, ragged
        self._voice = voice

    @property
    def base_url(self) -> str:
        """The address for the client's settings."""
        return f"{self.stage.http}/v1"

    def program(self) -> None:
        """Add the routes."""
        self.stage.route("POST", SPEECH, self._speech)
        self.stage.route("GET", MODELS, self._list_models)

    async def _list_models(self, visit: Visit) -> web.StreamResponse:
        if answer := self._key_refusal(visit):
            return await visit.answer(answer)
        rows = [{"id": name, "object": "model", "created": 1, "owned_by": "loopback"} for name in self._models]
        return await visit.answer(Answer(body={"object": "list", "data": rows}))

    async def _speech(self, visit: Visit) -> web.StreamResponse:
        body = visit.json if isinstance(visit.json, dict) else {}
        if strange := set(body) - _BODY:
            self.stage.problem(f"the body has what the vendor does not know: {', '.join(sorted(strange))}")
        if answer := self._key_refusal(visit) or self._refusal(body):
            return await visit.answer(answer)
        if is_classic(body["model"]) and body.get("instructions"):
            self.stage.problem(f"{body['model']} ignores instructions")
        text = str(body["input"])
        self.spoken.append(text)
        try:
            await anyio.sleep(self.first_s)
            if body.get("stream_format") == "sse":
                return await self._events(visit, text)
            return await self._bytes(visit, text)
        except (ConnectionError, anyio.get_cancelled_exc_class()):
            self.left += 1
            raise

    async def _bytes(self, visit: Visit, text: str) -> web.StreamResponse:
        response = await visit.begin(200, {"Content-Type": "audio/pcm"})
        for piece in self._pieces(await self._sound(text)):
            await response.write(piece)
            await anyio.sleep(self.between_s)
        return response

    async def _events(self, visit: Visit, text: str) -> web.StreamResponse:
        response = await visit.begin(200, {"Content-Type": "text/event-stream"})
        sound = await self._sound(text)
        for number, piece in enumerate(self._pieces(sound)):
            if number == self.gives_up_after:
                self.gives_up_after = None
                error = {"message": "The server had an error", "type": "server_error", "param": None, "code": None}
                await response.write(_event({"error": error}))
                return response
            audio = b2a_base64(piece, newline=False).decode("ascii")
            await response.write(_event({"type": "speech.audio.delta", "audio": audio}))
            await anyio.sleep(self.between_s)
        if not self.ends_silently:
            await response.write(_event({"type": "speech.audio.done", "usage": usage_of(text, sound)}))
        return response

    def _refusal(self, body: dict[str, Any]) -> Answer | None:
        model, text, voice = body.get("model"), body.get("input"), body.get("voice")
        if model not in self._models:
            return _refused(
                404, f"The model `{model}` does not exist or you do not have access to it.", "model_not_found"
            )
        if not isinstance(text, str) or not text:
            return _refused(400, "Missing required parameter: 'input'.", "missing_required_parameter")
        if len(text) > TEXT_LIMIT:
            return _refused(400, f"'input' must be at most {TEXT_LIMIT} characters.", "string_above_max_length")
        known = CLASSIC_VOICES if is_classic(str(model)) else (*CLASSIC_VOICES, *OTHER_VOICES)
        if voice not in known and not (isinstance(voice, dict) and str(voice.get("id", "")).startswith("voice_")):
            return _refused(400, f"Input should be {', '.join(known)}.", "invalid_value")
        if body.get("stream_format") == "sse" and is_classic(str(model)):
            return _refused(400, "'stream_format' 'sse' is not supported with this model.", "unsupported_value")
        if body.get("response_format") != "pcm":
            return _refused(400, "This loopback vendor makes pcm only.", "unsupported_value")
        return None

    def _key_refusal(self, visit: Visit) -> Answer | None:
        if visit.headers.get("authorization") == f"Bearer {self._key}" or not self._key:
            return None
        return _refused(401, "Incorrect API key provided: sk-…", "invalid_api_key")

    async def _sound(self, text: str) -> bytes:
        made = self._voice(text)
        return as_line(await made if inspect.isawaitable(made) else made, PCM_24K)

    def _pieces(self, sound: bytes) -> list[bytes]:
        size = PCM_24K.bytes_for(self._chunk_ms) + (1 if self._ragged else 0)
        return [sound[at : at + size] for at in range(0, len(sound), size)]


def usage_of(text: str, sound: bytes) -> dict[str, int]:
    """The tokens that a text takes, and its sound (PCM 24 kHz)."""
    taken, given = max(1, len(text) // 4), round(PCM_24K.ms_of(len(sound)) / 1000 * TOKENS_PER_S)
    return {"input_tokens": taken, "output_tokens": given, "total_tokens": taken + given}


def _event(message: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(message)}\n\n".encode()


def _refused(status: int, message: str, code: str) -> Answer:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return Answer(status, body={"error": error})
