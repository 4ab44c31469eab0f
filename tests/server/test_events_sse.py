"""Server-Sent Events: resumed by number without loss or repetition, told of gaps, and no slow reader is waited for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import anyio.lowlevel
import pytest

from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallerSaid
from patter.server import event_stream
from tests.support.serving import TOKEN, Rig, serving

pytestmark = pytest.mark.anyio


@dataclass
class Told:
    """One event as a browser's EventSource would see it."""

    kind: str
    id: str
    data: Any


@dataclass
class Reader:
    answer: aiohttp.ClientResponse

    async def next(self) -> Told | None:
        """What comes next (None: it is over); comments are passed over."""
        fields: dict[str, str] = {}
        with anyio.fail_after(20):
            while line := await self.answer.content.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif "data" in fields:
                    return Told(fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"]))
        return None

    async def take(self, count: int) -> list[Told]:
        return [told for _ in range(count) if (told := await self.next())]

    async def rest(self) -> list[Told]:
        found = []
        while told := await self.next():
            found.append(told)
        return found


@asynccontextmanager
async def reading(rig: Rig, last: str = "", **query: str) -> AsyncIterator[Reader]:
    headers = {"Last-Event-ID": last} if last else {}
    async with rig.client.get(rig.server.url + "/api/v1/events", params=query, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        yield Reader(answer)


def publish(rig: Rig, *texts: str, call_id: str = "CA1") -> None:
    for text in texts:
        rig.bus.publish(CallerSaid(call_id=call_id, turn=1, text=text))


async def test_events_come_as_they_happen_with_their_number(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        publish(rig, "before")
        async with reading(rig) as reader:
            (hello,) = await reader.take(1)
            assert (hello.kind, hello.id) == ("hello", "1")
            assert hello.data == {"engine_id": "e" * 16, "seq": 1, "gap": False}
            publish(rig, "two\nlines, é and \u2028")
            (event,) = await reader.take(1)
            assert (event.kind, event.id, event.data["seq"]) == ("message", "2", 2)
            assert event.data["text"] == "two\nlines, é and \u2028"


async def test_a_connection_that_is_cut_again_and_again_loses_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        got: list[int] = []
        last = "0"
        async with anyio.create_task_group() as tasks:

            async def talk() -> None:
                while True:
                    publish(rig, "on and on")
                    await anyio.lowlevel.checkpoint()

            tasks.start_soon(talk)
            for round_ in range(12):
                async with reading(rig, last) as reader:
                    told = await reader.take(1 + 17 * round_)  # the first cut comes right after the greeting
                    assert told[0].kind == "hello"
                    got += [event.data["seq"] for event in told[1:]]
                    last = told[-1].id
            tasks.cancel_scope.cancel()
        assert len(got) == 17 * 66
        assert got == list(range(1, len(got) + 1))


async def test_what_is_not_here_any_more_is_told_as_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patter.bus.BACKLOG", 5)
    async with serving(tmp_path, bus=Bus(Clock())) as rig:
        publish(rig, *"abcdefgh")
        for query in ({"after": "2"}, {"after": "99"}, {"after": "7", "engine": "another"}):
            async with reading(rig, **query) as reader:
                (gap,) = await reader.take(1)
                assert (gap.kind, gap.id, gap.data["gap"]) == ("gap", "8", True)
        async with reading(rig, "6", after="2") as reader:  # a browser resumes with its header, at its first address
            told = await reader.take(3)
            assert [(event.kind, event.id) for event in told] == [("hello", "6"), ("message", "7"), ("message", "8")]


async def test_one_call_may_be_followed_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        publish(rig, "no", call_id="CA2")
        publish(rig, "old")
        async with reading(rig, after="0", call_id="CA1") as reader:
            await reader.take(1)
            publish(rig, "no", call_id="CA2")
            publish(rig, "new")
            assert [told.data["text"] for told in await reader.take(2)] == ["old", "new"]


async def test_a_reader_that_is_too_slow_is_told_so_and_can_resume(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        async with reading(rig) as reader:
            await reader.take(1)
            publish(rig, *(str(number) for number in range(2_500)))
            told = await reader.rest()
        assert told[-1].kind == "lost"
        got = [int(event.id) for event in told[:-1]]
        assert got == list(range(1, len(got) + 1))
        async with reading(rig, told[-2].id) as again:
            rest = (await again.take(1 + 2_500 - len(got)))[1:]
            assert [int(event.id) for event in rest] == list(range(got[-1] + 1, 2_501))


async def test_readers_get_the_last_event_before_goodbye(tmp_path: Path) -> None:
    told: list[Told] = []
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        async with serving(tmp_path) as rig:
            answer = await client.get(rig.server.url + "/api/v1/events")
            reader = Reader(answer)
            await reader.take(1)
            await rig.text_call()
        told += await reader.rest()
        answer.close()
    assert told[-1].kind == "bye"
    assert "CallEnded" in [event.data["type"] for event in told[:-1]]


async def test_comments_keep_the_line_alive_and_a_reader_that_left_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "LOOK_S", 0.01)
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.02)
    async with serving(tmp_path) as rig:
        async with reading(rig) as reader:
            await reader.take(1)
            assert rig.server.events.readers == 1
            with anyio.fail_after(10):
                assert (await reader.answer.content.readline()).startswith(b":")
        with anyio.fail_after(10):
            while rig.server.events.readers:
                await anyio.sleep(0.01)


@pytest.mark.parametrize("query", ["after=x", "after=-1", "call_id=../x", "after=" + "9" * 30])
async def test_wrong_questions_are_refused(query: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        assert (await rig.get(f"/api/v1/events?{query}"))[0] == 400
