"""The tables of the call's memory, the same in SQLite and PostgreSQL.

It owns columns, keys and indexes (the migrations build exactly these); it refuses to know how rows are filled or read. Times
are seconds since the epoch, latencies ms, money USD. JSON stands in text columns: both databases only keep it.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

SEGMENTS = ("endpointing", "transcription", "first_token", "first_sentence", "synthesis", "playout")

FILTERED = ("agent", "direction", "reason", "telephony")
"""Columns of a call that a list may be filtered by."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)


def _text(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, String(255) if key else Text, nullable=False, primary_key=key, server_default=None)


def _real(name: str) -> Column[float]:
    return Column(name, Float(53), nullable=False, default=0.0)


def _whole(name: str) -> Column[int]:
    return Column(name, BigInteger().with_variant(Integer, "sqlite"), nullable=False, default=0)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, default=False)


def _of_call(*, key: bool = True) -> Column[str]:
    return Column(
        "call_id", String(255), ForeignKey("calls.call_id", ondelete="CASCADE"), nullable=False, primary_key=key
    )


calls = Table(
    "calls",
    metadata,
    _text("call_id", key=True),
    _text("engine_id"),
    _text("agent"),
    _text("agent_version"),
    _text("provider_mode"),
    _text("stt"),
    _text("llm"),
    _text("tts"),
    _text("telephony"),
    _text("line"),
    _text("direction"),
    _text("caller"),
    _text("callee"),
    _text("state"),  # "ringing", "live", "ended"
    _text("answered_by"),
    _real("started_at"),
    _real("ended_at"),  # 0: not over
    _whole("day"),  # days since the epoch (UTC) of started_at
    _real("duration_s"),
    _text("reason"),
    _text("detail"),
    _whole("turns"),
    _whole("interruptions"),
    _whole("false_interruptions"),
    _real("cost_stt"),
    _real("cost_tts"),
    _real("cost_llm"),
    _real("cost_telephony"),
    _real("cost_total"),
    _text("unpriced"),  # JSON list of providers whose price is not known: the cost is at least cost_total
    _real("latency_avg_ms"),  # of the turns that count as samples; 0 without any
    _real("latency_p95_ms"),
    _whole("latency_n"),
    _real("greeting_ms"),
    _text("metrics"),  # JSON object: everything else that is measured of a call
    _text("custom_params"),  # JSON object
    _text("recording"),  # path below the home, "" without
    _real("recording_s"),
    _text("carrier_recording"),
    _text("journal"),  # path below the home
    _whole("journal_bytes"),  # as much of it is in these rows: a longer file is read again at the next start
    _whole("last_seq"),  # the last event that is in these rows
    _flag("counted"),  # whether the days' sums have this call in them
    _whole("order_key"),  # search.order_key() of a call that is over, else 0; also the number of its text
    Index("ix_calls_started_at", "started_at", "call_id"),
    # Each order of the list with all that it is filtered by: pages and totals are read of one index, whatever is asked.
    Index(
        "ix_calls_order_key", "order_key", *FILTERED, "caller", "callee", "cost_total", "duration_s", "latency_p95_ms"
    ),
    Index("ix_calls_cost_total", "cost_total", "order_key", *FILTERED),
    Index("ix_calls_duration_s", "duration_s", "order_key", *FILTERED),
    Index("ix_calls_latency_p95_ms", "latency_p95_ms", "order_key", *FILTERED),
)

texts = Table(  # written when a call is over
    "texts",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),  # of the search
    Column("call_id", String(255), ForeignKey("calls.call_id", ondelete="CASCADE"), nullable=False),
    _text("transcript"),  # JSON list of {role, text, timestamp, turn, interrupted, kind}
    _text("words"),  # what the search looks through
    _text("faults"),  # JSON list of {at, stage, provider, problem, fix}
    Index("ix_texts_call_id", "call_id", unique=True),
)

turns = Table(
    "turns",
    metadata,
    _of_call(),
    Column("number", Integer, primary_key=True, autoincrement=False),  # in the order of their beginning, from 0
    _whole("turn"),
    _whole("reply_id"),
    _text("kind"),
    _real("at"),  # when it was measured last
    _text("user_text"),
    _text("agent_text"),
    *(_real(f"{name}_ms") for name in SEGMENTS),
    _real("total_ms"),
    _flag("sample"),  # whether it counts as a latency sample (answered, heard, not interrupted, no greeting)
    _flag("interrupted"),
    _real("tool_ms"),
    _real("stt_audio_seconds"),
    _whole("tts_characters"),
    _whole("tokens_in"),
    _whole("tokens_cached"),
    _whole("tokens_out"),
    _real("cost_stt"),
    _real("cost_tts"),
    _real("cost_llm"),
    _real("cost_total"),
    _text("unpriced"),
    _text("connections"),  # JSON object: stage → ms
)

usage = Table(
    "usage",
    metadata,
    _of_call(),
    _text("stage", key=True),
    _text("provider", key=True),
    _text("model", key=True),
    _text("amount", key=True),  # a key of the price table
    _real("quantity"),  # summed over the call
    _real("cost"),  # of this amount, by the prices of its day
    _flag("priced"),
)

tool_calls = Table(
    "tool_calls",
    metadata,
    _of_call(),
    _text("tool_id", key=True),
    _whole("turn"),
    _text("name"),
    _text("arguments"),
    _flag("returned"),
    _flag("ok"),
    _text("output"),
    _real("ms"),
    _real("at"),
)

agent_versions = Table(
    "agent_versions",
    metadata,
    _text("agent", key=True),
    _text("version", key=True),
    _text("text"),  # the file as it was; "" for an agent made in code
    _real("first_used_at"),
    _real("last_used_at"),
    _whole("calls"),
)

days = Table(  # sums of ended calls, so that a year is read as 365 rows
    "days",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    _text("agent", key=True),
    _text("direction", key=True),
    _whole("calls"),
    _real("seconds"),
    _whole("turns"),
    _whole("interruptions"),
    _whole("false_interruptions"),
    _whole("unpriced_calls"),
    _real("cost_stt"),
    _real("cost_tts"),
    _real("cost_llm"),
    _real("cost_telephony"),
    _real("cost_total"),
)

day_reasons = Table(
    "day_reasons",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    _text("agent", key=True),
    _text("reason", key=True),
    _whole("calls"),
)

day_latency = Table(  # the histograms of a day's latencies: percentiles of any range without reading turns
    "day_latency",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    _text("agent", key=True),
    _whole("n"),  # turns that count as samples
    *(_real(f"{name}_ms") for name in (*SEGMENTS, "total")),  # their sums
    Column("counts", LargeBinary, nullable=False),  # of all segments: see `buckets.packed`
)

day_usage = (
    Table(  # what was used and what it cost then; three quantities, one for each rounding rule of the price table
        "day_usage",
        metadata,
        Column("day", Integer, primary_key=True, autoincrement=False),
        _text("agent", key=True),
        _text("stage", key=True),
        _text("provider", key=True),
        _text("model", key=True),
        _text("amount", key=True),
        _whole("calls"),
        _real("quantity"),
        _real("quantity_started"),  # each call rounded up to whole minutes ("started minute")
        _real("quantity_minimum"),  # each call at least a minute ("minimum minute")
        _real("cost"),
        _whole("unpriced_calls"),  # in which this amount had no price: the cost is at least this
    )
)
