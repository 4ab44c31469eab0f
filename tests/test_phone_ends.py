"""How a phone line ends while calls are up or ring, over both loopback carriers: nobody is cut off without a word."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from patter import Patter
from patter.audio.format import MULAW_8K
from patter.events import AgentSaid, CallEnded, CallStarted, TransferFailed
from patter.exceptions import PatterConnectionError, PatterError
from patter.loopback.person import Person
from patter.providers.embedded.hibari import voice_missing
from patter.server.listener import listen
from patter.server.orders import Order
from tests.support.carriers import CARRIERS, OURS, THEIRS, carrier_of, phone_at
from tests.support.open_door import House, open_door, open_files, tasks

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("name", CARRIERS)]

FDS = Path("/proc/self/fd")
COLLEAGUE = "+15557770177"
GOODBYE = "The line closes. Goodbye."


@pytest.fixture(autouse=True)
def short_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patter.server.front_door.GOODBYE", GOODBYE)


def sounds(leg: Any) -> int:
    """How many samples that are no silence somebody has heard."""
    return len(bytes(leg.heard).replace(MULAW_8K.silence, b""))


async def in_call(house: House, person: Person | None = None) -> Any:
    """A call that came in and has been greeted."""
    leg = house.carrier.place_call(THEIRS, OURS, person or Person())
    await house.event(CallStarted, call_id=leg.call_id)
    await house.event(AgentSaid, call_id=leg.call_id)
    return leg


async def test_a_call_may_finish_before_the_line_closes(name: str) -> None:
    async with open_door(name) as house:
        leg = await in_call(house, Person(stays_s=1.5))
        with anyio.fail_after(20):
            await house.door.close(30.0)
        assert leg.over.is_set()
        assert house.story(leg.call_id)[-1] == "caller_hung_up"
        with pytest.raises(PatterConnectionError):
            await house.dial()


async def test_a_call_that_does_not_finish_hears_a_whole_goodbye(name: str) -> None:
    async with open_door(name) as house:
        leg = await in_call(house)
        greeting = sounds(leg)
        with anyio.fail_after(20):
            await house.door.close(0.1)
            await leg.over.wait()
        said = [event.text for event in house.events if isinstance(event, AgentSaid)]
        assert (said[-1], house.story(leg.call_id)[-1]) == (GOODBYE, "engine_stopped")
        assert sounds(leg) - greeting > 0.9 * 35 * 8 * len(GOODBYE)


async def test_a_transfer_that_nobody_takes_is_told_and_the_call_goes_on(name: str) -> None:
    async with open_door(name) as house:
        leg = await in_call(house)
        house.carrier.people[COLLEAGUE] = Person("busy")
        session = house.desk.find(leg.call_id).session  # type: ignore[union-attr]
        with anyio.fail_after(30):
            with pytest.raises(PatterError, match="busy"):
                await session.transfer(COLLEAGUE)
            failed = await house.event(TransferFailed, call_id=leg.call_id)
            leg.heard.clear()
            await session.say("Nobody there, I am sorry.")
            await house.event(AgentSaid, call_id=leg.call_id, text="Nobody there, I am sorry.")
            leg.hang_up()
            await leg.over.wait()
            await house.event(CallEnded, call_id=leg.call_id)
        assert (failed.number, "busy" in failed.problem) == (COLLEAGUE, True)
        assert sounds(leg) > 0.9 * 35 * 8 * len("Nobody there, I am sorry.")
        assert house.story(leg.call_id)[-1] == "caller_hung_up"
        assert house.story(leg.call_id).count("CallStarted") == 1


async def test_a_second_wish_to_close_comes_to_the_goodbye_at_once(name: str) -> None:
    async with open_door(name) as house:
        leg = await in_call(house)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as closing:
                closing.start_soon(house.door.close, 600.0)
                await anyio.sleep(0.1)
                house.door.stop_waiting()
        assert house.story(leg.call_id)[-1] == "engine_stopped"
        assert [event.text for event in house.events if isinstance(event, AgentSaid)][-1] == GOODBYE


async def test_what_still_rings_is_given_up(name: str) -> None:
    async with open_door(name) as house:
        house.carrier.people[THEIRS] = Person(rings_s=30.0)
        leg = await house.dial()
        with anyio.fail_after(20):
            await house.door.close(30.0)
            await leg.over.wait()
        assert not leg.answered.is_set()
        assert house.story(leg.call_id) == ["CallPlaced", "canceled"]


async def test_a_call_that_is_placed_while_the_line_closes_is_given_up(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_door(name) as house:
        house.carrier.people[THEIRS] = Person(rings_s=30.0)
        closed = anyio.Event()
        dial = house.routes.dial

        async def dial_and_wait(order: Order) -> str:
            call_id: str = await dial(order)
            await closed.wait()  # the carrier's answer takes its time
            return call_id

        async def close() -> None:
            await house.until(lambda: house.carrier.legs)
            await house.door.close(30.0)
            closed.set()

        monkeypatch.setattr(house.routes, "dial", dial_and_wait)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as closing:
                closing.start_soon(close)
                with pytest.raises(PatterConnectionError, match="given up"):
                    await house.dial()
            [leg] = house.carrier.legs.values()
            await leg.over.wait()
        assert house.story(leg.call_id) == ["CallPlaced", "canceled"]


async def test_a_desk_that_is_left_in_a_hurry_lets_nothing_ring(name: str) -> None:
    with anyio.fail_after(20):
        async with open_door(name, clean=False) as house:  # nobody takes the carrier's last callbacks any more
            house.carrier.people[THEIRS] = Person(rings_s=30.0)
            leg = await house.dial()
            up = await in_call(house)
    assert not leg.answered.is_set()
    assert house.story(leg.call_id) == ["CallPlaced", "engine_stopped"]
    assert house.story(up.call_id)[-1] == "engine_stopped"
    given_up = (f"/Calls/{leg.call_id}.json", f"/{leg.handle}/actions/hangup")
    assert any(asked.path.endswith(given_up) for asked in house.carrier.requests if asked.method == "POST")


@pytest.mark.skipif(not FDS.is_dir(), reason="counts what a process of Linux has open")
async def test_a_closed_line_leaves_nothing_behind(name: str) -> None:
    async with open_door(name) as house:  # what is loaded once is loaded now
        await in_call(house)
        await house.door.close(0.0)
    before = tasks(), open_files()
    async with open_door(name) as house:
        port = house.door.port
        house.carrier.people[THEIRS] = Person(rings_s=30.0)
        await house.dial()
        legs = [await in_call(house) for _ in range(3)]
        await house.door.close(0.0)
        assert house.desk.count == 0
        for leg in legs:
            await leg.over.wait()
    assert (tasks(), open_files()) == before
    listen(port).close()  # it is free again


@pytest.mark.local
@pytest.mark.skipif(bool(voice_missing()), reason=voice_missing())
async def test_a_second_signal_ends_a_serving_patter_at_once(name: str, tmp_path: Path) -> None:
    ended: list[dict[str, Any]] = []
    listener = listen()
    port = listener.getsockname()[1]
    listener.close()
    async with carrier_of(name) as carrier:
        phone = phone_at(carrier, port, tmp_path)
        agent = phone.agent(
            "Be kind.",
            first_message="Hello.",
            provider="pipeline",
            stt=Patter.embedded_stt(),
            tts=Patter.embedded_tts(),
        )
        with anyio.fail_after(40):
            async with anyio.create_task_group() as serving:
                serving.start_soon(partial(phone.serve, agent, port, dashboard=False, on_call_end=ended.append))
                while not carrier.numbers[OURS].voice_url if name == "twilio" else not carrier.webhook_url:  # type: ignore[union-attr]
                    await anyio.sleep(0.05)
                leg = carrier.place_call(THEIRS, OURS, Person())
                while not sounds(leg):
                    await anyio.sleep(0.05)
                os.kill(os.getpid(), signal.SIGTERM)
                await anyio.sleep(0.1)
                assert not leg.over.is_set()  # it may finish
                os.kill(os.getpid(), signal.SIGTERM)
                await leg.over.wait()
    assert [call["reason"] for call in ended] == ["engine_stopped"]
    listen(port).close()
