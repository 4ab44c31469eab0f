"""Budgets with the real engines, over both loopback carriers: the farewell is heard, and a spent day lets nobody in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from patter import PatterConnectionError
from patter.loopback.person import Person
from patter.models import Budget
from patter.providers.embedded.hibari import voice_missing
from tests.support.carriers import CARRIERS, OURS, THEIRS, carrier_of, phone_at
from tests.test_serving import embedded, in_time, journal, port, serving, sounds

__all__ = ["port"]

pytestmark = [
    pytest.mark.local,
    pytest.mark.anyio,
    pytest.mark.skipif(bool(voice_missing()), reason=voice_missing()),
    pytest.mark.parametrize("name", CARRIERS),
]

FAREWELL = "Our time is over."
LESS_THAN_A_MINUTE = 0.008  # USD: no carrier's first minute costs less


def told(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


async def test_a_spent_day_lets_nobody_in_and_calls_nobody_after_a_restart_either(
    name: str, port: int, tmp_path: Path
) -> None:
    budget = Budget(per_day_usd=LESS_THAN_A_MINUTE, farewell=FAREWELL)
    async with carrier_of(name) as carrier:
        carrier.people[THEIRS] = Person()
        async with serving(phone_at(carrier, port, tmp_path, budget=budget), embedded(""), port):
            leg = carrier.place_call(THEIRS, OURS, Person())
            await in_time(leg.over)
        assert sounds(bytes(leg.heard))
        async with serving(phone := phone_at(carrier, port, tmp_path, budget=budget), embedded(""), port):
            leg = carrier.place_call(THEIRS, OURS, Person())
            await in_time(leg.over)
            with pytest.raises(PatterConnectionError, match=r"budget is \$0\.008.*per_day_usd"), anyio.fail_after(20):
                await phone.call(THEIRS, agent=embedded("Hello."))
        assert carrier.violations == []
    [events] = journal(tmp_path).values()
    [spent] = told(events, "BudgetSpent")
    assert (spent["scope"], spent["limit_usd"]) == ("day", LESS_THAN_A_MINUTE)
    assert spent["spent_usd"] > LESS_THAN_A_MINUTE
    assert [said["text"] for said in told(events, "AgentSaid")] == [FAREWELL]
    assert told(events, "CostMeasured")[-1]["cost"]["telephony"] >= spent["spent_usd"]
    assert told(events, "CallEnded")[0]["reason"] == "budget_spent"
