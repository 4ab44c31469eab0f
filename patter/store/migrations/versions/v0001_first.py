"""The first version: the tables of `schema`, and the search index over what was said.

It owns the statements that make them; it is never changed once it has been in a release.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL = sa.Float(precision=53)
SQLITE_SEARCH = (
    """CREATE VIRTUAL TABLE text_search USING fts5(
        words, content='texts', content_rowid='id', detail=none, columnsize=0, prefix='1 2 3 5 6',
        tokenize="ascii tokenchars '_'"
    )""",
    "CREATE VIRTUAL TABLE text_terms USING fts5vocab('text_search', 'row')",
    """CREATE TRIGGER texts_written AFTER INSERT ON texts BEGIN
        INSERT INTO text_search (rowid, words) VALUES (new.id, new.words);
    END""",
    """CREATE TRIGGER texts_deleted AFTER DELETE ON texts BEGIN
        INSERT INTO text_search (text_search, rowid, words) VALUES ('delete', old.id, old.words);
    END""",
    """CREATE TRIGGER texts_changed AFTER UPDATE OF id, words ON texts BEGIN
        INSERT INTO text_search (text_search, rowid, words) VALUES ('delete', old.id, old.words);
        INSERT INTO text_search (rowid, words) VALUES (new.id, new.words);
    END""",
)
POSTGRESQL_SEARCH = (
    "CREATE TABLE text_search (id bigint PRIMARY KEY, lexemes tsvector NOT NULL)",
    "CREATE INDEX text_search_lexemes ON text_search USING gin (lexemes) WITH (fastupdate = off)",
    """CREATE FUNCTION text_search_follow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_OP <> 'INSERT' THEN
            DELETE FROM text_search WHERE id = OLD.id;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO text_search VALUES (NEW.id, array_to_tsvector(string_to_array(NEW.words, ' ')));
        END IF;
        RETURN NULL;
    END $$""",
    """CREATE TRIGGER texts_changed AFTER INSERT OR DELETE OR UPDATE OF id, words ON texts
        FOR EACH ROW EXECUTE FUNCTION text_search_follow()""",
)


def _agent_versions() -> None:
    op.create_table(
        "agent_versions",
        sa.Column("agent", sa.String(length=255), nullable=False),
        sa.Column("version", sa.String(length=255), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("first_used_at", REAL, nullable=False),
        sa.Column("last_used_at", REAL, nullable=False),
        sa.Column("calls", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("agent", "version", name=("pk_agent_versions")),
    )


def _calls() -> None:
    op.create_table(
        "calls",
        sa.Column("call_id", sa.String(length=255), nullable=False),
        sa.Column("engine_id", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("agent_version", sa.Text(), nullable=False),
        sa.Column("provider_mode", sa.Text(), nullable=False),
        sa.Column("stt", sa.Text(), nullable=False),
        sa.Column("llm", sa.Text(), nullable=False),
        sa.Column("tts", sa.Text(), nullable=False),
        sa.Column("telephony", sa.Text(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("callee", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("answered_by", sa.Text(), nullable=False),
        sa.Column("started_at", REAL, nullable=False),
        sa.Column("ended_at", REAL, nullable=False),
        sa.Column("day", WHOLE, nullable=False),
        sa.Column("duration_s", REAL, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("turns", WHOLE, nullable=False),
        sa.Column("interruptions", WHOLE, nullable=False),
        sa.Column("false_interruptions", WHOLE, nullable=False),
        sa.Column("cost_stt", REAL, nullable=False),
        sa.Column("cost_tts", REAL, nullable=False),
        sa.Column("cost_llm", REAL, nullable=False),
        sa.Column("cost_telephony", REAL, nullable=False),
        sa.Column("cost_total", REAL, nullable=False),
        sa.Column("unpriced", sa.Text(), nullable=False),
        sa.Column("latency_avg_ms", REAL, nullable=False),
        sa.Column("latency_p95_ms", REAL, nullable=False),
        sa.Column("latency_n", WHOLE, nullable=False),
        sa.Column("greeting_ms", REAL, nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("custom_params", sa.Text(), nullable=False),
        sa.Column("recording", sa.Text(), nullable=False),
        sa.Column("recording_s", REAL, nullable=False),
        sa.Column("carrier_recording", sa.Text(), nullable=False),
        sa.Column("journal", sa.Text(), nullable=False),
        sa.Column("journal_bytes", WHOLE, nullable=False),
        sa.Column("last_seq", WHOLE, nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("order_key", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("call_id", name=("pk_calls")),
    )
    op.create_index(
        "ix_calls_cost_total",
        "calls",
        ["cost_total", "order_key", "agent", "direction", "reason", "telephony"],
        unique=False,
    )
    op.create_index(
        "ix_calls_duration_s",
        "calls",
        ["duration_s", "order_key", "agent", "direction", "reason", "telephony"],
        unique=False,
    )
    op.create_index(
        "ix_calls_latency_p95_ms",
        "calls",
        ["latency_p95_ms", "order_key", "agent", "direction", "reason", "telephony"],
        unique=False,
    )
    op.create_index(
        "ix_calls_order_key",
        "calls",
        [
            *("order_key", "agent", "direction", "reason", "telephony", "caller", "callee"),
            *("cost_total", "duration_s", "latency_p95_ms"),
        ],
        unique=False,
    )
    op.create_index("ix_calls_started_at", "calls", ["started_at", "call_id"], unique=False)


def _day_latency() -> None:
    op.create_table(
        "day_latency",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("agent", sa.String(length=255), nullable=False),
        sa.Column("n", WHOLE, nullable=False),
        sa.Column("endpointing_ms", REAL, nullable=False),
        sa.Column("transcription_ms", REAL, nullable=False),
        sa.Column("first_token_ms", REAL, nullable=False),
        sa.Column("first_sentence_ms", REAL, nullable=False),
        sa.Column("synthesis_ms", REAL, nullable=False),
        sa.Column("playout_ms", REAL, nullable=False),
        sa.Column("total_ms", REAL, nullable=False),
        sa.Column("counts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("day", "agent", name=("pk_day_latency")),
    )


def _day_reasons() -> None:
    op.create_table(
        "day_reasons",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("agent", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("calls", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("day", "agent", "reason", name=("pk_day_reasons")),
    )


def _day_usage() -> None:
    op.create_table(
        "day_usage",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("agent", sa.String(length=255), nullable=False),
        sa.Column("stage", sa.String(length=255), nullable=False),
        sa.Column("provider", sa.String(length=255), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("amount", sa.String(length=255), nullable=False),
        sa.Column("calls", WHOLE, nullable=False),
        sa.Column("quantity", REAL, nullable=False),
        sa.Column("quantity_started", REAL, nullable=False),
        sa.Column("quantity_minimum", REAL, nullable=False),
        sa.Column("cost", REAL, nullable=False),
        sa.Column("unpriced_calls", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("day", "agent", "stage", "provider", "model", "amount", name=("pk_day_usage")),
    )


def _days() -> None:
    op.create_table(
        "days",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("agent", sa.String(length=255), nullable=False),
        sa.Column("direction", sa.String(length=255), nullable=False),
        sa.Column("calls", WHOLE, nullable=False),
        sa.Column("seconds", REAL, nullable=False),
        sa.Column("turns", WHOLE, nullable=False),
        sa.Column("interruptions", WHOLE, nullable=False),
        sa.Column("false_interruptions", WHOLE, nullable=False),
        sa.Column("unpriced_calls", WHOLE, nullable=False),
        sa.Column("cost_stt", REAL, nullable=False),
        sa.Column("cost_tts", REAL, nullable=False),
        sa.Column("cost_llm", REAL, nullable=False),
        sa.Column("cost_telephony", REAL, nullable=False),
        sa.Column("cost_total", REAL, nullable=False),
        sa.PrimaryKeyConstraint("day", "agent", "direction", name=("pk_days")),
    )


def _texts() -> None:
    op.create_table(
        "texts",
        sa.Column("id", WHOLE, autoincrement=False, nullable=False),
        sa.Column("call_id", sa.String(length=255), nullable=False),
        sa.Column("transcript", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("faults", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.call_id"], name=("fk_texts_call_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=("pk_texts")),
    )
    op.create_index("ix_texts_call_id", "texts", ["call_id"], unique=True)


def _tool_calls() -> None:
    op.create_table(
        "tool_calls",
        sa.Column("call_id", sa.String(length=255), nullable=False),
        sa.Column("tool_id", sa.String(length=255), nullable=False),
        sa.Column("turn", WHOLE, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("returned", sa.Boolean(), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("ms", REAL, nullable=False),
        sa.Column("at", REAL, nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.call_id"], name=("fk_tool_calls_call_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call_id", "tool_id", name=("pk_tool_calls")),
    )


def _turns() -> None:
    op.create_table(
        "turns",
        sa.Column("call_id", sa.String(length=255), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("turn", WHOLE, nullable=False),
        sa.Column("reply_id", WHOLE, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", REAL, nullable=False),
        sa.Column("user_text", sa.Text(), nullable=False),
        sa.Column("agent_text", sa.Text(), nullable=False),
        sa.Column("endpointing_ms", REAL, nullable=False),
        sa.Column("transcription_ms", REAL, nullable=False),
        sa.Column("first_token_ms", REAL, nullable=False),
        sa.Column("first_sentence_ms", REAL, nullable=False),
        sa.Column("synthesis_ms", REAL, nullable=False),
        sa.Column("playout_ms", REAL, nullable=False),
        sa.Column("total_ms", REAL, nullable=False),
        sa.Column("sample", sa.Boolean(), nullable=False),
        sa.Column("interrupted", sa.Boolean(), nullable=False),
        sa.Column("tool_ms", REAL, nullable=False),
        sa.Column("stt_audio_seconds", REAL, nullable=False),
        sa.Column("tts_characters", WHOLE, nullable=False),
        sa.Column("tokens_in", WHOLE, nullable=False),
        sa.Column("tokens_cached", WHOLE, nullable=False),
        sa.Column("tokens_out", WHOLE, nullable=False),
        sa.Column("cost_stt", REAL, nullable=False),
        sa.Column("cost_tts", REAL, nullable=False),
        sa.Column("cost_llm", REAL, nullable=False),
        sa.Column("cost_total", REAL, nullable=False),
        sa.Column("unpriced", sa.Text(), nullable=False),
        sa.Column("connections", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.call_id"], name=("fk_turns_call_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call_id", "number", name=("pk_turns")),
    )


def _usage() -> None:
    op.create_table(
        "usage",
        sa.Column("call_id", sa.String(length=255), nullable=False),
        sa.Column("stage", sa.String(length=255), nullable=False),
        sa.Column("provider", sa.String(length=255), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("amount", sa.String(length=255), nullable=False),
        sa.Column("quantity", REAL, nullable=False),
        sa.Column("cost", REAL, nullable=False),
        sa.Column("priced", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.call_id"], name=("fk_usage_call_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call_id", "stage", "provider", "model", "amount", name=("pk_usage")),
    )


def upgrade() -> None:
    """From nothing to the first version."""
    _agent_versions()
    _calls()
    _day_latency()
    _day_reasons()
    _day_usage()
    _days()
    _texts()
    _tool_calls()
    _turns()
    _usage()
    for statement in SQLITE_SEARCH if op.get_bind().dialect.name == "sqlite" else POSTGRESQL_SEARCH:
        op.execute(sa.text(statement))
