"""A carrier's media stream as the caller's side of a call: every frame runs straight through, marks tell what was heard.

It owns one stream from its `start` to its end; it refuses to know carriers, the socket's library, webhooks and the session.
"""

from __future__ import annotations

import logging
from asyncio import TimerHandle
from collections.abc import AsyncIterator
from typing import Protocol

from patter.audio.dtmf import tones
from patter.audio.format import AudioChunk, AudioFormat
from patter.clock import Clock
from patter.exceptions import PatterError, WireError
from patter.mailbox import Mailbox
from patter.ports import Abilities, AnsweredBy, CarrierControl, Ear, LineStats
from patter.signals import DigitPressed, HungUp, MachineDetected, TransportSignal
from patter.transports.caller_frames import CallerFrames
from patter.transports.line_meter import LineMeter
from patter.transports.reorder import Reorderer
from patter.turns.playhead import OVERDUE_MS, Playhead, Playout
from patter.wire.stream import Dtmf, Mark, Media, Stop, StreamError

log = logging.getLogger(__name__)

FIRST_MARK_MS = 60.0  # short enough to time the start at the ear closely, long enough to be one packet
MARK_EVERY_MS = 400.0  # between marks the clock interpolates; closer marks would only cost messages
DRY_MS = 20.0  # a gap shorter than a packet is not heard: every carrier holds back as much
KEYS = -1  # the reply that tones belong to: nobody waits for its end


class Socket(Protocol):
    """The media socket, as a transport needs it."""

    def send(self, text: str) -> None:
        """Write one text frame at once; must not block, and must not raise if the peer is gone."""

    def close(self) -> None:
        """Close the socket; for the carrier that ends the stream, and with no verb left the call."""


class StreamWire(Protocol):
    """How one carrier spells one stream, after its `start`."""

    @property
    def hears(self) -> AudioFormat:
        """The caller's sound, as `sound` gives it."""

    @property
    def plays(self) -> AudioFormat:
        """The sound that `media` takes."""

    @property
    def clear(self) -> str:
        """The message that drops what is queued and brings every pending mark back."""

    @property
    def shortest_ms(self) -> float:
        """The shortest sound the carrier takes in one message (0.0: any)."""

    @property
    def ends_call(self) -> bool:
        """Whether closing the stream ends the call."""

    @property
    def presses_keys(self) -> bool:
        """Whether a request of the carrier presses keys while the stream goes on."""

    def read(self, text: str, /) -> object:
        """One message of the carrier: a `StreamMessage`, or one that a running stream need not know. Raises WireError."""

    def sound(self, payload: str, /) -> bytes:
        """The sound of a frame. Raises WireError."""

    def media(self, sound: bytes | memoryview, /) -> str:
        """The message that queues sound."""

    def mark(self, name: str, /) -> str:
        """The message that asks for a mark behind everything queued."""


class StreamTransport:
    """The caller's side of one call on a media stream. `feed` it the messages after `start`."""

    def __init__(
        self, call_id: str, wire: StreamWire, socket: Socket, clock: Clock, control: CarrierControl | None = None
    ) -> None:
        self.call_id = call_id
        self._wire = wire
        self._read, self._sound = wire.read, wire.sound
        self._hears, self._plays = wire.hears, wire.plays
        self._sample = self._hears.sample_bytes
        self._shortest = self._plays.bytes_for(wire.shortest_ms)
        carried = control is not None
        self._abilities = Abilities(
            self._hears, self._plays, digits_out=carried or not wire.presses_keys, transfer=carried, announce=carried
        )
        self._socket = socket
        self._clock = clock
        self._control = control
        self._frames: CallerFrames | None = None
        self._order = Reorderer()
        self._meter = LineMeter()
        self._arrived = self._meter.arrived
        self._sounding = 0  # the reply that is being played and made at once
        self._underruns = 0
        self._playhead = Playhead()
        self._until_mark = FIRST_MARK_MS
        self._current = 0
        self._tail = b""  # of the current reply: too short to be sent alone
        self._tail_at = 0.0
        self._keys_ms = 0.0
        self._watch: TimerHandle | None = None
        self._said: Mailbox[TransportSignal] = Mailbox()
        self._handed_over = False
        self._stopped = False
        self._over = False
        self._open = True
        self.malformed = 0
        """How many messages of the carrier could not be read."""
        self.refused = 0
        """How many of ours the carrier could not use."""

    @property
    def abilities(self) -> Abilities:
        return self._abilities

    # ----------------------------------------------------------------- from the carrier

    def listen(self, ear: Ear) -> None:
        """Give the caller's frames to `ear`, synchronously, from now on: one by one, or in pairs (see `CallerFrames`)."""
        if self._frames is not None:
            self._frames.close()
        self._frames = None if self._over else CallerFrames(ear, self._hears)

    def feed(self, text: str) -> None:
        """One text frame of the media socket, as it came. Never raises for what a carrier may send."""
        if self._over:
            return
        try:
            message = self._read(text)
            if type(message) is Media:
                if message.track == "inbound":
                    self._arrived(message.timestamp, self._clock.now())
                    order = self._order
                    if message.chunk == order.due:
                        order.due += 1
                        if (frames := self._frames) is not None:
                            payload = message.payload
                            frames.hear(self._sound(payload), payload if self._sample == 1 else "")
                    else:
                        self._put_in_order(message)
                return
        except WireError as problem:
            self._complain(problem)
            return
        match message:
            case Mark(name):
                self._tell(self._playhead.marked(name, self._clock.now()))
            case Dtmf(digit):
                self._said.put(DigitPressed(digit))
            case StreamError():
                self._take_refusal(message)
            case Stop():
                self._stopped = True
                self._hear_all(self._order.rest(), 0)
                self._end(HungUp("caller_hung_up"))

    def _put_in_order(self, frame: Media) -> None:
        sound = self._sound(frame.payload)
        if len(sound) % self._sample:
            raise WireError("media ends inside a sample")
        self._hear_all(self._order.take(frame.chunk, sound), len(sound))

    def _hear_all(self, frames: list[bytes | None], size: int) -> None:
        """Frames in order; a lost one becomes silence of a frame's `size`, so that the caller's time goes on."""
        if self._frames is None:
            return
        for frame in frames:
            sound = self._hears.silence * (size // self._sample) if frame is None else frame
            self._frames.hear(sound)

    def _complain(self, problem: WireError) -> None:
        self.malformed += 1
        if self.malformed == 1:  # one line a call: a broken peer sends fifty a second
            log.warning("unreadable message from the carrier", extra={"call_id": self.call_id, "why": str(problem)})

    def _take_refusal(self, error: StreamError) -> None:
        self.refused += 1
        if self.refused == 1:
            why = f"{error.code} {error.title}: {error.detail}"[:200]
            log.warning("the carrier could not use what we sent", extra={"call_id": self.call_id, "why": why})

    def lost(self, detail: str = "") -> None:
        """The media socket is gone. Without a `stop` before it, the line is lost (says nothing after an orderly end)."""
        self._open = False
        self._end(HungUp("line_lost", detail or "The media socket broke without a goodbye from the carrier."))

    def machine_detected(self, answered_by: AnsweredBy, ready: bool = True) -> None:
        """The carrier's verdict on who answered; see `MachineDetected`."""
        self._said.put(MachineDetected(answered_by, ready))

    # ----------------------------------------------------------------- what the caller's side says

    def signals(self) -> AsyncIterator[TransportSignal]:
        """What the caller's side says, until it hangs up (the last one is `HungUp`). For one reader."""
        return aiter(self._said)

    def _tell(self, playout: tuple[Playout, ...]) -> None:
        for signal in playout:
            if signal.reply_id != KEYS:
                self._said.put(signal)

    def _end(self, how: HungUp) -> None:
        if self._frames is not None:
            self._frames.close()
        self._said.put(how)  # dropped, if the caller's side has ended before
        self._said.close()
        self._over = True
        self._unwatch()

    # ----------------------------------------------------------------- to the carrier

    def play(self, chunk: AudioChunk, reply_id: int, at_ms: float) -> float:
        """Queue sound at the carrier; see `Transport.play`. Raises ValueError for a format that is not the line's."""
        if chunk.format != self._plays:
            raise ValueError(f"this line plays {self._plays}, not {chunk.format}")
        if reply_id != self._sounding:
            self._sounding = reply_id
        elif self._playhead.dry_ms(self._clock.now()) >= DRY_MS:
            self._underruns += 1
        if reply_id != self._current:
            self._send_tail()
            self._current, self._until_mark = reply_id, FIRST_MARK_MS
        if not self._tail:
            return self._queue(chunk.data, reply_id, at_ms)
        waiting_ms = self._plays.ms_of(len(self._tail))
        sound, self._tail = self._tail + chunk.data, b""
        return self._queue(sound, reply_id, self._tail_at) + waiting_ms / 1000

    def _queue(self, sound: bytes, reply_id: int, at_ms: float) -> float:
        """Send sound with its marks; what is too short for the carrier waits for more. Returns when it should be heard."""
        now = self._clock.now()
        starts_at: float | None = None
        left, position = memoryview(sound), 0.0
        while len(left) > 0 and len(left) >= self._shortest:
            piece = left[: self._piece(len(left))]
            ms = self._plays.ms_of(len(piece))
            expected = self._playhead.sent(reply_id, at_ms + position, ms, now)
            if starts_at is None:
                starts_at = expected
            self._send(self._wire.media(piece))
            position += ms
            self._until_mark -= ms
            if self._until_mark < 1.0:
                self._send_mark(reply_id)
            left = left[len(piece) :]
        if left:
            self._tail, self._tail_at = bytes(left), at_ms + position
        elif position > MARK_EVERY_MS and self._until_mark < MARK_EVERY_MS:
            self._send_mark(reply_id)  # so much at once is a sentence, and this its end
        return now + self._playhead.queued_ms(now) / 1000 if starts_at is None else starts_at

    def _piece(self, left: int) -> int:
        """How many of the bytes that are left go out in one message: up to the next mark, but never too few."""
        piece = max(self._plays.bytes_for(self._until_mark), self._shortest)
        return left if left - piece < max(1, self._shortest) else piece

    def _send_mark(self, reply_id: int) -> None:
        self._until_mark = MARK_EVERY_MS
        self._send(self._wire.mark(self._playhead.mark(reply_id)))

    def _send_tail(self) -> None:
        """What waited for more goes out, filled up with silence. Only the sound counts as heard."""
        if self._tail:
            tail, self._tail = self._tail, b""
            filling = (self._shortest - len(tail)) // self._plays.sample_bytes
            self._playhead.sent(self._current, self._tail_at, self._plays.ms_of(len(tail)), self._clock.now())
            self._send(self._wire.media(tail + self._plays.silence * filling))

    def finish(self, reply_id: int) -> None:
        """No more sound will come for this reply; `PlayoutEnded` follows when its last mark is back."""
        self._send_tail()
        self._send(self._wire.mark(self._playhead.mark(reply_id, last=True)))
        self._until_mark = FIRST_MARK_MS
        self._sounding = 0
        self._unwatch()
        if not self._over:
            self._watch_after(self._playhead.queued_ms(self._clock.now()))

    def _watch_after(self, ms: float) -> None:
        """One timer a reply: a carrier that loses the last mark may not leave the agent speaking for ever."""
        self._watch = self._clock.call_later((ms + OVERDUE_MS) / 1000 + 0.1, self._give_up_on_marks)

    def _give_up_on_marks(self) -> None:
        now = self._clock.now()
        self._watch = None
        self._tell(self._playhead.overdue(now))
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
        now = self._clock.now()
        reply_id, heard = self._playhead.cleared(now)
        self._send(self._wire.clear)
        self._until_mark = FIRST_MARK_MS
        self._tail, self._sounding = b"", 0
        self._unwatch()
        return heard if reply_id != KEYS else self._playhead.heard_ms(self._current, now)

    def heard_ms(self, reply_id: int) -> float:
        """How much of the reply's timeline has been heard by now, within about 100 ms."""
        return self._playhead.heard_ms(reply_id, self._clock.now())

    def quality(self) -> LineStats:
        """How the stream did so far: what came of the caller's frames, and how often the agent's sound ran dry."""
        meter, order = self._meter, self._order
        return LineStats(meter.frames, order.lost, order.dropped, meter.jitter_ms, self._underruns)

    def _send(self, text: str) -> None:
        if self._open and not self._over:
            self._socket.send(text)

    # ----------------------------------------------------------------- what else can be done to the call

    async def send_digits(self, digits: str) -> None:
        """Press keys: by the carrier, or as tones behind what is being said. Raises PatterError, ValueError for no keys."""
        if self._wire.presses_keys:
            await self._controlled("send digits").send_digits(digits)
            return
        self._send_tail()
        sound = tones(digits, self._plays)
        self._queue(sound, KEYS, self._keys_ms)
        self._keys_ms += self._plays.ms_of(len(sound))

    async def transfer(self, number: str, summary: str = "") -> None:
        """Hand the call to `number`. Raises PatterError on a line without carrier control.

        The stream may end, as if the caller had hung up, before the carrier says that it has done so."""
        await self._controlled("transfer a call").transfer(number, summary)
        self._handed_over = True

    async def announce(self, text: str) -> None:
        """Let the carrier say `text` and end the call. Raises PatterError on a line without carrier control."""
        await self._controlled("speak by itself").announce(text)
        self._handed_over = True

    def _controlled(self, wish: str) -> CarrierControl:
        if self._control is None:
            raise PatterError(
                f"This line cannot {wish}: a rehearsal has no carrier behind it. Use a real phone number."
            )
        return self._control

    async def hang_up(self) -> None:
        """End the call, wherever that has to be said; what was queued is dropped. One that was handed over goes on."""
        left = self._stopped or self._handed_over
        try:
            if self._control is not None and not self._wire.ends_call and not left:
                self._send(self._wire.clear)
                await self._control.hang_up()
        except PatterError as problem:
            log.warning("the carrier did not hang up", extra={"call_id": self.call_id, "why": str(problem)})
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the stream. `signals` ends, if the caller's side has not ended it before."""
        self._end(HungUp("agent_ended"))
        if self._open:
            self._open = False
            self._socket.close()
