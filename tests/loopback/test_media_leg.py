"""The carrier's end of a stream against our own transport, both in virtual time: exact to the millisecond."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest

from patter.audio.format import MULAW_8K, AudioChunk
from patter.loopback.media_leg import MediaLeg
from patter.signals import DigitPressed, HungUp, PlayoutAdvanced, PlayoutEnded, PlayoutStarted, TransportSignal
from patter.transports.media_stream import StreamTransport
from patter.wire import twilio
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio

from_server = partial(twilio.read_server, stream_sid="MZ1")


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


class Pair:
    """A leg and a transport, joined by a wire without latency."""

    def __init__(self) -> None:
        self.clock = virtual_clock()
        self.spoken: list[bytes] = []
        self.heard: list[tuple[float, bytes]] = []
        self.texts: list[tuple[float, str]] = []
        writer = twilio.CarrierWriter("MZ1", "AC1", "CA1")
        self.leg = MediaLeg(writer, MULAW_8K, self.clock, self.mouth, self.ear, read=from_server)
        self.start: twilio.Start | None = None
        self.transport: StreamTransport | None = None
        self.signals: list[TransportSignal] = []
        self.frames: list[AudioChunk] = []

    def mouth(self) -> bytes:
        return self.spoken.pop(0) if self.spoken else b""

    def ear(self, frame: bytes) -> None:
        self.heard.append((self.clock.now(), frame))

    async def to_server(self, text: str) -> None:
        self.texts.append((self.clock.now(), text))
        message = twilio.read(text)
        if isinstance(message, twilio.Start):
            self.start = message
            self.transport = StreamTransport(message.call_sid, twilio.TwilioStream(message), self, self.clock)
            self.transport.listen(self.frames.append)
        elif self.transport is not None:
            self.transport.feed(text)

    def send(self, text: str) -> None:
        self.leg.receive(text)

    def close(self) -> None:
        self.leg.server_gone()

    def play(self, ms: float, reply_id: int = 1, at_ms: float = 0.0) -> None:
        assert self.transport is not None
        self.transport.play(AudioChunk(b"\x40" * MULAW_8K.bytes_for(ms), MULAW_8K), reply_id, at_ms)


@asynccontextmanager
async def talking(parameters: dict[str, str] | None = None) -> AsyncIterator[Pair]:
    """A call that is up; hangs up at the end."""
    pair = Pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pair.leg.run, pair.to_server, parameters)
        await anyio.sleep(0.001)
        yield pair
        pair.leg.hang_up()
    assert pair.transport is not None
    pair.transport.lost()
    pair.signals = [signal async for signal in pair.transport.signals()]
    assert pair.leg.violations == []


async def test_frames_leave_on_an_absolute_clock_with_running_numbers() -> None:
    async with talking({"token": "t"}) as pair:
        began = pair.clock.now()
        await anyio.sleep(1.0)
    media = [(at, json.loads(text)) for at, text in pair.texts if '"media"' in text and '"mediaFormat"' not in text]
    assert len(media) == 50
    for number, (at, message) in enumerate(media, 1):
        assert at == pytest.approx(began - 0.001 + 0.02 * number)
        assert message["sequenceNumber"] == str(number + 1)
        assert message["media"]["chunk"] == str(number)
        assert message["media"]["timestamp"] == str(20 * number)
    assert pair.start is not None
    assert pair.start.parameters == {"token": "t"}
    assert pair.leg.stats.frames_sent == 50
    assert pair.leg.stats.slips == 0


async def test_the_caller_is_heard_and_pauses_are_silence() -> None:
    async with talking() as pair:
        pair.spoken = [b"\x01" * 160, b"\x02" * 100]
        await anyio.sleep(0.07)
    assert [chunk.data for chunk in pair.frames] == [b"\x01" * 160, b"\x02" * 100 + b"\xff" * 60, b"\xff" * 160]


async def test_playout_is_real_time_and_marks_tell_it_within_a_frame() -> None:
    async with talking() as pair:
        sent_at = pair.clock.now()
        pair.play(1_000)
        assert pair.transport is not None
        pair.transport.finish(1)
        await anyio.sleep(0.5)
        assert pair.transport.heard_ms(1) == pytest.approx(500, abs=40)
        await anyio.sleep(0.7)
    loud = [at for at, frame in pair.heard if frame[0] == 0x40]
    assert loud[-1] - loud[0] == pytest.approx(0.98)
    started, *advanced, ended, _ = pair.signals
    assert isinstance(started, PlayoutStarted)
    assert started.at == pytest.approx(sent_at + 0.02, abs=0.021)
    assert [round(signal.heard_ms) for signal in advanced if isinstance(signal, PlayoutAdvanced)] == [
        60,
        460,
        860,
        1000,  # the end of so much sound at once ...
        1000,  # ... and of the reply
    ]
    assert isinstance(ended, PlayoutEnded)
    assert ended.at == pytest.approx(sent_at + 1.02, abs=0.021)


async def test_a_clear_stops_the_ear_at_once_and_returns_every_mark() -> None:
    async with talking() as pair:
        pair.play(3_000)
        assert pair.transport is not None
        pair.transport.finish(1)
        await anyio.sleep(0.5)
        marks_before = sum('"mark"' in text for _, text in pair.texts)
        heard = pair.transport.clear()
        await anyio.sleep(0.001)
        assert sum('"mark"' in text for _, text in pair.texts) - marks_before == 8
        await anyio.sleep(0.5)
        assert pair.leg.queued_ms == 0.0
    loud = [at for at, frame in pair.heard if frame[0] == 0x40]
    assert len(loud) * 20 == pytest.approx(heard, abs=40)
    assert not any(isinstance(signal, PlayoutEnded) for signal in pair.signals)


async def test_keys_and_the_goodbye_reach_the_server() -> None:
    async with talking() as pair:
        pair.leg.press("4")
        pair.leg.press("#")
        await anyio.sleep(0.001)
    assert pair.signals == [DigitPressed("4"), DigitPressed("#"), HungUp("caller_hung_up")]


async def test_the_leg_ends_without_goodbye_when_the_server_closes() -> None:
    pair = Pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pair.leg.run, pair.to_server, None)
        await anyio.sleep(0.1)
        assert pair.transport is not None
        await pair.transport.hang_up()
    assert '"stop"' not in pair.texts[-1][1]


async def test_a_server_that_is_gone_in_the_middle_of_a_frame_ends_the_leg() -> None:
    pair = Pair()

    async def broken(text: str) -> None:
        if '"chunk":"3"' in text:
            raise ConnectionResetError
        await pair.to_server(text)

    await pair.leg.run(broken)
    assert pair.leg.stats.frames_sent == 2
    assert pair.transport is not None
    pair.transport.lost()


async def test_a_device_with_a_clock_pulls_and_marks_wait_for_its_delay() -> None:
    clock = virtual_clock()
    texts: list[tuple[float, str]] = []

    async def send(text: str) -> None:
        texts.append((clock.now(), text))

    leg = MediaLeg(
        twilio.CarrierWriter("MZ1", "AC1", "CA1"), MULAW_8K, clock, bytes, ear_delay_s=0.06, read=from_server
    )
    server = twilio.StreamWriter("MZ1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leg.run, send)
        await anyio.sleep(0.001)
        leg.receive(server.media(b"\x40" * 320))
        leg.receive(server.mark("a"))
        for _ in range(2):
            assert leg.next_frame() == b"\x40" * 160
        reached = clock.now()
        leg.next_frame()
        await anyio.sleep(0.2)
        leg.hang_up()
    assert [at for at, text in texts if '"mark"' in text] == [pytest.approx(reached + 0.06)]
    assert leg.stats.frames_heard == 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"event":"media","streamSid":"MZ9","media":{"payload":"/w=="}}', "'MZ9' instead of"),
        ('{"event":"hello","streamSid":"MZ1"}', "not one a server may send"),
        (twilio.StreamWriter("MZ1").media(b"RIFF1234WAVE"), "WAV header"),
    ],
)
async def test_what_a_carrier_would_refuse_is_collected(text: str, why: str) -> None:
    writer = twilio.CarrierWriter("MZ1", "AC1", "CA1")
    leg = MediaLeg(writer, MULAW_8K, virtual_clock(), bytes, lambda _: None, read=from_server)
    leg.receive(text)
    leg.receive_binary()
    assert why in leg.violations[0]
    assert "binary" in leg.violations[1]
