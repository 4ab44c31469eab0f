"""Telnyx's media stream: golden traces in both directions, everything that may be wrong with a message, and L16's bytes."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.audio.byteorder import swapped
from patter.audio.format import ALAW_8K, MULAW_8K, PCM_16K, AudioFormat
from patter.exceptions import WireError
from patter.wire import telnyx
from patter.wire.stream import Clear, Connected, Dtmf, Mark, Media, Play, Stop, StreamError, Unknown, sound_of
from tests.support import traces

GOOD = ("greeting_interrupted", "keys_refusal_then_stop", "wideband")
rows = partial(traces.rows, "telnyx")
START = telnyx.Start("s-1", "v3:a", MULAW_8K)


def writer_like(start: dict[str, Any], token: str = "") -> telnyx.CarrierWriter:
    """The carrier that wrote this `start` message."""
    read, told = telnyx.read(json.dumps(start)), start["start"]
    assert isinstance(read, telnyx.Start)
    return telnyx.CarrierWriter(
        read.stream_id,
        read.call_control_id,
        read.format,
        call_session_id=told["call_session_id"],
        user_id=told["user_id"],
        caller=told["from"],
        callee=told["to"],
        client_state=told["client_state"],
        auth_token=token,
    )


@pytest.mark.parametrize("name", GOOD)
def test_what_the_carrier_said_is_read_and_written_to_equality(name: str) -> None:
    said = [row["carrier"] for row in rows(name) if "carrier" in row]
    writer = writer_like(next(message for message in said if message["event"] == "start"))
    for message in said:
        match telnyx.read(json.dumps(message)):
            case Connected(version, token):
                assert version == "1.0.0"
                written = writer.connected(token)
            case telnyx.Start() as start:
                written = writer.start(start.parameters)
            case Media() as media:
                written = writer.media(sound_of(media.payload), int(media.timestamp))
            case Dtmf(digit):
                at = datetime.fromisoformat(message["occurred_at"]).timestamp()
                written = writer.dtmf(digit, at)
            case Mark(mark):
                written = writer.mark(mark)
            case StreamError(code, title, detail):
                written = writer.error(int(code), title, detail)
            case Stop():
                written = writer.stop()
            case other:
                pytest.fail(f"{other} is not in a good trace")
        assert json.loads(written) == message


@pytest.mark.parametrize("name", GOOD)
def test_what_the_server_said_is_read_and_written_to_equality(name: str) -> None:
    stream = telnyx.TelnyxStream(START, MULAW_8K)
    for message in [row["server"] for row in rows(name) if "server" in row]:
        match telnyx.read_server(json.dumps(message)):
            case Play(sound):
                written = stream.media(sound)
            case Mark(mark):
                written = stream.mark(mark)
            case Clear():
                written = stream.clear
        assert json.loads(written) == message


@pytest.mark.parametrize("row", rows("broken"), ids=lambda row: str(row["why"]))
def test_a_broken_message_says_what_is_wrong_with_it(row: dict[str, str]) -> None:
    with pytest.raises(WireError, match=row["why"]):
        telnyx.read(row["text"])


def test_start_tells_the_ids_the_callers_format_and_what_was_given_along() -> None:
    start = telnyx.read(json.dumps(rows("greeting_interrupted")[1]["carrier"]))
    assert start == telnyx.Start(
        stream_id="7f3c1d2e-5b6a-4c8d-9e0f-a1b2c3d4e5f6",
        call_control_id="v3:Zk9-aQ_x:7",
        format=MULAW_8K,
        client_state="bGVnLTc=",
        parameters={"session": "s-90", 'from "site"': "a & b <c>"},
    )


@pytest.mark.parametrize(
    ("name", "audio"), [("keys_refusal_then_stop", ALAW_8K), ("wideband", PCM_16K), ("greeting_interrupted", MULAW_8K)]
)
def test_the_callers_format_is_the_one_that_start_announces(name: str, audio: AudioFormat) -> None:
    start = telnyx.read(json.dumps(rows(name)[1]["carrier"]))
    assert isinstance(start, telnyx.Start)
    assert start.format == audio
    assert telnyx.TelnyxStream(start, MULAW_8K).hears == audio
    assert telnyx.TelnyxStream(start, MULAW_8K).plays == MULAW_8K


@pytest.mark.parametrize(
    "text",
    [
        '{"event":"connected","version":"1.0.0","connected":{"x-telnyx-streaming-auth-token":"k"}}',
        '{"event":"connected","version":"1.0.0","x-telnyx-streaming-auth-token":"k"}',
    ],
)
def test_the_token_is_found_at_either_place_and_never_shown(text: str) -> None:
    connected = telnyx.read(text)
    assert connected == Connected("1.0.0", "k")
    assert "'k'" not in repr(connected)


def test_fields_nobody_needs_may_be_missing_or_new() -> None:
    assert telnyx.read('{"event":"media","media":{"payload":"/w=="},"new":[1]}') == Media("/w==", "inbound", "", 0)
    assert telnyx.read('{"event":"media","media":{"payload":"/w==","chunk":7,"timestamp":140}}') == Media(
        "/w==", "inbound", "140", 7
    )
    assert telnyx.read('{"event":"stop"}') == Stop()
    assert telnyx.read('{"event":"connected"}') == Connected("")
    assert telnyx.read('{"event":"weather","sky":"blue"}') == Unknown("weather")
    assert telnyx.read('{"event":"error","payload":{"code":"100002"}}') == StreamError("100002")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"event":"start"}', "not one a server may send"),
        ('{"event":"stop"}', "not one a server may send"),
        ('{"event":"media","media":{"payload":"@@not-base64@@"}}', "base64"),
        ('{"event":"media","media":{"payload":""}}', "no sound"),
        ('{"event":"media","payload":"/w=="}', "media is missing"),
        ('{"event":"mark","mark":{}}', "mark.name"),
        ("hello", "not a JSON text"),
    ],
)
def test_the_carrier_is_strict_with_the_server(text: str, why: str) -> None:
    with pytest.raises(WireError, match=why):
        telnyx.read_server(text)


@pytest.mark.parametrize(("size", "audio"), [(159, MULAW_8K), (240_001, ALAW_8K), (638, PCM_16K)])
def test_sound_too_short_or_too_long_for_one_message_is_refused(size: int, audio: AudioFormat) -> None:
    stream = telnyx.TelnyxStream(START, audio)
    with pytest.raises(WireError, match="20 ms to 30 s"):
        telnyx.read_server(stream.media(bytes(size)), audio)
    assert telnyx.read_server(stream.media(bytes(audio.bytes_for(20))), audio) == Play(bytes(audio.bytes_for(20)))
    assert telnyx.read_server(stream.media(bytes(size))) == Play(bytes(size))


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(WireError, match="inside a sample"):
        telnyx.read_server(telnyx.TelnyxStream(START, PCM_16K).media(bytes(641)), PCM_16K)


VOICE = (8000 * np.sin(2 * np.pi * 210 * np.arange(320) / 16000)).astype("<i2").tobytes()


@pytest.mark.parametrize("big_endian", [False, True])
def test_l16_is_heard_and_played_in_the_carriers_own_byte_order(big_endian: bool) -> None:
    carrier = telnyx.CarrierWriter("s-1", "v3:a", PCM_16K, big_endian=big_endian)
    stream = telnyx.TelnyxStream(telnyx.Start("s-1", "v3:a", PCM_16K), PCM_16K)
    assert telnyx.read_server(stream.media(VOICE), PCM_16K) == Play(VOICE)  # not known yet: as on most machines
    for sound in (bytes(640), VOICE):
        media = telnyx.read(carrier.media(sound, 0))
        assert isinstance(media, Media)
        assert sound_of(media.payload) == (swapped(sound) if big_endian else sound)
        assert stream.sound(media.payload) == sound
    assert telnyx.read_server(stream.media(VOICE), PCM_16K, big_endian=big_endian) == Play(VOICE)


def test_g711_is_passed_through_untouched_whatever_the_other_way_carries() -> None:
    stream = telnyx.TelnyxStream(telnyx.Start("s-1", "v3:a", PCM_16K), MULAW_8K)
    media = telnyx.read(telnyx.CarrierWriter("s-1", "v3:a", PCM_16K, big_endian=True).media(VOICE, 0))
    assert isinstance(media, Media)
    assert stream.sound(media.payload) == VOICE
    assert telnyx.read_server(stream.media(b"\x01\x02" * 80)) == Play(b"\x01\x02" * 80)


def test_half_a_sample_of_l16_cannot_be_read() -> None:
    stream = telnyx.TelnyxStream(telnyx.Start("s-1", "v3:a", PCM_16K), PCM_16K)
    with pytest.raises(WireError, match="inside a sample"):
        stream.sound("AAAA")


@given(st.text(max_size=200))
def test_no_text_whatever_crashes_the_reader(text: str) -> None:
    with suppress(WireError):
        telnyx.read(text)
    with suppress(WireError):
        telnyx.read_server(text, PCM_16K)


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
part = st.dictionaries(
    st.sampled_from(["payload", "track", "chunk", "timestamp", "name", "digit", "code", "call_control_id", "client_state",
                     "custom_parameters", "media_format", "encoding", "sample_rate", telnyx.AUTH_TOKEN]), nested)  # fmt: skip


@given(
    st.sampled_from(["media", "mark", "dtmf", "start", "stop", "connected", "error", "clear"]), part | nested, nested
)
def test_no_shape_whatever_crashes_the_reader(event: str, inner: Any, stream_id: Any) -> None:
    key = "payload" if event == "error" else event
    text = json.dumps({"event": event, "stream_id": stream_id, key: inner})
    with suppress(WireError):
        telnyx.read(text)
    with suppress(WireError):
        telnyx.read_server(text, MULAW_8K)


@given(st.binary(min_size=1, max_size=400), st.text(max_size=20))
def test_sound_and_names_survive_both_ways(sound: bytes, name: str) -> None:
    stream = telnyx.TelnyxStream(START, MULAW_8K)
    assert telnyx.read_server(stream.media(sound)) == Play(sound)
    assert telnyx.read_server(stream.mark(name)) == Mark(name)
    media = telnyx.read(telnyx.CarrierWriter('s"1\\', "v3:a").media(sound, 20))
    assert isinstance(media, Media)
    assert stream.sound(media.payload) == sound


def test_a_carrier_sends_only_the_keys_of_a_telephone() -> None:
    with pytest.raises(WireError, match="not a key"):
        telnyx.CarrierWriter("s-1", "v3:a").dtmf("12")
