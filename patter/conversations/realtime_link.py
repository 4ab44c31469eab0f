"""One realtime session at the vendor: opened, told what it is, fed with the caller's sound, read until it ends.

It owns the socket, the formats that the server really took, and where on the call's clock its sound lies; it refuses to know
replies and turns. A link has one life: it is replaced, never restarted.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import AsyncIterator, Sequence

import anyio

from patter.audio.convert import Converter
from patter.audio.format import AudioChunk
from patter.exceptions import ProviderError, WireError
from patter.providers.dialer import Dialer, Target, VendorSocket
from patter.providers.openai_realtime import failure, garbled, unanswered
from patter.wire.openai_realtime import PREFIX_MS, SessionSettings, Shape, append, session_update
from patter.wire.openai_realtime_events import Refused, ServerEvent, SessionTold, read

READY_S = 5.0  # a session answers its first update in a round trip
BROKEN_LIMIT = 5  # unreadable messages: one may be an accident, more are another protocol


class Link:
    """A session that is ready. Make it with `connect`."""

    def __init__(self, socket: VendorSocket, messages: AsyncIterator[str | bytes], asked: SessionSettings) -> None:
        self.socket = socket
        self.hears, self.plays = asked.hears, asked.plays
        """What the server takes and gives: what was asked for, unless it says otherwise."""
        self.expires_at = 0.0
        self.padding_ms = float(PREFIX_MS)
        self.silence_ms = 0.0
        self.appended_ms = 0.0
        self.asked = asked
        """The settings that it was opened with."""
        self.model = ""
        """The model that it was opened for, as the agent names it."""
        self._messages = messages
        self._events = self._read()
        self._appended_at = 0.0
        self._converter: Converter | None = None
        self._broken = 0

    def told(self, event: SessionTold) -> None:
        """The server says what the session is."""
        if event.expires_at:
            self.expires_at = event.expires_at
        if event.new:
            return  # its formats are the server's own, ours have not been taken yet
        self.hears, self.plays = event.hears or self.hears, event.plays or self.plays
        if self.asked.hears is None:
            return
        if event.padding_ms is not None:
            self.padding_ms = event.padding_ms
        if event.silence_ms is not None:
            self.silence_ms = event.silence_ms

    def send(self, event: str) -> bool:
        """Say something; False when the session is gone (its reader is told why)."""
        return self.socket.send(event)

    def hear(self, chunk: AudioChunk, ms: float, at: float) -> None:
        """A frame of the caller's, `ms` long, received at `at`: spliced in as it came, if the server takes that format."""
        self.appended_ms += ms
        self._appended_at = at
        if chunk.format is self.hears or chunk.format == self.hears:
            self.socket.send(append(chunk.base64 or _base64(chunk.data)))
        elif self.hears is not None:
            converter = self._converter
            if converter is None or converter.src != chunk.format or converter.dst != self.hears:
                converter = self._converter = Converter(chunk.format, self.hears)
            self.socket.send(append(_base64(converter.convert(chunk.data))))

    def whole(self, chunks: Sequence[AudioChunk]) -> str:
        """A whole utterance in the server's format, in base64."""
        if self.hears is None or not chunks:
            return ""
        return _base64(Converter(chunks[0].format, self.hears).convert(b"".join(chunk.data for chunk in chunks)))

    def moment(self, ms: float) -> float:
        """When (clock seconds) the sound at `ms` of everything appended was received."""
        return self._appended_at - max(0.0, self.appended_ms - ms) / 1000

    def events(self) -> AsyncIterator[ServerEvent | ProviderError]:
        """What the server says, until it ends the session in good order; a ProviderError among it is a message that could
        not be read. Raises ProviderError when the session broke. There is one such stream: asked again, it goes on."""
        return self._events

    async def _read(self) -> AsyncIterator[ServerEvent | ProviderError]:
        async for message in self._messages:
            try:
                if not isinstance(message, str):
                    raise WireError("a binary message")
                yield read(message)
            except WireError as error:
                self._broken += 1
                if self._broken > BROKEN_LIMIT:
                    raise garbled(str(error)) from error
                yield garbled(str(error))

    async def aclose(self) -> None:
        """End the session."""
        await self.socket.aclose()


async def connect(dialer: Dialer, target: Target, asked: SessionSettings, shape: Shape) -> Link:
    """A session that has taken our settings. Raises ProviderError."""
    while True:
        socket = await dialer.open(target)
        try:
            return await _configured(socket, asked, shape)
        except ProviderError as error:
            await socket.aclose()
            if not (socket.reused and error.retryable):  # a socket that was kept warm may have gone cold: once more
                raise
        except BaseException:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await socket.aclose()
            raise


async def _configured(socket: VendorSocket, asked: SessionSettings, shape: Shape) -> Link:
    messages = aiter(socket.messages())
    link = Link(socket, messages, asked)
    link.send(session_update(asked, shape))
    try:
        with anyio.fail_after(READY_S):
            async for event in link.events():
                if isinstance(event, ProviderError):
                    raise event
                if isinstance(event, Refused):
                    target = socket.target
                    raise failure(event.kind, event.code, event.message, secrets=target.secrets, what=target.what)
                if isinstance(event, SessionTold):
                    link.told(event)
                    if not event.new:
                        return link
    except TimeoutError:
        raise unanswered("make a session ready") from None
    raise failure("server_error", "", "it ended the session before it began")


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()
