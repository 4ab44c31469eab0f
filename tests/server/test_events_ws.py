"""The event socket: a reader that comes back by number misses nothing and gets nothing twice; a slow one is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallerPartial, CallerSaid, CallStarted, from_json
from patter.server import event_stream
from tests.support.serving import TOKEN, Rig, serving

pytestmark = pytest.mark.anyio


def connect(rig: Rig, **query: str) -> Any:
    return rig.client.ws_connect(rig.server.url + "/api/v1/events/ws", params=query, max_msg_size=0)


async def take(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[dict[str, Any]]:
    with anyio.fail_after(10):
        return [json.loads(await socket.receive_str()) for _ in range(count)]


def publish(rig: Rig, *texts: str) -> None:
    for text in texts:
        rig.bus.publish(CallerSaid(call_id="CA1", turn=1, text=text))


async def test_a_new_reader_gets_a_greeting_and_then_what_is_new(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        publish(rig, "before")
        async with connect(rig) as socket:
            (hello,) = await take(socket, 1)
            assert hello == {"hello": {"engine_id": "e" * 16, "seq": 1, "gap": False}}
            publish(rig, "after")
            (event,) = await take(socket, 1)
            assert (event["type"], event["text"], event["seq"]) == ("CallerSaid", "after", 2)
            assert from_json(event) is not None


async def test_a_reader_that_resumes_misses_nothing_and_gets_nothing_twice(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        got: list[int] = []
        async with anyio.create_task_group() as tasks:

            async def talk() -> None:
                while True:
                    publish(rig, "on and on")
                    await anyio.lowlevel.checkpoint()

            tasks.start_soon(talk)
            for _ in range(12):
                async with connect(rig, after=str(len(got)), engine="e" * 16) as socket:
                    hello = (await take(socket, 1))[0]["hello"]
                    assert hello["gap"] is False
                    seam = hello["seq"] + 5  # past what was kept for the reader, into what is new
                    got += [event["seq"] for event in await take(socket, seam - len(got))]
                    assert got == list(range(1, seam + 1))
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("query", [{"after": "0", "engine": "another"}, {"after": "99"}])
async def test_a_reader_of_another_engine_is_told_of_the_gap(query: dict[str, str], tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        publish(rig, "one")
        async with connect(rig, **query) as socket:
            (hello,) = await take(socket, 1)
            assert hello["hello"] == {"engine_id": "e" * 16, "seq": 1, "gap": True}
            publish(rig, "two")
            assert [event["text"] for event in await take(socket, 1)] == ["two"]


async def test_a_reader_from_before_the_backlog_is_told_of_the_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patter.bus.BACKLOG", 5)
    async with serving(tmp_path, bus=Bus(Clock())) as rig:
        publish(rig, *"abcdefgh")
        async with connect(rig, after="2") as socket:
            assert (await take(socket, 1))[0]["hello"]["gap"] is True
        async with connect(rig, after="3") as socket:
            assert (await take(socket, 1))[0]["hello"]["gap"] is False
            assert [event["text"] for event in await take(socket, 5)] == list("defgh")


async def test_a_reader_that_is_too_slow_is_closed_with_4000_and_can_resume(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, connect(rig) as socket:
        await take(socket, 1)
        publish(rig, *(str(number) for number in range(2_500)))  # faster than any loop can hand on
        got = []
        with anyio.fail_after(20):
            async for message in socket:
                got.append(json.loads(message.data)["seq"])
        assert socket.close_code == 4000
        assert got == list(range(1, len(got) + 1))
        async with connect(rig, after=str(got[-1])) as again:
            rest = await take(again, 1 + 2_500 - len(got))
            assert [event["seq"] for event in rest[1:]] == list(range(got[-1] + 1, 2_501))


async def test_a_burst_of_partials_costs_no_closed_fact(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, connect(rig) as socket:
        await take(socket, 1)
        rig.bus.publish(CallStarted(call_id="CA1"))
        for number in range(5_000):
            rig.bus.publish(CallerPartial(call_id="CA1", text=str(number)))
        publish(rig, "whole")
        kinds: list[str] = []
        with anyio.fail_after(20):
            while not kinds or kinds[-1] != "CallerSaid":
                kinds.append(json.loads(await socket.receive_str())["type"])
        assert kinds[0] == "CallStarted"


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "", "9" * 30])
async def test_a_wrong_number_is_refused(after: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await connect(rig, after=after)
        assert refused.value.status == 400


async def test_a_reader_has_nothing_to_say_and_leaves_no_trace(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        async with connect(rig) as socket:
            await take(socket, 1)
            await socket.send_str("hello?")
            publish(rig, "goes on")
            assert len(await take(socket, 1)) == 1
            assert rig.server.events.readers == 1
            await socket.send_bytes(b"x" * 100_000)  # far over what a reader may send
            with anyio.fail_after(10):
                assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        with anyio.fail_after(10):
            while rig.server.events.readers:
                await rig.server.events.wait_change()


async def test_readers_get_the_last_events_before_the_engine_says_goodbye(tmp_path: Path) -> None:
    types: list[str] = []
    codes: list[int | None] = []

    async def follow(socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            types.append(json.loads(message.data).get("type", "hello"))
        codes.append(socket.close_code)

    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as client,
        anyio.create_task_group() as tasks,
        serving(tmp_path) as rig,
    ):
        tasks.start_soon(follow, await client.ws_connect(rig.server.url + "/api/v1/events/ws"))
        while not rig.server.events.readers:
            await rig.server.events.wait_change()
        await rig.text_call()
    assert (types[0], types[-1], codes) == ("hello", "CallEnded", [1001])


async def test_a_stuck_reader_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "SEND_SECONDS", 0.05)
    async with serving(tmp_path) as rig:
        stream = await anyio.connect_tcp("127.0.0.1", rig.server.port)
        async with stream:
            await stream.send(
                f"GET /api/v1/events/ws HTTP/1.1\r\nHost: 127.0.0.1:{rig.server.port}\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
            )
            await stream.receive()
            with anyio.fail_after(20):
                while not rig.server.events.readers:
                    await rig.server.events.wait_change()
                while rig.server.events.readers:  # it reads nothing: pipes fill up, then it is dropped
                    publish(rig, *("x" * 10_000 for _ in range(50)))
                    await anyio.lowlevel.checkpoint()
        assert (await rig.get("/health"))[0] == 200
