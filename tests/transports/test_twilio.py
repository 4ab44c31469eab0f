"""A Twilio call as a transport: what the carrier sends comes out as sound and signals, what is played goes out marked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import anyio
import pytest

from patter.audio.format import MULAW_8K, PCM_16K, AudioChunk
from patter.exceptions import PatterError
from patter.signals import DigitPressed, HungUp, PlayoutAdvanced, PlayoutEnded, PlayoutStarted, TransportSignal
from patter.transports.twilio import TwilioTransport
from patter.wire import twilio
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


class Wire:
    """A socket that keeps what was sent."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.closed = 0

    def send(self, text: str) -> None:
        self.texts.append(text)

    def close(self) -> None:
        self.closed += 1

    def take(self) -> list[twilio.ServerMessage]:
        taken = [twilio.read_server(text, "MZ1") for text in self.texts]
        self.texts.clear()
        return taken


class Rest:
    """The carrier's REST side of a call."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def send_digits(self, digits: str) -> None:
        self.asked.append(("digits", digits))

    async def transfer(self, number: str) -> None:
        self.asked.append(("transfer", number))


START = twilio.Start("MZ1", "AC1", "CA1", MULAW_8K)
CARRIER = twilio.CarrierWriter("MZ1", "AC1", "CA1")


class Call:
    def __init__(self, start: twilio.Start = START, rest: Rest | None = None) -> None:
        self.wire, self.clock = Wire(), virtual_clock()
        self.transport = TwilioTransport(start, self.wire, self.clock, rest)

    def play(self, ms: float, reply_id: int = 1, at_ms: float = 0.0) -> float:
        return self.transport.play(AudioChunk(MULAW_8K.quiet(ms), MULAW_8K), reply_id, at_ms)

    def marks(self) -> list[str]:
        return [message.name for message in self.wire.take() if isinstance(message, twilio.Mark)]

    async def said(self) -> list[TransportSignal]:
        """Everything said until the end; the call is closed for it."""
        await self.transport.aclose()
        return [signal async for signal in self.transport.signals()]


@pytest.fixture
async def call() -> AsyncIterator[Call]:
    one = Call()
    yield one
    await one.transport.aclose()


async def test_a_frame_reaches_the_ear_before_feed_returns(call: Call) -> None:
    heard: list[AudioChunk] = []
    call.transport.listen(heard.append)
    call.transport.feed(CARRIER.media(b"\x7f" * 160, 20))
    assert heard == [AudioChunk(b"\x7f" * 160, MULAW_8K)]


async def test_only_the_callers_track_is_heard(call: Call) -> None:
    heard: list[AudioChunk] = []
    call.transport.listen(heard.append)
    call.transport.feed(CARRIER.media(b"\x7f" * 160, 20).replace('"inbound"', '"outbound"'))
    assert heard == []


async def test_a_wideband_line_hears_and_plays_pcm() -> None:
    call = Call(twilio.Start("MZ1", "AC1", "CA1", PCM_16K))
    heard: list[AudioChunk] = []
    call.transport.listen(heard.append)
    assert call.transport.abilities.hears == call.transport.abilities.plays == PCM_16K
    call.transport.feed(CARRIER.media(b"\x01\x02" * 320, 20))
    assert heard == [AudioChunk(b"\x01\x02" * 320, PCM_16K)]
    call.transport.feed(CARRIER.media(b"\x01" * 5, 20))
    assert call.transport.malformed == 1
    call.transport.play(AudioChunk(b"\x03\x04" * 320, PCM_16K), 1, 0.0)
    assert call.wire.take() == [twilio.Play(b"\x03\x04" * 320)]


async def test_sound_in_another_format_is_a_mistake_of_ours(call: Call) -> None:
    with pytest.raises(ValueError, match="this line plays"):
        call.transport.play(AudioChunk(bytes(640), PCM_16K), 1, 0.0)


async def test_unreadable_messages_are_counted_and_harm_nothing(call: Call) -> None:
    heard: list[AudioChunk] = []
    call.transport.listen(heard.append)
    for text in ("", "{", '{"event":"media"}', '{"event":"media","media":{"payload":"?"}}', '{"event":"news"}'):
        call.transport.feed(text)
    call.transport.feed(CARRIER.media(b"\xff" * 160, 40))
    assert call.transport.malformed == 4
    assert len(heard) == 1


async def test_a_long_chunk_goes_out_at_once_with_a_mark_early_and_then_every_400_ms(call: Call) -> None:
    call.play(1_000)
    sizes = [len(message.sound) // 8 if isinstance(message, twilio.Play) else "mark" for message in call.wire.take()]
    assert sizes == [60, "mark", 400, "mark", 400, "mark", 140]


async def test_small_frames_are_marked_as_often(call: Call) -> None:
    for index in range(50):
        call.play(20, at_ms=20.0 * index)
    kinds = ["mark" if isinstance(message, twilio.Mark) else "" for message in call.wire.take()]
    assert [index for index, kind in enumerate(kinds) if kind] == [3, 24, 45]


async def test_play_tells_when_the_sound_will_be_heard(call: Call) -> None:
    now = call.clock.now()
    assert call.play(1_000) == pytest.approx(now)
    assert call.play(500, at_ms=1_000) == pytest.approx(now + 1.0)
    assert call.play(500, reply_id=2) == pytest.approx(now + 1.5)


async def test_start_progress_and_end_of_a_reply_are_those_of_the_ear(call: Call) -> None:
    sent_at = call.clock.now()
    call.play(460)
    call.transport.finish(1)
    early, middle, last = call.marks()
    await anyio.sleep(0.09)
    call.transport.feed(CARRIER.mark(early))
    await anyio.sleep(0.4)
    call.transport.feed(CARRIER.mark(middle))
    call.transport.feed(CARRIER.mark(last))
    ended_at = call.clock.now()
    started, first, second, _, ended, gone = await call.said()
    assert started == PlayoutStarted(1, pytest.approx(sent_at + 0.03))
    assert first == PlayoutAdvanced(1, pytest.approx(60), pytest.approx(sent_at + 0.09))
    assert second == PlayoutAdvanced(1, pytest.approx(460), ended_at)
    assert ended == PlayoutEnded(1, ended_at)
    assert isinstance(gone, HungUp)


async def test_a_clear_says_how_much_was_heard_and_the_marks_it_flushes_say_nothing(call: Call) -> None:
    call.play(2_000)
    early, *later = call.marks()
    await anyio.sleep(0.06)
    call.transport.feed(CARRIER.mark(early))
    await anyio.sleep(0.2)
    assert call.transport.clear() == pytest.approx(260)
    assert call.wire.take() == [twilio.Clear()]
    for name in later:
        call.transport.feed(CARRIER.mark(name))
    await anyio.sleep(1)
    assert call.transport.heard_ms(1) == pytest.approx(260)
    assert [type(signal) for signal in await call.said()] == [PlayoutStarted, PlayoutAdvanced, HungUp]


async def test_after_a_clear_the_next_sound_is_marked_early_again(call: Call) -> None:
    call.play(500)
    call.transport.clear()
    call.wire.take()
    call.play(100, at_ms=200)
    assert [type(message) for message in call.wire.take()] == [twilio.Play, twilio.Mark, twilio.Play]


async def test_a_carrier_that_loses_the_last_mark_does_not_hold_the_floor_for_ever(call: Call) -> None:
    call.play(300)
    call.transport.finish(1)
    await anyio.sleep(2.0)
    assert call.transport.heard_ms(1) == pytest.approx(60)
    await anyio.sleep(1.0)
    assert call.transport.heard_ms(1) == pytest.approx(300)
    kinds = [type(signal) for signal in await call.said()]
    assert kinds == [PlayoutStarted, PlayoutAdvanced, PlayoutAdvanced, PlayoutEnded, HungUp]


async def test_keys_and_the_goodbye_are_signals(call: Call) -> None:
    call.transport.feed(CARRIER.dtmf("5"))
    call.transport.feed(CARRIER.dtmf("#"))
    call.transport.feed(CARRIER.stop())
    call.transport.lost()
    assert await call.said() == [DigitPressed("5"), DigitPressed("#"), HungUp("caller_hung_up")]
    assert call.wire.closed == 0


async def test_a_socket_that_breaks_without_goodbye_is_a_lost_line(call: Call) -> None:
    call.transport.lost("connection reset")
    assert await call.said() == [HungUp("line_lost", "connection reset")]
    call.play(20)
    call.transport.finish(1)
    assert call.wire.texts == []


async def test_hanging_up_closes_the_stream_once_and_ends_the_signals(call: Call) -> None:
    async with anyio.create_task_group() as tasks:

        async def read() -> None:
            async for signal in call.transport.signals():
                assert signal == HungUp("agent_ended")

        tasks.start_soon(read)
        await anyio.sleep(0.1)
        await call.transport.hang_up()
        await call.transport.aclose()
    assert call.wire.closed == 1


async def test_a_rehearsal_line_cannot_transfer_or_send_digits_and_says_so(call: Call) -> None:
    assert not call.transport.abilities.transfer
    with pytest.raises(PatterError, match="cannot transfer"):
        await call.transport.transfer("+14155550123")
    with pytest.raises(PatterError, match="cannot send digits"):
        await call.transport.send_digits("1")


async def test_a_line_with_a_carrier_behind_it_transfers_and_sends_digits() -> None:
    rest = Rest()
    call = Call(rest=rest)
    await call.transport.send_digits("1w2#")
    await call.transport.transfer("+14155550123")
    assert rest.asked == [("digits", "1w2#"), ("transfer", "+14155550123")]


async def test_what_goes_out_is_what_a_carrier_accepts(call: Call) -> None:
    call.transport.play(AudioChunk(bytes(range(256)) * 4, MULAW_8K), 1, 0.0)
    assert all(json.loads(text)["streamSid"] == "MZ1" for text in call.wire.texts)
    played = b"".join(message.sound for message in call.wire.take() if isinstance(message, twilio.Play))
    assert played == bytes(range(256)) * 4
