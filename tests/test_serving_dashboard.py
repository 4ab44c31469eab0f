"""`Patter.serve()` with its dashboard, as who runs it meets it: a call comes in, is seen, steered and heard, and is kept."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import numpy as np
import pytest

from patter.audio.convert import Converter
from patter.audio.format import MULAW_8K, PCM_8K, PCM_16K, AudioFormat
from patter.loopback.media_leg import Mouth
from patter.loopback.person import Person
from patter.models import Memory
from patter.server.twilio_gate import STATUS
from tests.support.carriers import OURS, THEIRS, carrier_of, phone_at
from tests.support.tone_speech import speech, understood
from tests.support.vendor_house import ENGINES, Mind, patter_of, vendor_house
from tests.test_serving import port, serving

__all__ = ["port"]

pytestmark = pytest.mark.anyio

TOKEN = "the-token-of-this-dashboard"
SLOW_S = 25


class Caller(Person):
    """Somebody who says what the test gives them, when it does."""

    def __init__(self) -> None:
        super().__init__(mouth=self._mouth)
        self._left = bytearray()

    def say(self, *words: str) -> None:
        self._left += speech(*words, line=MULAW_8K)

    def _mouth(self, line: AudioFormat) -> Mouth:
        size = line.bytes_for(20)

        def next_20_ms() -> bytes:
            said = bytes(self._left[:size])
            del self._left[:size]
            return said

        return next_20_ms


class Ear:
    """Understands one voice."""

    def __init__(self) -> None:
        self._to_16k = Converter(PCM_8K, PCM_16K)
        self._heard = b""

    def hear(self, samples: Any) -> None:
        self._heard += self._to_16k.convert(np.ascontiguousarray(samples).tobytes())

    @property
    def words(self) -> str:
        return understood(self._heard)


class Browser:
    """What the page would do, with a token."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self.client = client
        self.events: list[dict[str, Any]] = []
        self._more = anyio.Event()

    async def get(self, path: str) -> Any:
        async with self.client.get(f"/api/v1{path}") as answer:
            assert answer.status == 200, (path, await answer.text())
            return (await answer.json())["data"]

    async def post(self, path: str, **body: Any) -> None:
        async with self.client.post(f"/api/v1{path}", json=body) as answer:
            assert answer.status == 200, (path, await answer.text())

    async def follow(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with self.client.get("/api/v1/events", timeout=aiohttp.ClientTimeout(None)) as stream:
            task_status.started()
            async for line in stream.content:
                if line.startswith(b"data: "):
                    self.events.append(json.loads(line[6:]))
                    self._more.set()

    async def seen(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The first event of this kind with these fields."""
        with anyio.fail_after(SLOW_S):
            while True:
                self._more = anyio.Event()
                for event in self.events:
                    if event.get("type") == kind and fields.items() <= event.items():
                        return event
                await self._more.wait()

    async def until(self, path: str, good: Callable[[Any], bool]) -> Any:
        """The answer, once it is good."""
        with anyio.fail_after(SLOW_S):
            while not good(found := await self.get(path)):
                await anyio.sleep(0.05)
        return found


@asynccontextmanager
async def browser_at(port: int) -> AsyncIterator[Browser]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as client:
        browser = Browser(client)
        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(SLOW_S):
                await tasks.start(browser.follow)
            yield browser
            tasks.cancel_scope.cancel()


async def hear(browser: Browser, call_id: str, caller: str, agent: str) -> None:
    """Listen until both have said their word."""
    voices = [Ear(), Ear()]
    async with browser.client.ws_connect(f"/api/v1/calls/{call_id}/listen") as socket:
        form = json.loads(await socket.receive_str())
        assert (form["rate"], form["channels"]) == (8_000, 2)
        with anyio.fail_after(SLOW_S):
            while caller not in voices[0].words or agent not in voices[1].words:
                both = np.frombuffer(await socket.receive_bytes(), np.int16).reshape(-1, 2)
                for side, voice in enumerate(voices):
                    voice.hear(both[:, side])
    assert agent not in voices[0].words
    assert caller not in voices[1].words


async def test_a_call_is_seen_steered_heard_and_kept(port: int, tmp_path: Path) -> None:
    home, database = tmp_path / "home", tmp_path / "elsewhere" / "memory.db"
    database.parent.mkdir()
    mind = Mind(lambda said, results: "charlie delta.")
    async with vendor_house(mind) as house, carrier_of("twilio") as carrier:
        memory = Memory(database=f"sqlite:///{database}", mask_digits=True)
        phone = phone_at(carrier, port, home, memory=memory, **patter_of(house))
        agent = phone.agent("Be kind.", first_message="alpha bravo.", name="front-desk", **ENGINES["pipeline"])
        async with serving(phone, agent, port, recording=True, dashboard=True, dashboard_token=TOKEN):
            await strangers_see_nothing(port)
            async with browser_at(port) as browser:
                caller = Caller()
                leg = carrier.place_call(THEIRS, OURS, caller)
                call_id = (await browser.seen("CallStarted"))["call_id"]
                await steer(browser, call_id, caller, leg, mind)
                with anyio.fail_after(SLOW_S):
                    await leg.over.wait()
                await kept(browser, call_id)
        assert carrier.violations == []
    assert database.stat().st_size > 0
    assert not list(home.rglob("calls.db"))
    assert "4711" not in "".join(file.read_text() for file in home.rglob("*.jsonl"))


async def strangers_see_nothing(port: int) -> None:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as stranger:
        for path, status in (
            ("/health", 200), ("/dashboard", 401), ("/metrics", 401), ("/api/v1/calls", 401), ("/api/v1/events", 401),
            (f"/api/v1/calls?token={TOKEN}", 401), ("/api/v1/nothing", 401),
        ):  # fmt: skip
            async with stranger.get(path) as answer:
                assert answer.status == status, path
        async with stranger.post("/api/v1/calls/CA1/hangup") as answer:
            assert answer.status == 401
        async with stranger.post(STATUS, data={"CallSid": "CA1"}) as answer:
            assert answer.status == 403  # the carrier proves itself otherwise


async def steer(browser: Browser, call_id: str, caller: Caller, leg: Any, mind: Mind) -> None:
    """A whole conversation, with an operator in it."""
    one = f"/calls/{call_id}"
    [row] = await browser.get("/calls/active")
    assert (row["call_id"], row["caller"], row["callee"], row["state"]) == (call_id, THEIRS, OURS, "live")
    await browser.seen("AgentSaid", text="alpha bravo.")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hear, browser, call_id, "echo", "charlie")
        await anyio.sleep(0.2)
        caller.say("echo")
        await browser.seen("CallerSaid", text="echo")
        await browser.seen("AgentSaid", text="charlie delta.")
    await browser.post(f"{one}/mute", muted=True)
    assert (await browser.until("/calls/active", lambda rows: rows[0]["muted"]))[0]["call_id"] == call_id
    asked = len(mind.asked)
    leg.press("4711#")
    await browser.seen("CallerSaid", text="[DTMF: 4711#]")  # masked is what is written, not what is followed
    await browser.post(f"{one}/say", text="golf hotel.")
    await browser.seen("AgentSaid", text="golf hotel.")
    assert len(mind.asked) == asked
    await browser.post(f"{one}/mute", muted=False)
    await browser.post(f"{one}/guide", text="Offer them the papa.")
    caller.say("kilo")
    await browser.seen("CallerSaid", text="kilo")
    with anyio.fail_after(SLOW_S):
        while not any("Offer them the papa." in words for _, words in mind.asked[-1]):
            await anyio.sleep(0.05)
    await browser.post(f"{one}/hangup")
    assert (await browser.seen("CallEnded"))["reason"] == "operator_ended"


async def kept(browser: Browser, call_id: str) -> None:
    """What is there of it afterwards."""
    one = f"/calls/{call_id}"
    [row] = await browser.until("/calls?q=echo&state=ended", lambda rows: bool(rows and rows[0]["recording_url"]))
    assert (row["call_id"], row["agent"], row["reason"]) == (call_id, "front-desk", "operator_ended")
    detail = await browser.get(one)
    said = [(line["role"], line["text"]) for line in detail["transcript"]]
    assert {("assistant", "alpha bravo."), ("user", "echo")} <= set(said)
    assert len([text for _, text in said if text.startswith("[DTMF: ") and "•" in text and "4711" not in text]) == 1
    assert [turn["total_ms"] > 0 for turn in detail["turns"] if turn["user_text"] == "echo"] == [True]
    async with browser.client.get(row["recording_url"], headers={"Range": "bytes=0-43"}) as part:
        assert (part.status, part.headers["Content-Type"], (await part.read())[:4]) == (206, "audio/wav", b"RIFF")
        assert int(part.headers["Content-Range"].rpartition("/")[2]) > 16_000
    async with browser.client.get(f"/api/v1{one}/journal") as file:
        kinds = [json.loads(line)["type"] for line in (await file.text()).splitlines()]
        assert {"CallStarted", "AgentMuted", "GuidanceGiven", "CallEnded"} <= set(kinds)
    async with browser.client.get("/api/v1/export/csv?number=7770001") as table:
        [line] = csv.DictReader(io.StringIO(await table.text()))
        assert (line["call_id"], float(line["cost_total"])) == (call_id, detail["cost_total"])
    overview = await browser.until("/analytics/overview", lambda made: made["calls"] == 1)
    assert (overview["active"], overview["agents"][0]["agent"]) == (0, "front-desk")
    line = detail["cost"]["telephony"]  # its recording's cost may be told, and counted, a little later
    assert line > 0
    await browser.until("/analytics/costs", lambda made: made["total"]["telephony"] == pytest.approx(line))
    done = {line["path"].rpartition("/")[2] for line in await browser.get("/audit")}
    assert {"listen", "mute", "say", "guide", "hangup", "recording", "csv"} <= done


async def test_a_line_without_a_dashboard_shows_nothing_but_its_health(port: int, tmp_path: Path) -> None:
    async with vendor_house(Mind(lambda said, results: "alpha")) as house, carrier_of("twilio") as carrier:
        phone = phone_at(carrier, port, tmp_path, **patter_of(house))
        agent = phone.agent("Be kind.", **ENGINES["pipeline"])
        async with serving(phone, agent, port), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as anybody:
            for path, status in (("/health", 200), ("/dashboard", 404), ("/api/v1/calls", 404), ("/metrics", 404)):
                async with anybody.get(path) as answer:
                    assert answer.status == status, path
