"""A Twilio media stream as the caller's side of a call: every frame runs straight through, marks tell what was heard.

It owns one stream from its `start` to its end; it refuses to know the socket's library, the webhook and the session.
"""

from __future__ import annotations

import logging
from asyncio import TimerHandle
from collections.abc import AsyncIterator
from typing import Protocol

from patter.audio.format import AudioChunk
from patter.clock import Clock
from patter.exceptions import PatterError, WireError
from patter.mailbox import Mailbox
from patter.ports import Abilities, CarrierControl, Ear
from patter.signals import DigitPressed, HungUp, TransportSignal
from patter.turns.playhead import OVERDUE_MS, Playhead
from patter.wire.twilio import Dtmf, Mark, Media, Start, Stop, StreamWriter, read, sound_of

log = logging.getLogger(__name__)

FIRST_MARK_MS = 60.0  # short enough to time the start at the ear closely, long enough to be one packet
MARK_EVERY_MS = 400.0  # between marks the clock interpolates; closer marks would only cost messages


class Socket(Protocol):
    """The media socket, as a transport needs it."""

    def send(self, text: str) -> None:
        """Write one text frame at once; must not block, and must not raise if the peer is gone."""

    def close(self) -> None:
        """Close the socket; for the carrier that ends the stream, and with no verb left the call."""


class TwilioTransport:
    """The caller's side of one call on a Twilio media stream. `feed` it the messages after `start`."""

    def __init__(self, start: Start, socket: Socket, clock: Clock, control: CarrierControl | None = None) -> None:
        self.start = start
        self._format = start.format
        self._abilities = Abilities(start.format, start.format, digits_out=bool(control), transfer=bool(control))
        self._socket = socket
        self._clock = clock
        self._control = control
        self._writer = StreamWriter(start.stream_sid)
        self._ear: Ear | None = None
        self._playhead = Playhead()
        self._until_mark = FIRST_MARK_MS
        self._current = 0
        self._watch: TimerHandle | None = None
        self._said: Mailbox[TransportSignal] = Mailbox()
        self._over = False
        self._open = True
        self.malformed = 0
        """How many messages of the carrier could not be read."""

    @property
    def abilities(self) -> Abilities:
        return self._abilities

    # ----------------------------------------------------------------- from the carrier

    def listen(self, ear: Ear) -> None:
        """Give every frame of caller audio to `ear`, synchronously, from now on."""
        self._ear = ear

    def feed(self, text: str) -> None:
        """One text frame of the media socket, as it came. Never raises for what a carrier may send."""
        if self._over:
            return
        try:
            message = read(text)
            if type(message) is Media:
                if self._ear is not None and message.track == "inbound":
                    self._hear(self._ear, sound_of(message.payload))
                return
        except WireError as problem:
            self._complain(problem)
            return
        match message:
            case Mark(name):
                self._say(*self._playhead.marked(name, self._clock.now()))
            case Dtmf(digit):
                self._say(DigitPressed(digit))
            case Stop():
                self._end(HungUp("caller_hung_up"))

    def _hear(self, ear: Ear, sound: bytes) -> None:
        if len(sound) % self._format.sample_bytes:
            raise WireError("media ends inside a sample")
        if sound:
            ear(AudioChunk(sound, self._format))

    def _complain(self, problem: WireError) -> None:
        self.malformed += 1
        if self.malformed == 1:  # one line a call: a broken peer sends fifty a second
            log.warning(
                "unreadable message from the carrier", extra={"call_id": self.start.call_sid, "why": str(problem)}
            )

    def lost(self, detail: str = "") -> None:
        """The media socket is gone. Without a `stop` before it, the line is lost (says nothing after an orderly end)."""
        self._open = False
        self._end(HungUp("line_lost", detail or "The media socket broke without a goodbye from the carrier."))

    # ----------------------------------------------------------------- what the caller's side says

    def signals(self) -> AsyncIterator[TransportSignal]:
        """What the caller's side says, until it hangs up (the last one is `HungUp`). For one reader."""
        return aiter(self._said)

    def _say(self, *signals: TransportSignal) -> None:
        for signal in signals:
            self._said.put(signal)

    def _end(self, how: HungUp) -> None:
        self._said.put(how)  # dropped, if the caller's side has ended before
        self._said.close()
        self._over = True
        self._unwatch()

    # ----------------------------------------------------------------- to the carrier

    def play(self, chunk: AudioChunk, reply_id: int, at_ms: float) -> float:
        """Queue sound at the carrier; see `Transport.play`. Raises ValueError for a format that is not the line's."""
        if chunk.format != self._format:
            raise ValueError(f"this line plays {self._format}, not {chunk.format}")
        if reply_id != self._current:
            self._current, self._until_mark = reply_id, FIRST_MARK_MS
        now = self._clock.now()
        starts_at = now
        ms, position = chunk.ms, 0.0
        sound = memoryview(chunk.data)
        while sound:
            piece = sound
            if ms - position > self._until_mark:
                piece = sound[: self._format.bytes_for(self._until_mark)]
            piece_ms = self._format.ms_of(len(piece))
            expected = self._playhead.sent(reply_id, at_ms + position, piece_ms, now)
            if not position:
                starts_at = expected
            self._send(self._writer.media(piece))
            position += piece_ms
            self._until_mark -= piece_ms
            if self._until_mark < 1.0:
                self._until_mark = MARK_EVERY_MS
                self._send(self._writer.mark(self._playhead.mark(reply_id)))
            sound = sound[len(piece) :]
        return starts_at

    def finish(self, reply_id: int) -> None:
        """No more sound will come for this reply; `PlayoutEnded` follows when its last mark is back."""
        self._send(self._writer.mark(self._playhead.mark(reply_id, last=True)))
        self._until_mark = FIRST_MARK_MS
        self._unwatch()
        if not self._over:
            self._watch_after(self._playhead.queued_ms(self._clock.now()))

    def _watch_after(self, ms: float) -> None:
        """One timer a reply: a carrier that loses the last mark may not leave the agent speaking for ever."""
        self._watch = self._clock.call_later((ms + OVERDUE_MS) / 1000 + 0.1, self._give_up_on_marks)

    def _give_up_on_marks(self) -> None:
        now = self._clock.now()
        self._watch = None
        self._say(*self._playhead.overdue(now))
        if self._playhead.waiting and not self._over:
            self._watch_after(self._playhead.queued_ms(now))

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def show(self, text: str, reply_id: int) -> None:
        """A telephone has no screen."""

    def clear(self) -> float:
        """Drop everything not yet heard, at once. Returns how many ms of the reply at the ear were heard."""
        _, heard = self._playhead.cleared(self._clock.now())
        self._send(self._writer.clear)
        self._until_mark = FIRST_MARK_MS
        self._unwatch()
        return heard

    def heard_ms(self, reply_id: int) -> float:
        """How much of the reply's timeline has been heard by now, within about 100 ms."""
        return self._playhead.heard_ms(reply_id, self._clock.now())

    async def send_digits(self, digits: str) -> None:
        """Send DTMF through the carrier. Raises PatterError on a line without carrier control."""
        await self._controlled("send digits").send_digits(digits)

    async def transfer(self, number: str, summary: str = "") -> None:
        """Hand the call to `number`. Raises PatterError on a line without carrier control."""
        await self._controlled("transfer a call").transfer(number, summary)

    async def announce(self, text: str) -> None:
        """Let the carrier say `text` and end the call. Raises PatterError on a line without carrier control."""
        await self._controlled("speak by itself").announce(text)

    def _controlled(self, wish: str) -> CarrierControl:
        if self._control is None:
            raise PatterError(
                f"This line cannot {wish}: a rehearsal has no carrier behind it. Use a real phone number."
            )
        return self._control

    async def hang_up(self) -> None:
        """End the call by closing the stream; what was queued is dropped."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the stream. `signals` ends, if the caller's side has not ended it before."""
        self._end(HungUp("agent_ended"))
        if self._open:
            self._open = False
            self._socket.close()

    def _send(self, text: str) -> None:
        if self._open and not self._over:
            self._socket.send(text)
