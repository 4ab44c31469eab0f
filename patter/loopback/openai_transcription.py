"""OpenAI's speech-to-text played on loopback: transcription requests, and live sessions (in `openai_transcription_live`).

It owns what the vendor accepts and how it answers; who turns sound into words is for its user to say.
"""

from __future__ import annotations

import inspect
import io
import math
import wave
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from aiohttp import web

from patter.audio.convert import Converter
from patter.audio.format import PCM_16K, AudioFormat
from patter.loopback.openai_transcription_live import LiveListener, Manner, deltas
from patter.loopback.stage import LoopbackVendor
from patter.loopback.stage_faults import Refuse
from patter.loopback.stage_http import Answer, Visit
from patter.loopback.stage_peer import Peer

Transcribe = Callable[[bytes], "str | Awaitable[str]"]
"""PCM 16 kHz of an utterance → its words; "" for none."""

MODELS = (
    "gpt-transcribe", "gpt-live-transcribe", "gpt-realtime-whisper",
    "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-transcribe-diarize", "whisper-1",
)  # fmt: skip
LIVE_ONLY = ("gpt-live-transcribe", "gpt-realtime-whisper")
FIELDS = frozenset(
    {
        "file", "model", "language", "languages[]", "keywords[]", "prompt", "response_format", "temperature", "include[]",
        "timestamp_granularities[]", "stream", "chunking_strategy", "known_speaker_names[]", "known_speaker_references[]",
    }
)  # fmt: skip
LEAST_S = 0.1
TOKENS_PER_S = 10
TRANSCRIPTIONS, REALTIME = "/v1/audio/transcriptions", "/v1/realtime"


class LoopbackTranscription(LoopbackVendor):
    """The vendor; `base_url` is what an agent's settings need. Whatever the real one would refuse is a problem of the stage.

    With `api_key` other keys are refused as the vendor does it (which is no problem of the stage)."""

    def __init__(self, transcribe: Transcribe, *, api_key: str = "", manner: Manner | None = None) -> None:
        super().__init__()
        self.manner = manner or Manner()
        self.heard: list[str] = []
        """The words of every finished transcript, in order."""
        self.sent: list[dict[str, Any]] = []
        """Every event that live sessions sent."""
        self._transcribe, self._api_key = transcribe, api_key

    @property
    def base_url(self) -> str:
        """The root of its API."""
        return f"{self.stage.http}/v1"

    def program(self) -> None:
        """Its three routes."""
        self.stage.route("POST", TRANSCRIPTIONS, self._request)
        self.stage.route("GET", "/v1/models/{model}", self._model)
        self.stage.socket(REALTIME, self._session, door=self._door)

    async def words_of(self, pcm_16k: bytes) -> str:
        """What is said in this sound."""
        words = self._transcribe(pcm_16k)
        return await words if inspect.isawaitable(words) else words

    # ------------------------------------------------------------------ requests

    def _knows(self, headers: Any) -> bool:
        said = headers.get("authorization") or headers.get("Authorization") or ""
        return said == f"Bearer {self._api_key}" if self._api_key else said.startswith("Bearer ")

    async def _model(self, visit: Visit) -> web.StreamResponse:
        if not self._knows(visit.headers):
            return await visit.answer(refusal(401, "invalid_api_key", "Incorrect API key provided"))
        name = visit.request.path.rsplit("/", 1)[-1]
        if name not in MODELS:
            return await visit.answer(refusal(404, "model_not_found", f"The model '{name}' does not exist"))
        body = {"id": name, "object": "model", "created": 1, "owned_by": "openai", "shutdown_date": None}
        return await visit.answer(Answer(body=body))

    async def _request(self, visit: Visit) -> web.StreamResponse:
        if not self._knows(visit.headers):
            return await visit.answer(refusal(401, "invalid_api_key", "Incorrect API key provided"))
        fields = {name: values[0] for name, values in visit.form.items()}
        model = str(fields.get("model", ""))
        if model not in MODELS or model in LIVE_ONLY:
            return await visit.answer(refusal(404, "model_not_found", f"The model '{model}' does not exist"))
        pcm, wrong = read_sound(visit)
        if wrong := wrong or form_fault(model, visit):
            self.stage.problem(f"POST {TRANSCRIPTIONS}: {wrong}")
            return await visit.answer(refusal(400, "invalid_value", wrong))
        if len(pcm) < PCM_16K.bytes_for(LEAST_S * 1000):
            return await visit.answer(
                refusal(400, "audio_too_short", "Audio file is too short. Minimum is 0.1 seconds.")
            )
        await anyio.sleep(self.manner.answer_s)
        words = await self.words_of(pcm)
        self.heard.append(words)
        seconds = len(pcm) / 32000
        if model == "whisper-1":
            verbose = fields.get("response_format") == "verbose_json"
            return await visit.answer(Answer(body=whisper_answer(words, seconds, verbose=verbose)))
        whole: dict[str, Any] = {"text": words, "usage": tokens(words, seconds)}
        if model == "gpt-transcribe":
            whole["languages"] = []
        if fields.get("stream") != "true":
            return await visit.answer(Answer(body=whole))
        events: list[dict[str, Any]] = [{"type": "transcript.text.delta", "delta": delta} for delta in deltas(words)]
        events.append({"type": "transcript.text.done", **whole})
        pieces = [f"data: {web.json_response(event).text}\n\n" for event in events] + ["data: [DONE]\n\n"]
        headers = {"Content-Type": "text/event-stream; charset=utf-8"}
        return await visit.answer(Answer(headers=headers, pieces=pieces, between_s=self.manner.word_s))

    # ------------------------------------------------------------------ live sessions

    def _door(self, request: web.Request) -> Refuse | None:
        body = refusal(401, "invalid_api_key", "Incorrect API key provided").body
        return None if self._knows(request.headers) else Refuse(401, body)

    async def _session(self, peer: Peer) -> None:
        async with anyio.create_task_group() as tasks:
            await LiveListener(self, peer, tasks).listen()
            tasks.cancel_scope.cancel()


def refusal(status: int, code: str, message: str) -> Answer:
    """An error as OpenAI words it."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return Answer(status, body={"error": error})


def read_sound(visit: Visit) -> tuple[bytes, str]:
    """(PCM 16 kHz of the file, what is wrong with it or "")."""
    files = visit.form.get("file")
    if not files or not isinstance(files[0], bytes):
        return b"", "there is no file"
    if not visit.filenames.get("file", "").endswith((".wav", ".wave")):
        return b"", "the file's name does not say that it is a WAV file"
    try:
        with wave.open(io.BytesIO(files[0])) as file:
            if (file.getnchannels(), file.getsampwidth()) != (1, 2):
                return b"", "the file is not mono with 16 bits"
            rate, pcm = file.getframerate(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        return b"", f"the file is no WAV file ({error})"
    converter = Converter(AudioFormat("pcm_s16le", rate), PCM_16K)
    return converter.convert(pcm) + converter.flush(), ""


def form_fault(model: str, visit: Visit) -> str:
    """What the vendor would object to in a form, or ""."""
    form = {name: values[0] for name, values in visit.form.items()}
    if unknown := form.keys() - FIELDS:
        return f"unknown field {sorted(unknown)[0]!r}"
    if any(len(values) > 1 for name, values in visit.form.items() if not name.endswith("[]")):
        return "a field comes more than once"
    shape = form.get("response_format", "json")
    allowed = {"whisper-1": ("json", "text", "srt", "verbose_json", "vtt")}.get(model, ("json", "text"))
    if shape not in (("json",) if model in ("gpt-4o-transcribe", "gpt-4o-mini-transcribe") else allowed):
        return f"response_format {shape!r} is not for {model}"
    if ("keywords[]" in form or "languages[]" in form) and model != "gpt-transcribe":
        return f"keywords[] is not for {model}"
    if "prompt" in form and "diarize" in model:
        return f"prompt is not for {model}"
    language = form.get("language", "en")
    return "" if len(language) == 2 and language.islower() else f"language {language!r} is not ISO-639-1"


def tokens(words: str, seconds: float) -> dict[str, Any]:
    """Usage by tokens."""
    taken, given = math.ceil(seconds * TOKENS_PER_S), len(words.split())
    return {
        "type": "tokens",
        "input_tokens": taken,
        "input_token_details": {"text_tokens": 0, "audio_tokens": taken},
        "output_tokens": given,
        "total_tokens": taken + given,
    }


def whisper_answer(words: str, seconds: float, *, verbose: bool) -> dict[str, Any]:
    """The hosted Whisper's answer. Where nobody spoke it says "Thank you.", and doubts it."""
    text = words or "Thank you."
    usage = {"type": "duration", "seconds": math.ceil(seconds)}
    if not verbose:
        return {"text": text, "usage": usage}
    segment = {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": round(seconds, 2),
        "text": f" {text}",
        "tokens": [50364, 1],
        "temperature": 0.0,
        "avg_logprob": -0.2 if words else -1.3,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.02 if words else 0.9,
    }
    return {
        "task": "transcribe",
        "language": "english",
        "duration": round(seconds, 2),
        "text": text,
        "segments": [segment],
        "usage": usage,
    }
