"""OpenAI's realtime protocol: golden traces in both shapes and directions, judged by OpenAI's own types, and broken events."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_16K, PCM_24K, AudioFormat
from patter.exceptions import WireError
from patter.models import RealtimeConfig
from patter.wire import openai_realtime as wire
from patter.wire.openai_realtime_events import Other, Sound, read, tokens
from tests.support import traces
from tests.support.realtime_judge import judged

GA, BETA = ("greeting_interrupted", "tools_in_parallel"), ("beta_turn", "beta_refused")
SHOP = "You take orders for a flower shop."
SETTINGS = {
    "greeting_interrupted": wire.SessionSettings(
        SHOP, "cedar", MULAW_8K, MULAW_8K, RealtimeConfig(silence_ms=450), "gpt-transcribe", "en"
    ),
    "beta_turn": wire.SessionSettings(
        SHOP,
        "sage",
        ALAW_8K,
        ALAW_8K,
        RealtimeConfig("semantic_vad", eagerness="low", noise_reduction="far_field"),
        "whisper-1",
    ),
}
rows = partial(traces.rows, "openai_realtime")


def shape_of(name: str) -> wire.Shape:
    return "beta" if name in BETA else "ga"


@pytest.mark.parametrize("name", GA + BETA)
def test_what_the_server_says_is_read(name: str) -> None:
    for row in rows(name):
        if "server" in row:
            assert repr(read(json.dumps(row["server"]))) == row["means"]


@pytest.mark.parametrize("name", GA + BETA)
def test_what_we_say_is_written_to_equality(name: str) -> None:
    for row in rows(name):
        if "client" in row:
            assert json.loads(_written(name, row["client"])) == row["client"]


def _written(name: str, event: dict[str, Any]) -> str:
    named = {"event_id": event["event_id"]} if "event_id" in event else {}
    match event["type"]:
        case "session.update":
            return wire.session_update(SETTINGS[name], shape_of(name))
        case "response.create":
            asked = event.get("response", {})
            return wire.respond(asked.get("instructions", ""), tools="tool_choice" not in asked, **named)
        case "response.cancel":
            return wire.cancel(event["response_id"], **named)
        case "conversation.item.truncate":
            return wire.truncate(event["item_id"], event["audio_end_ms"], **named)
        case "conversation.item.delete":
            return wire.delete(event["item_id"], **named)
        case "conversation.item.create":
            return wire.create(_item(name, event["item"]), after=event.get("previous_item_id"), **named)
        case "input_audio_buffer.append":
            return wire.append(event["audio"])
    raise AssertionError(event["type"])


def _item(name: str, item: dict[str, Any]) -> wire.Item:
    if item["type"] == "function_call":
        return wire.tool_call(item["id"], item["call_id"], item["name"], item["arguments"])
    if item["type"] == "function_call_output":
        return wire.tool_output(item["call_id"], item["output"])
    part = item["content"][0]
    if item["role"] == "assistant":
        return wire.agent_text(item["id"], part["text"], shape_of(name))
    if part["type"] == "input_audio":
        return wire.caller_sound(item["id"], part["audio"])
    return wire.caller_text(item["id"], part["text"])


@pytest.mark.parametrize("name", GA + BETA)
def test_openai_itself_would_read_every_event_of_the_traces(name: str) -> None:
    for row in rows(name):
        for side in ("client", "server"):
            if side in row:
                judged(row[side], side, shape_of(name))


@pytest.mark.parametrize("row", rows("broken"), ids=lambda row: row["text"][:40])
def test_a_broken_event_is_refused_with_what_is_wrong_and_without_its_payload(row: dict[str, str]) -> None:
    with pytest.raises(WireError) as caught:
        read(row["text"])
    assert str(caught.value) == row["why"]


NAMES = st.sampled_from(["type", "session", "response", "item", "id", "delta", "error", "output", "usage", "audio"])
LEAVES = st.none() | st.booleans() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(LEAVES, lambda some: st.lists(some, max_size=4) | st.dictionaries(NAMES, some, max_size=6))


@given(ANYTHING)
@settings(max_examples=40)
def test_anything_is_read_or_refused(value: Any) -> None:
    for kind in ("response.done", "session.updated", "response.output_item.done", "error", "response.audio.delta"):
        event = value | {"type": kind} if isinstance(value, dict) else value
        with suppress(WireError):
            read(json.dumps(event))


def test_unknown_events_are_passed_over() -> None:
    assert read('{"type":"mcp_list_tools.completed","item_id":"i"}') == Other("mcp_list_tools.completed")


def test_sound_is_decoded_once_and_keeps_its_wire_form() -> None:
    text = base64.b64encode(bytes(range(160))).decode()
    delta = {"type": "response.output_audio.delta", "response_id": "r", "item_id": "i", "delta": text}
    sound = read(json.dumps(delta))
    assert isinstance(sound, Sound)
    assert sound.data == bytes(range(160))
    assert sound.base64 == text


@given(st.binary(max_size=400))
def test_an_append_is_json_around_the_base64_as_it_is(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert json.loads(wire.append(text)) == {"type": "input_audio_buffer.append", "audio": text}


@pytest.mark.parametrize(("line", "asked"), [(MULAW_8K, MULAW_8K), (ALAW_8K, ALAW_8K), (PCM_16K, PCM_24K)])
def test_a_line_of_g711_is_asked_for_as_it_is(line: AudioFormat, asked: AudioFormat) -> None:
    assert wire.format_for(line) == asked


@pytest.mark.parametrize("shape", ["ga", "beta"])
@pytest.mark.parametrize("sound", [MULAW_8K, ALAW_8K, PCM_24K, None])
@pytest.mark.parametrize(
    "listening",
    [RealtimeConfig(), RealtimeConfig(turn_detection="semantic_vad", eagerness="high", noise_reduction="near_field")],
    ids=["silence", "semantic"],
)
def test_every_session_we_ask_for_is_one(
    shape: wire.Shape, sound: AudioFormat | None, listening: RealtimeConfig
) -> None:
    tool = {"name": "price_of", "description": "A price.", "parameters": {"type": "object", "properties": {}}}
    asked = wire.SessionSettings(
        SHOP, "marin" if shape == "ga" else "sage", sound, sound, listening, "whisper-1", "nl", [tool]
    )
    event = json.loads(wire.session_update(asked, shape))
    judged(event, "client", shape)
    assert event["session"]["tools"] == [{"type": "function", **tool}]
    detection = json.dumps(event).count('"create_response": false, "interrupt_response": false')
    assert detection == (sound is not None)
    assert ("audio/" in json.dumps(event)) == (shape == "ga" and sound is not None)


def test_a_voice_of_ones_own_is_named_by_its_id() -> None:
    asked = wire.SessionSettings(SHOP, "voice_123", None, MULAW_8K)
    assert json.loads(wire.session_update(asked, "ga"))["session"]["audio"]["output"]["voice"] == {"id": "voice_123"}


@pytest.mark.parametrize("shape", ["ga", "beta"])
def test_a_change_says_only_what_differs_and_may_change(shape: wire.Shape) -> None:
    before = SETTINGS["greeting_interrupted"]
    after = wire.SessionSettings(
        "Be brief.", "ash", MULAW_8K, MULAW_8K, RealtimeConfig(silence_ms=700), "gpt-transcribe", "en"
    )
    assert wire.session_change(before, before, shape) == ""
    event = json.loads(wire.session_change(before, after, shape))
    judged(event, "client", shape)
    session = event["session"]
    hearing = session if shape == "beta" else session["audio"]["input"]
    assert session["instructions"] == "Be brief."
    assert hearing["turn_detection"]["silence_duration_ms"] == 700
    assert not {"voice", "output", "tools", "transcription", "format"} & (
        set(session) | set(hearing) | set(session.get("audio", {}))
    )


@pytest.mark.parametrize(
    ("usage", "amounts"),
    [
        ({}, {}),
        ({"input_tokens": 30, "output_tokens": 4}, {"input_text_tokens": 30, "output_text_tokens": 4}),
        (
            {"input_tokens": 70, "output_tokens": 20, "input_token_details": {"audio_tokens": 60, "cached_tokens": 30}},
            {"input_text_tokens": 10, "input_audio_tokens": 60, "cached_text_tokens": 10, "cached_audio_tokens": 20,
             "output_text_tokens": 20},
        ),
    ],
)  # fmt: skip
def test_counts_without_details_are_classed_as_well_as_can_be(usage: dict[str, Any], amounts: dict[str, float]) -> None:
    assert tokens(usage) == amounts
