"""One caller's stream as a played Deepgram has it: what comes in is judged at once, what is said goes out in order.

It owns the order, the thinking time and the end of a stream that falls silent; it refuses to know either protocol's messages.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import uuid4

import anyio

from patter.loopback.deepgram_manner import Manner, Transcribe
from patter.loopback.deepgram_tape import Tape
from patter.loopback.stage_peer import ClientLeft, Peer
from patter.mailbox import Mailbox

MARGIN_S = 0.1  # of sound around voice that goes to whoever turns it into words
Job = Callable[[], Awaitable[None]]


class Side:
    """The vendor's side of one socket. A protocol overrides `window` and `control`, and `opening` if it speaks first."""

    KEEPS_QUIET = True
    """Whether the vendor bears a stream that says nothing."""

    def __init__(self, peer: Peer, manner: Manner, transcribe: Transcribe, problem: Callable[[str], None]) -> None:
        self.request_id = str(uuid4())
        self.peer, self.manner = peer, manner
        self.tape = Tape(
            str(peer.query.get("encoding", "")), int(peer.query.get("sample_rate", 8000)), manner.loud_dbfs
        )
        self._transcribe = transcribe
        self._problem = problem
        self._jobs: Mailbox[tuple[float, Job]] = Mailbox()
        self._waiting = 0
        self._opened_at = self._last_at = time.monotonic()
        self._audio_came = False

    async def run(self) -> None:
        """Until the client or the vendor ends it."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._work)
                if not self.KEEPS_QUIET:
                    tasks.start_soon(self._bear_silence)
                await self._converse()
                tasks.cancel_scope.cancel()
        except* ClientLeft:
            pass

    async def _converse(self) -> None:
        await self.opening()
        async for message in self.peer:
            self._last_at = time.monotonic()
            if isinstance(message, bytes):
                self._listen(message)
            elif not await self.control(message if isinstance(message, Mapping) else {}, str(message)):
                return

    def _listen(self, data: bytes) -> None:
        if not data:
            self._problem("an empty binary frame came: the vendor may take it for the end of the stream")
        self._audio_came = True
        for end, loud in self.tape.feed(data):
            self.window(end, loud)

    async def opening(self) -> None:
        """Say what is said before anything is heard."""

    def window(self, end: float, loud: bool) -> None:
        """20 ms more, which end at second `end`."""
        raise NotImplementedError

    async def control(self, message: Mapping[str, Any], text: str) -> bool:
        """A text message; False ends the stream."""
        raise NotImplementedError

    async def send(self, message: Mapping[str, Any]) -> None:
        """Say it now."""
        await self.peer.send(message)

    @property
    def busy(self) -> bool:
        """There is something to say already."""
        return self._waiting > 0

    def later(self, job: Job) -> None:
        """Do it after what waits already, when the vendor has thought about it."""
        self._waiting += 1
        self._jobs.put((time.monotonic() + self.manner.answer_s, job))

    async def said(self) -> None:
        """Return when all that waits has been said."""
        done = anyio.Event()

        async def last() -> None:
            done.set()

        self.later(last)
        await done.wait()

    async def words(self, first: float, last: float, since: float, until: float) -> str:
        """What is said between two seconds, with a margin that does not reach beyond `since` and `until`."""
        heard = self._transcribe(self.tape.cut(max(since, first - MARGIN_S), min(until, last + MARGIN_S)))
        return " ".join((await heard if inspect.isawaitable(heard) else heard).split())

    def misunderstood(self, text: str) -> None:
        """The client said something that is none of the protocol's messages."""
        self._problem(f"no message of this protocol: {text[:100]}")

    async def _work(self) -> None:
        async for due, job in self._jobs:
            await anyio.sleep(max(0.0, due - time.monotonic()))
            await job()
            self._waiting -= 1

    async def _bear_silence(self) -> None:
        """A stream is kept by audio or messages; one that never had audio is not kept by messages."""
        while True:
            since = self._last_at if self._audio_came else self._opened_at
            left = since + self.manner.idle_s - time.monotonic()
            if left <= 0:
                break
            await anyio.sleep(left)
        await self.peer.close(1011, "NET-0001: no audio or text message was received within the timeout window")
