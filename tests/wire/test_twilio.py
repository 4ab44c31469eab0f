"""Media Streams messages: golden traces in both directions, and everything that may be wrong with one."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.audio.format import MULAW_8K, PCM_16K
from patter.exceptions import WireError
from patter.wire import twilio
from tests.support import traces

GOOD = ("greeting_interrupted", "keys_then_hang_up", "wideband")


rows = partial(traces.rows, "twilio")


@pytest.mark.parametrize("name", GOOD)
def test_what_the_carrier_said_is_read_and_written_to_equality(name: str) -> None:
    writer: twilio.CarrierWriter | None = None
    for row in rows(name):
        if "carrier" not in row:
            continue
        message = twilio.read(json.dumps(row["carrier"]))
        match message:
            case twilio.Connected():
                written = twilio.CarrierWriter("MZ", "AC", "CA").connected()
            case twilio.Start():
                writer = twilio.CarrierWriter(message.stream_sid, message.account_sid, message.call_sid, message.format)
                written = writer.start(message.parameters)
            case twilio.Media():
                assert writer is not None
                written = writer.media(twilio.sound_of(message.payload), int(message.timestamp))
            case twilio.Dtmf(digit):
                assert writer is not None
                written = writer.dtmf(digit)
            case twilio.Mark(mark):
                assert writer is not None
                written = writer.mark(mark)
            case twilio.Stop():
                assert writer is not None
                written = writer.stop()
            case _:
                pytest.fail(f"{message} is not in a good trace")
        assert json.loads(written) == row["carrier"]


@pytest.mark.parametrize("name", GOOD)
def test_what_the_server_said_is_read_and_written_to_equality(name: str) -> None:
    sid = next(row["carrier"]["streamSid"] for row in rows(name) if row.get("carrier", {}).get("event") == "start")
    writer = twilio.StreamWriter(sid)
    for row in rows(name):
        if "server" not in row:
            continue
        match twilio.read_server(json.dumps(row["server"]), sid):
            case twilio.Play(sound):
                written = writer.media(sound)
            case twilio.Mark(mark):
                written = writer.mark(mark)
            case twilio.Clear():
                written = writer.clear
        assert json.loads(written) == row["server"]


@pytest.mark.parametrize("row", rows("broken"), ids=lambda row: str(row["why"]))
def test_a_broken_message_says_what_is_wrong_with_it(row: dict[str, str]) -> None:
    with pytest.raises(WireError, match=row["why"]):
        twilio.read(row["text"])


def test_start_tells_the_ids_the_format_and_the_parameters() -> None:
    start = next(
        message
        for row in rows("greeting_interrupted")
        if "carrier" in row and isinstance(message := twilio.read(json.dumps(row["carrier"])), twilio.Start)
    )
    assert (start.stream_sid, start.account_sid, start.call_sid) == (
        "MZ" + "b3" * 16,
        "AC" + "7" * 32,
        "CA" + "5e" * 16,
    )
    assert start.format == MULAW_8K
    assert start.parameters == {"stream_token": "k3-_9", 'from "site"': "a & b <c>"}


def test_a_wideband_start_is_sixteen_bit_pcm() -> None:
    start = twilio.read(json.dumps(rows("wideband")[1]["carrier"]))
    assert isinstance(start, twilio.Start)
    assert start.format == PCM_16K


def test_fields_nobody_needs_may_be_missing_or_new() -> None:
    media = twilio.read('{"event":"media","media":{"payload":"/w=="},"streamSid":"MZ1","new":[1]}')
    assert media == twilio.Media("/w==", "inbound", "", 0)
    assert twilio.read('{"event":"stop","stop":{}}') == twilio.Stop()
    assert twilio.read('{"event":"weather","sky":"blue"}') == twilio.Unknown("weather")


@pytest.mark.parametrize("payload", ["!!!!", "/w=", "/w==extra", "/w", "ÿÿ==", "=", "/ w=="])
def test_a_payload_that_is_not_base64_is_refused(payload: str) -> None:
    with pytest.raises(WireError, match="base64"):
        twilio.sound_of(payload)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"event":"start","streamSid":"MZ1"}', "not one a server may send"),
        ('{"event":"media","media":{"payload":"/w=="}}', "streamSid None"),
        ('{"event":"mark","streamSid":"MZ2","mark":{"name":"a"}}', "'MZ2' instead of 'MZ1'"),
        ('{"event":"media","streamSid":"MZ1","media":{"payload":"?"}}', "base64"),
        ('{"event":"media","streamSid":"MZ1","media":{"payload":""}}', "no sound"),
        ('{"event":"mark","streamSid":"MZ1"}', "mark is missing"),
        ("hello", "not a JSON text"),
    ],
)
def test_the_carrier_is_strict_with_the_server(text: str, why: str) -> None:
    with pytest.raises(WireError, match=why):
        twilio.read_server(text, "MZ1")


@given(st.text(max_size=200))
def test_no_text_whatever_crashes_the_reader(text: str) -> None:
    with suppress(WireError):
        twilio.read(text)


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["media", "mark", "dtmf", "start", "stop", "connected"]), st.dictionaries(
    st.sampled_from(["payload", "track", "name", "digit", "streamSid", "callSid", "accountSid", "mediaFormat", "tracks",
                     "timestamp", "chunk", "customParameters"]), nested))  # fmt: skip
def test_no_shape_whatever_crashes_the_reader(event: str, part: dict[str, Any]) -> None:
    with suppress(WireError):
        twilio.read(json.dumps({"event": event, event: part}))


@given(st.binary(min_size=1, max_size=400), st.text(max_size=20))
def test_sound_and_names_survive_both_ways(sound: bytes, name: str) -> None:
    writer = twilio.StreamWriter('MZ"1\\')
    assert twilio.read_server(writer.media(sound), 'MZ"1\\') == twilio.Play(sound)
    assert twilio.read_server(writer.mark(name), 'MZ"1\\') == twilio.Mark(name)
    media = twilio.read(twilio.CarrierWriter("MZ", "AC", "CA").media(sound, 20))
    assert isinstance(media, twilio.Media)
    assert base64.b64decode(media.payload) == sound


def test_a_carrier_sends_only_the_keys_of_a_telephone() -> None:
    with pytest.raises(WireError, match="not a key"):
        twilio.CarrierWriter("MZ", "AC", "CA").dtmf("12")


@given(
    st.integers(0, 10**15 - 1), st.integers(0, 10**15 - 1), st.sampled_from(["inbound", "outbound"]), st.binary(min_size=1),
    st.booleans(),
)  # fmt: skip
def test_a_frame_says_the_same_however_it_is_spelled(
    number: int, chunk: int, track: str, sound: bytes, compact: bool
) -> None:
    """The short way of reading the carrier's own spelling gives what the long way gives for any other."""
    payload = base64.b64encode(sound).decode()
    media = {"track": track, "chunk": str(chunk), "timestamp": str(number), "payload": payload}
    message = {"event": "media", "sequenceNumber": str(number), "media": media, "streamSid": "MZ" + "1" * 32}
    text = json.dumps(message, separators=(",", ":") if compact else None)

    assert twilio.read(text) == twilio.Media(payload, track, str(number), chunk)
