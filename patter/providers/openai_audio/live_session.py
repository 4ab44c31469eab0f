"""One listening session with OpenAI that outlives its sockets: when one breaks, the next hears what is not yet written down.

It owns the socket, the sound that may have to be said again, and which moment of the call a position in it is; it refuses to
know what an utterance is.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import anyio
from anyio.abc import TaskGroup

from patter.audio.convert import Converter
from patter.audio.format import ALAW_8K, MULAW_8K, PCM_24K, AudioChunk, AudioFormat
from patter.clock import Clock
from patter.exceptions import ProviderError, WireError
from patter.providers.dialer import Dialer, Target, VendorSocket
from patter.providers.openai_audio.place import Place
from patter.providers.vendor import SAID_LIMIT, scrubbed
from patter.signals import ConnectionUsed, Faulted
from patter.wire.openai_live_transcription import (
    COMMIT,
    QUERY,
    Complaint,
    LiveEvent,
    LiveRequest,
    SessionReady,
    Wordless,
    append,
    read_event,
    session_update,
)

READY_S = 5.0  # for the session to be as we ask
WAITS_S = (0.0, 0.25, 1.0)  # before each try of a new connection: a caller is on the line
BRIEF_S = 5.0  # a socket that did not live so long …
BRIEF_TIMES = 3  # … so often in a row will not be better the next time
LONGEST_WAIT_S = 3.0
KEPT_MS = 120_000.0  # nobody speaks so long without a pause
GOES_ON = "a new connection takes over, with the words that were on their way"

AUDIO: dict[str, AudioFormat] = {"audio/pcm": PCM_24K, "audio/pcmu": MULAW_8K, "audio/pcma": ALAW_8K}


def audio_for(hears: AudioFormat) -> str:
    """The session's format that spares the most for a line that hears `hears`."""
    return next((name for name, audio in AUDIO.items() if audio == hears), "audio/pcm")


def target(place: Place) -> Target:
    """Where sessions are opened."""
    url = f"{place.socket_root}/realtime?{QUERY}"
    return Target(place.vendor, "stt", url, tuple(place.headers.items()), what="the address of its live sessions")


@dataclass(slots=True)  # not frozen: there are fifty a second of it on every call
class _Kept:
    """Sound from `start_ms` on that came at `at`; without a chunk: here an utterance ended."""

    start_ms: float
    ms: float
    at: float
    chunk: AudioChunk | None


class LiveSession:
    """Give it sound in order; positions are ms of all sound given. All callbacks come on the loop and must not block.

    `event` gets what the vendor says, `renewed` is called before the first event of another socket, `tell` gets connections
    and faults that were overcome, `failed` the one that was not."""

    def __init__(
        self,
        dialer: Dialer,
        clock: Clock,
        place: Place,
        request: LiveRequest,
        hears: AudioFormat,
        *,
        event: Callable[[LiveEvent], None],
        renewed: Callable[[], None],
        tell: Callable[[ConnectionUsed | Faulted], None],
        failed: Callable[[ProviderError], None],
    ) -> None:
        self._dialer, self._clock, self._place, self._request, self._hears = dialer, clock, place, request, hears
        self._event, self._renewed, self._tell, self._failed = event, renewed, tell, failed
        self._target = target(place)
        self.heard_ms = 0.0
        """How much sound it has been given."""
        self._kept: deque[_Kept] = deque()
        self._socket: VendorSocket | None = None
        self._base_ms = 0.0  # position of the first sound the present socket was given
        self._converter: Converter | None = None
        self._opened_at = 0.0
        self._brief = 0
        self._closed = False
        self._scope: anyio.CancelScope | None = None

    async def start(self, tasks: TaskGroup) -> None:
        """Connect; from then on it lives in `tasks`. Raises ProviderError."""
        reader = await self._connect()
        tasks.start_soon(self._run, reader)

    # ------------------------------------------------------------------ what goes out

    def append(self, chunk: AudioChunk) -> None:
        """The next sound, in the format of `hears`."""
        self._keep(chunk.ms, chunk)
        if self._socket is not None:
            self._socket.send(self._message(chunk))

    def commit(self) -> None:
        """The utterance ends here (only where the session does not find that out itself)."""
        self._keep(0.0, None)
        if self._socket is not None:
            self._socket.send(COMMIT)

    def change(self, request: LiveRequest) -> None:
        """Listen in this way from now on; the format stays."""
        self._request = replace(request, audio=self._request.audio)
        if self._socket is not None:
            self._socket.send(session_update(self._request))

    def _keep(self, ms: float, chunk: AudioChunk | None) -> None:
        self._kept.append(_Kept(self.heard_ms, ms, self._clock.now(), chunk))
        self.heard_ms += ms
        if self.heard_ms - self._kept[0].start_ms > KEPT_MS:
            self._kept.popleft()

    def forget(self, before_ms: float) -> None:
        """What lies before this position has been written down, or is of no use any more."""
        while self._kept and self._kept[0].start_ms + self._kept[0].ms <= before_ms:
            self._kept.popleft()

    def _message(self, chunk: AudioChunk) -> str:
        if self._converter is not None:
            return append(b64encode(self._converter.convert(chunk.data)).decode())
        return append(chunk.base64 or b64encode(chunk.data).decode())

    # ------------------------------------------------------------------ positions

    def position(self, socket_ms: float) -> float:
        """The position of what the present socket calls `socket_ms`."""
        return self._base_ms + socket_ms

    def moment(self, position_ms: float) -> float:
        """When (clock seconds) the sound at this position came; at the latest now."""
        for kept in reversed(self._kept):
            if kept.start_ms <= position_ms:
                return min(kept.at + (position_ms - kept.start_ms - kept.ms) / 1000, self._clock.now())
        if self._kept:
            return self._kept[0].at + (position_ms - self._kept[0].start_ms) / 1000
        return self._clock.now()

    # ------------------------------------------------------------------ the sockets

    async def _connect(self) -> AsyncIterator[str | bytes]:
        """A session that is as we want it, and has been told what is kept. Raises ProviderError."""
        socket = await self._dialer.open(self._target)
        try:
            with anyio.fail_after(READY_S):
                socket.send(session_update(self._request))
                reader = socket.messages()
                audio = await self._ready(reader)
        except BaseException as error:
            socket.leave()
            if isinstance(error, TimeoutError):
                raise self._place.vendor.broken("stt", error) from error
            raise
        takes = AUDIO.get(audio, AUDIO[self._request.audio])
        self._converter = None if takes == self._hears else Converter(self._hears, takes)
        self._tell(ConnectionUsed("stt", self._place.vendor.name, socket.reused, round(socket.connect_ms, 1)))
        self._base_ms = self._kept[0].start_ms if self._kept else self.heard_ms
        for kept in self._kept:
            socket.send(self._message(kept.chunk) if kept.chunk is not None else COMMIT)
        self._socket, self._opened_at = socket, self._clock.now()
        return reader

    async def _ready(self, reader: AsyncIterator[str | bytes]) -> str:
        try:
            async for message in reader:
                event = read_event(message)
                if isinstance(event, SessionReady):
                    return event.audio
                if isinstance(event, Complaint):
                    raise self._refused(event)
        except WireError as error:
            raise self._place.vendor.garbled("stt", str(error)) from error
        raise self._place.vendor.closed("stt", 1000, "before the session began")

    def _refused(self, complaint: Complaint) -> ProviderError:
        """What the vendor complains of, as an error that ends the session."""
        said = self._scrubbed(complaint.message)
        passing = complaint.ends or complaint.code in ("server_error", "rate_limit_exceeded", "server_is_overloaded")
        return ProviderError(
            f"the session has ended ({said})" if complaint.ends else f"it refuses the session ({said})",
            provider=self._place.vendor.name,
            stage="stt",
            retryable=passing,
            fix="try again later" if passing else "check the key and the agent's stt settings",
            code=complaint.code,
        )

    def _scrubbed(self, text: str) -> str:
        return scrubbed(text, self._target.secrets)[:SAID_LIMIT]

    async def _run(self, reader: AsyncIterator[str | bytes]) -> None:
        with anyio.CancelScope() as self._scope:
            while not self._closed:
                problem = await self._listen(reader)
                broken, self._socket = self._socket, None
                if self._closed:
                    return
                if broken is not None:
                    broken.leave()  # without waiting: the caller speaks on
                try:
                    reader = await self._again(problem)
                except ProviderError as error:
                    self._failed(error)
                    return
                self._renewed()

    async def _listen(self, reader: AsyncIterator[str | bytes]) -> ProviderError:
        """Pass on what the vendor says; returns why it says no more."""
        try:
            async for message in reader:
                event = read_event(message)
                if isinstance(event, Complaint) and (event.ends or event.hopeless):
                    return self._refused(event)
                if isinstance(event, Complaint | Wordless):
                    event = replace(event, message=self._scrubbed(event.message))
                if event is not None and not isinstance(event, SessionReady):
                    self._event(event)
        except WireError as error:
            return self._place.vendor.garbled("stt", str(error))
        except ProviderError as error:
            return error
        return self._place.vendor.closed("stt", 1000, "in the middle of the call")

    async def _again(self, problem: ProviderError) -> AsyncIterator[str | bytes]:
        """Another socket. Each try is told; raises ProviderError when none comes about, or it would not help."""
        self._brief = self._brief + 1 if self._clock.now() - self._opened_at < BRIEF_S else 0
        if self._brief >= BRIEF_TIMES:
            raise problem
        for wait_s in WAITS_S:
            if not problem.retryable or (problem.retry_after_s or 0.0) > LONGEST_WAIT_S:
                raise problem
            self._tell(Faulted("stt", self._place.vendor.name, problem.problem, GOES_ON))
            await anyio.sleep(max(wait_s, problem.retry_after_s or 0.0))
            try:
                return await self._connect()
            except ProviderError as error:
                problem = error
        raise problem

    async def aclose(self) -> None:
        """Close the socket; more than once is fine."""
        self._closed = True
        if self._socket is not None:
            await self._socket.aclose()
        if self._scope is not None:
            self._scope.cancel()
