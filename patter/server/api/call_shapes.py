"""The shapes of a call in the API's answers, for its document.

It owns these schemas; it refuses to know where the values come from.
"""

from __future__ import annotations

from collections.abc import Mapping

from patter.server.schemas import (
    FLAG,
    NUMBER,
    OBJECT,
    TEXT,
    TEXTS,
    WHOLE,
    Schema,
    listing,
    one_of,
    or_null,
    record,
    table,
)
from patter.store.schema import SEGMENTS

COST: Schema = record(dict.fromkeys(("stt", "tts", "llm", "telephony", "total"), NUMBER), title="Cost")
_OF_TURN: Schema = record(dict.fromkeys(("stt", "tts", "llm", "total"), NUMBER), title="TurnCost")
_TEXTS = "call_id agent agent_version provider_mode stt llm tts telephony line direction caller callee".split()

ROW_FIELDS: Mapping[str, Schema] = {
    **dict.fromkeys(_TEXTS, TEXT),
    "state": one_of("ringing", "live", "ended"),
    "answered_by": TEXT,
    **dict.fromkeys(("started_at", "ended_at", "duration_s"), NUMBER),
    **dict.fromkeys(("reason", "detail"), TEXT),
    **dict.fromkeys(("turns", "interruptions", "false_interruptions"), WHOLE),
    "cost_total": NUMBER,
    "cost": COST,
    "unpriced": TEXTS,
    **dict.fromkeys(("avg_latency_ms", "p95_latency_ms"), NUMBER),
    "latency_n": WHOLE,
    **dict.fromkeys(("recording", "recording_url", "carrier_recording"), TEXT),
    "muted": FLAG,
}
ROW: Schema = record(ROW_FIELDS, optional=("muted",), title="Call")

LINE: Schema = record(
    {
        "role": one_of("user", "assistant"),
        "text": TEXT,
        "timestamp": NUMBER,
        "turn": WHOLE,
        "interrupted": FLAG,
        "kind": TEXT,
    },
    optional=("turn", "interrupted", "kind"),
    title="TranscriptLine",
)
TURN: Schema = record(
    {
        **dict.fromkeys(("number", "turn", "reply_id"), WHOLE),
        "kind": TEXT,
        "at": NUMBER,
        **dict.fromkeys(("user_text", "agent_text"), TEXT),
        "segments": record(dict.fromkeys(SEGMENTS, NUMBER)),
        "total_ms": NUMBER,
        **dict.fromkeys(("sample", "interrupted"), FLAG),
        **dict.fromkeys(("tool_ms", "stt_audio_seconds"), NUMBER),
        **dict.fromkeys(("tts_characters", "tokens_in", "tokens_cached", "tokens_out"), WHOLE),
        "cost": _OF_TURN,
        "unpriced": TEXTS,
        "connections": table(NUMBER),
    },
    title="Turn",
)
USED: Schema = record(
    {"stage": TEXT, "provider": TEXT, "model": TEXT, "amounts": table(NUMBER), "cost": NUMBER, "priced": FLAG},
    title="Usage",
)
TOOL: Schema = record(
    {
        "tool_id": TEXT,
        "turn": WHOLE,
        **dict.fromkeys(("name", "arguments"), TEXT),
        **dict.fromkeys(("returned", "ok"), FLAG),
        "output": TEXT,
        **dict.fromkeys(("ms", "at"), NUMBER),
    },
    title="ToolCall",
)
FAULT: Schema = record({"at": NUMBER, "stage": TEXT, "provider": TEXT, "problem": TEXT, "fix": TEXT}, title="Fault")
PERCENTILES: Schema = record(
    {"n": WHOLE, "avg": NUMBER, "p50": NUMBER, "p90": NUMBER, "p95": NUMBER, "p99": NUMBER},
    optional=("avg", "p90", "p99"),
    title="Percentiles",
)
_LINE_STATS: Schema = record(
    {**dict.fromkeys(("frames", "lost", "dropped"), WHOLE), "jitter_ms": NUMBER, "underruns": WHOLE}, title="LineStats"
)
_METRICS: Mapping[str, Schema] = {
    "greeting_ms": NUMBER,
    **dict.fromkeys(("interruptions", "false_interruptions"), WHOLE),
    "tool_ms": NUMBER,
    **dict.fromkeys(("connections_reused", "connections_opened"), WHOLE),
    "connections_ms": NUMBER,
    "latency": PERCENTILES,
    "segments": table(PERCENTILES),
    "line": {**or_null(_LINE_STATS), "description": "null: there was no sound, or the call is not over"},
}
METRICS: Schema = {
    **record(_METRICS, optional=tuple(_METRICS), title="CallMetrics"),
    "description": "empty: nothing was measured, as nobody took the call",
}
DETAIL: Schema = record(
    {
        **ROW_FIELDS,
        "transcript": listing(LINE),
        "turns": listing(TURN),
        "usage": listing(USED),
        "tools": listing(TOOL),
        "faults": listing(FAULT),
        "turn_count": WHOLE,
        "metrics": METRICS,
        "custom_params": {**OBJECT, "description": "what was given along with the call, as it came: of any shape"},
        "cost_per_minute": or_null(NUMBER),
        "recording_s": NUMBER,
    },
    optional=("muted",),
    title="CallDetail",
)

VERSION: Schema = record(
    {"version": TEXT, "text": TEXT, "first_used_at": NUMBER, "last_used_at": NUMBER, "calls": WHOLE},
    title="AgentVersion",
)
