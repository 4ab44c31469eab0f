"""Pages, filters, search and exports against a plain count over the same calls, in both databases."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patter.clock import Clock
from patter.models import Memory
from patter.store.database import Database
from patter.store.filters import ORDERS, Filter
from patter.store.history import History
from patter.store.record import Rows
from patter.store.schema import calls
from patter.store.search import order_key, text_of
from patter.store.shapes import call_json
from patter.store.writing import erase, write
from tests.support.seeding import seed
from tests.support.stored_calls import AGENTS, REASONS, Stored, stored_calls, whole

COUNT = 120
CALLS = list(stored_calls(COUNT, seed=3, days=5))
SPOKEN = {made.call["call_id"]: [line["text"] for line in json.loads(made.text["transcript"])] for made in CALLS}
HOME = Path("/nowhere")
EXAMPLES = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FEW = settings(EXAMPLES, max_examples=10)


@dataclass
class Held:
    """A memory with these calls in it."""

    calls: list[tuple[dict[str, Any], Sequence[str]]] = field(default_factory=list)

    def unwritten(self) -> list[tuple[dict[str, Any], Sequence[str]]]:
        return self.calls

    def live(self) -> list[dict[str, Any]]:
        return [row for row, _ in self.calls if row["state"] != "ended"]

    def detail(self, call_id: str) -> dict[str, Any] | None:
        return next((row | {"transcript": []} for row, _ in self.calls if row["call_id"] == call_id), None)


def row_of(made: Stored) -> dict[str, Any]:
    names, [values] = whole(calls, [made.call])
    return call_json(dict(zip(names, values, strict=True)), HOME, 0.0)


ROWS = [row_of(made) for made in CALLS]


@dataclass
class Room:
    """A filled database, for tests that are no coroutines themselves."""

    portal: BlockingPortal
    database: Database
    memory: Held

    @property
    def history(self) -> History:
        return History(self.database, self.memory, HOME, Clock())

    def page(self, wanted: Filter, limit: int = 1_000, offset: int = 0) -> tuple[list[str], int]:
        found = self.portal.call(self.history.page, wanted, limit, offset)
        return [row["call_id"] for row in found.rows], found.total

    def export(self, wanted: Filter, *, transcripts: bool = False) -> list[dict[str, Any]]:
        async def all_of_it() -> list[dict[str, Any]]:
            return [row async for some in self.history.export(wanted, transcripts=transcripts) for row in some]

        return self.portal.call(all_of_it)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def room(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    home = tmp_path_factory.mktemp("home")
    url = request.getfixturevalue("postgres").url() if request.param == "postgresql" else ""
    database = Database(Memory(database=url), home)
    with start_blocking_portal() as portal:
        portal.call(database.open)
        portal.call(seed, url, home, CALLS)
        yield Room(portal, database, Held())
        portal.call(database.aclose)


def expected(wanted: Filter, rows: list[dict[str, Any]] = ROWS) -> list[str]:
    """The ids that a filter means, in order, found in the plainest way."""

    def meant(row: dict[str, Any]) -> bool:
        if any(
            getattr(wanted, name) not in ("", row[name])
            for name in ("agent", "direction", "state", "reason", "telephony")
        ):
            return False
        if wanted.since is not None and int(row["started_at"] * 1000) < int(wanted.since * 1000):
            return False
        if wanted.until is not None and int(row["started_at"] * 1000) >= int(wanted.until * 1000):
            return False
        part = (
            re.sub(r"[ ().-]", "", wanted.number)
            if re.fullmatch(r"[+0-9 ().-]*", wanted.number)
            else wanted.number.lower()
        )
        if part not in row["caller"] and part not in row["callee"]:
            return False
        return not wanted.q.strip() or said(wanted.q, row)

    column = wanted.order.lstrip("-")
    chosen = sorted(filter(meant, rows), key=lambda row: row["started_at"], reverse=wanted.order != "started_at")
    if column != "started_at":
        chosen.sort(key=lambda row: -row[column])
    return [row["call_id"] for row in chosen]


def said(asked: str, row: dict[str, Any]) -> bool:
    start = asked.strip().lower()
    if 4 <= len(start) <= 20 and row["call_id"].lower().startswith(start):
        return True
    held = set(re.findall(r"[a-z0-9]+", " ".join(SPOKEN[row["call_id"]]).lower()))
    words = re.findall(r"[a-z0-9]+", asked.lower())
    return bool(words) and all(any(one.startswith(word) for one in held) for word in words)


chosen = st.sampled_from(ROWS)
moments = st.none() | chosen.map(lambda row: row["started_at"])
HOSTILE = """ "'*()&|!:^{}[]<>~-+/\\%_;,.?=#@$`"""
known_words = st.sampled_from(
    sorted({word for lines in SPOKEN.values() for word in re.findall(r"\w+", " ".join(lines))})
)
pieces = (
    known_words
    | known_words.map(lambda word: word[:2].upper())
    | st.text(HOSTILE, max_size=4)
    | st.sampled_from(
        ["NEAR", "OR", "AND", "NOT", "a*", '"thank you"', "words:", "''", "!!", ":*", "<->", "xylophone", "9:30"]
    )
)
questions = st.just("") | st.lists(pieces, max_size=3).map(" ".join) | chosen.map(lambda row: row["call_id"][:9])


@st.composite
def parts_of_numbers(draw: st.DrawFn) -> str:
    text = str(draw(chosen)[draw(st.sampled_from(["caller", "callee"]))])
    start = draw(st.integers(0, len(text)))
    return text[start : start + draw(st.integers(0, 12))]


filters = st.builds(
    Filter,
    agent=st.sampled_from(["", "", *AGENTS, "nobody"]),
    direction=st.sampled_from(["", "", "inbound", "outbound", "test"]),
    state=st.sampled_from(["", "", "ended", "live"]),
    reason=st.sampled_from(["", "", *REASONS]),
    telephony=st.sampled_from(["", "", "twilio", "text"]),
    number=st.just("") | parts_of_numbers() | st.sampled_from(["%", "_", "(415) 555", "board", "*"]),
    q=questions,
    since=moments,
    until=moments,
    order=st.sampled_from(ORDERS),
)


@EXAMPLES
@given(wanted=filters)
def test_every_filter_finds_what_a_plain_count_finds_in_the_same_order(room: Room, wanted: Filter) -> None:
    ids = expected(wanted)
    assert room.page(wanted) == (ids, len(ids))


@FEW
@given(asked=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30))
def test_no_text_breaks_the_search(room: Room, asked: str) -> None:
    room.page(Filter(q=asked, number=asked), limit=1)


@FEW
@given(
    order=st.sampled_from(ORDERS),
    q=st.sampled_from(["", "you", "thank"]),
    limit=st.integers(0, 60),
    offset=st.integers(0, 150),
)
def test_a_page_is_its_part_of_the_whole_list(room: Room, order: Any, q: str, limit: int, offset: int) -> None:
    wanted = Filter(order=order, q=q)
    ids = expected(wanted)
    assert room.page(wanted, limit, offset) == (ids[offset : offset + limit], len(ids))


@EXAMPLES
@given(
    wanted=filters,
    limit=st.integers(1, 40),
    offset=st.integers(0, 140),
    over=st.sets(st.integers(0, COUNT - 1), max_size=6),
    live=st.sets(st.integers(0, COUNT - 1), max_size=6),
)
def test_calls_of_the_memory_stand_at_their_place_of_the_list(
    room: Room, wanted: Filter, limit: int, offset: int, over: set[int], live: set[int]
) -> None:
    """`over`: ended calls that the memory still has; `live`: others that go on, known to the memory alone."""
    going = [ROWS[at] | {"call_id": f"LIVE{at}", "state": "live", "reason": "", "ended_at": 0.0} for at in live]
    words = {f"LIVE{at}": SPOKEN[ROWS[at]["call_id"]] for at in live}
    SPOKEN.update(words)
    held: list[tuple[dict[str, Any], Sequence[str]]]
    held = [(row, SPOKEN[row["call_id"]]) for row in [*going, *(ROWS[at] for at in over)]]
    try:
        ids = expected(wanted, ROWS + going)
        found, total = Room(room.portal, room.database, Held(held)).page(wanted, limit, offset)
    finally:
        for name in words:
            del SPOKEN[name]
    assert total == len(ids)
    twins = {f"LIVE{at}": ROWS[at]["call_id"] for at in live}  # began together: either may stand first
    assert sorted(twins.get(name, name) for name in found) == sorted(
        twins.get(name, name) for name in ids[offset : offset + limit]
    ) or ([twins.get(name, name) for name in found] == [twins.get(name, name) for name in ids[offset : offset + limit]])


@pytest.mark.parametrize("order", ["-started_at", "-cost_total"])
def test_an_export_has_every_call_once_and_in_order(room: Room, order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patter.store.history.PIECE", 17)
    for wanted in (Filter(order=order), Filter(order=order, q="you", agent="reception")):
        assert [row["call_id"] for row in room.export(wanted)] == expected(wanted)
    held = ROWS[5] | {"state": "live"}
    with_memory = Room(room.portal, room.database, Held([(held, [])]))
    ids = [row["call_id"] for row in with_memory.export(Filter(order=order))]
    assert ids[0] == held["call_id"]
    assert sorted(ids) == sorted(row["call_id"] for row in ROWS)


@pytest.mark.parametrize("order", ["-started_at", "started_at", "-duration_s"])
def test_of_a_search_the_first_finds_are_counted_and_shown(
    room: Room, order: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever way the database goes: a bound below the number of finds, few calls looked at, common words left out."""
    monkeypatch.setattr("patter.store.history.FOUND", 20)
    monkeypatch.setattr("patter.store.queries.SAMPLE", 20)
    monkeypatch.setattr("patter.store.queries.DENSE", 5)
    monkeypatch.setattr("patter.store.queries.COMMON", 12)
    monkeypatch.setattr("patter.store.queries.REACH", (30, 60))
    for q, agent in (("you", ""), ("thank you", "reception"), ("question", "bookings"), ("a thank", "")):
        wanted = Filter(order=order, q=q, agent=agent)
        ids = expected(wanted)
        for offset in (0, 7):
            found = room.portal.call(room.history.page, wanted, 5, offset)
            assert [row["call_id"] for row in found.rows] == ids[offset : offset + 5]
            assert found.total == len(ids) if not found.more else offset + 5 <= found.total <= min(20, len(ids))
            assert found.more or found.total == len(ids)


def test_an_export_with_transcripts_has_what_was_said(room: Room) -> None:
    rows = room.export(Filter(agent="billing"), transcripts=True)
    assert rows
    for row in rows:
        assert [line["text"] for line in row["transcript"]] == SPOKEN[row["call_id"]]


def test_one_call_has_all_its_parts(room: Room) -> None:
    made = max(CALLS, key=lambda one: len(one.tools))
    detail = room.portal.call(room.history.detail, made.call["call_id"])
    assert detail is not None
    assert [turn["total_ms"] for turn in detail["turns"]] == [turn["total_ms"] for turn in made.turns]
    assert [tool["tool_id"] for tool in detail["tools"]] == [tool["tool_id"] for tool in made.tools]
    assert {(used["provider"], name) for used in detail["usage"] for name in used["amounts"]} == {
        (used["provider"], used["amount"]) for used in made.usage
    }
    assert [line["text"] for line in detail["transcript"]] == SPOKEN[made.call["call_id"]]
    assert {name: detail[name] for name in ROWS[0] if name != "turns"} == {
        name: value for name, value in row_of(made).items() if name != "turns"
    }
    assert room.portal.call(room.history.detail, "CAnobody") is None


def spoken_call(call_id: str, at: float, *lines: str) -> Rows:
    """A call that is over, with these lines."""
    made = next(stored_calls(1))
    made.call |= {"call_id": call_id, "started_at": at, "counted": False, "order_key": order_key(at, call_id)}
    names, [values] = whole(calls, [made.call])
    text = {"call_id": call_id, "id": made.call["order_key"], "transcript": "[]", "faults": "[]"}
    return Rows(dict(zip(names, values, strict=True)), text | {"words": text_of(made.call, lines)})


@pytest.mark.anyio
async def test_words_of_all_scripts_are_found_and_forgotten_with_their_call(database: Any, tmp_path: Path) -> None:
    async with database() as store:
        history = History(store, Held(), tmp_path, Clock())

        async def found(asked: str) -> list[str]:
            return [row["call_id"] for row in (await history.page(Filter(q=asked), 10, 0)).rows]

        async with store.write() as connection:
            await write(connection, [
                spoken_call("CAone", 100.0, "Ein Café in Zürich, bitte!", "Straße 12b"),
                spoken_call("CAtwo", 200.0, "Позовите оператора", "我想预约明天"),
                spoken_call("CAthree", 300.0, "it's snake_case 3.14 — don't", "x" * 300),
            ])  # fmt: skip
        assert await found("cafe zurich") == await found("CAFÉ ZÜR") == await found("strasse") == ["CAone"]
        assert await found("оператор") == await found("预约") == ["CAtwo"]
        assert await found("снова") == []
        assert await found("snake 14") == await found("x" * 200) == await found("don't") == ["CAthree"]
        assert await found("_n") == await found("...") == []
        async with store.write() as connection:
            await write(connection, [spoken_call("CAone", 100.0, "Something else was meant")])
        assert (await found("zurich"), await found("meant")) == ([], ["CAone"])
        async with store.write() as connection:
            await erase(connection, ["CAone", "CAtwo"])
        assert await found("meant") == await found("оператор") == []
        assert await found("snake") == ["CAthree"]


@pytest.mark.anyio
async def test_calls_that_began_at_the_same_moment_keep_their_own_places(database: Any, tmp_path: Path) -> None:
    async with database() as store:
        async with store.write() as connection:
            await write(connection, [spoken_call(f"CA{number:03}", 50.0, "together") for number in range(40)])
        history = History(store, Held(), tmp_path, Clock())
        for wanted in (Filter(), Filter(q="together"), Filter(order="-cost_total")):
            seen = [
                row["call_id"] for offset in range(0, 40, 15) for row in (await history.page(wanted, 15, offset)).rows
            ]
            assert len(seen) == len(set(seen)) == 40


@pytest.mark.anyio
async def test_a_question_that_nobody_waits_for_is_stopped(database: Any, tmp_path: Path) -> None:
    """A query without end is given up, and the connections are there for others."""
    async with database() as store:
        from sqlalchemy import text

        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000000000) SELECT count(*) FROM n"
        with anyio.fail_after(20):
            for _ in range(6):
                with anyio.move_on_after(0.05):
                    async with store.read() as connection:
                        await connection.execute(text(endless))
            assert (await History(store, Held(), tmp_path, Clock()).page(Filter(), 5, 0)).total == 0
            running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'WITH RECURSIVE%'"
            async with store.read() as connection:
                while not store.is_sqlite and (await connection.execute(text(running))).scalar():
                    await anyio.sleep(0.05)
