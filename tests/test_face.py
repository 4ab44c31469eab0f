"""The public face, to the letter: what a user of the reference may rely on."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import pytest

import patter
from patter import events
from patter.client import Patter

NAMES = [
    "Patter", "Agent", "CallControl", "CallEvent", "CallMetrics", "CostBreakdown", "Guardrail", "IncomingMessage",
    "LatencyBreakdown", "STTConfig", "TTSConfig", "TurnMetrics", "PatterError", "PatterConnectionError",
]  # fmt: skip

REQUIRED = inspect.Parameter.empty
SORRY = "I'm sorry, I can't respond to that."

SIGNATURES: dict[str, list[tuple[str, object]]] = {
    "__init__": [
        ("mode", "local"), ("twilio_sid", ""), ("twilio_token", ""), ("telnyx_key", ""), ("telnyx_connection_id", ""),
        ("openai_key", ""), ("elevenlabs_key", ""), ("deepgram_key", ""), ("phone_number", ""), ("webhook_url", ""),
        ("pricing", None),
    ],
    "call": [
        ("to", REQUIRED), ("on_message", None), ("first_message", ""), ("from_number", ""), ("agent_id", None),
        ("agent", None), ("machine_detection", False), ("on_machine", None), ("voicemail_message", ""),
    ],
    "agent": [
        ("system_prompt", REQUIRED), ("voice", "alloy"), ("model", "gpt-4o-mini-realtime-preview"), ("language", "en"),
        ("first_message", ""), ("tools", None), ("provider", "openai_realtime"), ("stt", None), ("tts", None),
        ("variables", None), ("guardrails", None),
    ],
    "serve": [
        ("agent", REQUIRED), ("port", 8000), ("recording", False), ("on_call_start", None), ("on_call_end", None),
        ("on_transcript", None), ("on_message", None), ("on_metrics", None), ("voicemail_message", ""), ("dashboard", True),
        ("dashboard_token", ""), ("tunnel", False),
    ],
    "test": [("agent", REQUIRED), ("on_message", None), ("on_call_start", None), ("on_call_end", None)],
    "disconnect": [],
    "deepgram": [("api_key", REQUIRED), ("language", "en")],
    "whisper": [("api_key", REQUIRED), ("language", "en")],
    "elevenlabs": [("api_key", REQUIRED), ("voice", "rachel")],
    "openai_tts": [("api_key", REQUIRED), ("voice", "alloy")],
    "guardrail": [("name", REQUIRED), ("blocked_terms", None), ("check", None), ("replacement", SORRY)],
    "tool": [("name", REQUIRED), ("description", ""), ("parameters", None), ("handler", None), ("webhook_url", "")],
}  # fmt: skip

FIELDS: dict[type, list[tuple[str, object]]] = {
    patter.Agent: [*SIGNATURES["agent"]],
    patter.CallEvent: [("call_id", REQUIRED), ("caller", ""), ("callee", ""), ("direction", "")],
    patter.IncomingMessage: [("text", REQUIRED), ("call_id", REQUIRED), ("caller", REQUIRED)],
    patter.STTConfig: [("provider", REQUIRED), ("api_key", REQUIRED), ("language", "en")],
    patter.TTSConfig: [("provider", REQUIRED), ("api_key", REQUIRED), ("voice", "alloy")],
    patter.Guardrail: [("name", REQUIRED), ("check", None), ("blocked_terms", None), ("replacement", SORRY)],
    patter.CallMetrics: [
        ("call_id", REQUIRED), ("duration_seconds", REQUIRED), ("turns", REQUIRED), ("cost", REQUIRED),
        ("latency_avg", REQUIRED), ("latency_p95", REQUIRED), ("provider_mode", REQUIRED), ("stt_provider", ""),
        ("tts_provider", ""), ("llm_provider", ""), ("telephony_provider", ""),
    ],
    patter.CostBreakdown: [("stt", 0.0), ("tts", 0.0), ("llm", 0.0), ("telephony", 0.0), ("total", 0.0)],
    patter.LatencyBreakdown: [("stt_ms", 0.0), ("llm_ms", 0.0), ("tts_ms", 0.0), ("total_ms", 0.0)],
    patter.TurnMetrics: [
        ("turn_index", REQUIRED), ("user_text", REQUIRED), ("agent_text", REQUIRED), ("latency", REQUIRED),
        ("stt_audio_seconds", 0.0), ("tts_characters", 0), ("timestamp", 0.0),
    ],
}  # fmt: skip

EVENT_KEYS: dict[str, str] = {
    "CallStarted": "caller callee direction agent agent_version provider_mode stt llm tts telephony line notes custom_params",
    "CallEnded": "reason detail duration_s",
    "CallerSpeechStarted": "began_at",
    "CallerSpeechStopped": "ended_at",
    "CallerPartial": "text",
    "CallerSaid": "turn text source speech_ended_at recognition_at transcript_at pending",
    "CallerTranscribed": "turn text",
    "CallerAcknowledged": "text",
    "DigitPressed": "digit",
    "ReplyStarted": "turn reply_id kind",
    "ReplyReached": "reply_id stage reached_at",
    "ReplyText": "reply_id text",
    "ReplyHeard": "reply_id heard heard_ms",
    "ReplyPaused": "reply_id heard_ms voice_began_at",
    "ReplyResumed": "reply_id why",
    "Interrupted": "turn reply_id heard dropped heard_ms voice_began_at stopped_at",
    "AgentSaid": "turn reply_id text interrupted dropped kind",
    "ToolCalled": "turn tool_id name arguments",
    "ToolReturned": "tool_id name ok output ms",
    "GuardrailTripped": "guardrail reply_id",
    "UsageMeasured": "turn stage provider model amounts",
    "TurnMeasured": (
        "turn reply_id kind closed user_text agent_text segments total_ms interrupted tool_ms stt_audio_seconds "
        "tts_characters tokens_in tokens_cached tokens_out cost cost_so_far unpriced connections"
    ),
    "ConnectionUsed": "turn stage provider reused ms",
    "TransferRequested": "number by warm",
    "TransferFailed": "number problem",
    "CostMeasured": "cost unpriced shares",
    "CallPlaced": "caller callee agent telephony",
    "MachineDetected": "answered_by ready",
    "CarrierRecordingSaved": "url recording_id duration_s",
    "LineChanged": "state carrier number public_url agent problem fix",
    "AgentChanged": "agent agent_version changed",
    "AgentRejected": "agent problem line fix",
    "FaultOccurred": "stage provider problem fix",
    "RecordingSaved": "path duration_s",
    "AgentMuted": "muted by",
    "GuidanceGiven": "text by",
    "BudgetSpent": "scope limit_usd spent_usd",
    "LineMeasured": "frames lost dropped jitter_ms underruns",
    "MemoryChanged": "keeper state waiting problem fix",
}


def test_exactly_the_documented_names_are_exported() -> None:
    assert sorted(patter.__all__) == sorted(NAMES)
    assert {name for name in NAMES if getattr(patter, name, None) is None} == set()
    assert patter.Patter is Patter


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Call'"):
        _ = patter.Call


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_those_of_the_reference(name: str) -> None:
    parameters = [item for item in inspect.signature(getattr(Patter, name)).parameters.values() if item.name != "self"]
    plain = [item for item in parameters if item.kind is not inspect.Parameter.KEYWORD_ONLY]
    added = parameters[len(plain) :]

    assert [(item.name, item.default) for item in plain] == SIGNATURES[name]
    assert all(item.default is not REQUIRED for item in added)


@pytest.mark.parametrize("name", ["call", "serve", "test", "disconnect"])
def test_what_talks_to_the_world_is_async(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(Patter, name))


@pytest.mark.parametrize("name", ["deepgram", "whisper", "elevenlabs", "openai_tts", "guardrail", "tool"])
def test_builders_need_no_patter(name: str) -> None:
    assert isinstance(inspect.getattr_static(Patter, name), staticmethod)


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_data_classes_have_the_documented_fields_in_order(kind: type) -> None:
    plain = [item for item in dataclasses.fields(kind) if not item.kw_only]

    assert [(item.name, REQUIRED if item.default is dataclasses.MISSING else item.default) for item in plain] == FIELDS[
        kind
    ]


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_data_classes_are_frozen(kind: type) -> None:
    value = kind(**{name: "x" for name, default in FIELDS[kind] if default is REQUIRED})

    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, FIELDS[kind][0][0], "changed")


def test_settings_become_dicts_and_hide_their_key_when_shown() -> None:
    stt, tts = patter.STTConfig("deepgram", "secret"), patter.TTSConfig("elevenlabs", "secret", voice="rachel")

    assert stt.to_dict() == {"provider": "deepgram", "api_key": "secret", "language": "en"}
    assert tts.to_dict() == {"provider": "elevenlabs", "api_key": "secret", "voice": "rachel"}
    assert "secret" not in repr(stt) + repr(tts)


def test_the_error_tree() -> None:
    assert issubclass(patter.PatterConnectionError, patter.PatterError)
    assert patter.PatterError.__bases__ == (Exception,)


def test_call_control_says_what_was_asked_of_the_call() -> None:
    control = patter.CallControl("CA1", "+15550001111", "+15550002222", "twilio")

    assert (control.call_id, control.caller, control.callee) == ("CA1", "+15550001111", "+15550002222")
    assert control.telephony_provider == "twilio"
    assert (control.is_transferred, control.is_hung_up, control.ended) == (False, False, False)
    assert inspect.iscoroutinefunction(patter.CallControl.transfer)
    assert inspect.iscoroutinefunction(patter.CallControl.hangup)


@pytest.mark.parametrize("name", EVENT_KEYS)
def test_event_payloads_keep_their_keys(name: str) -> None:
    keys = [item.name for item in dataclasses.fields(events.KINDS[name])]

    assert keys == ["call_id", "seq", "at", *EVENT_KEYS[name].split()]


def test_every_event_kind_is_pinned() -> None:
    assert set(events.KINDS) == set(EVENT_KEYS)


def test_importing_patter_loads_no_heavy_module() -> None:
    code = "import patter, sys; print(*sorted(set(sys.modules) & {'numpy', 'aiohttp', 'anyio', 'jsonschema', 'soxr', 'textual'}))"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert loaded == []
