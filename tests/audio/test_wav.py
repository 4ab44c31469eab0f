"""WAV files: what is written can be read by others, even when the writer never closed."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from patter.audio.wav import WavWriter, read_wav


def test_what_is_written_is_read(tmp_path: Path) -> None:
    pcm = np.arange(-500, 500, dtype=np.int16).tobytes()
    with WavWriter(tmp_path / "a.wav", 8000) as writer:
        writer.write(pcm[:300])
        writer.write(pcm[300:])
        assert writer.seconds == pytest.approx(0.125)
    assert read_wav(tmp_path / "a.wav") == (pcm, 8000)


def test_stereo_is_averaged(tmp_path: Path) -> None:
    with WavWriter(tmp_path / "a.wav", 16000, channels=2) as writer:
        writer.write(np.array([100, 300, 32767, 32767, -32768, -32768], np.int16).tobytes())
    pcm, rate = read_wav(tmp_path / "a.wav")
    assert rate == 16000
    assert list(np.frombuffer(pcm, np.int16)) == [200, 32767, -32768]


def test_a_writer_that_was_killed_leaves_all_but_the_last_second(tmp_path: Path) -> None:
    writer = WavWriter(tmp_path / "a.wav", 8000)
    for _ in range(125):
        writer.write(b"\x01\x00" * 160)
    dead = tmp_path / "dead.wav"
    dead.write_bytes((tmp_path / "a.wav").read_bytes())
    writer.close()
    with wave.open(str(dead), "rb") as file:
        assert 1.5 <= file.getnframes() / file.getframerate() <= 2.5
    assert len(read_wav(tmp_path / "a.wav")[0]) == 125 * 320


def test_a_new_file_is_valid_before_any_sound(tmp_path: Path) -> None:
    writer = WavWriter(tmp_path / "a.wav", 8000)
    assert read_wav(tmp_path / "a.wav") == (b"", 8000)
    writer.close()
    writer.close()


def test_other_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(b"ID3 not a wave file at all, but long enough to look at")
    (tmp_path / "empty.wav").write_bytes(b"")
    with wave.open(str(tmp_path / "eight.wav"), "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))
        file.writeframes(b"\x80" * 8)
    with pytest.raises(ValueError, match=r"song\.wav is not a PCM WAV file"):
        read_wav(tmp_path / "song.wav")
    with pytest.raises(ValueError, match="it is empty"):
        read_wav(tmp_path / "empty.wav")
    with pytest.raises(ValueError, match="8 bits"):
        read_wav(tmp_path / "eight.wav")
    with pytest.raises(FileNotFoundError):
        read_wav(tmp_path / "missing.wav")
