"""The multi-context sockets of one ElevenLabs voice: as many as are needed, each with some sentences on it at a time.

It owns which socket a sentence takes, who reads it, and how long it is kept; it refuses to know what a sentence says.

Calls share the sockets. The vendor closes a socket with more than five contexts on it, and counts one until it has marked
its end; four are used, so that a mark that is under way does no harm. More sentences at a time open another socket.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import TimerHandle
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing

import anyio
from anyio.abc import TaskGroup

from patter.clock import Clock
from patter.exceptions import ProviderError, WireError
from patter.providers.dialer import Dialer, Target, VendorSocket
from patter.providers.elevenlabs.account import ELEVENLABS
from patter.wire.elevenlabs_tts import CLOSE_SOCKET, CONTEXTS_LIMIT, INACTIVITY_S, KEEP_ALIVE, Fault, Said, read

log = logging.getLogger(__name__)

CONTEXTS = CONTEXTS_LIMIT - 1
TEND_S = 10.0
KEEP_ALIVE_S = INACTIVITY_S / 3  # one that is lost, or late, does no harm
KEPT_S = 600.0  # the last socket of a voice that nobody uses: the next call of the day finds it
SURPLUS_S = 30.0  # the others: a busy moment is over
UNMARKED_S = 30.0  # an interrupted sentence whose end was never marked has ended all the same
UNREAD_S = 20.0  # a socket whose pings nobody answers is closed by the vendor at about twice this


class Inbox:
    """What has come for one sentence and has not been taken."""

    def __init__(self, context: str) -> None:
        self.context = context
        self.items: deque[Said] = deque()
        self.left = False
        """Nobody wants the rest; its end is only waited for."""
        self.left_at = 0.0
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Sleep until `wake`."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    @property
    def waiting(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def wake(self) -> None:
        """Let the sentence look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Line:
    """One socket. It is read by a task of its own, or, where nobody gives one, by the sentences on it in turn."""

    def __init__(self, socket: VendorSocket, clock: Clock, told: Callable[[Fault], ProviderError]) -> None:
        self.socket = socket
        self.error: ProviderError | None = None
        """Why nothing more can be said on it."""
        self.attended = False
        self._clock, self._told = clock, told
        self._inboxes: dict[str, Inbox] = {}
        self._reading = False
        self.used_at = self._alive_at = self._heard_at = clock.now()

    @property
    def has_room(self) -> bool:
        return self.error is None and len(self._inboxes) < CONTEXTS

    @property
    def busy(self) -> bool:
        return bool(self._inboxes)

    def attend(self, tasks: TaskGroup) -> None:
        """Let a task read it from now on."""
        self.attended = self._reading = True
        tasks.start_soon(self._read, None)

    def say(self, context: str, messages: Sequence[str]) -> Inbox:
        """Send a sentence. Raises ProviderError if the socket is gone."""
        if not all(self.socket.send(message) for message in messages):
            self.end(ELEVENLABS.broken("tts", ConnectionResetError()))
            raise self.error or AssertionError("an ended line has its error")
        inbox = self._inboxes[context] = Inbox(context)
        self.used_at = self._alive_at = self._clock.now()
        return inbox

    async def next(self, inbox: Inbox) -> Said:
        """What comes next for a sentence. Raises ProviderError."""
        while not inbox.items:
            if self.error is not None:
                raise self.error
            await (inbox.wait() if self._reading else self._read(inbox))
        return inbox.items.popleft()

    def leave(self, inbox: Inbox) -> None:
        """Nobody wants the rest of a sentence. Its context stays counted until the vendor has marked its end."""
        inbox.left = True
        inbox.items.clear()
        inbox.left_at = self.used_at = self._clock.now()

    def silent_for(self) -> float:
        """Seconds since anything came."""
        return self._clock.now() - self._heard_at

    def tend(self) -> None:
        """Start the vendor's time of inactivity anew, if it is time for that, and forget what never ended."""
        now = self._clock.now()
        for inbox in list(self._inboxes.values()):
            if inbox.left and now - inbox.left_at >= UNMARKED_S:
                del self._inboxes[inbox.context]
        if now - self._alive_at >= KEEP_ALIVE_S and self.socket.send(KEEP_ALIVE):
            self._alive_at = now

    def end(self, error: ProviderError) -> None:
        """Nothing more can be said on it; the sentences on it are told why."""
        if self.error is None:
            self.error = error
            self.socket.leave()
        for inbox in self._inboxes.values():
            inbox.wake()

    async def aclose(self) -> None:
        """Say goodbye, and close it."""
        self.socket.send(CLOSE_SOCKET)
        await self.socket.aclose()
        self.end(ELEVENLABS.broken("tts", ConnectionResetError()))

    async def _read(self, own: Inbox | None) -> None:
        """Read on: for ever, or until something has come for the inbox of the sentence that reads."""
        self._reading = True
        try:
            async with aclosing(self.socket.messages()) as messages:  # type: ignore[type-var]
                async for text in messages:
                    wanted = self._take(text)
                    if self.error is not None or (own is not None and own.items):
                        return
                    if wanted:
                        await asyncio.sleep(0)  # a first sound does not wait until all that came with it has been read
            self.end(ELEVENLABS.broken("tts", ConnectionResetError()))
        except ProviderError as error:
            self.end(error)
        except WireError as error:
            self.end(ELEVENLABS.garbled("tts", str(error)))
        except Exception as error:  # the border: this may be a task of its own, which must not take others with it
            log.exception("reading a vendor's socket failed")
            self.end(ELEVENLABS.broken("tts", error))
        finally:
            self._reading = False
            for inbox in self._inboxes.values():
                if inbox.waiting:  # it reads on
                    inbox.wake()
                    break

    def _take(self, text: str | bytes) -> bool:
        """Put a message where it belongs; returns whether its sentence was waiting for it."""
        self._heard_at = self._clock.now()
        message = read(text)
        if isinstance(message, Fault):
            log.warning("the vendor's socket reports a fault", extra={"code": message.code})
            self.end(self._told(message))
            return False
        inbox = self._inboxes.get(message.context) if message is not None else None
        if inbox is None or message is None:
            return False
        if message.final:
            del self._inboxes[message.context]
        waited = inbox.waiting and not inbox.left
        if not inbox.left:
            inbox.items.append(message)
            inbox.wake()
        return waited


class Lines:
    """All sockets of one voice. `tasks`, if there is one, keeps them read while nobody speaks."""

    def __init__(
        self,
        dialer: Dialer,
        clock: Clock,
        told: Callable[[Fault], ProviderError],
        tasks: TaskGroup | None = None,
    ) -> None:
        self._dialer, self._clock, self._told, self._tasks = dialer, clock, told, tasks
        self._lines: list[Line] = []
        self._opening = anyio.Lock()
        self._refusals = 0
        self._refusal: ProviderError | None = None
        self._timer: TimerHandle | None = None

    async def line(self, target: Target) -> tuple[Line, bool]:
        """A socket with room for a sentence, and whether it stood already. Raises ProviderError."""
        if (found := self._with_room()) is not None:
            return found, True
        refusals = self._refusals
        async with self._opening:  # who waits here finds room on what is opened meanwhile, or shares its failure
            if (found := self._with_room()) is not None:
                return found, True
            if self._refusal is not None and self._refusals != refusals:
                raise self._refusal
            try:
                socket = await self._dialer.open(target)
            except ProviderError as error:
                self._refusals, self._refusal = self._refusals + 1, error
                raise
            line = Line(socket, self._clock, self._told)
            if self._tasks is not None:
                line.attend(self._tasks)
            self._lines.append(line)
            if self._timer is None:
                self._timer = self._clock.call_later(TEND_S, self._tend)
            return line, socket.reused

    async def aclose(self) -> None:
        """Close them all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        for line in lines:
            await line.aclose()

    def _with_room(self) -> Line | None:
        self._forget_ended()
        return next((line for line in self._lines if line.has_room), None)

    def _forget_ended(self) -> None:
        for line in self._lines:
            if line.socket.stale:
                line.end(ELEVENLABS.broken("tts", ConnectionResetError()))
        self._lines = [line for line in self._lines if line.error is None]

    def _tend(self) -> None:
        """Keep what will be used alive, and drop what has been idle for long."""
        now = self._clock.now()
        self._forget_ended()
        for line in list(self._lines):
            kept = KEPT_S if line is self._lines[0] else SURPLUS_S
            if not line.busy and now - line.used_at >= (kept if line.attended else UNREAD_S):
                self._lines.remove(line)
                line.socket.send(CLOSE_SOCKET)
                line.end(ELEVENLABS.broken("tts", ConnectionResetError()))
            else:
                line.tend()
        self._timer = self._clock.call_later(TEND_S, self._tend) if self._lines else None
