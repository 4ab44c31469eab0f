"""One caller's audio on its way to the vendor, over one socket after another: sent, kept until its words are certain, replayed.

It owns the sockets of a call, their faults and what was billed; it refuses to know what the messages on them mean.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from patter.audio.format import PCM_16K, AudioChunk, AudioFormat
from patter.clock import Clock
from patter.exceptions import ProviderError, WireError
from patter.mailbox import Mailbox
from patter.providers.deepgram.account import DEEPGRAM, explained
from patter.providers.deepgram.timeline import Timeline
from patter.providers.dialer import Dialer, Target, VendorSocket
from patter.signals import ConnectionUsed, Faulted, ListenerSignal, Used
from patter.wire.deepgram import CLOSE_STREAM

KEPT_S = 15.0  # audio for which no words are certain yet; replaying more would keep the vendor behind for too long
TRY_S = 2.0  # a connection takes a fraction of a second, or is not going to be made in time
PAUSES_S = (0.0, 0.1, 0.2)  # before the first, second and later tries: all of them within 500 ms
TRIES, TRIES_WITHIN_S = 4, 20.0  # more breaks than this in so short a time are no accident
GIVE_UP_S = 4.0  # a caller who is not heard for so long needs another recogniser
LONGEST_WAIT_S = 3.0  # a vendor that asks to wait for longer is out
TICK_S = 0.25
BILLED_EVERY_S = 5.0
SILENCES = 2  # sockets in a row that stand and say nothing: the next one would not either
GARBAGE = 3  # messages on one socket that cannot be read: whoever is there does not speak this protocol
REPLAY_MS = 250  # the size of the pieces that are replayed, as the vendor likes them
GOODBYE_S = 1.0


class Client(Protocol):
    """Who understands the messages."""

    name: str
    model: str
    price_model: str
    """The model as the price list calls it."""

    def read(self, message: str) -> None:
        """A message of the vendor. Raises WireError, or ProviderError if the socket is of no more use."""

    def connected(self) -> None:
        """A new socket stands; what is certain so far will not be heard again."""

    def idle(self, quiet_s: float, now: float) -> None:
        """Asked a few times a second: nothing has been sent for `quiet_s` seconds."""

    @property
    def patience_s(self) -> float:
        """How long the vendor may say nothing while it gets audio."""


class AudioStream:
    """Made for one call. `signals` are those of the client and its own; the ProviderError that ends them is raised there."""

    def __init__(self, dialer: Dialer, clock: Clock, client: Client) -> None:
        self.clock = clock
        self.sent_s = 0.0
        """Seconds of audio on the present socket."""
        self._dialer, self._client = dialer, client
        self._target: Target | None = None
        self._socket: VendorSocket | None = None
        self._format: AudioFormat = PCM_16K
        self._bytes_a_second = 1.0
        self._timeline = Timeline()
        self._kept: deque[tuple[float, bytes]] = deque()  # (the place where it ends, audio)
        self._kept_from = 0.0
        self._base = 0.0  # the place that is second 0 of the present socket
        self._unbilled_s = 0.0
        self._fed_at = 0.0
        self._spoke_at, self._spoke_place = (
            0.0,
            0.0,
        )  # when, and at which place of the audio, the vendor last said anything
        self._breaks: deque[float] = deque(maxlen=TRIES)
        self._silences = 0
        self._reading = anyio.CancelScope()
        self._life = anyio.CancelScope()
        self._timer: asyncio.TimerHandle
        self._closing = False
        self._out: Mailbox[ListenerSignal | ProviderError] = Mailbox()

    # ------------------------------------------------------------------ for the transcriber's face

    async def open(self, target: Target, hears: AudioFormat, tasks: TaskGroup) -> None:
        """Connect, and stay connected in `tasks`. Raises ProviderError."""
        self._target, self._format = target, hears
        self._bytes_a_second = float(hears.rate * hears.sample_bytes)
        self._fed_at = self.clock.now()
        await self._connect(None)
        tasks.start_soon(self._live)

    def hear(self, chunk: AudioChunk) -> None:
        """One frame, in the format of `open`. Sent at once; kept until `certain`."""
        if chunk.data:
            self._feed(chunk.data)

    async def signals(self) -> AsyncIterator[ListenerSignal]:
        """What was told, until the stream is closed. Raises ProviderError when it can go on no more."""
        async for signal in self._out:
            if isinstance(signal, ProviderError):
                raise signal
            yield signal

    async def aclose(self) -> None:
        """Say goodbye and tell the rest of the bill. More than once is fine."""
        if self._closing:
            return
        self._closing = True
        self.bill()
        self._out.close()
        if self._socket is not None:
            self._socket.send(CLOSE_STREAM)
            with anyio.move_on_after(GOODBYE_S):
                await self._socket.aclose()
        self._life.cancel()

    # ------------------------------------------------------------------ for whoever reads the messages

    def tell(self, signal: ListenerSignal) -> None:
        """Give a signal to the ears."""
        self._out.put(signal)

    def place(self, stream_s: float) -> float:
        """Where second `stream_s` of the present socket is in the caller's audio."""
        return self._base + stream_s

    def at(self, place: float) -> float:
        """When the sound at `place` was heard (clock seconds), never later than now."""
        return min(self._timeline.at(place), self.clock.now())

    @property
    def kept_from(self) -> float:
        """The first place of what would be replayed."""
        return self._kept_from

    def certain(self, place: float) -> None:
        """The words up to `place` will not be revised: that audio is not needed any more."""
        while self._kept and self._kept[0][0] <= place:
            self._kept_from, _ = self._kept.popleft()

    def send(self, message: str) -> None:
        """A control message, if anybody is there."""
        if self._socket is not None:
            self._socket.send(message)

    def silence(self, ms: float) -> None:
        """Put silence into the audio, because the line gives none."""
        if ms >= 1:
            self._feed(self._format.quiet(ms))

    def bill(self) -> None:
        """Tell what was sent since the last time: every second counts, silence and replays too."""
        if self._unbilled_s > 0:
            client, amounts = self._client, {"audio_seconds": round(self._unbilled_s, 3)}
            self._unbilled_s = 0.0
            self.tell(Used("stt", client.name, client.price_model, amounts))

    # ------------------------------------------------------------------ inside

    def _feed(self, data: bytes) -> None:
        now = self._fed_at = self.clock.now()
        seconds = len(data) / self._bytes_a_second
        place = self._timeline.heard(seconds, now)
        kept = self._kept
        kept.append((place, data))
        if place - self._kept_from > KEPT_S:
            self._kept_from, _ = kept.popleft()
        if self._socket is not None and self._socket.send(data):
            self.sent_s += seconds
            self._unbilled_s += seconds

    async def _live(self) -> None:
        """Read, and connect anew, until it is closed or hopeless."""
        with self._life:
            self._look()
            try:
                async with anyio.create_task_group() as own:
                    await self._follow(own)
                    self._out.close()
                    own.cancel_scope.cancel()
            finally:
                self._timer.cancel()

    async def _follow(self, own: TaskGroup) -> None:
        while (error := await self._read()) is not None:
            gone, self._socket = self._socket, None
            if gone is not None:
                own.start_soon(gone.aclose)  # a half-open socket takes its time
            try:
                await self._connect(error)
            except ProviderError as hopeless:
                self.bill()
                self._out.put(hopeless)
                return

    async def _read(self) -> ProviderError | None:
        """Until the socket ends: why, or None if it was meant to."""
        socket = self._socket
        assert socket is not None
        garbled = 0
        try:
            with anyio.CancelScope() as self._reading:
                async for message in socket.messages():
                    self._spoke_at, self._spoke_place = self.clock.now(), self._timeline.place
                    try:
                        self._client.read(message if isinstance(message, str) else "")
                        self._silences = 0
                    except WireError as unreadable:
                        garbled += 1
                        error = DEEPGRAM.garbled("stt", str(unreadable))
                        if garbled >= GARBAGE:
                            raise error from unreadable
                        self._faulted(error)
        except ProviderError as error:
            return None if self._closing else explained(error, self._client.model)
        if self._closing:
            return None
        if self._reading.cancelled_caught:
            problem = "it says nothing any more"
            again = self._silences + 1 < SILENCES
            fix = "try again later"
            return ProviderError(problem, provider=DEEPGRAM.name, stage="stt", retryable=again, fix=fix, code="silent")
        return DEEPGRAM.closed("stt", 1000, "")

    async def _connect(self, error: ProviderError | None) -> None:
        """A new socket that knows all that is kept. `error`: why the last one ended. Raises ProviderError."""
        assert self._target is not None
        began, tries = self.clock.now(), 0
        while True:
            if error is not None:
                self._weigh(error, began)
                self._faulted(error)
                await anyio.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
                tries += 1
            try:
                with anyio.fail_after(TRY_S):
                    socket = await self._dialer.open(self._target)
                break
            except TimeoutError as slow:
                error = DEEPGRAM.broken("stt", slow)
            except ProviderError as refused:
                error = explained(refused, self._client.model)
        self.tell(ConnectionUsed("stt", DEEPGRAM.name, socket.reused, round(socket.connect_ms, 1)))
        self._take(socket)

    def _weigh(self, error: ProviderError, began: float) -> None:
        """Raises `error` if another try makes no sense."""
        now = self.clock.now()
        crowded = len(self._breaks) == TRIES and now - self._breaks[0] < TRIES_WITHIN_S
        self._breaks.append(now)
        self._silences += error.code == "silent"
        if not error.retryable or crowded or now - began > GIVE_UP_S or (error.retry_after_s or 0.0) > LONGEST_WAIT_S:
            raise error

    def _take(self, socket: VendorSocket) -> None:
        """Use this socket: what was kept first."""
        audio = b"".join(data for _, data in self._kept)
        self._base, self.sent_s = self._kept_from, len(audio) / self._bytes_a_second
        self._unbilled_s += self.sent_s
        step = self._format.bytes_for(REPLAY_MS)
        for start in range(0, len(audio), step):
            socket.send(audio[start : start + step])
        self._socket = socket
        self._spoke_at, self._spoke_place = self.clock.now(), self._timeline.place
        self._client.connected()

    def _faulted(self, error: ProviderError) -> None:
        self.tell(Faulted("stt", error.provider, error.problem, "it is tried again"))

    def _look(self) -> None:
        """What is due while nothing comes: from the line, or from the vendor. A timer, since a task costs more."""
        self._timer = self.clock.call_later(TICK_S, self._look)
        if self._socket is None:
            return
        now, patience = self.clock.now(), self._client.patience_s
        self._client.idle(now - self._fed_at, now)
        if self._unbilled_s >= BILLED_EVERY_S:
            self.bill()
        if now - self._spoke_at > patience and self._timeline.place - self._spoke_place > patience:
            self._reading.cancel()
