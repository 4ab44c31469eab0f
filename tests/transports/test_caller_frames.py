"""The caller's frames as they reach the ear: at once on a quiet server, in pairs in a crowd, and never fewer of them."""

from __future__ import annotations

from base64 import b64encode

import pytest

from patter.audio.format import MULAW_8K, PCM_16K, AudioChunk
from patter.exceptions import WireError
from patter.transports.caller_frames import CROWD, CallerFrames

FRAMES = [bytes([number]) * 160 for number in range(1, 8)]
PAIRS = [first + second for first, second in zip(FRAMES[::2], FRAMES[1::2], strict=False)]


class Line:
    def __init__(self) -> None:
        self.heard: list[AudioChunk] = []
        self.frames = CallerFrames(self.heard.append, MULAW_8K)

    def speaks(self, *frames: bytes) -> None:
        for frame in frames:
            self.frames.hear(frame, b64encode(frame).decode())

    @property
    def sound(self) -> list[bytes]:
        return [chunk.data for chunk in self.heard]


def test_a_frame_is_heard_at_once_as_it_stood_on_the_wire() -> None:
    line = Line()
    line.speaks(*FRAMES)
    assert line.sound == FRAMES
    assert [chunk.base64 for chunk in line.heard] == [b64encode(frame).decode() for frame in FRAMES]


def test_a_crowd_is_heard_in_pairs_and_a_single_frame_at_the_end() -> None:
    lines = [Line() for _ in range(CROWD)]
    for line in lines:
        line.speaks(*FRAMES)
        assert line.sound == PAIRS
        assert {chunk.base64 for chunk in line.heard} == {""}
    for line in lines:
        line.frames.close()
        assert line.sound == [*PAIRS, FRAMES[-1]]
    assert CallerFrames.lines == 0


def test_who_hangs_up_leaves_the_others_to_themselves() -> None:
    first, *others = (Line() for _ in range(CROWD))
    first.speaks(FRAMES[0])
    for line in others[:2]:
        line.frames.close()
        line.frames.close()  # more than once is fine
    first.speaks(*FRAMES[1:])
    assert first.sound == [FRAMES[0] + FRAMES[1], *FRAMES[2:]]
    assert CallerFrames.lines == CROWD - 2


@pytest.mark.parametrize("lines", [1, CROWD])
def test_half_a_sample_is_refused_and_harms_nothing(lines: int) -> None:
    crowd = [Line() for _ in range(lines - 1)]
    heard: list[AudioChunk] = []
    wideband = CallerFrames(heard.append, PCM_16K)
    wideband.hear(b"\1" * 640)
    with pytest.raises(WireError, match="inside a sample"):
        wideband.hear(b"\2" * 639)
    wideband.hear(b"\3" * 640)
    assert [chunk.data for chunk in heard] == ([b"\1" * 640 + b"\3" * 640] if crowd else [b"\1" * 640, b"\3" * 640])


def test_a_frame_without_sound_is_not_heard() -> None:
    line = Line()
    line.speaks(b"", FRAMES[0], b"")
    assert line.sound == [FRAMES[0]]
