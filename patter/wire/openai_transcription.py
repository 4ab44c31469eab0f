"""OpenAI's requests that turn one recorded utterance into words: the form's fields, and both shapes of the answer.

It owns which field which model understands and what the answers mean; it refuses to know sockets, files and calls.
"""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from patter.exceptions import WireError

NO_SPEECH = 0.6  # with so much doubt that anybody spoke, and …
MOST = 1e9  # seconds or tokens: what counts more is no count
UNLIKELY = -1.0  # … words no likelier than this, Whisper has made the segment up


@dataclass(frozen=True, slots=True)
class Usage:
    """What a transcript cost, as the vendor counts it: seconds of sound, or tokens (0 what it does not say)."""

    seconds: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """More words of the transcript that is being made."""

    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """The whole transcript. `usage` None: the vendor did not say."""

    text: str
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """How an utterance is to be transcribed. `language` is BCP-47 ("" = the model finds out); `options` go as they are, and
    None leaves a field out."""

    model: str
    language: str = ""
    keyterms: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def iso_639_1(language: str) -> str:
    """The two letters of a language tag such as "en-US"; "" for tags that have none ("multi", "yue")."""
    code = language.replace("_", "-").split("-")[0].lower()
    return code if len(code) == 2 and code.isalpha() else ""


def is_whisper(model: str) -> bool:
    """Whether it is the hosted Whisper, which does not stream and invents words for silence."""
    return model == "whisper-1"


def takes_keywords(model: str) -> bool:
    """Whether the model has a field of its own for words to listen for."""
    return model.startswith(("gpt-transcribe", "gpt-live-transcribe"))


def takes_prompt(model: str) -> bool:
    """Whether the model lets itself be guided by a text."""
    return "diarize" not in model and not model.startswith("gpt-realtime-whisper")


def counts_tokens(model: str) -> bool:
    """Whether the model has a price for its tokens; others are paid by the minute, whatever their answers count."""
    return model.startswith("gpt-4o")


def form_fields(request: Request) -> list[tuple[str, str]]:
    """The fields of the form beside the file."""
    model = request.model
    fields = {"model": model, "response_format": "verbose_json" if is_whisper(model) else "json"}
    if code := iso_639_1(request.language):
        fields["language"] = code
    if model.startswith(("gpt-transcribe", "gpt-4o")):
        fields["stream"] = "true"
    if "diarize" in model:
        fields["chunking_strategy"] = "auto"
    keywords: Sequence[str] = ()
    if request.keyterms and takes_keywords(model):
        keywords = request.keyterms
    elif request.keyterms and takes_prompt(model):
        fields["prompt"] = ", ".join(request.keyterms)
    rows: list[tuple[str, str]] = []
    for name, value in request.options.items():
        if value is None:
            fields.pop(name, None)
        elif isinstance(value, list | tuple):
            rows += [(f"{name.removesuffix('[]')}[]", _plain(one)) for one in value]
        else:
            fields[name] = _plain(value)
    return [*fields.items(), *(("keywords[]", word) for word in keywords), *rows]


def _plain(value: Any) -> str:
    if isinstance(value, bool | dict):
        return json.dumps(value)
    return str(value)


def wav(pcm: bytes, rate: int) -> bytes:
    """Mono 16-bit PCM as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(pcm)
    return file.getvalue()


# ------------------------------------------------------------------------------------------------------------ answers


def read_whole(body: bytes) -> Transcript:
    """An answer in one piece. Raises WireError when it is no transcript."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError("the transcript is no JSON") from error
    if not isinstance(data, dict) or not isinstance(data.get("text"), str):
        raise WireError("the transcript has no text")
    text, segments = data["text"], data.get("segments")
    if isinstance(segments, list) and segments:
        kept = [one for one in segments if isinstance(one, dict) and not _made_up(one)]
        if len(kept) < len(segments):
            text = " ".join(str(one.get("text") or "").strip() for one in kept)
    return Transcript(text.strip(), read_usage(data.get("usage")))


def _made_up(segment: Mapping[str, Any]) -> bool:
    doubt, likelihood = segment.get("no_speech_prob"), segment.get("avg_logprob")
    return (
        isinstance(doubt, int | float)
        and isinstance(likelihood, int | float)
        and doubt > NO_SPEECH
        and likelihood < UNLIKELY
    )


def read_usage(usage: Any) -> Usage | None:
    """What an answer says of its cost; None when it says nothing that can be used."""
    if not isinstance(usage, dict):
        return None
    seconds, taken, given = (_number(usage.get(name)) for name in ("seconds", "input_tokens", "output_tokens"))
    return Usage(seconds, int(taken), int(given)) if seconds or taken or given else None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MOST:
        return 0.0
    return float(value)


class TranscriptReader:
    """Server-sent events → words. Feed bytes as they come, cut anywhere; `close` at the end of the body."""

    def __init__(self) -> None:
        self._rest = b""
        self._words: list[str] = []
        self.done = False
        """Whether the transcript is complete."""

    def feed(self, data: bytes) -> list[Delta | Transcript]:
        """What `data` completes. Raises WireError for what is no transcript."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [piece for line in lines if (piece := self._line(line)) is not None]

    def close(self) -> list[Delta | Transcript]:
        """What was still inside. Raises WireError when the transcript never ended."""
        pieces = self.feed(b"\n")
        if not self.done:
            raise WireError("the transcript broke off")
        return pieces

    def _line(self, line: bytes) -> Delta | Transcript | None:
        name, _, value = line.partition(b":")
        text = value.strip()
        if name.strip() != b"data" or not text or text == b"[DONE]" or self.done:
            return None
        try:
            event = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise WireError("an event of the transcript is no JSON") from error
        if not isinstance(event, dict):
            raise WireError("an event of the transcript is no object")
        if broke := event.get("error"):
            raise WireError(f"it broke off: {broke.get('message') if isinstance(broke, dict) else broke}")
        if event.get("type") == "transcript.text.delta":
            self._words.append(str(event.get("delta") or ""))
            return Delta(self._words[-1])
        if event.get("type") == "transcript.text.done":
            self.done = True
            return Transcript(str(event.get("text") or "".join(self._words)).strip(), read_usage(event.get("usage")))
        return None


def joined(texts: Iterable[str]) -> str:
    """Pieces of one utterance as one text."""
    return " ".join(text.strip() for text in texts if text.strip())
