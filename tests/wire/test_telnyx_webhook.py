"""Telnyx' webhooks as they come, and as nobody should send them: read into one value, or refused, never a surprise."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.exceptions import WireError
from patter.wire.telnyx_webhook import ID_LIMIT, TEXT_LIMIT, Webhook, read, state_of

FIELDS = (
    "call_control_id call_leg_id client_state from to direction result status hangup_cause sip_hangup_cause "
    "failure_reason reason recording_urls public_recording_urls recording_id recording_started_at recording_ended_at"
).split()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def body(kind: str = "call.initiated", **payload: Any) -> bytes:
    return json.dumps({"data": {"event_type": kind, "id": "event-1", "payload": payload}}).encode()


def test_a_call_that_comes_in_is_read() -> None:
    said = read(
        body(
            call_control_id="v3:AbC-dEf_123", call_leg_id="6f0e", client_state=None, direction="incoming",
            state="parked", connection_id="24", to="+14155550199", **{"from": "+14155550123"},
        )
    )  # fmt: skip
    assert said == Webhook(
        "event-1", "call.initiated", "6f0e", "v3:AbC-dEf_123", "", "+14155550123", "+14155550199", incoming=True
    )


def test_an_end_a_verdict_and_a_failure_are_read() -> None:
    ended = read(body("call.hangup", hangup_cause="user_busy", sip_hangup_cause="486", hangup_source="callee"))
    assert (ended.cause, ended.sip_cause) == ("user_busy", "486")
    assert read(body("call.machine.premium.greeting.ended", result="beep_detected")).result == "beep_detected"
    assert read(body("streaming.failed", failure_reason="connection_failed")).problem == "connection_failed"
    assert read(body("call.recording.error", reason="no audio")).problem == "no audio"
    assert read(body(client_state=base64.b64encode(b"patter:x").decode())).client_state == "patter:x"


@pytest.mark.parametrize(
    ("urls", "found"),
    [
        ({"recording_urls": {"wav": "https://a/w", "mp3": "https://a/m"}}, "https://a/w"),
        ({"recording_urls": {"mp3": "https://a/m"}}, "https://a/m"),
        ({"recording_urls": {"wav": "https://a/w"}, "public_recording_urls": {"mp3": "https://p/m"}}, "https://p/m"),
        ({"recording_urls": {"wav": "javascript:alert(1)"}, "public_recording_urls": {}}, ""),
        ({"recording_urls": {"wav": 7}, "public_recording_urls": []}, ""),
        ({"recording_urls": {"wav": "https://a/" + "x" * 5_000}}, ""),
    ],
)
def test_a_recording_is_found_where_it_lasts_longest(urls: dict[str, Any], found: str) -> None:
    assert read(body("call.recording.saved", **urls)).recording == found


@pytest.mark.parametrize(
    ("began", "ended", "seconds"),
    [
        ("2026-11-20T09:15:02.100000Z", "2026-11-20T09:15:14.600000Z", 12.5),
        ("2026-11-20T09:15:02Z", "2026-11-20T09:15:01Z", 0.0),
        ("2026-11-20T09:15:02", "2026-11-20T09:15:03Z", 0.0),
        ("yesterday", "today", 0.0),
        (7, None, 0.0),
    ],
)
def test_a_recordings_length_is_told_if_it_can_be(began: Any, ended: Any, seconds: float) -> None:
    said = read(body("call.recording.saved", recording_started_at=began, recording_ended_at=ended))
    assert said.recording_s == seconds


def test_an_id_that_had_to_be_changed_is_none() -> None:
    for wrong in ("a\nb", "x" * (ID_LIMIT + 1), "\ud800", "\x7f"):
        assert read(body(call_control_id=wrong, call_leg_id=wrong)).handle == ""
        assert read(body(call_control_id=wrong, call_leg_id=wrong)).leg == ""


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_payload_is_read_into_short_printable_texts(payload: dict[str, Any]) -> None:
    said = read(body(**payload))
    for name in Webhook.__slots__:
        value = getattr(said, name)
        if isinstance(value, str):
            assert value.isprintable()
            assert len(value) <= (4_000 if name == "recording" else ID_LIMIT)
            value.encode()
    assert len(said.caller) <= TEXT_LIMIT
    assert said.recording_s >= 0.0


@given(JSON | st.fixed_dictionaries({"data": JSON}))
def test_any_other_json_is_refused(message: Any) -> None:
    if not (isinstance(message, dict) and isinstance(message.get("data"), dict)):
        with pytest.raises(WireError):
            read(json.dumps(message).encode())


@given(st.binary(max_size=60))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(WireError):
        read(noise)


@given(JSON)
def test_a_client_state_is_text_in_base64_or_nothing(value: Any) -> None:
    assert state_of(value).isprintable()
