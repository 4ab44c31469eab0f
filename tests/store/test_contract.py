"""What both databases must do with calls: when rows are written, what is in them, and sums that count every call once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import func, select

from patter.events import CallEnded, CallStarted, CarrierRecordingSaved, MachineDetected, RecordingSaved, ToolCalled
from patter.models import Memory
from patter.observe.journal import call_folder, dump
from patter.observe.meter import CostMeter
from patter.store import schema
from patter.store.database import Database
from patter.store.shapes import detail_json
from tests.store.office import DAY, PRICES, Office, a_call, interrupted, office, rings

pytestmark = pytest.mark.anyio


async def detail(made: Office, call_id: str) -> dict[str, Any]:
    """A call's detail from the database alone."""
    rows = {table.name: [row for row in await made.rows(table) if row["call_id"] == call_id]
            for table in (schema.calls, schema.texts, schema.turns, schema.usage, schema.tool_calls)}  # fmt: skip
    (call,) = rows["calls"]
    (text,) = rows["texts"] or [None]
    return detail_json(call, text, rows["turns"], rows["usage"], rows["tool_calls"], made.home, 0.0)


async def test_rows_come_at_the_start_at_each_closed_turn_and_at_the_end(memory: Memory, tmp_path: Path) -> None:
    async with office(tmp_path, memory) as made:
        made.tell(rings("CA1"))
        assert await made.keeper.flushed(20)
        assert [row["state"] for row in await made.rows(schema.calls)] == ["ringing"]
        events = a_call("CA1")
        first_answer = next(i for i, event in enumerate(events) if getattr(event, "text", "") == "Answer number 1.")
        made.tell(*events[: first_answer + 1])
        assert await made.keeper.flushed(20)
        (row,) = await made.rows(schema.calls)
        assert (row["state"], row["turns"], row["latency_n"], row["counted"]) == ("live", 1, 1, False)
        assert [turn["agent_text"] for turn in await made.rows(schema.turns)] == [
            "Hello, this is Amy.",
            "Answer number 1.",
        ]
        assert await made.rows(schema.days) == []
        assert [(row["state"], row["muted"]) for row in made.keeper.live()] == [("live", False)]
        made.tell(*events[first_answer + 1 :])
        assert await made.keeper.flushed(20)
        (row,) = await made.rows(schema.calls)
        assert (row["state"], row["turns"], row["latency_n"], row["reason"]) == ("ended", 2, 2, "agent_ended")
        assert (row["duration_s"], row["engine_id"], row["counted"]) == (30.0, "one", True)
        assert len(await made.rows(schema.turns)) == 3
        assert [(text["call_id"], len(json.loads(text["transcript"]))) for text in await made.rows(schema.texts)] == [
            ("CA1", 5)
        ]
        assert made.keeper.live() == []
        assert made.told == []


async def test_the_database_gives_what_memory_gave_and_what_the_journal_gives(memory: Memory, tmp_path: Path) -> None:
    async with office(tmp_path, memory) as made:
        events = a_call("CA1")
        at = events[-1].at
        made.tell(rings("CA1"), events[0], MachineDetected(call_id="CA1", answered_by="human"), *events[1:-1])
        made.tell(
            *interrupted("CA1", 3, 2, at - 7), ToolCalled(call_id="CA1", turn=2, tool_id="x", name="n", arguments="{}")
        )
        made.tell(events[-1], RecordingSaved(call_id="CA1", path=str(tmp_path / "calls/CA1/r.wav"), duration_s=30.0))
        kept = made.keeper.detail("CA1")
        await made.written()
        assert kept is not None
        assert await detail(made, "CA1") == kept
        assert (kept["answered_by"], kept["interruptions"], kept["recording_s"]) == ("human", 1, 30.0)
        assert kept["recording"] == str(tmp_path / "calls/CA1/r.wav")
        assert kept["recording_url"] == "/api/v1/calls/CA1/recording"
        assert kept["transcript"][-1] == {
            "role": "assistant", "text": "Answer number 2.", "timestamp": DAY + 23, "turn": 2, "interrupted": False,
            "kind": "answer",
        }  # fmt: skip
        assert kept["unpriced"] == ["nobody/voice"]
        assert kept["cost_per_minute"] is None
        assert kept["metrics"]["line"]["lost"] == 3
        assert {(used["stage"], used["priced"]) for used in kept["usage"]} == {
            ("stt", True), ("llm", True), ("tts", False), ("telephony", True)
        }  # fmt: skip
        assert sum(used["cost"] for used in kept["usage"]) == pytest.approx(kept["cost_total"])
        assert kept["cost_total"] == pytest.approx(
            sum(kept["cost"][name] for name in ("stt", "tts", "llm", "telephony"))
        )
        sums = await made.sums()
        async with made.database.write() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                await connection.execute(table.delete())
    async with office(tmp_path, memory) as again:
        await again.written()
        assert await detail(again, "CA1") == kept
        assert await again.sums() == sums


async def test_a_database_that_is_made_again_under_other_prices_has_the_costs_of_then(
    memory: Memory, tmp_path: Path
) -> None:
    async with office(tmp_path, memory) as made:
        made.bus.add_sink(CostMeter(made.bus, made.bus.clock, PRICES))
        made.call("CA1", at=made.bus.clock.now())
        await made.written()
        kept, sums = await detail(made, "CA1"), await made.sums()
        assert [used["cost"] > 0 for used in kept["usage"]] == [True, True, True, False]  # nobody's voice has no price
        async with made.database.write() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                await connection.execute(table.delete())
    dearer = {"deepgram": {"price": 9.0}, "nobody": {"price": 5.0, "unit": "1k characters"}, "twilio": {"price": 2.0}}
    today = PRICES.overridden(dearer | {"openai": {"input_tokens": 100.0, "cached_tokens": 1.0, "output_tokens": 3.0}})
    async with office(tmp_path, memory, prices=today) as again:
        await again.written()
        same, after = await detail(again, "CA1"), await again.sums()
        for now, then in zip(same["usage"], kept["usage"], strict=True):
            assert now.pop("cost") == pytest.approx(then.pop("cost"))
        assert same == kept
        used, before = after.pop("day_usage"), sums.pop("day_usage")
        assert sum(row["cost"] for row in used) == pytest.approx(sum(row["cost"] for row in before))
        assert [row["unpriced_calls"] for row in used] == [row["unpriced_calls"] for row in before]
        assert after == sums


async def test_what_is_told_after_the_end_is_in_the_row_and_counts_no_call_twice(
    memory: Memory, tmp_path: Path
) -> None:
    async with office(tmp_path, memory) as made:
        made.call("CA1")
        await made.written()
        before = await made.sums()
        made.tell(RecordingSaved(call_id="CA1", path="/elsewhere/CA1.wav", duration_s=30.0))
        made.tell(CarrierRecordingSaved(call_id="CA1", url="https://carrier.example/RE1", duration_s=30.0))
        await made.written()
        (row,) = await made.rows(schema.calls)
        assert (row["recording"], row["carrier_recording"]) == ("/elsewhere/CA1.wav", "https://carrier.example/RE1")
        after = await made.sums()
        (day,) = after["days"]
        assert (day["calls"], day["seconds"], day["turns"], day["unpriced_calls"]) == (1, 30.0, 2, 1)
        assert after["day_latency"] == before["day_latency"]
        assert after["day_usage"] != before["day_usage"]  # the carrier's recording is paid for
        assert sum(row["cost"] for row in after["day_usage"]) == pytest.approx(day["cost_total"])


async def test_a_recording_that_is_saved_when_the_call_has_left_memory_is_read_from_its_journal(
    memory: Memory, tmp_path: Path
) -> None:
    async with office(tmp_path, memory) as first:
        first.call("CA1")
        await first.written()
        before = await first.sums()
    async with office(tmp_path, memory) as later:
        await later.written()
        assert not later.keeper.knows("CA1")
        later.bus.seq = 1_000
        later.tell(RecordingSaved(call_id="CA1", path="/elsewhere/CA1.wav", duration_s=30.0))
        await later.written()
        (row,) = await later.rows(schema.calls)
        assert (row["recording"], row["reason"]) == ("/elsewhere/CA1.wav", "agent_ended")
        assert await later.sums() == before


async def test_sums_are_those_of_the_calls(memory: Memory, tmp_path: Path) -> None:
    async with office(tmp_path, memory) as made:
        for number in range(12):
            made.call(
                f"CA{number}", turns=number % 3, at=DAY + 86_400 * (number % 2), agent="amy" if number < 8 else "bob"
            )
        made.tell(rings("CB1"), CallEnded(call_id="CB1", at=DAY + 20, reason="no_answer"))
        await made.written()
        sums = await made.sums()
        calls = await made.rows(schema.calls)
        for row in sums["days"]:
            of_day = [call for call in calls if (call["day"], call["agent"], call["direction"]) == (
                row["day"], row["agent"], row["direction"])]  # fmt: skip
            assert row["calls"] == len(of_day) > 0
            for name in ("turns", "cost_total", "cost_llm", "interruptions"):
                assert row[name] == pytest.approx(sum(call[name] for call in of_day))
        assert sum(row["calls"] for row in sums["days"]) == 13
        assert {(row["reason"], row["agent"]): row["calls"] for row in sums["day_reasons"] if row["day"] == 20_000} == {
            ("agent_ended", "amy"): 4, ("agent_ended", "bob"): 2, ("no_answer", "amy"): 1}  # fmt: skip
        samples = sum(call["latency_n"] for call in calls)
        assert sum(row["n"] for row in sums["day_latency"]) == samples > 0
        telephony = [row for row in sums["day_usage"] if row["stage"] == "telephony" and row["day"] == 20_000]
        assert {row["agent"]: (row["quantity"], row["quantity_started"]) for row in telephony} == {
            "amy": (70.0, 240.0), "bob": (50.0, 120.0)}  # fmt: skip
        versions = await made.rows(schema.agent_versions)
        assert [(row["agent"], row["version"], row["calls"]) for row in versions] == [
            ("amy", "v1", 8),
            ("bob", "v1", 4),
        ]


async def test_the_text_of_a_version_is_kept_with_the_calls_that_it_took(memory: Memory, tmp_path: Path) -> None:
    async with office(tmp_path, memory) as made:
        made.call("CA1", agent="amy")
        await made.written()
        made.keeper.agent_used("amy", "v1", 'system_prompt = "Be kind."')
        made.call("CA2", agent="amy", at=DAY + 100)
        made.call("CA3", agent="bob", at=DAY + 200)
        await made.written()
    async with office(tmp_path, memory) as made:
        made.call("CA4", agent="amy", at=DAY + 300)
        await made.written()
        versions = await made.rows(schema.agent_versions)
        assert [(row["agent"], row["text"], row["calls"]) for row in versions] == [
            ("amy", 'system_prompt = "Be kind."', 3),
            ("bob", "", 1),
        ]


async def test_what_is_forgotten_is_in_no_table_and_no_sum(memory: Memory, tmp_path: Path) -> None:
    async with office(tmp_path, memory) as made:
        made.call("CA1", turns=1)
        await made.written()
        before = await made.sums()
        made.call("CA2", turns=3, reason="failed")
        made.call("CA3", agent="bob", at=DAY + 200_000)
        await made.written()
        await made.keeper.forget(["CA2", "CA3", "unknown"])
        assert await made.sums() == before
        for table in (schema.calls, schema.texts, schema.turns, schema.usage, schema.tool_calls):
            assert {row["call_id"] for row in await made.rows(table)} == {"CA1"}
        assert made.keeper.detail("CA2") is None
        await made.keeper.forget(["CA1"])
        assert all(rows == [] for rows in (await made.sums()).values())


async def test_engines_share_a_database_and_count_each_call_once(memory: Memory, tmp_path: Path) -> None:
    shared = Memory(database=memory.database or f"sqlite:///{tmp_path / 'shared.db'}")
    async with office(tmp_path / "a", shared) as one, office(tmp_path / "b", shared) as two:
        for number in range(40):
            one.call(f"CA{number}")
            two.call(f"CB{number}", agent="bob" if number % 2 else "amy")
            if number % 10 == 0:
                await anyio.sleep(0.12)
        await one.written()
        await two.written()
        assert sum(row["calls"] for row in (await one.sums())["days"]) == 80
        assert sum(row["n"] for row in (await one.sums())["day_latency"]) == 160
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.keeper.forget, [f"CA{number}" for number in range(40)])
            tasks.start_soon(two.keeper.forget, [f"CB{number}" for number in range(39)])
        (day,) = (await one.sums())["days"]
        assert (day["calls"], day["agent"]) == (1, "bob")


async def test_only_journals_that_have_changed_are_read_at_a_start(memory: Memory, tmp_path: Path) -> None:
    async with office(tmp_path, memory) as made:
        made.call("CA1")
        made.call("CA2")
        await made.written()
    for call_id in ("CA1", "CA2"):  # whoever reads one of these now finds another reason
        path = call_folder(tmp_path, call_id) / "events.jsonl"
        path.write_bytes(path.read_bytes().replace(b"agent_ended", b"engine_died") + b"\n" * (call_id == "CA1"))
    async with office(tmp_path, memory) as again:
        await again.written()
        reasons = {row["call_id"]: row["reason"] for row in await again.rows(schema.calls)}
        assert reasons == {"CA1": "engine_died", "CA2": "agent_ended"}
        assert [(row["reason"], row["calls"]) for row in (await again.sums())["day_reasons"]] == [
            ("agent_ended", 1), ("engine_died", 1)]  # fmt: skip


async def test_one_damaged_journal_stops_no_other(memory: Memory, tmp_path: Path) -> None:
    for call_id in ("CA1", "CA2", "CA3"):
        folder = call_folder(tmp_path, call_id)
        folder.mkdir(parents=True)
        lines = [dump(event) for event in a_call(call_id)]
        if call_id == "CA2":
            lines = [line.replace("Question", "\\u0000Qu\\ud800") for line in lines[1:]]  # the first line is lost
            lines[3:3] = ["{", "[1]", '{"type": "UsageMeasured", "call_id": "CA2", "turn": "x", "amounts": 7}', '{"ty']
            lines.insert(9, '{"type": "LineMeasured", "call_id": "CA2", "at": 1e400, "frames": -1}')
        (folder / "events.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (tmp_path / "calls/CA4").mkdir()
    (tmp_path / "calls/CA4/events.jsonl").mkdir()
    (tmp_path / "calls/CA5").mkdir()
    (tmp_path / "calls/CA5/events.jsonl").write_bytes(b"\x00" * 1000)
    (tmp_path / "calls/note.txt").write_text("not a call")
    async with office(tmp_path, memory) as made:
        await made.written()
        assert {row["call_id"] for row in await made.rows(schema.calls)} >= {"CA1", "CA3"}
        made.call("CA9")
        await made.written()
        assert "CA9" in {row["call_id"] for row in await made.rows(schema.calls)}


async def test_odd_values_are_kept_as_far_as_a_database_can(memory: Memory, tmp_path: Path) -> None:
    odd = "zero \0 half \ud83d emoji 🙂" + "x" * 500_000
    async with office(tmp_path, memory) as made:
        events = a_call("CA1")
        start = events[0]
        assert isinstance(start, CallStarted)
        made.tell(
            CallStarted(call_id="CA1", at=DAY, agent="a" * 5_000, caller=odd, custom_params={"big": 2**80, "odd": odd}),
            *events[1:5],
            ToolCalled(call_id="CA1", at=DAY, turn=2**70, tool_id=odd, name=odd, arguments=odd),
            CallEnded(call_id="CA1", at=DAY + 1, reason="failed", detail=odd, duration_s=float("nan")),
        )
        made.call("CA2")
        await made.written()
        rows = {row["call_id"]: row for row in await made.rows(schema.calls)}
        assert set(rows) == {"CA1", "CA2"}
        assert rows["CA1"]["detail"].startswith("zero  half ? emoji 🙂")
        assert (rows["CA1"]["duration_s"], len(rows["CA1"]["agent"])) == (0.0, 200)


async def test_two_engines_may_make_the_tables_at_once(memory: Memory, tmp_path: Path) -> None:
    first, second = Database(memory, tmp_path), Database(memory, tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.open)
        tasks.start_soon(second.open)
    async with second.read() as connection:
        assert await connection.scalar(select(func.count()).select_from(schema.calls)) == 0
    await first.aclose()
    await second.aclose()
