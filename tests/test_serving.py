"""`Patter.serve()` and `Patter.call()` with the real engines, over both loopback carriers."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from patter import Agent, CallControl, CallMetrics, IncomingMessage, Patter, PatterConnectionError, PatterError
from patter.audio.format import MULAW_8K
from patter.loopback.person import Person
from patter.loopback.stage import Stage
from patter.loopback.stage_http import Answer, Exchange
from patter.loopback.telnyx_carrier import LoopbackTelnyxCarrier
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from patter.providers.embedded.hibari import voice_missing
from patter.server.listener import listen
from tests.support.carriers import CARRIERS, OURS, THEIRS, carrier_of, phone_at

pytestmark = [
    pytest.mark.local,
    pytest.mark.anyio,
    pytest.mark.skipif(bool(voice_missing()), reason=voice_missing()),
    pytest.mark.parametrize("name", CARRIERS),
]


@pytest.fixture
def port() -> int:
    listener = listen()
    number: int = listener.getsockname()[1]
    listener.close()
    return number


def embedded(greeting: str = "Hello {name}, this is the front desk.", **more: Any) -> Agent:
    engines = {"provider": "pipeline", "stt": Patter.embedded_stt(), "tts": Patter.embedded_tts()}
    return Patter().agent("Be kind.", first_message=greeting, name="front-desk", **engines, **more)


@asynccontextmanager
async def serving(phone: Patter, agent: Agent, port: int, **more: Any) -> AsyncIterator[None]:
    """`serve()` in the background, from when it listens until it has been disconnected."""
    async with anyio.create_task_group() as tasks:

        async def serve() -> None:
            await phone.serve(agent, port, **{"dashboard": False, **more})

        tasks.start_soon(serve)
        with anyio.fail_after(20):
            while phone._serving is None or phone._serving.station is None:
                await anyio.sleep(0.02)
        yield
        await phone.disconnect()


def sounds(heard: bytes) -> bool:
    return bool(heard.strip(MULAW_8K.silence))


def journal(home: Path) -> dict[str, list[dict[str, Any]]]:
    """The events of every call under `home`, by call id."""
    files = sorted(home.glob("serve/*/calls/*/events.jsonl"))
    return {file.parent.name: [json.loads(line) for line in file.read_text().splitlines()] for file in files}


async def in_time(event: anyio.Event) -> None:
    with anyio.fail_after(25):
        await event.wait()


async def greeted(leg: Any) -> None:
    """Return once the person at that telephone has heard something."""
    with anyio.fail_after(25):
        while not sounds(bytes(leg.heard)):
            await anyio.sleep(0.05)


async def test_a_number_is_answered_recorded_and_journaled(name: str, port: int, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    heard = anyio.Event()

    async def start(call: dict[str, Any]) -> dict[str, Any]:
        told.append(call)
        return {"variables": {"name": "Ada"}}

    def said(line: dict[str, Any]) -> None:
        told.append(line)
        loop.call_soon_threadsafe(heard.set)

    loop = __import__("asyncio").get_running_loop()
    async with carrier_of(name) as carrier:
        phone = phone_at(carrier, port, tmp_path)
        async with serving(
            phone, embedded(), port, recording=True, on_call_start=start, on_transcript=said, on_call_end=told.append
        ):
            leg = carrier.place_call(THEIRS, OURS, Person())
            await in_time(heard)
            leg.hang_up()
            await in_time(leg.over)
        violations, kept = carrier.violations, bytes(leg.heard)

    started, spoken, ended = told
    assert (started["caller"], started["callee"], started["direction"]) == (THEIRS, OURS, "inbound")
    assert spoken["text"] == "Hello Ada, this is the front desk."
    assert (ended["reason"], ended["call_id"]) == ("caller_hung_up", started["call_id"])
    assert isinstance(ended["metrics"], CallMetrics)
    assert violations == []
    assert sounds(kept)
    [(call_id, events)] = journal(tmp_path).items()
    kinds = [event["type"] for event in events]
    assert call_id == started["call_id"]
    assert {"CallStarted", "CallEnded", "RecordingSaved", "CarrierRecordingSaved"} <= set(kinds)
    assert (tmp_path / "serve" / OURS[1:] / "calls" / call_id / "recording.wav").stat().st_size > 10_000
    listen(port).close()  # free again


async def test_every_call_has_its_own_agent_and_handler(name: str, port: int, tmp_path: Path) -> None:
    ends: dict[str, dict[str, Any]] = {}
    over = anyio.Event()
    people = [f"+155577700{number:02d}" for number in range(4)]

    async def ended(call: dict[str, Any]) -> None:
        ends[call["callee"]] = call
        if len(ends) == len(people):
            over.set()

    def handler(number: str) -> Any:
        async def answer(message: IncomingMessage, control: CallControl) -> str:
            assert isinstance(message, IncomingMessage)
            await control.hangup()
            return f"You are {number[-2:]}."

        return answer

    async with carrier_of(name) as carrier:
        phone = phone_at(carrier, port, tmp_path)
        async with serving(phone, embedded("Nobody should hear this."), port, on_call_end=ended):
            for number in people:
                carrier.people[number] = Person()
            async with anyio.create_task_group() as tasks:
                for number in people:

                    async def place(number: str = number) -> None:
                        await phone.call(
                            number, handler(number), first_message=f"This is for {number[-2:]}.", agent=embedded()
                        )

                    tasks.start_soon(place)
            for leg in list(carrier.legs.values()):
                await greeted(leg)
                leg.press(leg.to[-2:] + "#")
            await in_time(over)
        assert carrier.violations == []

    for number, call in ends.items():
        texts = [line["text"] for line in call["transcript"]]
        assert texts[-2:] == [f"[DTMF: {number[-2:]}#]", f"You are {number[-2:]}."]
        assert all(f"This is for {number[-2:]}.".startswith(text[:11]) for text in texts[:-2])
        assert (call["direction"], call["reason"]) == ("outbound", "handler_ended")


@pytest.mark.parametrize(("answers", "reason"), [("busy", "busy"), ("no_answer", "no_answer")])
async def test_a_call_that_nobody_takes_ends_with_its_reason(
    name: str, port: int, tmp_path: Path, answers: Any, reason: str
) -> None:
    async with carrier_of(name) as carrier:
        carrier.people[THEIRS] = Person(answers=answers)
        with anyio.fail_after(25):
            await phone_at(carrier, port, tmp_path).call(THEIRS, agent=embedded(), ring_timeout=5, port=port)
        assert carrier.violations == []

    [events] = journal(tmp_path).values()
    assert [event["type"] for event in events] == ["CallPlaced", "CallEnded"]
    assert events[-1]["reason"] == reason
    listen(port).close()


async def test_calls_without_serving_share_one_line(name: str, port: int, tmp_path: Path) -> None:
    """Also when the first of them, which opened it, is refused."""
    people = [f"+155577700{number:02d}" for number in range(3)]
    refused: list[PatterError] = []

    async def place_in_vain() -> None:
        try:
            await phone.call("+15557770099", agent=embedded(), port=port)
        except PatterError as error:
            refused.append(error)

    async with carrier_of(name) as carrier:
        phone = phone_at(carrier, port, tmp_path)
        carrier.refuse_next(403, "20003" if name == "twilio" else "10010", "Not allowed")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(place_in_vain)
            with anyio.fail_after(20):
                while not refused and not carrier.requests:
                    await anyio.lowlevel.checkpoint()
            for number in people:
                carrier.people[number] = Person(answers="busy" if number == people[0] else "human", stays_s=1.5)

                async def place(number: str = number) -> None:
                    await phone.call(number, agent=embedded(), port=port)

                tasks.start_soon(place)
        assert carrier.violations == []

    assert len(refused) == 1
    ends = {events[0]["callee"]: events[-1]["reason"] for events in ended_calls(tmp_path)}
    assert ends == {people[0]: "busy", people[1]: "caller_hung_up", people[2]: "caller_hung_up"}
    listen(port).close()


def ended_calls(home: Path) -> list[list[dict[str, Any]]]:
    """Each call's events up to its end."""
    return [
        [event for event in events if event["type"] in ("CallPlaced", "CallEnded")] for events in journal(home).values()
    ]


async def test_an_agent_that_cannot_be_run_is_told_before_the_number_is_touched(
    name: str, port: int, tmp_path: Path
) -> None:
    refused = Exchange(Answer(401, body={"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}))
    async with carrier_of(name) as carrier, Stage() as vendor:
        vendor.exchanges("GET", "/v1/models/{model}", refused, refused)
        phone = phone_at(carrier, port, tmp_path, openai_key="sk-wrong-key", openai_url=f"{vendor.http}/v1")
        realtime = phone.agent("Be kind.")
        for attempt in (phone.serve(realtime, port), phone.call(THEIRS, agent=realtime, port=port)):
            with pytest.raises(PatterError, match="refuses the key") as told:
                await attempt
            assert "sk-wrong-key" not in str(told.value)
        assert carrier.requests == []


async def test_a_machine_hears_the_whole_message_after_its_beep(name: str, port: int, tmp_path: Path) -> None:
    verdicts: list[dict[str, Any]] = []

    async def machine(verdict: dict[str, Any]) -> None:
        verdicts.append(verdict)

    async with carrier_of(name) as carrier:
        carrier.people[THEIRS] = Person(answers="machine", greeting=b"\x00\x10\x00\xf0" * 8_000)
        with anyio.fail_after(40):
            await phone_at(carrier, port, tmp_path).call(
                THEIRS,
                agent=embedded("Hello?"),
                on_machine=machine,
                voicemail_message="Please call us back.",
                port=port,
            )
        [leg] = carrier.legs.values()
        assert carrier.violations == []
        assert sounds(bytes(leg.heard))

    [events] = journal(tmp_path).values()
    assert events[-1]["reason"] == "voicemail_left"
    assert [event["text"] for event in events if event["type"] == "AgentSaid"][-1] == "Please call us back."
    assert {verdict["answered_by"] for verdict in verdicts} == {"machine"}


async def test_a_refusal_says_what_to_do_and_holds_no_secret(name: str, port: int, tmp_path: Path) -> None:
    async with carrier_of(name) as carrier:
        carrier.people[THEIRS] = Person()
        carrier.refuse_next(401, "20003" if name == "twilio" else "10009", "Authenticate")
        with pytest.raises(PatterError) as refused:
            await phone_at(carrier, port, tmp_path).call(THEIRS, agent=embedded(), port=port)
        secret = carrier.auth_token if name == "twilio" else carrier.api_key

    assert secret not in str(refused.value) + repr(refused.value)
    assert "—" in str(refused.value)  # problem — fix
    listen(port).close()


async def test_a_number_that_led_elsewhere_is_taken_and_given_back(
    name: str, port: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with carrier_of(name) as carrier:
        elsewhere = "https://elsewhere.example/voice?token=hidden"
        carrier.add_number(OURS, elsewhere)
        async with serving(phone_at(carrier, port, tmp_path), embedded(), port, restore_number=True):
            assert f"127.0.0.1:{port}" in webhook_of(carrier)
        assert webhook_of(carrier) == elsewhere

    assert "elsewhere.example" in caplog.text
    assert "hidden" not in caplog.text


def webhook_of(carrier: LoopbackTwilioCarrier | LoopbackTelnyxCarrier) -> str:
    """Where calls to our number are told."""
    if isinstance(carrier, LoopbackTwilioCarrier):
        return carrier.numbers[OURS].voice_url
    return carrier.webhook_url


async def test_a_signal_ends_serving_after_the_calls(name: str, port: int, tmp_path: Path) -> None:
    ended: list[dict[str, Any]] = []
    async with carrier_of(name) as carrier:
        phone = phone_at(carrier, port, tmp_path)
        async with serving(phone, embedded(), port, on_call_end=ended.append):
            leg = carrier.place_call(THEIRS, OURS, Person())
            await greeted(leg)
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep(0.5)
            assert not leg.over.is_set()  # whoever is on the phone may finish
            leg.hang_up()
            await in_time(leg.over)
            with pytest.raises(PatterConnectionError, match="closed"):
                await phone.call(THEIRS, agent=embedded())
        with pytest.raises(PatterConnectionError):
            await phone.call(THEIRS, agent=embedded(), port=listening(port))

    assert [call["reason"] for call in ended] == ["caller_hung_up"]


def listening(port: int) -> int:
    """The port, taken."""
    listener = listen(port)
    listener.listen()
    TAKEN.append(listener)
    return port


TAKEN: list[Any] = []


@pytest.fixture(autouse=True)
def give_back() -> Any:
    yield
    while TAKEN:
        TAKEN.pop().close()


async def test_one_patter_serves_once(name: str, port: int, tmp_path: Path) -> None:
    async with carrier_of(name) as carrier:
        phone = phone_at(carrier, port, tmp_path)
        async with serving(phone, embedded(), port):
            with pytest.raises(PatterError, match="open already"):
                await phone.serve(embedded(), port)


async def test_a_line_that_is_cancelled_in_the_middle_of_a_call_leaves_in_order(
    name: str, port: int, tmp_path: Path
) -> None:
    async with carrier_of(name) as carrier:
        phone = phone_at(carrier, port, tmp_path)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(phone.serve, embedded(), port, dashboard=False))
            with anyio.fail_after(20):
                while phone._serving is None or phone._serving.station is None:
                    await anyio.sleep(0.02)
            leg = carrier.place_call(THEIRS, OURS, Person())
            await greeted(leg)
            tasks.cancel_scope.cancel()
        await in_time(leg.over)
    [events] = journal(tmp_path).values()
    assert [event["reason"] for event in events if event["type"] == "CallEnded"] == ["engine_stopped"]
    [database] = tmp_path.rglob("calls.db")
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT call_id, state FROM calls").fetchall() == [(events[0]["call_id"], "ended")]
