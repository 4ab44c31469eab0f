"""ElevenLabs' voices on the wire: golden traces both ways, what the vendor's own package makes of ours, and bad messages."""

from __future__ import annotations

import inspect
import json
from contextlib import suppress
from typing import Any, get_args

import pytest
from elevenlabs.text_to_speech.raw_client import RawTextToSpeechClient
from elevenlabs.text_to_speech.types.text_to_speech_stream_request_output_format import (
    TextToSpeechStreamRequestOutputFormat,
)
from elevenlabs.types.audio_output_multi import AudioOutputMulti
from elevenlabs.types.close_context import CloseContext
from elevenlabs.types.final_output_multi import FinalOutputMulti
from elevenlabs.types.initialize_connection_multi import InitializeConnectionMulti
from elevenlabs.types.send_text_multi import SendTextMulti
from elevenlabs.types.voice_settings import VoiceSettings
from elevenlabs.types.websocket_tts_client_message_multi import WebsocketTtsClientMessageMulti
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from yarl import URL

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_8K, PCM_16K, PCM_24K, PCM_48K, AudioFormat
from patter.exceptions import WireError
from patter.wire.elevenlabs_tts import (
    CLOSE_SOCKET,
    FORMATS,
    KEEP_ALIVE,
    Fault,
    Manner,
    Said,
    billed_characters,
    format_for,
    has_socket,
    read,
    sound_of,
    takes_language,
)
from tests.support.traces import rows

VOICE = "EXAVITQu4vr4xnSDxMaL"
SETTINGS = {"stability": 0.5, "similarity_boost": 0.75}


def said_by(side: str, name: str) -> list[str]:
    return [row[side] for row in rows("elevenlabs_tts", name) if side in row]


def known_only(model: type[BaseModel], message: dict[str, Any]) -> BaseModel:
    """The message as the vendor's typed model, of which every field is known."""
    read = model.model_validate(message)
    assert not read.model_extra, f"{model.__name__} does not know {read.model_extra}"
    return read


def test_a_trace_is_read_to_its_sound_and_ends() -> None:
    read_back = [read(text) for text in said_by("vendor", "two_sentences")]
    assert [(item.context, bool(item.audio), item.final) for item in read_back if isinstance(item, Said)] == [
        ("s1", True, False), ("s1", True, False), ("s1", True, False), ("s1", False, True),
        ("s2", True, False), ("s2", False, True),
    ]  # fmt: skip
    assert [len(sound_of(item.audio)) for item in read_back if isinstance(item, Said)] == [160, 240, 80, 0, 320, 0]
    for text in said_by("vendor", "two_sentences"):
        message = {name: value for name, value in json.loads(text).items() if value is not None}
        known_only(FinalOutputMulti if "isFinal" in message else AudioOutputMulti, message)


def test_what_we_say_is_the_trace() -> None:
    manner = Manner(VOICE, options=SETTINGS)
    ours = [
        *manner.sentence("s1", "Let me read the whole menu to you."),
        *manner.sentence("s2", "  Sure, just the desserts.\n"),
        KEEP_ALIVE,
        CLOSE_SOCKET,
    ]
    assert [json.loads(text) for text in ours] == [json.loads(text) for text in said_by("client", "two_sentences")]


def test_the_vendors_package_knows_every_field_of_ours() -> None:
    locators = [{"pronunciation_dictionary_id": "d", "version_id": "v"}]
    options = SETTINGS | {"speed": 1.1, "pronunciation_dictionary_locators": locators}
    first, text, last = (json.loads(message) for message in Manner(VOICE, options=options).sentence("s1", "Hi there."))
    known_only(InitializeConnectionMulti, first)
    known_only(SendTextMulti, text)
    known_only(CloseContext, last)
    for message in (first, text, last, json.loads(KEEP_ALIVE), json.loads(CLOSE_SOCKET)):
        known_only(WebsocketTtsClientMessageMulti, message)


@pytest.mark.parametrize("text", said_by("vendor", "broken"))
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        read(text)


def test_faults_are_told_with_their_code() -> None:
    assert [read(text) for text in said_by("vendor", "faults")] == [
        Fault("max_active_conversations", "Maximum simultaneous contexts per WebSocket connection exceeded (5)."),
        Fault("invalid_api_key", "Invalid API key"),
        Fault("quota_exceeded", "You have 3 credits left", "s4"),
    ]


def test_other_messages_are_passed_over() -> None:
    assert read('{"contextId": "s1", "audio": null, "isFinal": null}') is None
    assert read('{"type": "new_in_2027"}') is None
    assert read('{"is_final": true, "context_id": "s1"}') == Said("s1", final=True)


@given(
    st.text(max_size=60) | st.dictionaries(st.text(max_size=9), st.none() | st.integers() | st.text()).map(json.dumps)
)
def test_no_message_breaks_the_reader(text: str) -> None:
    with suppress(WireError):
        read(text)


def test_sound_must_be_base64() -> None:
    assert sound_of("AQID") == b"\x01\x02\x03"
    for bad in ("AQI", "A QID", "ünicode", "AQID\n"):
        with pytest.raises(WireError):
            sound_of(bad)


# ------------------------------------------------------------------------------------------------- the request by HTTP


def test_a_request_is_one_that_the_vendors_package_could_make() -> None:
    options = SETTINGS | {
        "seed": 7,
        "apply_text_normalization": "on",
        "optimize_streaming_latency": 3,
        "enable_logging": False,
    }
    manner = Manner(VOICE, format=MULAW_8K, language="en-GB", options=options)
    body, path = manner.stream_body("Your taxi is booked."), URL(manner.stream_path())
    takes = set(inspect.signature(RawTextToSpeechClient.stream).parameters)
    assert set(body) | set(path.query) <= takes
    assert body == {
        "text": "Your taxi is booked.", "model_id": "eleven_flash_v2_5", "language_code": "en",
        "voice_settings": SETTINGS, "seed": 7, "apply_text_normalization": "on",
    }  # fmt: skip
    assert path.path == f"/v1/text-to-speech/{VOICE}/stream"
    assert dict(path.query) == {
        "output_format": "ulaw_8000", "optimize_streaming_latency": "3", "enable_logging": "false",
    }  # fmt: skip
    known_only(VoiceSettings, body["voice_settings"])


def test_every_format_is_one_of_the_vendors() -> None:
    known = set(get_args(get_args(TextToSpeechStreamRequestOutputFormat)[0]))
    assert set(FORMATS.values()) <= known
    assert "mp3_44100_128" in known


@pytest.mark.parametrize(
    ("line", "asked"),
    [(MULAW_8K, MULAW_8K), (ALAW_8K, ALAW_8K), (PCM_8K, PCM_8K), (PCM_16K, PCM_16K), (PCM_24K, PCM_24K),
     (PCM_48K, PCM_24K), (None, PCM_16K)],
)  # fmt: skip
def test_a_line_gets_its_own_format_if_the_vendor_makes_it(line: AudioFormat | None, asked: AudioFormat) -> None:
    assert format_for(line) == asked


def test_the_socket_waits_for_no_more_text_and_for_long() -> None:
    query = URL(Manner(VOICE, format=ALAW_8K, language="de", options=SETTINGS | {"seed": 3}).socket_path()).query
    assert dict(query) == {
        "model_id": "eleven_flash_v2_5", "output_format": "alaw_8000", "language_code": "de", "auto_mode": "true",
        "inactivity_timeout": "180", "seed": "3",
    }  # fmt: skip


def test_a_language_is_told_only_to_models_that_take_it() -> None:
    assert takes_language("eleven_flash_v2_5")
    assert takes_language("eleven_v3")
    assert not takes_language("eleven_multilingual_v2")
    assert not takes_language("eleven_flash_v2")
    assert "language_code" not in Manner(VOICE, "eleven_multilingual_v2", language="en").stream_body("Hi")
    assert "language_code" not in Manner(VOICE, language="").stream_body("Hi")
    asked = Manner(VOICE, "eleven_multilingual_v2", language="en", options={"language_code": "fr"})
    assert asked.stream_body("Salut")["language_code"] == "fr"


def test_settings_of_the_voice_may_be_given_together_or_one_by_one() -> None:
    assert Manner(VOICE, options={"voice_settings": {"stability": 0.1, "style": 0.2}, "stability": 0.3}).voice_settings == {
        "stability": 0.3, "style": 0.2,
    }  # fmt: skip
    assert Manner(VOICE).voice_settings == {}
    assert "voice_settings" not in Manner(VOICE).stream_body("Hi")


def test_a_voice_id_cannot_leave_its_place_in_the_address() -> None:
    assert Manner("../x?y=1").stream_path().startswith("/v1/text-to-speech/..%2Fx%3Fy%3D1/stream?")


def test_only_v3_has_no_socket() -> None:
    assert has_socket("eleven_flash_v2_5")
    assert not has_socket("eleven_v3")


# --------------------------------------------------------------------------------------------------------- what it costs


@pytest.mark.parametrize(
    ("cost", "model", "characters"),
    [
        ("50", "eleven_flash_v2_5", 100.0),  # credits of a model that takes half a one for a character
        ("100", "eleven_flash_v2_5", 100.0),  # characters
        ("51", "eleven_turbo_v2_5", 102.0),
        ("100", "eleven_multilingual_v2", 100.0),
        ("150", "eleven_multilingual_v2", 150.0),  # a voice that costs more
        ("0", "eleven_flash_v2_5", 0.0),  # free
        ("", "eleven_flash_v2_5", None),
        ("many", "eleven_flash_v2_5", None),
        ("-1", "eleven_flash_v2_5", None),
        ("nan", "eleven_flash_v2_5", None),
    ],
)
def test_the_price_header_is_read_as_characters(cost: str, model: str, characters: float | None) -> None:
    assert billed_characters(cost, model, "x" * 100) == characters
