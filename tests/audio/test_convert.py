"""Conversion between formats, and cutting into blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.audio.convert import Converter
from patter.audio.format import ALAW_8K, MULAW_8K, PCM_8K, PCM_16K, PCM_24K, AudioChunk, AudioFormat
from patter.audio.g711 import mulaw_decode
from patter.audio.reblock import Reblocker

FORMATS = (MULAW_8K, ALAW_8K, PCM_8K, PCM_16K, PCM_24K)


def tone(rate: int, ms: int) -> bytes:
    count = rate * ms // 1000
    wave = [round(9000 * math.sin(2 * math.pi * 440 * n / rate)) for n in range(count)]
    return np.array(wave, np.int16).tobytes()


def test_equal_formats_give_back_the_same_object() -> None:
    frame = b"\xff" * 160
    chunk = AudioChunk(frame, MULAW_8K)
    converter = Converter(MULAW_8K, MULAW_8K)
    assert converter.convert(frame) is frame
    assert converter.convert_chunk(chunk) is chunk
    assert converter.flush() == b""


def test_a_law_to_the_other_passes_through_pcm() -> None:
    there, back = Converter(MULAW_8K, ALAW_8K), Converter(ALAW_8K, MULAW_8K)
    loud = bytes([0x00, 0x20, 0x80, 0xA0])
    assert back.convert(there.convert(loud)) == loud
    assert there.convert(b"\x00\x80") == b"\x2a\xaa"


def test_synthesised_speech_reaches_the_phone_line_with_its_length_and_level() -> None:
    converter = Converter(PCM_24K, MULAW_8K)
    line = converter.convert(tone(24000, 100)) + converter.flush()
    assert len(line) == 800 + 16  # 2 ms of filter
    heard = np.frombuffer(mulaw_decode(line), np.int16)
    assert max(heard) == pytest.approx(9000, rel=0.05)


def test_silence_stays_silence() -> None:
    assert Converter(MULAW_8K, PCM_16K).convert(MULAW_8K.quiet(20)) == PCM_16K.quiet(20)
    assert Converter(PCM_24K, MULAW_8K).convert(PCM_24K.quiet(20)) == MULAW_8K.quiet(20)


@given(
    src=st.sampled_from(FORMATS),
    dst=st.sampled_from(FORMATS),
    data=st.binary(max_size=900),
    cut=st.integers(0, 900),
)
def test_any_cut_gives_the_same_bytes(src: AudioFormat, dst: AudioFormat, data: bytes, cut: int) -> None:
    whole, halves = Converter(src, dst), Converter(src, dst)
    expected = whole.convert(data) + whole.flush()
    assert halves.convert(data[:cut]) + halves.convert(data[cut:]) + halves.flush() == expected


def test_half_a_sample_waits_for_its_other_half() -> None:
    converter = Converter(PCM_8K, MULAW_8K)
    assert converter.convert(b"\xe8") == b""
    assert converter.convert(b"\x03\xe8") == b"\xce"
    converter.flush()
    assert converter.convert(b"\xe8\x03") == b"\xce"


@given(pieces=st.lists(st.binary(max_size=50), max_size=20), size=st.integers(1, 40))
def test_blocks_are_whole_and_lose_nothing(pieces: list[bytes], size: int) -> None:
    reblocker = Reblocker(size)
    blocks = [block for piece in pieces for block in reblocker.push(piece)]
    assert {len(block) for block in blocks} <= {size}
    assert reblocker.waiting < size
    waiting = reblocker.waiting
    rest = reblocker.flush()
    assert len(rest) == (size if waiting else 0)
    assert b"".join(blocks) + rest[:waiting] == b"".join(pieces)


def test_a_block_by_itself_is_not_copied() -> None:
    block = b"12345678"
    assert Reblocker(8).push(block)[0] is block


def test_a_block_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        Reblocker(0)
