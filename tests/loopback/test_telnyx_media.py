"""The loopback Telnyx's media socket: real time, strict, and as wrong as it is asked to be."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import anyio
import numpy as np
import pytest

from patter.audio.byteorder import swapped
from patter.audio.convert import Converter
from patter.audio.format import ALAW_8K, MULAW_8K, PCM_16K, AudioFormat
from patter.loopback.misbehaviour import Misbehaviour
from patter.loopback.person import Person, says
from patter.loopback.tones import as_line, tone
from tests.loopback.telnyx_office import HOST, OURS, THEIRS, Office, hears, office, pitch

pytestmark = pytest.mark.anyio

TALK = tone(400, 5_000)


async def call(here: Office, person: Person | None = None, **options: Any) -> Any:
    """A call that comes in and whose stream is up."""
    leg = here.carrier.place_call(THEIRS, OURS, person)
    await here.answered(leg)
    await here.streaming(leg, **options)
    return leg


def sound(here: Office, frames: int) -> bytes:
    media = [message["media"] for message in here.messages if message["event"] == "media"]
    return b"".join(b64decode(frame["payload"]) for frame in media[:frames])


async def test_a_stream_begins_carries_the_callers_sound_and_ends() -> None:
    async with office() as here:
        leg = await call(
            here,
            Person(mouth=says(TALK)),
            stream_auth_token="sesame",
            client_state="czEyMw==",
            custom_parameters=[{"name": "session", "value": "s-12"}],
        )
        assert here.headers["x-telnyx-streaming-auth-token"] == "sesame"
        assert here.headers["Host"] == HOST
        assert here.messages[0] == {
            "event": "connected",
            "version": "1.0.0",
            "connected": {"x-telnyx-streaming-auth-token": "sesame"},
        }
        start = here.messages[1]["start"]
        assert start["media_format"] == {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}
        assert start["call_control_id"] == leg.handle
        assert start["client_state"] == "czEyMw=="
        assert start["custom_parameters"] == {"session": "s-12"}
        assert (start["from"], start["to"]) == (THEIRS, OURS)
        assert (await here.event("streaming.started")).payload["stream_url"] == f"wss://{HOST}/ws/1"
        last = await here.message("media", 15)
        assert last["media"]["chunk"] == "15"
        assert pitch(sound(here, 15)[800:], MULAW_8K) == pytest.approx(400, abs=10)
        leg.hang_up()
        stop = await here.message("stop")
        assert stop["stop"]["call_control_id"] == leg.handle
        await here.event("streaming.stopped")
        await here.event("call.hangup")
        await here.socket_closed.wait()
        assert here.carrier.violations == []


async def test_what_the_server_plays_is_heard_in_real_time_and_marks_come_back_after_it() -> None:
    async with office() as here:
        leg = await call(here)
        clock = here.carrier.clock
        began = clock.now()
        await here.play(b"\x40" * MULAW_8K.bytes_for(300))
        await here.mark("end")
        back = await here.message("mark")
        assert back["mark"]["name"] == "end"
        assert clock.now() - began >= 0.2
        assert bytes(leg.heard).count(b"\x40") == MULAW_8K.bytes_for(300)


async def test_a_clear_stops_the_sound_and_returns_all_marks() -> None:
    async with office() as here:
        leg = await call(here)
        for name in ("one", "two"):
            await here.play(b"\x40" * MULAW_8K.bytes_for(5_000))
            await here.mark(name)
        await here.say({"event": "clear"})
        assert [(await here.message("mark", count))["mark"]["name"] for count in (1, 2)] == ["one", "two"]
        assert bytes(leg.heard).count(b"\x40") < MULAW_8K.bytes_for(1_000)
        assert here.carrier.violations == []


async def test_keys_come_through_the_stream_and_by_webhook() -> None:
    async with office() as here:
        leg = await call(here)
        leg.press("7")
        message = await here.message("dtmf")
        assert message["dtmf"] == {"digit": "7"}
        assert message["occurred_at"].startswith("20")
        await here.event("call.dtmf.received", digit="7")


@pytest.mark.parametrize(
    ("codec", "asked", "line", "sends"),
    [
        ("PCMA", {"stream_bidirectional_codec": "PCMA"}, ALAW_8K, ALAW_8K),
        ("PCMA", {"stream_bidirectional_codec": "PCMU"}, ALAW_8K, MULAW_8K),
        ("PCMU", {"stream_codec": "PCMA"}, ALAW_8K, MULAW_8K),
        (
            "L16",
            {"stream_bidirectional_codec": "L16", "stream_bidirectional_sampling_rate": 16000},
            PCM_16K,
            PCM_16K,
        ),
        ("PCMU", {"stream_codec": "L16", "stream_bidirectional_codec": "L16"}, PCM_16K, PCM_16K),
    ],
)
async def test_each_direction_has_its_own_codec(
    codec: str, asked: dict[str, Any], line: AudioFormat, sends: AudioFormat
) -> None:
    async with office(codec=codec) as here:
        leg = await call(here, Person(mouth=says(TALK)), **asked)
        announced = here.messages[1]["start"]["media_format"]
        assert announced["sample_rate"] == line.rate
        assert announced["encoding"] == {"mulaw": "PCMU", "alaw": "PCMA", "pcm_s16le": "L16"}[line.encoding]
        await here.play(as_line(tone(700, 1_000), sends))
        await here.message("media", 15)
        assert pitch(sound(here, 15)[line.bytes_for(100) :], line) == pytest.approx(400, abs=10)
        await hears(leg, 700)
        assert here.carrier.violations == []


async def test_the_byte_order_of_l16_can_be_the_other_one() -> None:
    async with office(codec="L16", big_endian=True) as here:
        leg = await call(here, Person(mouth=says(TALK)), stream_bidirectional_codec="L16")
        await here.play(swapped(as_line(tone(700, 1_000), PCM_16K)))
        await here.message("media", 15)
        assert pitch(swapped(sound(here, 15)[3200:]), PCM_16K) == pytest.approx(400, abs=10)
        await hears(leg, 700)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"event": "media", "media": {"payload": "@@not-base64@@"}}, 100004),
        ({"event": "media", "media": {"payload": "/////w=="}}, 100004),
        ({"event": "media", "media": {}}, 100003),
        ({"event": "media"}, 100003),
        ({"event": "hello"}, 100003),
        ({"event": "mark", "mark": {"name": 7}}, 100003),
    ],
)
async def test_a_message_that_cannot_be_used_is_answered_with_an_error_and_the_stream_goes_on(
    message: dict[str, Any], code: int
) -> None:
    async with office() as here:
        await call(here)
        await here.say(message)
        error = await here.message("error")
        assert error["payload"]["code"] == code
        assert len(here.carrier.violations) == 1
        await here.mark("still here")
        await here.message("mark")


async def test_sound_of_more_than_thirty_seconds_is_too_long() -> None:
    async with office() as here:
        await call(here)
        await here.play(b"\xff" * MULAW_8K.bytes_for(30_020))
        assert (await here.message("error"))["payload"]["title"] == "invalid_media"


async def test_without_rtp_mode_only_mp3_is_taken() -> None:
    async with office() as here:
        leg = here.carrier.place_call(THEIRS, OURS)
        await here.answered(leg)
        await here.client.calls.actions.start_streaming(leg.handle, stream_url=f"wss://{HOST}/ws/1")
        await here.message("media")
        await here.play(b"\xff" * 160)
        assert (await here.message("error"))["payload"]["code"] == 100004
        await here.play(b"ID3" + bytes(400))
        await here.play(b"ID3" + bytes(400))
        assert (await here.message("error", 3))["payload"]["code"] == 100005
        assert "must be MP3" in here.carrier.violations[0]


async def test_binary_frames_are_noted() -> None:
    async with office() as here:
        await call(here)
        assert here.socket is not None
        await here.socket.send_bytes(b"\xff" * 160)
        await here.mark("after")
        await here.message("mark")
        assert "binary" in here.carrier.violations[0]


async def test_a_call_outlives_its_stream_and_can_have_another_one() -> None:
    async with office() as here:
        leg = await call(here)
        assert here.socket is not None
        await here.socket.close()
        await here.event("streaming.stopped")
        assert leg.alive
        await here.streaming(leg)
        await here.event("streaming.started", 2)
        await here.client.calls.actions.stop_streaming(leg.handle)
        await here.event("streaming.stopped", 2)
        assert leg.alive
        assert here.carrier.violations == []


async def test_a_second_stream_beside_the_first_is_refused() -> None:
    async with office() as here:
        leg = await call(here)
        with pytest.raises(Exception, match="90045"):
            await here.streaming(leg)


async def test_a_stream_that_cannot_be_opened_fails_by_webhook() -> None:
    async with office() as here:
        leg = here.carrier.place_call(THEIRS, OURS)
        await here.answered(leg)
        await here.client.calls.actions.start_streaming(leg.handle, stream_url=f"wss://{HOST}/nowhere")
        failed = await here.event("streaming.failed")
        assert failed.payload["stream_params"]["stream_url"] == f"wss://{HOST}/nowhere"
        assert "404" in failed.payload["failure_reason"]
        assert leg.alive


async def test_a_dialled_call_can_bring_its_stream() -> None:
    async with office() as here:
        here.carrier.people[THEIRS] = Person()
        leg = await here.dialled(
            stream_url=f"wss://{HOST}/ws/1", stream_bidirectional_mode="rtp", stream_auth_token="sesame"
        )
        await here.message("start")
        assert leg.streaming.is_set()


async def test_the_stream_goes_on_while_two_people_are_joined_and_both_are_heard() -> None:
    async with office() as here:
        boss = "+14155550122"
        here.carrier.people[boss] = Person(mouth=says(TALK))
        leg = await call(here)
        await here.client.calls.actions.transfer(leg.handle, to=boss)
        await here.event("call.bridged", call_control_id=leg.handle)
        await here.play(as_line(tone(700, 2_000), MULAW_8K))
        with anyio.fail_after(10):
            while loudest_two(bytes(leg.heard[-2400:])) != {400, 700}:
                await anyio.sleep(0.02)


def loudest_two(sound: bytes) -> set[int]:
    """The two loudest frequencies, to a hundred Hz."""
    samples = np.frombuffer(Converter(MULAW_8K, AudioFormat("pcm_s16le", 8_000)).convert(sound), "<i2")
    spectrum = np.abs(np.fft.rfft(samples.astype(float)))
    return {round(index * 8_000 / len(samples) / 100) * 100 for index in np.argsort(spectrum)[-2:]}


# --------------------------------------------------------------------------- bad days


async def test_frames_can_be_swapped_and_lost() -> None:
    async with office(Misbehaviour(reorder=0.3, loss=0.1, seed=4)) as here:
        await call(here)
        await here.message("media", 40)
        chunks = [int(message["media"]["chunk"]) for message in here.messages if message["event"] == "media"]
        assert chunks != sorted(chunks)
        assert len(set(range(1, max(chunks))) - set(chunks)) > 0


async def test_the_socket_can_die_without_a_goodbye_and_the_call_goes_on() -> None:
    async with office(Misbehaviour(drop_socket_after_s=0.2)) as here:
        leg = await call(here)
        with anyio.fail_after(5):
            await here.socket_closed.wait()
        assert here.socket is not None
        assert here.socket.close_code == 1006
        await here.event("streaming.stopped")
        assert leg.alive


async def test_the_codec_can_be_one_nobody_asked_for() -> None:
    async with office(Misbehaviour(wrong_codec=True)) as here:
        await call(here)
        assert here.messages[1]["start"]["media_format"]["encoding"] == "AMR-NB"
