"""The list of calls over the API: rows while they ring, live and ended ones, and what is only known after the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from patter.events import (
    CallEnded,
    CallPlaced,
    CallStarted,
    CarrierRecordingSaved,
    MachineDetected,
    RecordingSaved,
)
from tests.support.serving import Rig, serving

pytestmark = pytest.mark.anyio


def place(rig: Rig, call_id: str = "CA1") -> None:
    rig.bus.publish(
        CallPlaced(call_id=call_id, caller="+15550001111", callee="+15550002222", agent="amy", telephony="twilio")
    )


def answer(rig: Rig, call_id: str = "CA1") -> None:
    rig.bus.publish(
        CallStarted(
            call_id=call_id,
            caller="+15550001111",
            callee="+15550002222",
            direction="outbound",
            agent="amy",
            telephony="twilio",
            line="mulaw/8000",
        )
    )


async def row(rig: Rig, call_id: str = "CA1") -> dict[str, Any]:
    status, told = await rig.get(f"/api/v1/calls/{call_id}")
    assert status == 200, told
    found: dict[str, Any] = told["data"]
    return found


async def test_a_placed_call_rings_then_is_live_then_ended_for_this_engine_and_the_next(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        place(rig)
        rings = await row(rig)
        assert (rings["state"], rings["direction"], rings["duration_s"]) == ("ringing", "outbound", 0.0)
        assert (rings["agent"], rings["callee"], rings["telephony"]) == ("amy", "+15550002222", "twilio")
        _, active = await rig.get("/api/v1/calls/active")
        assert [found["call_id"] for found in active["data"]] == ["CA1"]
        answer(rig)
        assert (await row(rig))["state"] == "live"
        rig.bus.publish(CallEnded(call_id="CA1", reason="agent_ended", duration_s=4.0))
        ended = await row(rig)
        assert (ended["state"], ended["reason"], ended["duration_s"]) == ("ended", "agent_ended", 4.0)
        assert (await rig.get("/api/v1/calls/active"))[1] == {"data": [], "count": 0}
        _, calls = await rig.get("/api/v1/calls")
        assert (len(calls["data"]), calls["pagination"]["total"]) == (1, 1)
    async with serving(tmp_path) as rig:
        assert await row(rig) == ended


@pytest.mark.parametrize("reason", ["no_answer", "busy", "failed", "canceled"])
async def test_a_call_that_nobody_took_is_in_the_history_with_its_reason(tmp_path: Path, reason: Any) -> None:
    async with serving(tmp_path) as rig:
        place(rig)
        rig.bus.publish(CallEnded(call_id="CA1", reason=reason, detail="Nobody was there."))
        found = await row(rig)
    assert (found["state"], found["reason"], found["detail"]) == ("ended", reason, "Nobody was there.")
    assert (found["duration_s"], found["turns"], found["cost_total"], found["transcript"]) == (0.0, [], 0.0, [])


async def test_who_answered_and_both_recordings_are_in_the_row(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        place(rig)
        answer(rig)
        rig.bus.publish(MachineDetected(call_id="CA1", answered_by="machine", ready=False))
        rig.bus.publish(CallEnded(call_id="CA1", reason="machine_answered", duration_s=1.0))
        sound = str(tmp_path / "calls" / "CA1" / "call.wav")
        rig.bus.publish(RecordingSaved(call_id="CA1", path=sound, duration_s=1.0))
        rig.bus.publish(CarrierRecordingSaved(call_id="CA1", url="https://carrier.example/RE1", duration_s=1.0))
        found = await row(rig)
    assert (found["answered_by"], found["recording"]) == ("machine", sound)
    assert found["recording_url"] == "/api/v1/calls/CA1/recording"
    assert found["carrier_recording"] == "https://carrier.example/RE1"
