"""A call by text: what is typed is a turn, what is shown is heard at once.

It owns the text line; it refuses to know where the text is typed or drawn (readers follow the events).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from patter.audio.format import AudioChunk
from patter.clock import Clock
from patter.exceptions import PatterError
from patter.mailbox import Mailbox
from patter.ports import Abilities, Ear
from patter.signals import HungUp, PlayoutEnded, PlayoutStarted, TransportSignal, Typed


class TextTransport:
    """The caller's side without sound. `shown` is called with each piece of the agent's text, if given."""

    def __init__(self, clock: Clock, shown: Callable[[str, int], None] | None = None) -> None:
        self._clock = clock
        self._shown = shown
        self._started: set[int] = set()
        self._said: Mailbox[TransportSignal] = Mailbox()
        self.transferred_to = ""

    @property
    def abilities(self) -> Abilities:
        """Text only; a transfer is accepted and ends the call."""
        return Abilities(None, None, transfer=True)

    def type(self, text: str) -> None:
        """The caller's line."""
        self._said.put(Typed(text))

    def leave(self) -> None:
        """The caller hangs up."""
        self._said.put(HungUp())

    def listen(self, ear: Ear) -> None:
        """There is no sound to listen to."""

    async def signals(self) -> AsyncIterator[TransportSignal]:
        """What the caller's side says."""
        async for signal in self._said:
            yield signal

    def play(self, chunk: AudioChunk, reply_id: int, at_ms: float) -> float:
        """Never called on a line that plays nothing."""
        raise NotImplementedError("a text line plays no sound")

    def show(self, text: str, reply_id: int) -> None:
        """Shown is heard."""
        if reply_id not in self._started:
            self._started.add(reply_id)
            self._said.put(PlayoutStarted(reply_id, self._clock.now()))
        if self._shown is not None:
            self._shown(text, reply_id)

    def finish(self, reply_id: int) -> None:
        """All of the reply stands there."""
        self._said.put(PlayoutEnded(reply_id, self._clock.now()))

    def clear(self) -> float:
        """Nothing waits to be heard."""
        return 0.0

    def heard_ms(self, reply_id: int) -> float:
        """Text takes no time."""
        return 0.0

    def quality(self) -> None:
        """Text has no quality."""

    async def send_digits(self, digits: str) -> None:
        """Accepted: there is nobody to send them to."""

    async def transfer(self, number: str, summary: str = "") -> None:
        """Accepted: the session ends the call."""
        self.transferred_to = number

    async def announce(self, text: str) -> None:
        """There is no carrier that could speak."""
        raise PatterError("A text line has no carrier with a voice of its own.")

    async def hang_up(self) -> None:
        """The session is over."""

    async def aclose(self) -> None:
        """Close the line."""
        self._said.close()
