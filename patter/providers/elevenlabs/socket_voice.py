"""ElevenLabs' voices by WebSocket: every sentence is a context of its own on a socket that stands already.

It owns one sentence's way from its text to its last sound; it refuses to know the vendor's JSON (the wire does) and holds no
call's state.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from itertools import count

import anyio
from anyio.abc import TaskGroup

from patter.clock import Clock
from patter.exceptions import ProviderError, WireError
from patter.providers.address import as_socket
from patter.providers.delivery import SILENCE_S, Delivery, Pieces, delivered, speakable
from patter.providers.dialer import Dialer, Target
from patter.providers.elevenlabs.account import ELEVENLABS
from patter.providers.elevenlabs.lines import Inbox, Line, Lines
from patter.providers.elevenlabs.speaker import Speaker
from patter.signals import ConnectionUsed, SynthesizerPiece
from patter.wire.elevenlabs_tts import Manner, Said, sound_of


class ElevenLabsSocketVoice:
    """A Synthesizer. Its sound comes in the format that the speaker asks for, so that a phone line needs no conversion.

    An interrupted sentence leaves the socket as it is: the next one needs no new connection."""

    name = ELEVENLABS.name

    def __init__(self, speaker: Speaker, dialer: Dialer, clock: Clock, tasks: TaskGroup | None = None) -> None:
        """`tasks` keeps idle sockets read; without it they are closed after some seconds of idleness."""
        self._speaker = speaker
        self.model, self.voice = speaker.model, speaker.voice
        self._lines = Lines(dialer, clock, speaker.fault, tasks)
        self._numbers = count(1)

    async def start(self) -> None:
        """Find the voice and open a socket, so that the first sentence waits for neither. Raises ProviderError."""
        manner = await self._speaker.manner()
        try:
            await self._lines.line(self._target(manner))
        except ProviderError as error:
            raise self._speaker.explained(error) from error.__cause__

    async def synthesize(self, text: str) -> AsyncGenerator[SynthesizerPiece, None]:
        """The sound of `text` as it comes; nothing for text without words. Raises ProviderError."""
        if not speakable(text):
            return
        manner = await self._speaker.manner()
        spoken = delivered(partial(self._ask, manner, text), Delivery(self._speaker.format), self.name)
        try:
            async with aclosing(spoken) as pieces:
                async for piece in pieces:
                    yield piece
        except ProviderError as error:
            raise self._speaker.explained(error) from error.__cause__

    async def aclose(self) -> None:
        """Close the sockets."""
        await self._lines.aclose()

    async def _ask(self, manner: Manner, text: str, delivery: Delivery) -> Pieces:
        delivery.begun = True  # nobody below tries again
        line, stood = await self._lines.line(self._target(manner))
        context = f"s{next(self._numbers)}"
        inbox = line.say(context, manner.sentence(context, text))
        try:
            yield ConnectionUsed("tts", self.name, stood, 0.0 if stood else round(line.socket.connect_ms, 1))
            while True:
                said = await _next(line, inbox)
                if said.audio:
                    chunk = delivery.take(_sound(said.audio), said.audio)
                    if chunk is not None:
                        yield chunk
                if said.final:
                    return
        finally:
            line.leave(inbox)

    def _target(self, manner: Manner) -> Target:
        return Target(
            ELEVENLABS,
            "tts",
            as_socket(self._speaker.base) + manner.socket_path(),
            tuple(self._speaker.headers.items()),
            what=f"the voice {self.voice!r} or the model {self.model!r}",
        )


async def _next(line: Line, inbox: Inbox) -> Said:
    """What comes next. Raises ProviderError when nothing comes for too long."""
    if inbox.items:
        return inbox.items.popleft()
    try:
        with anyio.fail_after(SILENCE_S):
            return await line.next(inbox)
    except TimeoutError as error:
        broken = ELEVENLABS.broken("tts", error)
        if line.silent_for() >= SILENCE_S:
            line.end(broken)  # not this sentence alone: the socket says nothing at all
        raise broken from None


def _sound(audio: str) -> bytes:
    try:
        return sound_of(audio)
    except WireError as error:
        raise ELEVENLABS.garbled("tts", str(error)) from None
