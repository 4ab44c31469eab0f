"""One line's sound, in virtual time: joined lines, announcements, recordings, and who keeps the time."""

from __future__ import annotations

import io
import wave

import anyio
import numpy as np
import pytest

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_16K, AudioFormat
from patter.loopback.line import Line, Recording, mixed
from patter.loopback.person import Handset, Person, says
from patter.loopback.tones import tone
from tests.loopback.telnyx_office import pitch
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


def line_of(audio: AudioFormat = MULAW_8K, hz: float = 0.0) -> Line:
    person = Person(mouth=says(tone(hz, 60_000))) if hz else Person()
    return Line(Handset(person, audio), virtual_clock())


async def run(seconds: float, *lines: Line) -> None:
    async with anyio.create_task_group() as tasks:
        for line in lines:
            tasks.start_soon(line.run)
        await anyio.sleep(seconds + 0.001)
        tasks.cancel_scope.cancel()


async def test_a_line_nobody_drives_keeps_its_own_time() -> None:
    line = line_of()
    await run(1.0, line)
    assert MULAW_8K.ms_of(len(line.handset.heard)) == 1_000
    assert set(line.handset.heard) == {0xFF}


@pytest.mark.parametrize(("one", "two"), [(MULAW_8K, MULAW_8K), (MULAW_8K, ALAW_8K), (ALAW_8K, PCM_16K)])
async def test_joined_people_hear_each_other_in_their_own_codec_without_gaps(
    one: AudioFormat, two: AudioFormat
) -> None:
    first, second = line_of(one, 400), line_of(two, 700)
    first.join(second)
    await run(1.0, first, second)
    heard = bytes(first.handset.heard)[-one.bytes_for(800) :]
    assert pitch(heard, one) == pytest.approx(700, abs=5)
    assert pitch(bytes(second.handset.heard)[-two.bytes_for(800) :], two) == pytest.approx(400, abs=5)
    assert one.silence * 40 not in heard
    second.part()
    silent_from = len(first.handset.heard)
    await run(0.2, first)
    assert set(first.handset.heard[silent_from:]) == set(one.silence)


async def test_announcements_wait_for_each_other_and_tell_when_they_were_heard() -> None:
    line = line_of()
    ended: list[tuple[str, int]] = []
    for name in ("one", "two"):
        line.announce(tone(300, 110), lambda name=name: ended.append((name, len(line.handset.heard))))
    await run(0.5, line)
    assert [name for name, _ in ended] == ["one", "two"]
    assert ended[1][1] - ended[0][1] == MULAW_8K.bytes_for(120)
    line.announce(tone(300, 10_000), lambda: ended.append(("three", 0)))
    line.announce(tone(300, 10_000), lambda: ended.append(("four", 0)))
    line.stop_announcements(current_only=True)
    assert ended[-1][0] == "three"
    line.stop_announcements()
    assert ended[-1][0] == "four"


def test_sounds_heard_at_once_are_added_and_loud_ones_do_not_wrap() -> None:
    loud = (np.sin(np.arange(320) / 8.488) * 30_000).astype("<i2").tobytes()
    soft = tone(300, 20, 0.01) * 2
    assert mixed([loud], PCM_16K) is loud
    both = np.frombuffer(mixed([loud, loud], PCM_16K), "<i2")
    assert (both.max(), both.min()) == (32767, -32768)
    wanted = np.frombuffer(loud, "<i2").astype(int) + np.frombuffer(soft, "<i2")
    assert np.array_equal(np.frombuffer(mixed([loud, soft], PCM_16K), "<i2"), wanted)


async def test_while_a_stream_drives_the_line_it_keeps_no_time_of_its_own() -> None:
    line = line_of()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.run)
        await anyio.sleep(0.101)
        with line.driven():
            await anyio.sleep(1.0)
            assert MULAW_8K.ms_of(len(line.handset.heard)) == 100
        await anyio.sleep(0.101)
        tasks.cancel_scope.cancel()
    assert MULAW_8K.ms_of(len(line.handset.heard)) == 200


@pytest.mark.parametrize(("channels", "count"), [("dual", 2), ("single", 1)])
async def test_a_recording_is_a_wav_file_of_both_sides(channels: str, count: int) -> None:
    line = line_of(hz=400)
    recording = Recording(MULAW_8K, channels, 0.0)
    line.recordings.append(recording)
    line.announce(tone(700, 900), lambda: None)
    await run(1.0, line)
    assert recording.seconds == 1.0
    with wave.open(io.BytesIO(recording.wav())) as file:
        assert (file.getnchannels(), file.getnframes(), file.getframerate()) == (count, 8_000, 8_000)
        samples = np.frombuffer(file.readframes(8_000), "<i2").reshape(-1, count)
    hertz = [pitch(samples[:, side].tobytes(), AudioFormat("pcm_s16le", 8_000)) for side in range(count)]
    assert hertz[0] == pytest.approx(400, abs=5)
    if count == 2:
        assert hertz[1] == pytest.approx(700, abs=5)
