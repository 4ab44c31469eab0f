"""Every line a media stream can be, with both of its ends: our wire and the carrier's chair.

They own how each carrier is set up for a test; they refuse to know transports and what is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_16K, AudioFormat
from patter.transports.media_stream import StreamWire
from patter.wire import telnyx, twilio
from patter.wire.stream import ServerMessage


class Chair(Protocol):
    """What a carrier writes, whoever it is."""

    def connected(self) -> str: ...

    def start(self, parameters: Mapping[str, str] | None = None) -> str: ...

    def media(self, sound: bytes, timestamp_ms: int) -> str: ...

    def dtmf(self, digit: str) -> str: ...

    def mark(self, name: str) -> str: ...

    def stop(self) -> str: ...


@dataclass(frozen=True)
class LineKind:
    """One sort of line. `wire` and `chair` are made anew for each call; `read` is the carrier's strict reader."""

    name: str
    hears: AudioFormat
    plays: AudioFormat
    wire: Callable[[], StreamWire]
    chair: Callable[[], Chair]
    read: Callable[[str], ServerMessage]

    def __str__(self) -> str:
        return self.name


def _twilio(name: str, audio: AudioFormat) -> LineKind:
    start = twilio.Start("MZ1", "AC1", "CA1", audio)
    return LineKind(
        name,
        audio,
        audio,
        lambda: twilio.TwilioStream(start),
        lambda: twilio.CarrierWriter("MZ1", "AC1", "CA1", audio),
        lambda text: twilio.read_server(text, "MZ1"),
    )


def _telnyx(name: str, hears: AudioFormat, plays: AudioFormat) -> LineKind:
    start = telnyx.Start("s-1", "v3:a", hears)
    return LineKind(
        name,
        hears,
        plays,
        lambda: telnyx.TelnyxStream(start, plays),
        lambda: telnyx.CarrierWriter("s-1", "v3:a", hears),
        partial(telnyx.read_server, plays=plays),
    )


TWILIO = _twilio("twilio", MULAW_8K)
TELNYX = _telnyx("telnyx", MULAW_8K, MULAW_8K)
LINES = [
    TWILIO,
    _twilio("twilio A-law", ALAW_8K),
    _twilio("twilio L16", PCM_16K),
    TELNYX,
    _telnyx("telnyx PCMA", ALAW_8K, ALAW_8K),
    _telnyx("telnyx L16", PCM_16K, PCM_16K),
    _telnyx("telnyx PCMA in, L16 out", ALAW_8K, PCM_16K),
]
