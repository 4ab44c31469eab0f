"""An event loop whose time is virtual: when nobody has anything to do, it jumps to the next timer.

It owns that jump; it refuses to know what is being timed. Real sockets are not waited for, worker threads are.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
from anyio.to_thread import current_default_thread_limiter

from patter.clock import Clock

Result = TypeVar("Result")

START_OF_WALL = 1_700_000_000.0  # where every virtual clock begins: any fixed date will do
PATIENCE_S = 5.0  # real seconds a thread may take before the loop calls it a deadlock


class Deadlock(RuntimeError):
    """Every task waits for another one, and no timer is set: real time would not help either."""


class _Selector(selectors.DefaultSelector):
    """Never sleeps towards a timer: it moves the loop's time instead."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.loop.threads_at_work() or timeout is None:
            ready = super().select(PATIENCE_S)
            if not ready:
                raise Deadlock("every task waits and no timer is set (or a thread has worked for too long)")
            return ready
        self.loop.jump(timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 0 and moves only by jumps; use it as an asyncio loop factory."""

    def __init__(self) -> None:
        self._now = 0.0
        self._jobs = 0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self._now += seconds

    def threads_at_work(self) -> bool:
        """Whether a worker thread of anyio or of the executor is busy: time stands still until it is done."""
        return self._jobs > 0 or current_default_thread_limiter().borrowed_tokens > 0

    def run_in_executor(  # type: ignore[override]  # the stubs spell the variadic arguments with a TypeVarTuple
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """As usual, but time stands still meanwhile."""
        self._jobs += 1
        future: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _: asyncio.Future[Any]) -> None:
        self._jobs -= 1


VIRTUAL_BACKEND = ("asyncio", {"loop_factory": VirtualTimeLoop})
"""What an `anyio_backend` fixture returns to run a module's async tests in virtual time."""


def virtual_clock() -> Clock:
    """A clock on the running loop's virtual time, beginning at the same date in every test."""
    return Clock(ticks=asyncio.get_running_loop().time, wall=lambda: START_OF_WALL)


def run_virtual(function: Callable[..., Awaitable[Result]], *args: object) -> Result:
    """Run an async function to its end in virtual time; raises `Deadlock` if it can never end."""
    return anyio.run(function, *args, backend="asyncio", backend_options={"loop_factory": VirtualTimeLoop})
