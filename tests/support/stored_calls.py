"""Calls as they stand in the database, made by the thousand from a seed: their rows, and the days' sums beside them.

It owns what such calls are like; it refuses to know how they are read. The sums are made from the same numbers in the plainest
way, so that what is read of them can be held against the calls themselves.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Boolean, Column, Table
from sqlalchemy.types import Float, Integer

from patter.store import schema
from patter.store.buckets import PLACES, bucket, packed, place
from patter.store.search import order_key, text_of
from patter.store.sums import LATENCIES

DAY_S = 86_400
Values = dict[str, Any]

AGENTS = ("reception", "bookings", "billing", "night desk", "survey", "pharmacy")
WEIGHTS = (40, 25, 15, 10, 7, 3)
REASONS = ("caller_hung_up", "agent_ended", "transferred", "no_answer", "busy", "silence", "failed", "operator_ended")
REASON_WEIGHTS = (50, 22, 9, 7, 4, 4, 3, 1)
GREETINGS = ("Hello, how can I help you today?", "Good day, this is the front desk. What can I do for you?")
ASKED = (
    "I'd like to book {thing} for {when}, please",
    "can you tell me whether {thing} is still possible on {when}",
    "my name is {name} and I have a question about {thing}",
    "um yeah I wanted to move {thing} to {when}",
    "what does {thing} cost",
    "it's {name}, I called about {thing} on {when}",
    "no that's all, thank you very much",
    "could you repeat that, the line is bad",
)
ANSWERED = (
    "Of course. I have you down for {thing} on {when}. Is there anything else?",
    "Let me check that for you. {thing} is available on {when}.",
    "Thank you, {name}. I have found your {thing}.",
    "The price of {thing} is {amount} dollars.",
    "I'm sorry, there is nothing left on {when}. Would another day suit you?",
    "You're welcome. Have a good day!",
)
THINGS = (
    "an appointment|a table for four|the delivery|a refund|the invoice|a prescription|the warranty|a cleaning|a haircut|"
    "the parcel|a room with a view|the contract|an x-ray|a second opinion|the subscription|a tyre change|the deposit"
).split("|")
WHEN = "Monday|Tuesday morning|Wednesday|Thursday at 9:30|Friday|the 12th of June|tomorrow|next week|July 4th".split(
    "|"
)
TALKS = 5_000  # different talks of `many_calls`
SYLLABLES = "ba ko ri mel to sa vin der lu ne za qui hart os wel ga mi pren sto fi".split()
SEGMENT_MS = (420.0, 130.0, 260.0, 90.0, 140.0, 60.0)
"""The median of each segment."""


@dataclass(slots=True)
class Stored:
    """One call's rows, by table."""

    call: Values
    text: Values
    turns: list[Values] = field(default_factory=list)
    usage: list[Values] = field(default_factory=list)
    tools: list[Values] = field(default_factory=list)
    cells: list[int] = field(default_factory=list)
    """The cells of its day's histograms that its latencies fall into."""

    def measure(self) -> None:
        """Find the cells."""
        self.cells = [
            number * PLACES + place(bucket(turn[f"{name}_ms"]))
            for turn in self.turns
            if turn["sample"]
            for number, name in enumerate(LATENCIES)
        ]


def stored_calls(count: int, *, seed: int = 1, days: int = 90, until: float = 20_000.0 * DAY_S) -> Iterator[Stored]:
    """`count` calls that began within the `days` before `until` (seconds since the epoch), the oldest first."""
    chance = random.Random(seed)
    for moment in sorted(chance.random() for _ in range(count)):
        yield _call(chance, until - days * DAY_S * (1 - moment))


def many_calls(count: int, *, seed: int = 1, days: int = 90, until: float = 20_000.0 * DAY_S) -> Iterator[Stored]:
    """The same, quicker: of some thousand calls' talk, each is held many times by others at other times."""
    chance = random.Random(seed)
    held = list(stored_calls(min(count, TALKS), seed=seed, days=days, until=until))
    said = {one.call["call_id"]: _said_words(one) for one in held}
    for moment in sorted(chance.random() for _ in range(count)):
        one = chance.choice(held)
        yield _again(chance, one, said[one.call["call_id"]], until - days * DAY_S * (1 - moment))


def _said_words(made: Stored) -> str:
    return " ".join(word for word in made.text["words"].split() if not word.startswith("_"))


def _again(chance: random.Random, old: Stored, said: str, at: float) -> Stored:
    """The same talk with somebody else at another time."""
    call_id, started_at = "CA" + chance.randbytes(16).hex(), round(at, 3)
    later, named = started_at - old.call["started_at"], {"call_id": call_id}
    call = old.call | named | {
        "started_at": started_at,
        "ended_at": round(old.call["ended_at"] + later, 3),
        "day": int(at // DAY_S),
        "journal": f"calls/{call_id}/events.jsonl",
        "order_key": order_key(started_at, call_id),
    }  # fmt: skip
    if call["direction"] != "test":
        call["callee" if call["direction"] == "outbound" else "caller"] = _number(chance)
    text = old.text | named | {"id": call["order_key"], "words": f"{said} {text_of(call, ())}"}
    turns = [turn | {"call_id": call_id, "at": turn["at"] + later} for turn in old.turns]
    tools = [tool | {"call_id": call_id, "at": tool["at"] + later} for tool in old.tools]
    return Stored(call, text, turns, [used | named for used in old.usage], tools, old.cells)


def _call(chance: random.Random, at: float) -> Stored:
    agent = chance.choices(AGENTS, WEIGHTS)[0]
    direction = chance.choices(("inbound", "outbound", "test"), (75, 20, 5))[0]
    reason = chance.choices(REASONS, REASON_WEIGHTS)[0]
    own = f"+1555010{AGENTS.index(agent):04d}"
    other = "keyboard" if direction == "test" else _number(chance)
    call_id = "CA" + chance.randbytes(16).hex()
    call: Values = {
        "call_id": call_id,
        "engine_id": "e" * 16,
        "agent": agent,
        "agent_version": f"{chance.randrange(3):012x}",
        "provider_mode": "pipeline",
        "stt": "deepgram",
        "llm": "openai",
        "tts": "elevenlabs",
        "telephony": "text" if direction == "test" else chance.choice(("twilio", "twilio", "telnyx")),
        "line": "text" if direction == "test" else "phone",
        "direction": direction,
        "caller": own if direction == "outbound" else other,
        "callee": other if direction == "outbound" else own,
        "state": "ended",
        "started_at": round(at, 3),
        "day": int(at // DAY_S),
        "reason": reason,
        "journal": f"calls/{call_id}/events.jsonl",
        "counted": True,
        "unpriced": "[]",
        "metrics": json.dumps(
            {"greeting_ms": 310.0, "line": {"frames": 5000, "lost": 1, "dropped": 0, "jitter_ms": 2.5, "underruns": 0}}
        ),
        "custom_params": "{}",
    }
    made = Stored(call, {"call_id": call_id})
    _talk(chance, made, 0 if reason in ("no_answer", "busy") else min(20, int(chance.expovariate(1 / 5)) + 1))
    _sum_up(chance, made)
    made.measure()
    return made


def _number(chance: random.Random) -> str:
    if chance.random() < 0.3:  # somebody who calls often
        return f"+1{chance.choice((212, 415, 646))}5550{chance.randrange(200):03d}"
    return f"+1{chance.randrange(201, 990)}{chance.randrange(200, 1000)}{chance.randrange(10_000):04d}"


def _talk(chance: random.Random, made: Stored, turns: int) -> None:
    call, at = made.call, made.call["started_at"] + 1
    lines = []
    for number in range(turns + 1):
        asked = "" if number == 0 else _said(chance, chance.choice(ASKED))
        answer = chance.choice(GREETINGS) if number == 0 else _said(chance, chance.choice(ANSWERED))
        segments = [round(ms * math.exp(chance.gauss(0, 0.45)) * 64) / 64 if number else 0.0 for ms in SEGMENT_MS]
        interrupted = number > 0 and chance.random() < 0.08
        at += chance.uniform(4, 14)
        if asked:
            lines.append({"role": "user", "text": asked, "timestamp": round(at - 3, 3), "turn": number})
        lines.append({"role": "assistant", "text": answer, "timestamp": round(at, 3), "turn": number})
        turn: Values = {
            "call_id": call["call_id"],
            "number": number,
            "turn": number,
            "reply_id": number + 1,
            "kind": "answer" if number else "greeting",
            "at": round(at, 3),
            "user_text": asked,
            "agent_text": answer,
            "total_ms": sum(segments),
            "sample": number > 0 and not interrupted,
            "interrupted": interrupted,
            "stt_audio_seconds": 3.0,
            "tts_characters": len(answer),
            "tokens_in": 900,
            "tokens_out": 40,
            "cost_tts": len(answer) * 5e-5,
            "cost_llm": 0.0004,
            "cost_total": len(answer) * 5e-5 + 0.0004,
            "unpriced": "[]",
            "connections": "{}",
        }
        made.turns.append(turn | {f"{name}_ms": ms for name, ms in zip(schema.SEGMENTS, segments, strict=True)})
        if number and chance.random() < 0.1:
            tool = {"call_id": call["call_id"], "tool_id": f"call_{number}", "turn": number, "name": "look_up"}
            made.tools.append(
                tool | {"arguments": "{}", "returned": True, "ok": True, "output": "ok", "ms": 80.0, "at": at}
            )
    call["duration_s"] = round(at - call["started_at"], 3) if turns else 0.0
    call["ended_at"] = round(at, 3)
    call["turns"] = turns
    call["interruptions"] = sum(turn["interrupted"] for turn in made.turns)
    call["false_interruptions"] = int(chance.random() < 0.1)
    made.text |= {"transcript": json.dumps(lines), "faults": "[]"}
    call["order_key"] = made.text["id"] = order_key(call["started_at"], call["call_id"])
    made.text["words"] = text_of(call, [line["text"] for line in lines])


def _said(chance: random.Random, sentence: str) -> str:
    return sentence.format(
        thing=chance.choice(THINGS),
        when=chance.choice(WHEN),
        name="".join(chance.choice(SYLLABLES) for _ in range(3)).title() if "{name}" in sentence else "",
        amount=chance.randrange(10, 500),
    )


def _sum_up(chance: random.Random, made: Stored) -> None:
    """Latency, usage and cost of the call, from its turns."""
    call = made.call
    samples = sorted(turn["total_ms"] for turn in made.turns if turn["sample"])
    call["latency_n"] = len(samples)
    if samples:
        call["latency_avg_ms"] = sum(samples) / len(samples)
        call["latency_p95_ms"] = samples[math.ceil(len(samples) * 0.95) - 1]
    unpriced = chance.random() < 0.05
    seconds, characters = call["duration_s"], sum(turn["tts_characters"] for turn in made.turns)
    model, answers = "own-model" if unpriced else "gpt-4o-mini", 0 if unpriced else len(made.turns)
    rows = [
        ("stt", "deepgram", "nova-3", "audio_seconds", seconds, seconds / 60 * 0.0048, True),
        ("tts", "elevenlabs", "flash", "characters", characters, characters * 5e-5, True),
        ("llm", "openai", model, "input_tokens", 900.0 * len(made.turns), answers * 135e-6, not unpriced),
        ("llm", "openai", model, "output_tokens", 40.0 * len(made.turns), answers * 24e-6, not unpriced),
    ]  # fmt: skip
    if call["telephony"] != "text":
        rows.append(("telephony", call["telephony"], "", "seconds", seconds, math.ceil(seconds / 60) * 0.0085, True))
    for stage, provider, name, amount, quantity, cost, priced in rows if call["turns"] else ():
        made.usage.append(
            {"call_id": call["call_id"], "stage": stage, "provider": provider, "model": name, "amount": amount}
            | {"quantity": quantity, "cost": cost, "priced": priced}
        )
        call[f"cost_{stage}"] = call.get(f"cost_{stage}", 0.0) + cost
    call["cost_total"] = sum(row["cost"] for row in made.usage)
    call["unpriced"] = json.dumps(["openai/own-model"] if unpriced and made.usage else [])


class DaySums:
    """The rows of the tables of days and of agents' versions, from the calls that it is given."""

    def __init__(self) -> None:
        self._sums: dict[str, dict[tuple[Any, ...], dict[str, float]]] = defaultdict(dict)
        self._cells: dict[tuple[int, str], Counter[int]] = defaultdict(Counter)

    def add(self, made: Stored) -> None:
        """Count one ended call."""
        call, day, agent = made.call, made.call["day"], made.call["agent"]
        costs = {f"cost_{name}": call.get(f"cost_{name}", 0.0) for name in ("stt", "tts", "llm", "telephony", "total")}
        counted = {name: call[name] for name in ("turns", "interruptions", "false_interruptions")}
        counted["unpriced_calls"] = int(call["unpriced"] != "[]")
        self._add("days", (day, agent, call["direction"]), calls=1, seconds=call["duration_s"], **counted, **costs)
        self._add("day_reasons", (day, agent, call["reason"]), calls=1)
        samples = [turn for turn in made.turns if turn["sample"]]
        if samples:
            self._cells[day, agent].update(made.cells)
            sums_ms = {f"{name}_ms": sum(turn[f"{name}_ms"] for turn in samples) for name in LATENCIES}
            self._add("day_latency", (day, agent), n=len(samples), **sums_ms)
        used_at = made.call["started_at"]  # calls come in the order of their beginning
        version = self._sums["agent_versions"].setdefault(
            (agent, call["agent_version"]), {"first_used_at": used_at, "calls": 0}
        )
        version |= {"last_used_at": used_at, "calls": version["calls"] + 1}
        for row in made.usage:
            key = (day, agent, *(row[name] for name in ("stage", "provider", "model", "amount")))
            used = row["quantity"]
            whole = {"quantity_started": math.ceil(used / 60) * 60, "quantity_minimum": max(60, used)}
            self._add(
                "day_usage", key, calls=1, quantity=used, cost=row["cost"], unpriced_calls=not row["priced"], **whole
            )

    def _add(self, table: str, key: tuple[Any, ...], **amounts: float) -> None:
        sums = self._sums[table].setdefault(key, dict.fromkeys(amounts, 0))
        for name, amount in amounts.items():
            sums[name] += amount

    def rows(self) -> Iterator[tuple[Table, list[Values]]]:
        """Each table with its rows."""
        for name, sums in self._sums.items():
            table = schema.metadata.tables[name]
            keys = [column.name for column in table.primary_key.columns]
            rows = [dict(zip(keys, key, strict=True)) | dict(amounts) for key, amounts in sums.items()]
            if table is schema.day_latency:
                for row in rows:
                    row["counts"] = packed(self._cells[row["day"], row["agent"]])
            yield table, rows


def rows_of(calls: Iterable[Stored]) -> Iterator[tuple[Table, list[Values]]]:
    """The calls' own tables with their rows, parents first."""
    calls = list(calls)
    yield schema.calls, [made.call for made in calls]
    yield schema.texts, [made.text for made in calls]
    yield schema.turns, [turn for made in calls for turn in made.turns]
    yield schema.usage, [row for made in calls for row in made.usage]
    yield schema.tool_calls, [row for made in calls for row in made.tools]


def whole(table: Table, rows: list[Values]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and tuples for the quickest way in; what a row does not say is "" or 0."""
    empty = [(column.name, _empty(column)) for column in table.columns]
    return [name for name, _ in empty], [tuple([row.get(name, nothing) for name, nothing in empty]) for row in rows]


def _empty(column: Column[Any]) -> Any:
    if isinstance(column.type, Boolean):
        return False
    return 0 if isinstance(column.type, Integer) else 0.0 if isinstance(column.type, Float) else ""
