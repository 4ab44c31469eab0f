from __future__ import annotations

import asyncio
import threading
import time

import anyio
import pytest

from tests.support.virtual_time import START_OF_WALL, VIRTUAL_BACKEND, Deadlock, run_virtual, virtual_clock


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


@pytest.mark.anyio
async def test_an_hour_passes_at_once_and_the_clock_shows_it() -> None:
    clock = virtual_clock()
    began = time.perf_counter()

    await anyio.sleep(3600)

    assert clock.now() == pytest.approx(START_OF_WALL + 3600)
    assert time.perf_counter() - began < 30


@pytest.mark.anyio
async def test_timers_fire_in_order_and_each_at_its_own_moment() -> None:
    clock = virtual_clock()
    fired: list[tuple[str, int]] = []

    def note(name: str) -> None:
        fired.append((name, round((clock.now() - START_OF_WALL) * 1000)))

    clock.call_later(0.3, lambda: note("late"))
    clock.call_later(0.1, lambda: note("early"))

    await clock.sleep_until(START_OF_WALL + 0.2)
    assert fired == [("early", 100)]

    await anyio.sleep(1)
    assert fired == [("early", 100), ("late", 300)]


@pytest.mark.anyio
async def test_a_deadline_cancels_what_is_too_slow() -> None:
    with anyio.move_on_after(0.5) as scope:
        await anyio.sleep(10)

    assert scope.cancelled_caught
    assert asyncio.get_running_loop().time() == pytest.approx(0.5)


@pytest.mark.anyio
async def test_two_tasks_share_one_time() -> None:
    order: list[str] = []

    async def walk(name: str, step: float) -> None:
        for index in range(3):
            await anyio.sleep(step)
            order.append(f"{name}{index}")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(walk, "a", 0.020)
        tasks.start_soon(walk, "b", 0.030)

    assert order == ["a0", "b0", "a1", "b1", "a2", "b2"] or order == ["a0", "b0", "a1", "a2", "b1", "b2"]
    assert asyncio.get_running_loop().time() == pytest.approx(0.090)


@pytest.mark.anyio
@pytest.mark.parametrize("by", ["anyio", "executor"])
async def test_time_stands_still_while_a_thread_works(by: str) -> None:
    gate = threading.Event()
    loop = asyncio.get_running_loop()
    loop.call_later(60, lambda: None)
    opener = threading.Timer(0.05, gate.set)
    opener.start()

    if by == "anyio":
        await anyio.to_thread.run_sync(gate.wait, 5)
    else:
        await loop.run_in_executor(None, gate.wait, 5)

    opener.join()
    assert gate.is_set()
    assert loop.time() == 0


def test_waiting_for_nothing_is_an_error_instead_of_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.virtual_time.PATIENCE_S", 0.05)

    async def wait_for_ever() -> None:
        await anyio.Event().wait()

    with pytest.raises(Deadlock):
        run_virtual(wait_for_ever)


def test_the_result_comes_back() -> None:
    async def add(left: int, right: int) -> int:
        await anyio.sleep(5)
        return left + right

    assert run_virtual(add, 2, 3) == 5
