"""One call as rows and JSON: while it rings, is live and is over, and what is only known after its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from patter.events import (
    AgentChanged,
    AgentMuted,
    CallEnded,
    CallerSaid,
    CallerTranscribed,
    CallStarted,
    CarrierRecordingSaved,
    CostMeasured,
    FaultOccurred,
    MachineDetected,
    RecordingSaved,
    UsageMeasured,
)
from patter.store.record import FAULTS, Record
from tests.store.office import DAY, PRICES, a_call, rings

HOME = Path("/home/of/engine")


def folded(*events: Any) -> Record:
    record = Record("CA1", PRICES)
    for event in events:
        record.apply(event)
    return record


def test_a_placed_call_rings_then_is_live_then_ended() -> None:
    record = folded(rings("CA1"))
    row = record.row_json(HOME, DAY + 5)
    assert (row["state"], row["direction"], row["duration_s"], row["muted"]) == ("ringing", "outbound", 0.0, False)
    assert (row["agent"], row["callee"], row["telephony"]) == ("amy", "+1666", "telnyx")
    record.apply(a_call("CA1", at=DAY + 10)[0])
    row = record.row_json(HOME, DAY + 14.5)
    assert (row["state"], row["duration_s"], row["ended_at"], row["started_at"]) == ("live", 4.5, 0.0, DAY + 10)
    record.apply(CallEnded(call_id="CA1", at=DAY + 15, reason="agent_ended", duration_s=5.0))
    row = record.row_json(HOME, DAY + 999)
    assert (row["state"], row["reason"], row["duration_s"], row["ended_at"]) == ("ended", "agent_ended", 5.0, DAY + 15)
    assert "muted" not in row


@pytest.mark.parametrize("reason", ["no_answer", "busy", "failed", "canceled"])
def test_a_call_that_nobody_took_has_its_reason_and_nothing_else(reason: Any) -> None:
    record = folded(rings("CA1"), CallEnded(call_id="CA1", at=DAY + 20, reason=reason, detail="Nobody was there."))
    made = record.detail_json(HOME, DAY + 30)
    assert (made["state"], made["reason"], made["detail"], made["turn_count"]) == (
        "ended",
        reason,
        "Nobody was there.",
        0,
    )
    assert (made["duration_s"], made["cost_total"], made["transcript"], made["turns"]) == (0.0, 0.0, [], [])
    assert made["cost_per_minute"] is None
    assert record.rows(whole=True).usage == []


def test_who_answered_and_both_recordings_are_in_the_row() -> None:
    record = folded(
        rings("CA1"),
        a_call("CA1")[0],
        MachineDetected(call_id="CA1", answered_by="machine", ready=False),
        CallEnded(call_id="CA1", at=DAY + 1, reason="machine_answered", duration_s=1.0),
    )
    before = record.row_json(HOME, 0.0)
    assert (before["answered_by"], before["recording"], before["recording_url"]) == ("machine", "", "")
    record.apply(RecordingSaved(call_id="CA1", path="calls/CA1/call.wav", duration_s=1.0))
    record.apply(CarrierRecordingSaved(call_id="CA1", url="https://carrier.example/RE1", duration_s=60.0))
    row = record.row_json(HOME, 0.0)
    assert row["recording"] == str(HOME / "calls/CA1/call.wav")
    assert row["carrier_recording"] == "https://carrier.example/RE1"
    assert row["cost"]["telephony"] > before["cost"]["telephony"]


def test_words_that_come_later_take_the_place_of_those_that_were_pending() -> None:
    record = folded(
        a_call("CA1")[0],
        CallerSaid(call_id="CA1", at=DAY + 1, turn=1, text="", pending=True),
        CallerSaid(call_id="CA1", at=DAY + 2, turn=2, text="Bye"),
        CallerTranscribed(call_id="CA1", at=DAY + 3, turn=1, text="Hello?"),
    )
    assert record.spoken == ("Hello?", "Bye")


def test_only_what_has_changed_is_written_of_a_live_call() -> None:
    record = folded(*a_call("CA1", turns=1)[:-3])
    first = record.rows(whole=False)
    assert first.text is None
    assert len(first.tools) == 1
    again = record.rows(whole=False)
    assert (again.turns, again.tools) == ([], [])
    assert len(record.rows(whole=True).tools) == 1


def test_the_published_cost_stands_whatever_prices_are_now_and_grows_with_what_is_used_after() -> None:
    told = CostMeasured(call_id="CA1", cost={"stt": 1.0, "total": 1.0}, unpriced=("x",))
    record = folded(*a_call("CA1")[:-1], told)
    assert (record.row_json(HOME, DAY)["cost_total"], record.row_json(HOME, DAY)["unpriced"]) == (1.0, ["x"])
    record.apply(
        UsageMeasured(call_id="CA1", turn=2, stage="tts", provider="openai", model="tts-1", amounts={"characters": 1e9})
    )
    assert record.row_json(HOME, DAY)["cost_total"] > 1_000


def test_the_agents_last_version_the_mute_and_a_bounded_list_of_faults_are_kept() -> None:
    fault = FaultOccurred(call_id="CA1", at=DAY, stage="stt", provider="deepgram", problem="slow", fix="wait")
    record = folded(
        a_call("CA1")[0],
        AgentChanged(call_id="CA1", agent="amy", agent_version="v2"),
        AgentMuted(call_id="CA1", muted=True),
        *[fault] * (FAULTS + 5),
    )
    made = record.detail_json(HOME, DAY)
    assert (made["agent_version"], made["muted"], len(made["faults"])) == ("v2", True, FAULTS)
    assert made["faults"][0] == {"at": DAY, "stage": "stt", "provider": "deepgram", "problem": "slow", "fix": "wait"}


def test_no_id_leads_out_of_the_calls_folder() -> None:
    record = Record("../../etc/passwd", PRICES)
    record.apply(CallStarted(call_id="../../etc/passwd", at=DAY))
    assert record.rows(whole=True).call["journal"] == "calls/_.._.._etc_passwd/events.jsonl"
