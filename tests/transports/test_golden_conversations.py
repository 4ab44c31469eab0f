"""One conversation on each carrier's wire, compared byte by byte with what is stored, and the same call for whoever listens.

A greeting is interrupted, frames overtake each other, a key is pressed, an answer is heard out, the caller hangs up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio
import pytest

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_16K, AudioChunk, AudioFormat
from patter.signals import (
    DigitPressed,
    HungUp,
    PlayoutAdvanced,
    PlayoutEnded,
    PlayoutStarted,
    TransportSignal,
)
from patter.transports.media_stream import StreamTransport, StreamWire
from patter.wire import telnyx, twilio
from tests.support.traces import rows
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


def on_twilio(text: str) -> StreamWire:
    start = twilio.read(text)
    assert isinstance(start, twilio.Start)
    return twilio.TwilioStream(start)


def on_telnyx(plays: AudioFormat) -> Callable[[str], StreamWire]:
    def wire(text: str) -> StreamWire:
        start = telnyx.read(text)
        assert isinstance(start, telnyx.Start)
        return telnyx.TelnyxStream(start, plays)

    return wire


def twilio_chair() -> twilio.CarrierWriter:
    return twilio.CarrierWriter("MZ" + "d4" * 16, "AC" + "0e" * 16, "CA" + "91" * 16)


def telnyx_chair(audio: AudioFormat) -> telnyx.CarrierWriter:
    return telnyx.CarrierWriter(
        "2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d",
        "v3:Qm_4-x:1",
        audio,
        call_session_id="6d6b0f00-1111-4222-8333-000000000001",
        user_id="aa6b0f00-1111-4222-8333-000000000002",
        caller="+4930555010",
        callee="+12025550147",
        client_state="bGVnLTc=",
    )


@dataclass(frozen=True)
class Setting:
    """Where the conversation takes place."""

    carrier: str
    trace: str
    chair: Callable[[], twilio.CarrierWriter | telnyx.CarrierWriter]
    wire: Callable[[str], StreamWire]

    def __str__(self) -> str:
        return f"{self.carrier} {self.trace}"


SETTINGS = [
    Setting("twilio", "conversation", twilio_chair, on_twilio),
    Setting("telnyx", "conversation_pcmu", lambda: telnyx_chair(MULAW_8K), on_telnyx(MULAW_8K)),
    Setting("telnyx", "conversation_pcma", lambda: telnyx_chair(ALAW_8K), on_telnyx(ALAW_8K)),
    Setting("telnyx", "conversation_pcma_in_l16_out", lambda: telnyx_chair(ALAW_8K), on_telnyx(PCM_16K)),
]


class Played:
    """The conversation as it goes: every text of both sides in order, what was heard and what was told."""

    def __init__(self, setting: Setting) -> None:
        self.texts: list[dict[str, str]] = []
        self.heard: list[int] = []
        self.chair = setting.chair()
        self.clock = virtual_clock()
        self.says(self.chair.connected())
        start = self.says(self.chair.start({"stream_token": "k3-_9"}))
        self.transport = StreamTransport("call-1", setting.wire(start), self, self.clock)
        self.transport.listen(lambda chunk: self.heard.append(chunk.data[0]))

    def says(self, text: str) -> str:
        """The carrier says something that nobody feeds on."""
        self.texts.append({"carrier": text})
        return text

    def feed(self, text: str) -> None:
        self.transport.feed(self.says(text))

    def frame(self, number: int) -> str:
        hears = self.transport.abilities.hears
        assert hears is not None
        return self.chair.media(bytes([number]) * hears.bytes_for(20), 20 * number)

    def send(self, text: str) -> None:
        self.texts.append({"server": text})

    def close(self) -> None:
        """Nobody hangs up here but the caller."""

    def play(self, reply_id: int, ms: float) -> None:
        plays = self.transport.abilities.plays
        assert plays is not None
        size = plays.bytes_for(ms)
        self.transport.play(AudioChunk(bytes(n % 251 for n in range(size)), plays), reply_id, 0.0)
        self.transport.finish(reply_id)


async def converse(setting: Setting) -> tuple[Played, list[TransportSignal]]:
    call = Played(setting)
    call.feed(call.frame(1))
    call.play(1, 100)
    await anyio.sleep(0.06)
    call.feed(call.chair.mark("0.1"))
    third, fourth = call.frame(2), call.frame(3)
    call.feed(fourth)
    call.feed(third)
    await anyio.sleep(0.02)
    assert call.transport.clear() == pytest.approx(80)
    call.feed(call.chair.mark("0.2"))
    call.feed(call.chair.dtmf("4"))
    call.play(2, 45)
    await anyio.sleep(0.045)
    call.feed(call.chair.mark("1.3"))
    call.feed(call.frame(4))
    call.feed(call.chair.stop())
    await call.transport.aclose()
    return call, [signal async for signal in call.transport.signals()]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
async def test_both_sides_say_what_is_stored_byte_by_byte(setting: Setting) -> None:
    call, _ = await converse(setting)
    assert call.texts == rows(setting.carrier, setting.trace)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
async def test_it_is_the_same_call_whoever_carries_it(setting: Setting) -> None:
    call, told = await converse(setting)
    assert call.heard == [1, 2, 3, 4]
    assert [(type(signal), getattr(signal, "reply_id", 0)) for signal in told] == [
        (PlayoutStarted, 1),
        (PlayoutAdvanced, 1),
        (DigitPressed, 0),
        (PlayoutStarted, 2),
        (PlayoutAdvanced, 2),
        (PlayoutEnded, 2),
        (HungUp, 0),
    ]
    assert told[-1] == HungUp("caller_hung_up")
