"""OpenAI's speech on the wire: bodies that the vendor's own types know, events cut anywhere, and long texts in parts."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.audio.speech_create_params import SpeechCreateParams, Voice
from openai.types.audio.speech_model import SpeechModel
from pydantic import TypeAdapter

from patter.exceptions import WireError
from patter.wire.openai_speech import (
    CLASSIC_VOICES,
    DEFAULT_MODEL,
    LINE_LIMIT,
    OTHER_VOICES,
    TEXT_LIMIT,
    Broken,
    Done,
    EventReader,
    Sound,
    SpeechEvent,
    is_classic,
    misuse,
    portions,
    request_body,
)


def line(message: Any) -> bytes:
    return f"data: {json.dumps(message)}\n\n".encode()


def delta(data: bytes) -> bytes:
    return line({"type": "speech.audio.delta", "audio": b64encode(data).decode()})


USAGE = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
STREAM = b": hello\n\nevent: x\r\n" + delta(b"\x01\x02\x03") + delta(b"\x04" * 9) + line({"type": "new"}) + line(
    {"type": "speech.audio.done", "usage": USAGE}
) + b"data: [DONE]\n\n"  # fmt: skip
EVENTS: list[SpeechEvent] = [Sound(b"\x01\x02\x03"), Sound(b"\x04" * 9), Done(14, 101)]


@pytest.mark.parametrize("model", [DEFAULT_MODEL, "tts-1", "tts-1-hd"])
@pytest.mark.parametrize("voice", ["coral", "voice_1234"])
def test_a_body_is_one_of_the_vendors(model: str, voice: str) -> None:
    options: dict[str, Any] = {"speed": 1.2} | ({} if is_classic(model) else {"instructions": "calm"})
    body = request_body(model, voice, "Good evening.", options)
    assert set(body) <= set(get_type_hints(SpeechCreateParams))
    TypeAdapter(SpeechCreateParams).validate_python(body)
    assert body["response_format"] == "pcm"
    assert body.get("stream_format") == (None if is_classic(model) else "sse")
    assert body["voice"] == ({"id": voice} if voice.startswith("voice_") else voice)


def test_our_lists_are_the_vendors() -> None:
    assert DEFAULT_MODEL in get_args(SpeechModel)
    voices = next(get_args(option) for option in get_args(Voice) if get_args(option))
    assert set(CLASSIC_VOICES) | set(OTHER_VOICES) == set(voices)


def test_the_format_cannot_be_changed_by_options() -> None:
    body = request_body("gpt-4o-mini-tts", "coral", "Hi", {"response_format": "mp3", "stream_format": "audio"})
    assert (body["response_format"], body["stream_format"]) == ("pcm", "sse")


@pytest.mark.parametrize(
    ("model", "voice", "options", "says"),
    [
        ("tts-1", "marin", {}, "tts-1 has no voice 'marin': choose one of alloy, ash"),
        ("tts-1-hd", "coral", {"instructions": "calm"}, "takes no instructions"),
        ("gpt-4o-mini-tts", "coral", {"speed": 5}, "speed must be a number from 0.25 to 4.0, not 5"),
        ("gpt-4o-mini-tts", "coral", {"speed": "fast"}, "speed must be"),
        ("gpt-4o-mini-tts", "coral", {"speed": True}, "speed must be"),
    ],
)
def test_what_would_be_refused_is_said_beforehand(model: str, voice: str, options: dict[str, Any], says: str) -> None:
    assert says in misuse(model, voice, options)


def test_what_is_right_or_unknown_is_passed_on() -> None:
    assert misuse("tts-1", "coral", {"speed": 0.9}) == ""
    assert misuse("gpt-4o-mini-tts", "a-voice-of-next-year", {"instructions": "calm"}) == ""


# ------------------------------------------------------------------------------------------------------------- events


@pytest.mark.parametrize("size", [1, 7, 64, 4096])
def test_events_are_read_wherever_they_are_cut(size: int) -> None:
    reader = EventReader()
    read = [event for at in range(0, len(STREAM), size) for event in reader.feed(STREAM[at : at + size])]
    assert read == EVENTS


def test_usage_may_be_missing() -> None:
    assert EventReader().feed(line({"type": "speech.audio.done"})) == [Done()]
    assert EventReader().feed(line({"type": "speech.audio.done", "usage": {"input_tokens": "x"}})) == [Done()]


def test_an_error_inside_the_stream_is_told() -> None:
    error = {"message": "The server had an error", "type": "server_error", "param": None, "code": None}
    assert EventReader().feed(line({"error": error})) == [Broken("The server had an error", "server_error")]


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {\n",
        b"data: 7\n",
        line({"type": "speech.audio.delta"}),
        line({"type": "speech.audio.delta", "audio": "?"}),
    ],
)
def test_what_is_no_event_is_refused(bad: bytes) -> None:
    with pytest.raises(WireError):
        EventReader().feed(bad)


def test_a_line_without_end_is_refused() -> None:
    reader = EventReader()
    assert reader.feed(b"x" * LINE_LIMIT) == []
    with pytest.raises(WireError, match="a line of more than"):
        reader.feed(b"x")


# --------------------------------------------------------------------------------------------------------- long texts


def test_a_long_text_is_cut_where_a_sentence_ends_else_a_clause_else_a_word() -> None:
    assert portions("One two. Three, four five.", 12) == ["One two.", "Three,", "four five."]
    assert portions("abcdefghij", 4) == ["abcd", "efgh", "ij"]
    assert portions(" Hello. ") == ["Hello."]
    assert portions("   ") == []


@given(st.text(alphabet="ab .,!?\n", max_size=300), st.integers(min_value=3, max_value=40))
def test_no_part_is_too_long_and_nothing_is_lost(text: str, limit: int) -> None:
    parts = portions(text, limit)
    assert all(0 < len(part) <= limit for part in parts)
    assert re.sub(r"\s", "", "".join(parts)) == re.sub(r"\s", "", text)


def test_the_limit_is_the_vendors() -> None:
    assert [len(part) for part in portions("x" * (2 * TEXT_LIMIT + 1))] == [TEXT_LIMIT, TEXT_LIMIT, 1]
