"""The figures of many calls against a plain sum over the calls themselves, in both databases."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from patter.models import Memory
from patter.store.analytics import Analytics, Days, date
from patter.store.database import Database
from patter.store.record import Rows
from patter.store.schema import SEGMENTS, calls, texts, turns, usage
from patter.store.writing import erase, write
from tests.support.seeding import seed
from tests.support.stored_calls import DAY_S, Stored, stored_calls, whole

pytestmark = pytest.mark.anyio

CALLS = list(stored_calls(120, seed=9, days=12))
FIRST = min(made.call["day"] for made in CALLS)


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


def rank(values: list[float], percent: int) -> float:
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1] if values else 0.0


def samples(of: list[Stored], segment: str) -> list[float]:
    return [turn[f"{segment}_ms"] for made in of for turn in made.turns if turn["sample"]]


async def test_an_overview_is_the_sum_of_its_calls(
    database: Callable[[], Database], memory: Memory, tmp_path: Path
) -> None:
    async with database() as store:
        await seed(memory.database, tmp_path, CALLS)
        analytics = Analytics(store)
        for first, last, agent in ((0, 10**6, ""), (FIRST + 3, FIRST + 6, ""), (0, 10**6, "bookings"), (5, 9, "")):
            of = [made for made in CALLS if first <= made.call["day"] <= last and agent in ("", made.call["agent"])]
            for _ in range(2):  # the second time from what is kept
                found = await analytics.overview(Days(first, last), agent)
                assert found["calls"] == len(of)
                assert found["minutes"] == near(sum(made.call["duration_s"] for made in of) / 60)
                assert found["reasons"] == Counter(made.call["reason"] for made in of)
                assert sum(found["directions"].values()) == len(of)
                assert {one["agent"]: one["calls"] for one in found["agents"]} == Counter(
                    made.call["agent"] for made in of
                )
                assert found["cost"]["total"] == near(sum(made.call["cost_total"] for made in of))
                assert found["unpriced_calls"] == sum(made.call["unpriced"] != "[]" for made in of)
                assert found["unpriced"] == (["openai/own-model"] if found["unpriced_calls"] else [])
                assert {
                    one["agent"]: one["unpriced_calls"] for one in found["agents"] if one["unpriced_calls"]
                } == Counter(made.call["agent"] for made in of if made.call["unpriced"] != "[]")
                totals = samples(of, "total")
                assert found["latency"]["n"] == len(totals)
                assert found["latency"]["avg"] == near(sum(totals) / len(totals) if totals else 0.0)
                for percent in (50, 90, 95, 99):
                    assert found["latency"][f"p{percent}"] == pytest.approx(rank(totals, percent), rel=0.0251)
                for name in SEGMENTS:
                    assert found["segments"][name]["n"] == len(totals)
                    assert found["segments"][name]["p95"] == pytest.approx(rank(samples(of, name), 95), rel=0.0251)
                if not of:
                    assert found["cost_per_minute"] is found["cost_per_call"] is None


async def test_costs_and_latency_stand_by_day(database: Callable[[], Database], memory: Memory, tmp_path: Path) -> None:
    async with database() as store:
        await seed(memory.database, tmp_path, CALLS)
        analytics = Analytics(store)
        costs = await analytics.costs(Days())
        by_day = {one["day"]: one for one in costs["days"]}
        assert list(by_day) == sorted(by_day) == [date(day) for day in sorted({made.call["day"] for made in CALLS})]
        for number in {made.call["day"] for made in CALLS}:
            of = [made for made in CALLS if made.call["day"] == number]
            assert by_day[date(number)]["calls"] == len(of)
            assert by_day[date(number)]["llm"] == near(sum(made.call.get("cost_llm", 0.0) for made in of))
        assert sum(used["cost"] for used in costs["providers"]) == near(costs["total"]["total"])
        [unknown] = [used for used in costs["providers"] if not used["priced"]]
        assert (unknown["model"], unknown["cost"]) == ("own-model", 0.0)
        spoken = sum(row["quantity"] for made in CALLS for row in made.usage if row["amount"] == "characters")
        assert [used["amounts"] for used in costs["providers"] if used["stage"] == "tts"] == [
            {"characters": near(spoken)}
        ]
        latency = await analytics.latency(Days())
        for day in latency["days"]:
            of = [made for made in CALLS if date(made.call["day"]) == day["day"]]
            assert day["n"] == len(samples(of, "total"))
            assert day["p50"] == pytest.approx(rank(samples(of, "total"), 50), rel=0.0251)
        assert latency["segments"]["playout"]["n"] == len(samples(CALLS, "playout"))


def rows_of(made: Stored) -> Rows:
    def full(table: Any, some: list[dict[str, Any]]) -> list[dict[str, Any]]:
        names, tuples = whole(table, some)
        return [dict(zip(names, values, strict=True)) for values in tuples]

    return Rows(
        full(calls, [made.call | {"counted": False}])[0],
        full(texts, [made.text])[0],
        full(turns, made.turns),
        full(usage, made.usage),
    )


async def test_what_is_kept_of_a_day_follows_each_call_that_comes_or_goes(database: Callable[[], Database]) -> None:
    async with database() as store:
        analytics = Analytics(store)
        known: list[Stored] = []
        for made in CALLS[:6]:
            async with store.write() as connection:
                await write(connection, [rows_of(made)])
            known.append(made)
            assert (await analytics.overview(Days()))["latency"]["n"] == len(samples(known, "total"))
        async with store.write() as connection:
            await erase(connection, [made.call["call_id"] for made in known[:4]])
        left = samples(known[4:], "total")
        found = await analytics.overview(Days())
        assert (found["calls"], found["latency"]["n"]) == (2, len(left))
        assert found["latency"]["p95"] == pytest.approx(rank(left, 95), rel=0.0251)


def test_a_range_is_every_day_that_it_touches() -> None:
    day = 20_000 * DAY_S
    assert Days.touched(day, day + DAY_S) == Days(20_000, 20_000)
    assert Days.touched(day + 3_600, day + 7_200) == Days(20_000, 20_000)
    assert Days.touched(day - 1, day + DAY_S + 1) == Days(19_999, 20_001)
    assert Days.touched(day, day).last < 20_000
    assert Days.touched(None, None).first == 0
    assert date(20_000) == "2024-10-04"
