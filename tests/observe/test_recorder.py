"""The recording: both sides where the ear heard them, cut where it stopped hearing, and a valid file at any moment."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.audio.format import MULAW_8K, PCM_8K, PCM_16K, AudioChunk
from patter.audio.g711 import mulaw_encode
from patter.audio.wav import WavWriter, repair
from patter.clock import Clock
from patter.observe import stereo as stereo_module
from patter.observe.recorder import SETTLED_S, Recorder
from patter.observe.stereo import Stereo, Track

Samples = npt.NDArray[np.int16]


def sound(ms: float, value: int = 8000, rate: int = 8000) -> bytes:
    return np.full(int(ms * rate / 1000), value, np.int16).tobytes()


class Call:
    """A recorder of a call that began at second 0 and whose now is set by hand."""

    def __init__(self, path: Path, **values: object) -> None:
        self.path = path / "recording.wav"
        self.now = 0.0
        self.saved: list[tuple[str, float]] = []
        clock = Clock(lambda: self.now, lambda: self.now)
        self.recorder = Recorder(self.path, clock, saved=lambda *told: self.saved.append(told), **values)  # type: ignore[arg-type]

    def end(self, at: float) -> tuple[Samples, Samples]:
        self.recorder.close(at)
        self.recorder.join()
        return read(self.path)


def read(path: Path) -> tuple[Samples, Samples]:
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth()) == (2, 2)
        both = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def heard(side: Samples, rate: int = 8000) -> list[tuple[int, int]]:
    """Where there is sound, in ms."""
    loud = np.flatnonzero(np.diff(np.concatenate(([0], (side != 0).astype(np.int8), [0]))))
    return [(round(start * 1000 / rate), round(end * 1000 / rate)) for start, end in loud.reshape(-1, 2)]


def test_each_side_stands_where_it_was_heard(tmp_path: Path) -> None:
    call = Call(tmp_path)
    for number in range(10):
        call.recorder.caller(AudioChunk(sound(20), PCM_8K), 0.120 + number * 0.020)  # received when it is over
    call.recorder.agent(AudioChunk(sound(300, 5000), PCM_8K), 0.250)
    left, right = call.end(1.0)
    assert heard(left) == [(100, 300)]
    assert heard(right) == [(250, 550)]
    assert len(left) == len(right) == 8000
    assert call.saved == [(str(call.path), 1.0)]


def test_jitter_makes_no_holes_and_a_real_pause_does(tmp_path: Path) -> None:
    call = Call(tmp_path)
    for number in range(30):
        spoken = number * 0.020 + 0.020
        held_up = 0.310 if 0.1 <= spoken < 0.310 else 0.0
        call.recorder.caller(AudioChunk(sound(20), PCM_8K), max(held_up, spoken + number % 3 * 0.009))
    for number in range(20):  # the three before these never came
        call.recorder.caller(AudioChunk(sound(20), PCM_8K), 0.680 + number * 0.020 + number % 3 * 0.009)
    call.recorder.caller(AudioChunk(sound(20), PCM_8K), 2.020)
    left, _ = call.end(3.0)
    assert heard(left) == [(0, 600), (660, 1060), (2000, 2020)]


def test_chunks_of_a_reply_are_joined_without_a_seam(tmp_path: Path) -> None:
    call = Call(tmp_path)
    for number in range(5):
        call.recorder.agent(AudioChunk(sound(100), PCM_8K), 0.5 + number * 0.1 + (number % 3 - 1) * 0.0004)
    _, right = call.end(2.0)
    assert len(heard(right)) == 1


def test_what_was_dropped_is_not_in_the_recording(tmp_path: Path) -> None:
    call = Call(tmp_path)
    call.recorder.agent(AudioChunk(sound(3000), PCM_8K), 0.5)
    call.recorder.cut(1.2)
    call.recorder.agent(AudioChunk(sound(200), PCM_8K), 1.8)
    _, right = call.end(3.0)
    assert heard(right) == [(500, 1200), (1800, 2000)]


def test_sound_that_was_never_played_before_the_end_is_not_in_it(tmp_path: Path) -> None:
    call = Call(tmp_path)
    call.recorder.agent(AudioChunk(sound(5000), PCM_8K), 0.5)
    _, right = call.end(1.0)
    assert heard(right) == [(500, 1000)]


@pytest.mark.parametrize("rate", [8000, 16000])
def test_every_format_ends_up_as_pcm_at_the_rate_of_the_line(tmp_path: Path, rate: int) -> None:
    call = Call(tmp_path, rate=rate)
    call.recorder.caller(AudioChunk(mulaw_encode(sound(100)), MULAW_8K), 0.1)
    call.recorder.agent(AudioChunk(sound(100, rate=16000), PCM_16K), 0.5)
    left, right = call.end(1.0)
    assert len(left) == rate
    assert abs(int(left[int(0.05 * rate)]) - 8000) < 400
    assert abs(int(right[int(0.55 * rate)]) - 8000) < 400


def test_without_a_given_rate_the_first_sound_decides(tmp_path: Path) -> None:
    call = Call(tmp_path)
    call.recorder.caller(AudioChunk(sound(20, rate=16000), PCM_16K), 0.02)
    left, _ = call.end(0.5)
    assert len(left) == 8000


def test_a_call_without_sound_leaves_no_file(tmp_path: Path) -> None:
    call = Call(tmp_path)
    call.recorder.cut(0.1)
    call.recorder.close(1.0)
    call.recorder.join()
    assert not call.path.exists()
    assert call.saved == []


def test_nothing_is_taken_after_the_end(tmp_path: Path) -> None:
    call = Call(tmp_path)
    call.recorder.caller(AudioChunk(sound(20), PCM_8K), 0.02)
    call.recorder.close(1.0)
    call.recorder.caller(AudioChunk(sound(20), PCM_8K), 0.5)
    left, _ = call.end(2.0)
    assert (heard(left), len(left)) == ([(0, 20)], 8000)


def test_a_disk_that_cannot_be_written_is_logged_and_hurts_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    call = Call(tmp_path / "file")
    call.recorder.caller(AudioChunk(sound(20), PCM_8K), 0.02)
    call.recorder.close(1.0)
    call.recorder.join()
    assert "could not be written" in caplog.text


def test_a_killed_process_leaves_a_valid_file(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import os, signal, time
        from pathlib import Path
        from patter.audio.format import PCM_8K, AudioChunk
        from patter.clock import Clock
        from patter.observe import recorder as module
        module.WRITE_EVERY_S = 0.01
        now = [0.0]
        recorder = module.Recorder({str(tmp_path / "k.wav")!r}, Clock(lambda: now[0], lambda: now[0]))
        for number in range(500):
            recorder.caller(AudioChunk(b"\\x01\\x02" * 160, PCM_8K), number * 0.02 + 0.02)
        recorder.agent(AudioChunk(b"\\x01\\x02" * 80000, PCM_8K), 9.0)
        now[0] = 10.0
        path = Path({str(tmp_path / "k.wav")!r})
        while not path.exists() or int.from_bytes(path.read_bytes()[40:44], "little") < 200_000:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    left, right = read(tmp_path / "k.wav")
    assert len(left) >= 8000 * 6
    assert heard(left)[0][0] == 0
    assert heard(right) == []  # queued, not heard


@given(
    st.lists(st.tuples(st.sampled_from(["place", "cut", "take"]), st.integers(0, 300), st.integers(0, 80)), max_size=30)
)
def test_a_track_gives_every_sample_once_and_in_its_place(steps: list[tuple[str, int, int]]) -> None:
    track, model, taken = Track(8000), np.zeros(2000, np.int16), b""
    for number, (what, at, size) in enumerate(steps, 1):
        written = len(taken) // 2
        if what == "place":
            track.place(np.full(size, number, np.int16).tobytes(), at)
            model[max(at, written) : max(at + size, written)] = number
        elif what == "cut":
            track.cut(at)
            model[max(at, written) :] = 0
        else:
            taken += track.take(at)
    taken += track.take(2000)
    assert np.array_equal(np.frombuffer(taken, np.int16), model)


MARK_EVERY_S = 5.0


class Sender:
    """A caller's telephone whose clock is fast in the first half and slow in the second, and the network between."""

    def __init__(self, seconds: float, ppm: float, seed: int) -> None:
        dice = np.random.default_rng(seed)
        count = int(seconds * 50)
        drift = np.where(np.arange(count) < count // 2, -ppm, ppm)
        spoken = np.cumsum(0.020 * (1 + drift / 1e6))
        late = dice.exponential(0.008, count) + 0.5 * (dice.random(count) < 0.0005)  # now and then all is held up
        self.came = np.maximum.accumulate(spoken + late)
        kept = dice.random(count) > 0.002
        for start in dice.integers(0, count, int(seconds / 60)):
            kept[start : start + 5] = False  # a burst of losses every minute
        mark = np.diff(np.floor(spoken / MARK_EVERY_S), prepend=0) > 0
        kept |= mark | np.roll(mark, 1)  # on which side of a loss a late frame stood, nobody can tell
        self.frames = [(float(at), bool(loud)) for at, loud in zip(self.came[kept], mark[kept], strict=True)]
        self.marks = spoken[mark]
        """When the end of each marked frame was spoken."""


def test_an_hour_stays_aligned_within_a_frame(tmp_path: Path) -> None:
    seconds = 3600.0
    sender = Sender(seconds, ppm=100.0, seed=5)
    quiet, loud = AudioChunk(bytes(320), PCM_8K), AudioChunk(sound(20), PCM_8K)
    stereo = Stereo(tmp_path / "hour.wav", 8000, 0.0)
    upcoming = iter(sender.frames)
    frame = next(upcoming, None)
    replies: list[tuple[float, float]] = []
    for now in np.arange(0.5, seconds + 2, 0.5).tolist():
        while frame is not None and frame[0] <= now:
            stereo.caller(loud if frame[1] else quiet, frame[0])
            frame = next(upcoming, None)
        if now % 10 == 0:  # a reply of four seconds, every second one interrupted
            starts = now + 0.123
            for piece in range(20):
                stereo.agent(AudioChunk(sound(200, 5000), PCM_8K), starts + piece * 0.2)
            replies.append((starts, starts + 4.0))
        if now % 20 == 2 and replies:
            stereo.cut(now - 0.2)
            replies[-1] = (replies[-1][0], now - 0.2)
        stereo.write(now - SETTLED_S, now)
    stereo.write(seconds)
    stereo.close()
    left, right = read(tmp_path / "hour.wav")
    assert abs(len(left) - seconds * 8000) <= 1
    loud_parts = heard(left)
    assert len(loud_parts) == len(sender.marks)
    off = [end - 1000 * spoken for (_, end), spoken in zip(loud_parts, sender.marks, strict=True)]
    assert max(map(abs, off)) < 20.0, (min(off), max(off))
    told = [(start, end) for start, end in heard(right) if end < 3_590_000]
    meant = [(1000 * start, 1000 * end) for start, end in replies if 1000 * end < 3_590_000]
    assert np.abs(np.array(told) - np.array(meant)).max() < 20.0


def test_a_disk_that_refuses_for_a_while_costs_no_sound(tmp_path: Path) -> None:
    folder = tmp_path / "call"
    folder.write_text("in the way")
    stereo = Stereo(folder / "recording.wav", 8000, 0.0)
    for number in range(100):
        stereo.caller(AudioChunk(sound(20), PCM_8K), number * 0.02 + 0.02)
    stereo.write(1.0, 2.0)
    assert stereo.problem is not None
    folder.unlink()
    stereo.write(2.0)
    stereo.close()
    assert stereo.problem is None
    assert heard(read(folder / "recording.wav")[0]) == [(0, 2000)]


def test_a_disk_that_refuses_for_long_leaves_silence_and_no_shift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stereo_module, "UNWRITTEN", 32_000)  # a second
    stereo = Stereo(tmp_path / "recording.wav", 8000, 0.0)
    stereo.write(0.5)
    file = stereo._file
    assert file is not None
    good = file._file
    with open("/dev/full", "wb", buffering=0) as full:
        file._file = full
        for number in range(250):
            stereo.caller(AudioChunk(sound(20), PCM_8K), 0.5 + number * 0.02 + 0.02)
        for second in (2.0, 3.0, 4.0):
            stereo.write(second, second + 1)
            assert stereo.problem is not None
        file._file = good
    stereo.write(5.5)
    stereo.close()
    left, _ = read(tmp_path / "recording.wav")
    assert heard(left) == [(3000, 5500)]
    assert len(left) == 44_000


def test_what_a_killed_process_left_is_made_whole(tmp_path: Path) -> None:
    path = tmp_path / "recording.wav"
    writer = WavWriter(path, 8000, channels=2)
    writer.write(bytes(32_000))
    writer.write(b"\1\0\2\0" * 100)  # not yet told by the header
    whole = path.read_bytes() + b"\1"  # half a sample
    path.write_bytes(whole)
    assert repair(path) == 1.0125
    left, right = read(path)
    assert (len(left), int(left[-1]), int(right[-1])) == (8100, 1, 2)
    assert repair(path) == 1.0125
    path.write_bytes(whole[:44])
    assert repair(path) == 0.0
    assert not path.exists()
    path.write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="recording"):
        repair(path)
    writer.close()
