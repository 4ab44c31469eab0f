"""The API of money over real calls in a real database: prices, budget, forecast, what-if."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from patter.bus import Bus
from patter.events import CallEnded, CallStarted, UsageMeasured
from patter.models import Budget
from patter.observe.prices import Prices
from patter.records import Records
from patter.settings import Settings, load, write_budget
from tests.support.serving import Rig, serving

pytestmark = pytest.mark.anyio

PRICES = Prices.load()


@dataclass
class House:
    """A server over a home that keeps what happened."""

    rig: Rig
    records: Records
    bus: Bus

    async def call(self, call_id: str, seconds: float, *, direction: Any = "inbound", **more: Any) -> None:
        """A whole call, as it is published: a line by Twilio, a recogniser of utterances, a model and a voice."""
        bus = self.bus
        mine: dict[str, Any] = {"call_id": call_id, "turn": 1}
        line = "twilio" if direction != "test" else "loopback"
        bus.publish(CallStarted(call_id=call_id, direction=direction, telephony=line, line="mulaw/8000", **more))
        bus.publish(UsageMeasured(
            **mine, stage="stt", provider="openai", model="whisper-1", amounts={"audio_seconds": seconds / 4}
        ))  # fmt: skip
        bus.publish(UsageMeasured(
            **mine, stage="llm", provider="openai", model="gpt-4o-mini", amounts={"input_tokens": 9000.0,
            "cached_tokens": 6000.0, "output_tokens": 900.0}
        ))  # fmt: skip
        bus.publish(UsageMeasured(
            **mine, stage="tts", provider="elevenlabs", model="eleven_flash_v2_5", amounts={"characters": 1500.0}
        ))  # fmt: skip
        for model in ("inbound", "media-stream"):
            bus.publish(UsageMeasured(
                **mine, stage="telephony", provider=line, model=model, amounts={"seconds": seconds}
            ))  # fmt: skip
        bus.publish(CallEnded(call_id=call_id, reason="caller_hung_up", duration_s=seconds))

    async def settled(self) -> None:
        assert await self.records.keeper.settled(20)

    async def put(self, **body: Any) -> tuple[int, Any]:
        async with self.rig.client.put(f"{self.rig.server.url}/api/v1/budget", json=body) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def house(home: Path, settings: Settings | None = None) -> AsyncIterator[House]:
    async with serving(home, settings=settings) as rig:
        made = House(rig, rig.records, rig.bus)
        await made.settled()
        yield made


async def test_the_prices_in_use_say_where_they_are_from(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        status, answer = await it.rig.get("/api/v1/prices")
        assert status == 200
        assert answer["count"] == len(answer["data"]) == len(PRICES.rows)
        [row] = [row for row in answer["data"] if row["model"] == "nova-3"]
        assert (row["price"], row["unit"], row["currency"], row["running"]) == (0.0048, "minute", "USD", True)
        assert row["source"]
        assert row["as_of"] == "2026-08-01"


async def test_a_forecast_is_made_of_phone_calls_and_says_how_sure_it_is(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        assert (await it.rig.get("/api/v1/analytics/forecast"))[0] == 409
        await it.call("reh", 600, direction="test")
        await it.settled()
        _, answer = await it.rig.get("/api/v1/analytics/forecast")
        assert answer["data"]["based_on"]["kind"] == "rehearsal"
        assert answer["data"]["low"] is None  # one call says nothing of the spread
        for number in range(6):
            await it.call(f"c{number}", 50 if number % 2 else 110, agent="desk")
        await it.settled()
        status, answer = await it.rig.get("/api/v1/analytics/forecast?calls=500")
        assert status == 200
        found = answer["data"]
        assert found["based_on"] == {"calls": 6, "minutes": 8.0, "kind": "phone"}
        assert found["per_call"]["telephony"] == pytest.approx(1.5 * (0.0085 + 0.0040))
        assert found["total"]["total"] == pytest.approx(500 * found["per_call"]["total"])
        assert found["low"] < found["total"]["total"] < found["high"]
        assert found["per_minute"] == pytest.approx(6 * found["per_call"]["total"] / 8)
        assert found["unpriced"] == []
        assert (await it.rig.get("/api/v1/analytics/forecast?agent=nobody"))[0] == 409
        for wrong in ("from=yesterday", "to=2026-13-40", "calls=0", "calls=many"):
            assert (await it.rig.get(f"/api/v1/analytics/forecast?{wrong}"))[0] == 400, wrong


async def test_what_if_one_call_and_all_days_with_their_rounding(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        for number in range(3):
            await it.call(f"c{number}", 61)
        await it.settled()
        ask = "/api/v1/analytics/what-if"
        _, one = await it.rig.post(ask, {"call_id": "c0"})
        _, all_days = await it.rig.post(ask, {})
        one, all_days = one["data"], all_days["data"]
        assert one["difference"] == 0
        assert one["now"]["telephony"] == pytest.approx(2 * 0.0125)
        assert all_days["now"]["telephony"] == pytest.approx(3 * 2 * 0.0125)  # each call is rounded, not their sum
        assert all_days["now"]["total"] == pytest.approx(3 * one["now"]["total"])
        _, asked = await it.rig.post(ask, {"pricing": {"twilio": {"price": 0.02}}})
        assert asked["data"]["difference"] == pytest.approx(6 * (0.02 - 0.0085))
        _, asked = await it.rig.post(ask, {"call_id": "c0", "swap": {"telephony": {"provider": "telnyx"}}})
        assert asked["data"]["then"]["telephony"] == pytest.approx(61 / 60 * (0.0055 + 0.0035))
        _, asked = await it.rig.post(
            ask, {"call_id": "c0", "swap": {"stt": {"provider": "deepgram", "model": "nova-3"}}}
        )
        assert asked["data"]["then"]["stt"] == pytest.approx(61 / 60 * 0.0048)
        assert "all of a call's time" in asked["data"]["notes"][0]
        _, asked = await it.rig.post(ask, {"swap": {"llm": {"provider": "mystery", "model": "x"}}})
        assert asked["data"]["difference"] is None
        assert asked["data"]["unpriced"] == ["mystery/x"]


async def test_a_question_that_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    questions: list[tuple[dict[str, Any], int]] = [
        ({"call_id": "nobody"}, 404),
        ({"call_id": "../x"}, 404),
        ({"from": "soon"}, 400),
        ({"pricing": {"deepgram": {"price": -1}}}, 422),
        ({"pricing": {"acme": {"price": 1}}}, 422),
        ({"swap": {"stt": {}}}, 422),
        ({"swap": {"stt": "deepgram"}}, 422),
    ]
    async with house(tmp_path) as it:
        for body, status in questions:
            got, answer = await it.rig.post("/api/v1/analytics/what-if", body)
            assert (got, bool(answer["error"])) == (status, True), body


async def test_a_budget_is_read_changed_written_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "engine.toml"
    file.write_text("# ours\n[memory]\nkeep_days = 30  # a month\n")
    async with house(tmp_path, load(tmp_path, {})) as it:
        _, answer = await it.rig.get("/api/v1/budget")
        assert answer["data"]["limits"]["per_day_usd"] is None
        assert answer["data"]["today"]["left_usd"] is None
        await it.call("c1", 61)
        status, answer = await it.put(per_day_usd=5, per_call_usd=0.5)
        assert status == 200
        today = answer["data"]["today"]
        assert today["left_usd"] == pytest.approx(5 - today["spent_usd"])
        assert today["spent_usd"] > 0.0125
        assert answer["data"]["written_to"] == "engine.toml"
        assert (await it.put(per_day_usd=-1))[0] == 422
        assert (await it.put(farewell=" "))[0] == 422
        status, _ = await it.put(per_call_usd=None)
        assert status == 200
    assert load(tmp_path, {}).budget == Budget(per_day_usd=5)
    assert file.read_text().startswith("# ours\n[memory]\nkeep_days = 30  # a month\n")


async def test_a_spent_day_lets_no_call_in_and_a_restart_does_not_reset_it(tmp_path: Path) -> None:
    settings = Settings(budget=Budget(per_day_usd=0.05))
    async with house(tmp_path, settings) as it:
        assert (await it.rig.post("/api/v1/rehearsals", {"agent": "desk", "line": "text"}))[0] == 201
        await it.call("c1", 61)
        await it.settled()
    async with house(tmp_path, settings) as it:
        status, refused = await it.rig.post("/api/v1/rehearsals", {"agent": "desk", "line": "text"})
        assert status == 409
        assert "its budget is $0.05" in refused["error"]
        _, answer = await it.rig.get("/api/v1/budget")
        assert answer["data"]["refusal"] == refused["error"]
        assert answer["data"]["today"]["left_usd"] == 0
        await it.put(per_day_usd=5)
        assert (await it.rig.post("/api/v1/rehearsals", {"agent": "desk", "line": "text"}))[0] == 201


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("[budget]\nper_call_usd = 1 # old\nper_day_usd = 2\n\n[memory]\nkeep_days = 3\n", "[memory]\nkeep_days = 3"),
        ('[memory]\nmask = [\n  "x",\n]\n[budget]\n# why\nper_day_usd = 2', "# why"),
    ],
)
def test_the_settings_file_keeps_all_but_the_budget(tmp_path: Path, text: str, kept: str) -> None:
    file = tmp_path / "engine.toml"
    file.write_text(text)
    budget = Budget(per_call_usd=0.25, farewell='Tschüß "du" 👋')
    write_budget(file, budget)
    write_budget(file, budget)
    assert load(tmp_path, {}).budget == budget
    assert load(tmp_path, {}).memory == replace(load(tmp_path, {}).memory)
    assert kept in file.read_text()


def test_a_budget_that_is_written_otherwise_is_left_to_a_person(tmp_path: Path) -> None:
    file = tmp_path / "engine.toml"
    file.write_text("budget = {per_call_usd = 1}\n")
    with pytest.raises(ValueError, match=r"engine\.toml"):
        write_budget(file, Budget(per_call_usd=2))
    assert file.read_text() == "budget = {per_call_usd = 1}\n"
