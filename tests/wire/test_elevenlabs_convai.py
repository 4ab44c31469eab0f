"""The Agents socket's messages: golden traces in both directions, what is wrong with a message, and the official client."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from elevenlabs.types.conversation_config_client_override_input import ConversationConfigClientOverrideInput
from elevenlabs.types.conversation_initiation_client_data_request_input import (
    ConversationInitiationClientDataRequestInput,
)
from hypothesis import given
from hypothesis import strategies as st

from patter.audio.format import MULAW_8K, PCM_16K, PCM_24K
from patter.exceptions import WireError
from patter.loopback import elevenlabs_convai_events as vendor
from patter.wire import elevenlabs_convai as wire
from tests.support import traces
from tests.support.elevenlabs_client import BaseConversation, ClientToOrchestratorEvent

rows = partial(traces.rows, "elevenlabs_convai")
GOOD = ("interruption", "tool_then_end", "wideband_typed_turn")
IGNORED = {
    "asr_initiation_metadata", "mcp_connection_status", "vad_score", "agent_chat_response_part",
    "internal_tentative_agent_response", "context_usage", "guardrail_triggered",
}  # fmt: skip


def said_by(side: str) -> list[dict[str, Any]]:
    return [row[side] for name in GOOD for row in rows(name) if side in row]


def rewritten(event: wire.Event) -> dict[str, Any]:
    """The vendor's message for what was read from one, by the loopback vendor's own hand."""
    match event:
        case wire.Metadata(conversation_id, plays, hears):
            names = {format_: name for name, format_ in wire.FORMATS.items()}
            return vendor.metadata(names[plays], names[hears], conversation_id)
        case wire.AgentAudio(payload, int(event_id), ""):
            return vendor.audio(wire.sound_of(payload), event_id)
        case wire.AgentAudio(payload, int(event_id), spoken):
            return vendor.audio(wire.sound_of(payload), event_id, vendor.alignment(spoken, 20.0))
        case wire.AgentSaid(text, int(event_id)):
            return vendor.agent_response(text, event_id)
        case wire.AgentCorrected(original, corrected, int(event_id)):
            return vendor.correction(original, corrected, event_id)
        case wire.Interruption(event_id):
            return vendor.interruption(event_id)
        case wire.Ping(event_id):
            return vendor.ping(event_id)
        case wire.ToolCalled(tool_id, name, arguments):
            return vendor.client_tool_call(tool_id, name, json.loads(arguments), 5)
        case wire.ToolDone(tool_id, name, kind, ok):
            return vendor.agent_tool_response(tool_id, name, 7, kind=kind, is_error=not ok)
        case wire.CallerSaid(text, False):
            return vendor.user_transcript(text, 4 if "late" in text else 3)
        case wire.CallerSaid(text, True):
            return vendor.tentative_user_transcript(text, 2)
        case wire.Failure(code, kind, sentence):
            made = vendor.error(code, kind, sentence)
            made["error_event"]["reason"] = None
            return made
        case wire.AgentDone(event_id):
            return {"type": "agent_response_complete", "agent_response_complete_event": {"event_id": event_id}}
    raise AssertionError(event)


@pytest.mark.parametrize("message", said_by("vendor"), ids=lambda message: message["type"])
def test_what_the_vendor_said_is_read_and_written_to_equality(message: dict[str, Any]) -> None:
    event = wire.read(json.dumps(message))

    if message["type"] in IGNORED:
        assert event is None
    else:
        assert event is not None
        assert rewritten(event) == message


@pytest.mark.parametrize("message", said_by("client"), ids=lambda message: message.get("type", "audio"))
def test_what_a_client_says_is_written_to_equality(message: dict[str, Any]) -> None:
    match message:
        case {"user_audio_chunk": payload}:
            written = wire.write_audio(payload)
        case {"type": "conversation_initiation_client_data"}:
            override = message.get("conversation_config_override", {})
            agent = override.get("agent", {})
            voice = override.get("tts", {}).get("voice_id")
            prompt = agent.get("prompt", {}).get("prompt")
            overrides = wire.Overrides(prompt, agent.get("first_message"), agent.get("language"), voice)
            written = wire.Initiation(overrides, message.get("dynamic_variables", {})).write()
        case {"type": "pong"}:
            written = wire.write_pong(message["event_id"])
        case {"type": "client_tool_result"}:
            written = wire.write_tool_result(message["tool_call_id"], message["result"], is_error=message["is_error"])
        case {"type": "user_message"}:
            written = wire.write_user_message(message["text"])
        case {"type": "contextual_update"}:
            written = wire.write_context(message["text"], message["context_id"])
        case {"type": "user_activity"}:
            written = wire.write_activity()
        case _:
            pytest.fail(f"{message} is not in a good trace")
    assert json.loads(written) == message


@pytest.mark.parametrize("text", [row["vendor"] for row in rows("broken")])
def test_what_is_wrong_with_a_message_is_an_error_and_never_a_crash(text: str) -> None:
    with pytest.raises(WireError):
        wire.read(text)


@pytest.mark.parametrize("payload", ["A", "AA=", "ä", "AAAA\n", "AA==AA=="])
def test_sound_that_is_not_base64_is_an_error(payload: str) -> None:
    with pytest.raises(WireError):
        wire.sound_of(payload)


def test_binary_frames_and_deep_nesting_are_errors() -> None:
    for message in (b"\x00\x01", "[" * 100_000, '{"type":' * 100_000):
        with pytest.raises(WireError):
            wire.read(message)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["audio_event", "event_id", "audio_base_64", "alignment", "chars", "parameters"]),
                        inner, max_size=4)),
       st.sampled_from(sorted(wire._READERS)))  # fmt: skip
def test_a_message_of_a_known_type_with_any_body_is_read_or_refused(body: Any, kind: str) -> None:
    message: dict[str, Any] = dict(body) if isinstance(body, dict) else {"audio_event": body}
    with suppress(WireError):
        wire.read(json.dumps(message | {"type": kind}))


def test_servers_that_leave_the_number_out_are_understood() -> None:
    assert wire.read('{"type":"agent_response","agent_response_event":{"agent_response":" Hi. "}}') == wire.AgentSaid(
        "Hi.", None
    )


def test_half_a_character_pair_can_be_sent_all_the_same() -> None:
    half = "so \ud83d"
    for message in (
        wire.write_user_message(half),
        wire.write_context(half),
        wire.write_tool_result("t1", half, is_error=False),
        wire.Initiation(wire.Overrides(prompt=half)).write(),
    ):
        assert half in json.dumps(json.loads(message.encode()), ensure_ascii=False)


def test_formats_have_the_vendors_names() -> None:
    assert wire.FORMATS["ulaw_8000"] == MULAW_8K
    assert (wire.FORMATS["pcm_16000"], wire.FORMATS["pcm_24000"]) == (PCM_16K, PCM_24K)
    assert wire.FORMATS == vendor.FORMATS


def test_nothing_is_overridden_that_was_not_set() -> None:
    assert json.loads(wire.Initiation().write()) == {"type": "conversation_initiation_client_data"}
    silent = json.loads(wire.Initiation(wire.Overrides(first_message="")).write())
    assert silent["conversation_config_override"] == {"agent": {"first_message": ""}}


# ---------------------------------------------------------------------------------------------------- official package


def test_the_first_message_parses_with_the_official_types() -> None:
    overrides = wire.Overrides("Be brief.", "Hi.", "pt-br", "EXAVITQu4vr4xnSDxMaL")
    data = json.loads(wire.Initiation(overrides, {"guest": "Noor", "room": 412}).write())

    parsed = ConversationInitiationClientDataRequestInput.model_validate(data)

    override = parsed.conversation_config_override
    assert isinstance(override, ConversationConfigClientOverrideInput)
    assert override.agent is not None
    assert override.agent.prompt is not None
    assert override.tts is not None
    assert (override.agent.prompt.prompt, override.agent.first_message) == ("Be brief.", "Hi.")
    assert (override.agent.language, override.tts.voice_id) == ("pt-br", "EXAVITQu4vr4xnSDxMaL")
    assert parsed.dynamic_variables == {"guest": "Noor", "room": 412}


def test_every_type_we_send_is_one_that_the_official_client_knows() -> None:
    sent = [
        wire.Initiation().write(), wire.write_pong(1), wire.write_tool_result("t", "r", is_error=False),
        wire.write_user_message("x"), wire.write_context("x"), wire.write_activity(),
    ]  # fmt: skip
    known = {str(item.value) for item in ClientToOrchestratorEvent}
    assert {json.loads(message)["type"] for message in sent} <= known


class Judge(BaseConversation):
    """The official client's reading of the vendor's messages, without its socket and threads."""

    def __init__(self) -> None:
        self._conversation_id = None
        self._last_interrupt_id = 0
        self.told: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("callback_"):
            return True
        if name.startswith("handle_"):
            return lambda *told: self.told.append((name.removeprefix("handle_"), told))
        raise AttributeError(name)


def test_the_official_client_reads_the_same_out_of_the_traces() -> None:
    judge = Judge()
    for message in (row["vendor"] for row in rows("interruption") if "vendor" in row):
        judge._handle_message_core(message, judge)  # type: ignore[no-untyped-call]
    assert judge._conversation_id == "conv_01k9"
    assert [name for name, _ in judge.told] == [
        "agent_response", "audio_output", "ping", "interruption", "agent_response_correction", "user_transcript",
    ]  # fmt: skip
    ours = [wire.read(json.dumps(row["vendor"])) for row in rows("interruption") if "vendor" in row]
    assert wire.CallerSaid(judge.told[-1][1][0]) == ours[-1]
