"""The list of calls: rows while they ring, live and ended ones, and what is only known after the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from patter.bus import Bus
from patter.clock import Clock
from patter.events import (
    CallEnded,
    CallPlaced,
    CallStarted,
    CarrierRecordingSaved,
    MachineDetected,
    RecordingSaved,
)
from patter.observe.journal import Journal
from patter.server.calls import CallLog
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


class Office:
    """A call log and a journal on one bus."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self.home, self.clock, self.bus = home, clock, Bus(clock)
        self.log, self.journal = CallLog(home, clock), Journal(home)
        self.bus.add_sink(self.journal)
        self.bus.add_sink(self.log.record)

    def place(self, call_id: str = "CA1") -> None:
        self.bus.publish(
            CallPlaced(call_id=call_id, caller="+15550001111", callee="+15550002222", agent="amy", telephony="twilio")
        )

    def answer(self, call_id: str = "CA1") -> None:
        self.bus.publish(
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

    async def row(self, call_id: str = "CA1") -> dict[str, Any]:
        row = await self.log.call(call_id)
        assert row is not None
        return row

    async def reread(self) -> dict[str, Any]:
        """The same call as the next engine finds it."""
        self.journal.close()
        found = CallLog(self.home, self.clock)
        found.load()
        row = await found.call("CA1")
        assert row is not None
        return row


async def test_a_placed_call_rings_then_is_live_then_ended(tmp_path: Path) -> None:
    office = Office(tmp_path, virtual_clock())
    office.place()
    rings = await office.row()
    assert (rings["state"], rings["direction"], rings["duration_s"]) == ("ringing", "outbound", 0.0)
    assert (rings["agent"], rings["callee"], rings["telephony"]) == ("amy", "+15550002222", "twilio")
    assert [row["call_id"] for row in office.log.live()] == ["CA1"]
    office.answer()
    assert (await office.row())["state"] == "live"
    office.bus.publish(CallEnded(call_id="CA1", reason="agent_ended", duration_s=4.0))
    ended = await office.row()
    assert (ended["state"], ended["reason"], ended["duration_s"]) == ("ended", "agent_ended", 4.0)
    assert office.log.live() == []
    rows, total = await office.log.page(10, 0)
    assert (len(rows), total) == (1, 1)
    assert await office.reread() == ended


@pytest.mark.parametrize("reason", ["no_answer", "busy", "failed", "canceled"])
async def test_a_call_that_nobody_took_is_in_the_history_with_its_reason(tmp_path: Path, reason: Any) -> None:
    office = Office(tmp_path, virtual_clock())
    office.place()
    office.bus.publish(CallEnded(call_id="CA1", reason=reason, detail="Nobody was there."))
    row = await office.row()
    assert (row["state"], row["reason"], row["detail"]) == ("ended", reason, "Nobody was there.")
    assert (row["duration_s"], row["turns"], row["cost_total"], row["transcript"]) == (0.0, 0, 0.0, [])
    assert await office.reread() == row


async def test_who_answered_and_both_recordings_are_in_the_row(tmp_path: Path) -> None:
    office = Office(tmp_path, virtual_clock())
    office.place()
    office.answer()
    office.bus.publish(MachineDetected(call_id="CA1", answered_by="machine", ready=False))
    office.bus.publish(CallEnded(call_id="CA1", reason="machine_answered", duration_s=1.0))
    office.bus.publish(RecordingSaved(call_id="CA1", path="/calls/CA1/call.wav", duration_s=1.0))
    office.bus.publish(CarrierRecordingSaved(call_id="CA1", url="https://carrier.example/RE1", duration_s=1.0))
    row = await office.row()
    assert row["answered_by"] == "machine"
    assert row["recording"] == "/calls/CA1/call.wav"
    assert row["carrier_recording"] == "https://carrier.example/RE1"
    assert await office.reread() == row


async def test_a_call_comes_in_without_having_been_placed(tmp_path: Path) -> None:
    office = Office(tmp_path, virtual_clock())
    office.answer()
    row = await office.row()
    assert (row["state"], row["answered_by"], row["carrier_recording"]) == ("live", "", "")
    office.journal.close()
