"""OpenAI's transcription requests and live sessions on the wire, judged by the vendor's own types."""

from __future__ import annotations

import io
import json
import wave
from typing import Any, get_type_hints

import pytest
from openai.types.audio import Transcription, TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent
from openai.types.audio.transcription_create_params import TranscriptionCreateParamsStreaming
from openai.types.realtime import SessionUpdateEvent
from openai.types.realtime.realtime_server_event import RealtimeServerEvent
from openai.types.realtime.realtime_transcription_session_create_response import (
    RealtimeTranscriptionSessionCreateResponse,
)
from pydantic import BaseModel, TypeAdapter

from patter.exceptions import WireError
from patter.wire.openai_live_transcription import (
    COMMIT,
    Committed,
    Complaint,
    Completed,
    LiveRequest,
    SessionReady,
    VoiceBegan,
    VoiceEnded,
    Wordless,
    Words,
    append,
    hears_by_itself,
    read_event,
    session_update,
)
from patter.wire.openai_transcription import (
    Delta,
    Request,
    Transcript,
    TranscriptReader,
    Usage,
    form_fields,
    iso_639_1,
    read_whole,
    wav,
)
from tests.support.traces import rows

SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
NAMES = get_type_hints(TranscriptionCreateParamsStreaming).keys()


def fields(model: str, **settings: Any) -> dict[str, Any]:
    """Lists for what comes more than once."""
    found: dict[str, Any] = {}
    for name, value in form_fields(Request(model, **settings)):
        assert name.removesuffix("[]") in NAMES, name
        found[name] = [*found.get(name, []), value] if name.endswith("[]") else value
    return found


# --------------------------------------------------------------------------------------------------------- requests


def test_every_model_is_asked_for_what_it_can_give() -> None:
    assert fields("gpt-transcribe", language="en-GB", keyterms=("Rye", "Salt")) == {
        "model": "gpt-transcribe", "response_format": "json", "language": "en", "stream": "true", "keywords[]": ["Rye", "Salt"],
    }  # fmt: skip
    assert fields("gpt-4o-mini-transcribe", language="de", keyterms=("Roggen", "Salz")) == {
        "model": "gpt-4o-mini-transcribe", "response_format": "json", "language": "de", "stream": "true",
        "prompt": "Roggen, Salz",
    }  # fmt: skip
    assert fields("whisper-1", language="multi") == {"model": "whisper-1", "response_format": "verbose_json"}
    assert fields("gpt-4o-transcribe-diarize", keyterms=("Rye",)) == {
        "model": "gpt-4o-transcribe-diarize", "response_format": "json", "stream": "true", "chunking_strategy": "auto",
    }  # fmt: skip
    assert fields("Systran/faster-whisper-small") == {
        "model": "Systran/faster-whisper-small", "response_format": "json",
    }  # fmt: skip


def test_options_go_as_they_are_and_come_before_what_we_would_say() -> None:
    options = {"temperature": 0.2, "prompt": "A bakery.", "include": ["logprobs"], "stream": False, "language": None}
    asked = fields("gpt-4o-transcribe", language="en", keyterms=("Rye",), options=options)
    assert "language" not in asked
    assert asked["prompt"] == "A bakery."
    assert (asked["temperature"], asked["include[]"], asked["stream"]) == ("0.2", ["logprobs"], "false")


@pytest.mark.parametrize(
    ("tag", "code"),
    [("en", "en"), ("pt-BR", "pt"), ("zh_CN", "zh"), ("", ""), ("multi", ""), ("yue", ""), ("EN", "en")],
)
def test_languages_have_two_letters_or_are_not_told(tag: str, code: str) -> None:
    assert iso_639_1(tag) == code


def test_sound_becomes_a_wav_file() -> None:
    with wave.open(io.BytesIO(wav(b"\x01\x02" * 1600, 16000))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        assert file.readframes(1600) == b"\x01\x02" * 1600


# ---------------------------------------------------------------------------------------------------------- answers

TOKENS = {"type": "tokens", "input_tokens": 22, "output_tokens": 6, "total_tokens": 28}
STREAM = [
    {"type": "transcript.text.delta", "delta": "Zwei Crois"},
    {"type": "transcript.text.delta", "delta": "sants, möglichst ☎"},
    {"type": "transcript.text.done", "text": "Zwei Croissants, möglichst ☎", "usage": TOKENS},
]


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
@pytest.mark.parametrize("end", ["data: [DONE]\n\n", ""])
def test_a_stream_may_be_cut_anywhere(size: int, end: str) -> None:
    lines = "".join(f"data: {json.dumps(event, ensure_ascii=False)}\r\n\r\n" for event in STREAM)
    body = f": hello\n\n{lines}{end}".encode()
    reader = TranscriptReader()
    pieces = [piece for at in range(0, len(body), size) for piece in reader.feed(body[at : at + size])]
    pieces += reader.close()
    assert "".join(piece.text for piece in pieces if isinstance(piece, Delta)) == "Zwei Croissants, möglichst ☎"
    assert pieces[-1] == Transcript("Zwei Croissants, möglichst ☎", Usage(0.0, 22, 6))
    TranscriptionTextDeltaEvent.model_validate(STREAM[0])
    TranscriptionTextDoneEvent.model_validate(STREAM[2])


@pytest.mark.parametrize(
    "body",
    [
        b'data: {"type":"transcript.text.delta","delta":"Zw',
        b'data: {"type":"transcript.text.delta","delta":"Zwei"}\n\ndata: [DONE]\n\n',
        b"data: {no json}\n\n",
        b"data: []\n\n",
        b'data: {"error":{"message":"overloaded"}}\n\n',
    ],
)
def test_a_stream_without_its_end_is_an_error(body: bytes) -> None:
    reader = TranscriptReader()
    with pytest.raises(WireError):
        [*reader.feed(body), *reader.close()]


def segment(text: str, no_speech: float, likelihood: float) -> dict[str, Any]:
    return {"text": text, "no_speech_prob": no_speech, "avg_logprob": likelihood}


def test_words_that_whisper_made_up_for_silence_are_dropped() -> None:
    spoken, made_up = segment(" Two croissants.", 0.01, -0.2), segment(" Thank you.", 0.9, -1.3)
    whole = {
        "text": "Two croissants. Thank you.",
        "segments": [spoken, made_up],
        "usage": {"type": "duration", "seconds": 9},
    }
    assert read_whole(json.dumps(whole).encode()) == Transcript("Two croissants.", Usage(9.0))
    assert read_whole(json.dumps({"text": "Thank you.", "segments": [made_up]}).encode()).text == ""
    sure_of_the_words = segment(" Thank you.", 0.9, -0.3)
    assert read_whole(json.dumps({"text": "Thank you.", "segments": [sure_of_the_words]}).encode()).text == "Thank you."


def test_an_answer_in_one_piece() -> None:
    body = {"text": " Hi. \n", "usage": TOKENS}
    Transcription.model_validate(body)
    assert read_whole(json.dumps(body).encode()) == Transcript("Hi.", Usage(0.0, 22, 6))
    for odd in ("x", True, None, -1, 1e999):
        usage = {"type": "tokens", "seconds": odd, "input_tokens": odd, "output_tokens": odd}
        assert read_whole(json.dumps({"text": "Hi.", "usage": usage}).encode()) == Transcript("Hi.")
    for broken in (b"<html>", b"[]", b'{"texts":""}', b"\xff", b"[" * 100_000):
        with pytest.raises(WireError):
            read_whole(broken)


# ---------------------------------------------------------------------------------------------------- live sessions


def known(model: BaseModel) -> None:
    """Fails for fields that the vendor's types do not know."""
    assert not model.model_extra, model.model_extra
    for name in type(model).model_fields:
        value = getattr(model, name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, BaseModel):
                known(one)


@pytest.mark.parametrize(
    "request_",
    [
        LiveRequest("gpt-transcribe", "audio/pcmu", "en-US", ("Rye",), silence_ms=250),
        LiveRequest(
            "gpt-4o-transcribe", "audio/pcm", keyterms=("Rye",), turn_detection="semantic_vad", eagerness="high"
        ),
        LiveRequest(
            "gpt-live-transcribe", "audio/pcma", "de", ("Roggen",), turn_detection="", noise_reduction="near_field"
        ),
        LiveRequest(
            "gpt-realtime-whisper", "audio/pcm", keyterms=("Rye",), turn_detection="", transcription={"delay": "low"}
        ),
    ],
)
def test_a_session_is_asked_for_in_the_vendors_own_terms(request_: LiveRequest) -> None:
    said = json.loads(session_update(request_))
    event = SessionUpdateEvent.model_validate(said)
    known(event)
    assert event.session.type == "transcription"
    heard = said["session"]["audio"]["input"]
    assert heard["format"]["type"] == request_.audio
    assert ("rate" in heard["format"]) == (request_.audio == "audio/pcm")
    assert (heard["turn_detection"] is None) == (not hears_by_itself(request_.model))
    assert "keywords" not in heard["transcription"] or request_.model in ("gpt-transcribe", "gpt-live-transcribe")
    assert "prompt" not in heard["transcription"] or request_.model == "gpt-4o-transcribe"


REQUESTS = {
    "server_vad": LiveRequest("gpt-transcribe", "audio/pcmu", "en", ("Rye and Salt",), silence_ms=200),
    "live_model": LiveRequest("gpt-live-transcribe", "audio/pcm", "en", turn_detection=""),
}
HEARD = {
    "server_vad": [
        SessionReady("audio/pcmu"), VoiceBegan("item_1", 640.0), VoiceEnded("item_1", 2100.0), Committed("item_1"),
        Words("item_1", "Are you"), Words("item_1", " open?"), Completed("item_1", "Are you open?", Usage(0.0, 15, 5)),
        VoiceBegan("item_2", 4000.0), VoiceEnded("item_2", 4700.0), Committed("item_2"),
        Wordless("item_2", "audio_unintelligible", "The audio could not be transcribed."),
        Complaint("session_expired", "Your session hit the maximum duration of 60 minutes."),
    ],
    "live_model": [
        SessionReady("audio/pcm"), Words("item_1", "Are"), Words("item_1", " you open"), Committed("item_1"),
        Words("item_1", "?"), Completed("item_1", "Are you open?", Usage(1.9)),
        Complaint("input_audio_buffer_commit_empty", "Error committing input audio buffer: buffer too small."),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_golden_traces(name: str) -> None:
    """What the vendor sends is read, and what we send is written the same way again."""
    heard = []
    for row in rows("openai_transcription", name):
        message = row["msg"]
        if row["dir"] == "from_provider":
            event_type = SERVER_EVENT.validate_python(message)
            if "session" not in message:  # a session as it is has fields that a session as it is asked for has not
                known(event_type)
            else:
                known(RealtimeTranscriptionSessionCreateResponse.model_validate(message["session"]))
            if (event := read_event(json.dumps(message))) is not None:
                heard.append(event)
        elif message["type"] == "session.update":
            assert json.loads(session_update(REQUESTS[name])) == message
        elif message["type"] == "input_audio_buffer.append":
            assert json.loads(append(message["audio"])) == message
        else:
            assert json.loads(COMMIT) == message
    assert heard == HEARD[name]


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[]",
        "{}",
        '{"type":7}',
        b"\xff\xfe",
        "[" * 100_000,
        '{"type":"input_audio_buffer.speech_started","item_id":"i"}',
        '{"type":"input_audio_buffer.speech_started","item_id":"i","audio_start_ms":NaN}',
    ],
)
def test_what_is_no_event_is_an_error(message: str | bytes) -> None:
    with pytest.raises(WireError):
        read_event(message)


def test_events_that_nobody_needs_are_passed_over() -> None:
    assert read_event('{"type":"rate_limits.updated","rate_limits":[]}') is None
    assert read_event('{"type":"input_audio_buffer.cleared"}') is None
    assert read_event('{"type":"error"}') == Complaint("", "")
    assert Complaint("insufficient_quota", "").hopeless
    assert Complaint("session_expired", "").ends
