"""One thread in which all calls' recognition runs, the urgent first.

It owns the order of work: finals before partials, first come first served, and only the newest request of each call.
It refuses to know sound or models: a request is a function.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class DecodeRequest:
    """`work` runs in the thread unless the request is withdrawn or replaced before it starts; it must not raise."""

    owner: object
    work: Callable[[], None]
    final: bool


class DecodeQueue:
    """Runs requests one at a time in a daemon thread of its own, started by the first one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._condition = threading.Condition()
        self._waiting: list[DecodeRequest] = []
        self._running: DecodeRequest | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._waiting and self._running is None

    @property
    def final_waits(self) -> bool:
        """Whether somebody waits for a final."""
        return any(request.final for request in self._waiting)

    def put(self, request: DecodeRequest) -> None:
        """Queue it instead of whatever the same owner has waiting."""
        with self._condition:
            if self._closed:
                return
            self._drop(request.owner)
            self._waiting.append(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._condition.notify()

    def withdraw(self, owner: object) -> None:
        """Forget what `owner` has waiting; what is running goes on."""
        with self._condition:
            self._drop(owner)

    def close(self, timeout_s: float = 5.0) -> None:
        """Forget everything that waits and wait for the running request."""
        with self._condition:
            self._closed = True
            self._waiting.clear()
            self._condition.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _drop(self, owner: object) -> None:
        self._waiting = [request for request in self._waiting if request.owner is not owner]

    def _next(self) -> DecodeRequest | None:
        with self._condition:
            self._running = None
            self._condition.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            chosen = next((request for request in self._waiting if request.final), self._waiting[0])
            self._waiting.remove(chosen)
            self._running = chosen
            return chosen

    def _run(self) -> None:
        while (request := self._next()) is not None:
            request.work()
