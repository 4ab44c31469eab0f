"""One call as the API gives it, from its rows: the same whether they are in the database or still in memory.

It owns names and shapes of a call's JSON; it refuses to know where rows come from. Seconds since the epoch, ms, USD.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from patter.store.schema import SEGMENTS

Row = Mapping[str, Any]
PLAIN = (
    "call_id agent agent_version provider_mode stt llm tts telephony line direction caller callee state answered_by "
    "started_at ended_at duration_s reason detail turns interruptions false_interruptions cost_total"
).split()
COSTS = ("stt", "tts", "llm", "telephony", "total")


def call_json(row: Row, home: Path, now: float) -> dict[str, Any]:
    """The row of a call for lists, from its row of the table `calls`."""
    made = {name: row[name] for name in PLAIN}
    if row["state"] == "live":
        made["duration_s"] = round(max(0.0, now - row["started_at"]), 3)
    made["cost"] = {name: row[f"cost_{name}"] for name in COSTS}
    made["unpriced"] = json.loads(row["unpriced"] or "[]")
    made["avg_latency_ms"] = row["latency_avg_ms"]
    made["p95_latency_ms"] = row["latency_p95_ms"]
    made["latency_n"] = row["latency_n"]
    made["recording"] = str(home / row["recording"]) if row["recording"] else ""
    made["recording_url"] = f"/api/v1/calls/{row['call_id']}/recording" if row["recording"] else ""
    made["carrier_recording"] = row["carrier_recording"]
    return made


def detail_json(
    row: Row, text: Row | None, turns: Iterable[Row], usage: Iterable[Row], tools: Iterable[Row], home: Path, now: float
) -> dict[str, Any]:
    """Everything that is kept of a call, from its rows of all tables (turns by number, tools in the order of their calls)."""
    made = call_json(row, home, now)
    made["transcript"] = json.loads(text["transcript"]) if text else []
    made["faults"] = json.loads(text["faults"]) if text else []
    made["turns"] = [turn_json(turn) for turn in turns]
    made["turn_count"] = row["turns"]
    made["usage"] = usage_json(usage)
    made["tools"] = [{name: tool[name] for name in _TOOL} for tool in tools]
    made["metrics"] = json.loads(row["metrics"] or "{}")
    made["custom_params"] = json.loads(row["custom_params"] or "{}")
    made["recording_s"] = row["recording_s"]
    known = made["duration_s"] > 0 and not made["unpriced"]
    made["cost_per_minute"] = row["cost_total"] / made["duration_s"] * 60 if known else None
    return made


_TURN = (
    "number turn reply_id kind at user_text agent_text total_ms sample interrupted tool_ms stt_audio_seconds "
    "tts_characters tokens_in tokens_cached tokens_out"
).split()
_TOOL = "tool_id turn name arguments returned ok output ms at".split()


def turn_json(turn: Row) -> dict[str, Any]:
    """A turn as it was measured."""
    made = {name: turn[name] for name in _TURN}
    made["segments"] = {name: turn[f"{name}_ms"] for name in SEGMENTS}
    made["cost"] = {name: turn[f"cost_{name}"] for name in ("stt", "tts", "llm", "total")}
    made["unpriced"] = json.loads(turn["unpriced"] or "[]")
    made["connections"] = json.loads(turn["connections"] or "{}")
    return made


def usage_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """What was used of whom, one entry for each stage, provider and model."""
    made: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["stage"], row["provider"], row["model"], row["amount"])):
        key = (row["stage"], row["provider"], row["model"])
        entry = made.setdefault(
            key, {"stage": key[0], "provider": key[1], "model": key[2], "amounts": {}, "cost": 0.0, "priced": True}
        )
        entry["amounts"][row["amount"]] = row["quantity"]
        entry["cost"] += row["cost"]
        entry["priced"] = entry["priced"] and row["priced"]
    return list(made.values())
