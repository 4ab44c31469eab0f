"""The order of work in the recognition thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from patter.providers.embedded.decode_queue import DecodeQueue, DecodeRequest

WAIT_S = 10


class Work:
    """Records what ran; the first request blocks the thread until `go`."""

    def __init__(self, queue: DecodeQueue) -> None:
        self.queue, self.ran = queue, list[str]()
        self.go, self.done = threading.Event(), threading.Event()
        self._busy = threading.Event()
        queue.put(DecodeRequest("somebody", self._block, final=True))
        assert self._busy.wait(WAIT_S)

    def _block(self) -> None:
        self._busy.set()
        self.go.wait(WAIT_S)

    def ask(self, owner: str, name: str, *, final: bool = True) -> None:
        self.queue.put(DecodeRequest(owner, lambda: self.ran.append(name), final))

    def finish(self) -> list[str]:
        self.queue.put(DecodeRequest("the last", self.done.set, final=False))
        self.go.set()
        assert self.done.wait(WAIT_S)
        return self.ran


@pytest.fixture
def queue() -> Iterator[DecodeQueue]:
    made = DecodeQueue("under test")
    yield made
    made.close()


def test_finals_come_before_partials_and_otherwise_the_first_asked(queue: DecodeQueue) -> None:
    work = Work(queue)
    work.ask("a", "partial of a", final=False)
    work.ask("b", "final of b")
    work.ask("c", "final of c")
    assert work.finish() == ["final of b", "final of c", "partial of a"]


def test_the_newest_request_of_a_call_replaces_the_older(queue: DecodeQueue) -> None:
    work = Work(queue)
    work.ask("a", "old")
    work.ask("b", "other")
    work.ask("a", "new")
    assert work.finish() == ["other", "new"]


def test_a_withdrawn_request_is_not_run(queue: DecodeQueue) -> None:
    work = Work(queue)
    work.ask("a", "moot")
    queue.withdraw("a")
    assert work.finish() == []


def test_it_is_idle_only_when_nothing_waits_or_runs(queue: DecodeQueue) -> None:
    assert queue.idle
    work = Work(queue)
    assert not queue.idle
    work.finish()


def test_closing_forgets_what_waits_and_ends_the_thread(queue: DecodeQueue) -> None:
    work = Work(queue)
    work.ask("a", "never")
    work.go.set()
    queue.close()
    assert "under test" not in {thread.name for thread in threading.enumerate()}
    work.ask("a", "too late")
    assert "too late" not in work.ran
