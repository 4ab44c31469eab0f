"""A stranger's opinion: pipecat's serializers read what our carriers say, and write what our servers write."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from patter.audio.format import ALAW_8K, MULAW_8K, AudioFormat
from patter.audio.g711 import alaw_decode, alaw_encode, mulaw_decode, mulaw_encode
from patter.transports.media_stream import StreamWire
from patter.wire import telnyx, twilio

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own dependencies are not ours to mend
    from pipecat.frames.frames import InputAudioRawFrame, InputDTMFFrame, InterruptionFrame, OutputAudioRawFrame
    from pipecat.serializers.telnyx import TelnyxFrameSerializer
    from pipecat.serializers.twilio import TwilioFrameSerializer

pytestmark = pytest.mark.anyio

ENCODE = {"mulaw": mulaw_encode, "alaw": alaw_encode}
DECODE = {"mulaw": mulaw_decode, "alaw": alaw_decode}
VOICE = (
    (9000 * np.sin(np.arange(1600) / 5) + 4000 * np.sin(np.arange(1600) / 1.3) + np.arange(1600) % 7)
    .astype("<i2")
    .tobytes()
)
EVERY_CODE = bytes(range(256)) * 5

CASES = [
    pytest.param("twilio", MULAW_8K, id="twilio"),
    pytest.param("telnyx", MULAW_8K, id="telnyx PCMU"),
    pytest.param("telnyx", ALAW_8K, id="telnyx PCMA"),
]


async def judge(carrier: str, audio: AudioFormat) -> Any:
    """Pipecat's serializer for a line, at the line's own rate: nothing is resampled."""
    if carrier == "twilio":
        params = TwilioFrameSerializer.InputParams(auto_hang_up=False)
        serializer: Any = TwilioFrameSerializer("MZ1", params=params)
    else:
        codec = "PCMU" if audio == MULAW_8K else "PCMA"
        params = TelnyxFrameSerializer.InputParams(auto_hang_up=False)
        serializer = TelnyxFrameSerializer("s-1", codec, codec, params=params)
    await serializer.setup(SimpleNamespace(audio_in_sample_rate=audio.rate))
    return serializer


def wire(carrier: str, audio: AudioFormat) -> StreamWire:
    if carrier == "twilio":
        return twilio.TwilioStream(twilio.Start("MZ1", "AC1", "CA1", audio))
    return telnyx.TelnyxStream(telnyx.Start("s-1", "v3:a", audio), audio)


def chair(carrier: str, audio: AudioFormat) -> twilio.CarrierWriter | telnyx.CarrierWriter:
    if carrier == "twilio":
        return twilio.CarrierWriter("MZ1", "AC1", "CA1", audio)
    return telnyx.CarrierWriter("s-1", "v3:a", audio)


@pytest.mark.parametrize(("carrier", "audio"), CASES)
async def test_it_sends_the_same_sound_and_the_same_clear(carrier: str, audio: AudioFormat) -> None:
    other, ours = await judge(carrier, audio), wire(carrier, audio)
    theirs = await other.serialize(OutputAudioRawFrame(VOICE, audio.rate, 1))
    assert json.loads(theirs) == json.loads(ours.media(ENCODE[audio.encoding](VOICE)))
    assert json.loads(await other.serialize(InterruptionFrame())) == json.loads(ours.clear)


@pytest.mark.parametrize(("carrier", "audio"), CASES)
async def test_it_hears_what_our_carrier_says(carrier: str, audio: AudioFormat) -> None:
    other, ours = await judge(carrier, audio), chair(carrier, audio)
    for sound in (EVERY_CODE[:160], EVERY_CODE, audio.quiet(20)):
        frame = await other.deserialize(ours.media(sound, 20))
        assert isinstance(frame, InputAudioRawFrame)
        assert frame.audio == DECODE[audio.encoding](sound)
        assert (frame.sample_rate, frame.num_channels) == (audio.rate, 1)


@pytest.mark.parametrize(("carrier", "audio"), CASES)
async def test_it_hears_every_key_and_minds_nothing_else(carrier: str, audio: AudioFormat) -> None:
    other, ours = await judge(carrier, audio), chair(carrier, audio)
    for digit in "0123456789*#":
        frame = await other.deserialize(ours.dtmf(digit))
        assert isinstance(frame, InputDTMFFrame)
        assert frame.button.value == digit
    for text in (ours.connected(), ours.start({"a": "b"}), ours.mark("0.1"), ours.stop()):
        assert await other.deserialize(text) is None
