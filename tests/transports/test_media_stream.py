"""A media stream as a transport: what the carrier sends comes out as sound and signals, what is played goes out marked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patter.audio.format import MULAW_8K, PCM_16K, AudioChunk
from patter.signals import (
    DigitPressed,
    HungUp,
    PlayoutAdvanced,
    PlayoutEnded,
    PlayoutStarted,
)
from patter.wire import telnyx
from patter.wire.stream import Clear, Mark, Play
from tests.support.lines import LINES, TELNYX, LineKind
from tests.support.stream_call import Call
from tests.support.virtual_time import VIRTUAL_BACKEND

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


@pytest.fixture
async def call() -> AsyncIterator[Call]:
    one = Call()
    yield one
    await one.transport.aclose()


async def test_a_frame_reaches_the_ear_before_feed_returns(call: Call) -> None:
    call.transport.feed(call.chair.media(b"\x7f" * 160, 20))
    assert call.heard == [AudioChunk(b"\x7f" * 160, MULAW_8K)]


async def test_only_the_callers_track_is_heard(call: Call) -> None:
    call.transport.feed(call.chair.media(b"\x7f" * 160, 20).replace('"inbound"', '"outbound"'))
    assert call.heard == []


@pytest.mark.parametrize("line", LINES, ids=str)
async def test_sound_passes_untouched_in_the_formats_of_the_line(line: LineKind) -> None:
    call = Call(line)
    assert (call.transport.abilities.hears, call.transport.abilities.plays) == (line.hears, line.plays)
    spoken, answered = bytes(range(160)) * 2 * line.hears.sample_bytes, bytes(range(160)) * 2 * line.plays.sample_bytes
    call.transport.feed(call.chair.media(spoken, 20))
    assert call.heard == [AudioChunk(spoken, line.hears)]
    call.transport.play(AudioChunk(answered, line.plays), 1, 0.0)
    assert call.take() == [Play(answered)]


async def test_half_a_sample_is_not_heard() -> None:
    for line in [line for line in LINES if line.hears == PCM_16K]:
        call = Call(line)
        call.transport.feed(call.chair.media(b"\x01" * 5, 20))
        assert call.transport.malformed == 1
        assert call.heard == []


async def test_sound_in_another_format_is_a_mistake_of_ours(call: Call) -> None:
    with pytest.raises(ValueError, match="this line plays"):
        call.transport.play(AudioChunk(bytes(640), PCM_16K), 1, 0.0)


async def test_unreadable_messages_are_counted_and_harm_nothing(call: Call) -> None:
    for text in ("", "{", '{"event":"media"}', '{"event":"media","media":{"payload":"?"}}', '{"event":"news"}'):
        call.transport.feed(text)
    call.transport.feed(call.chair.media(b"\xff" * 160, 40))
    assert call.transport.malformed == 4
    assert len(call.heard) == 1


async def test_much_sound_goes_out_at_once_with_a_mark_early_then_every_400_ms_and_at_its_end(call: Call) -> None:
    call.play(1_000)
    assert call.sizes() == [60, "mark", 400, "mark", 400, "mark", 140, "mark"]
    call.play(300, at_ms=1_000)
    assert call.sizes() == [300]


async def test_small_frames_are_marked_as_often(call: Call) -> None:
    for index in range(50):
        call.play(20, at_ms=20.0 * index)
    kinds = ["mark" if isinstance(message, Mark) else "" for message in call.take()]
    assert [index for index, kind in enumerate(kinds) if kind] == [3, 24, 45]


async def test_play_tells_when_the_sound_will_be_heard(call: Call) -> None:
    now = call.clock.now()
    assert call.play(1_000) == pytest.approx(now)
    assert call.play(500, at_ms=1_000) == pytest.approx(now + 1.0)
    assert call.play(500, reply_id=2) == pytest.approx(now + 1.5)


async def test_start_progress_and_end_of_a_reply_are_those_of_the_ear(call: Call) -> None:
    sent_at = call.clock.now()
    call.play(460)
    call.transport.finish(1)
    early, middle, last = call.marks()
    await anyio.sleep(0.09)
    call.transport.feed(call.chair.mark(early))
    await anyio.sleep(0.4)
    call.transport.feed(call.chair.mark(middle))
    call.transport.feed(call.chair.mark(last))
    ended_at = call.clock.now()
    started, first, second, _, ended, gone = await call.said()
    assert started == PlayoutStarted(1, pytest.approx(sent_at + 0.03))
    assert first == PlayoutAdvanced(1, pytest.approx(60), pytest.approx(sent_at + 0.09))
    assert second == PlayoutAdvanced(1, pytest.approx(460), ended_at)
    assert ended == PlayoutEnded(1, ended_at)
    assert isinstance(gone, HungUp)


async def test_a_clear_says_how_much_was_heard_and_the_marks_it_flushes_say_nothing(call: Call) -> None:
    call.play(2_000)
    early, *later = call.marks()
    await anyio.sleep(0.06)
    call.transport.feed(call.chair.mark(early))
    await anyio.sleep(0.2)
    assert call.transport.clear() == pytest.approx(260)
    assert call.take() == [Clear()]
    for name in later:
        call.transport.feed(call.chair.mark(name))
    await anyio.sleep(1)
    assert call.transport.heard_ms(1) == pytest.approx(260)
    assert [type(signal) for signal in await call.said()] == [PlayoutStarted, PlayoutAdvanced, HungUp]


async def test_after_a_clear_the_next_sound_is_marked_early_again(call: Call) -> None:
    call.play(500)
    call.transport.clear()
    call.take()
    call.play(100, at_ms=200)
    assert [type(message) for message in call.take()] == [Play, Mark, Play]


async def test_a_carrier_that_loses_the_last_mark_does_not_hold_the_floor_for_ever(call: Call) -> None:
    call.play(300)
    call.transport.finish(1)
    await anyio.sleep(2.0)
    assert call.transport.heard_ms(1) == pytest.approx(60)
    await anyio.sleep(1.0)
    assert call.transport.heard_ms(1) == pytest.approx(300)
    kinds = [type(signal) for signal in await call.said()]
    assert kinds == [PlayoutStarted, PlayoutAdvanced, PlayoutAdvanced, PlayoutEnded, HungUp]


async def test_keys_and_the_goodbye_are_signals(call: Call) -> None:
    call.transport.feed(call.chair.dtmf("5"))
    call.transport.feed(call.chair.dtmf("#"))
    call.transport.feed(call.chair.stop())
    call.transport.lost()
    assert await call.said() == [DigitPressed("5"), DigitPressed("#"), HungUp("caller_hung_up")]
    assert call.socket.closed == 0


async def test_a_socket_that_breaks_without_goodbye_is_a_lost_line(call: Call) -> None:
    call.transport.lost("connection reset")
    assert await call.said() == [HungUp("line_lost", "connection reset")]
    call.play(20)
    call.transport.finish(1)
    assert call.socket.texts == []


async def test_of_two_parts_of_one_call_only_the_first_goodbye_counts(call: Call) -> None:
    call.transport.feed(call.chair.stop())
    call.transport.feed(call.chair.dtmf("1"))
    call.transport.feed(call.chair.media(b"\x7f" * 160, 20))
    assert call.heard == []
    assert await call.said() == [HungUp("caller_hung_up")]


async def test_what_goes_out_is_what_a_carrier_accepts(call: Call) -> None:
    call.transport.play(AudioChunk(bytes(range(256)) * 4, MULAW_8K), 1, 0.0)
    assert all(json.loads(text)["streamSid"] == "MZ1" for text in call.socket.texts)
    played = b"".join(message.sound for message in call.take() if isinstance(message, Play))
    assert played == bytes(range(256)) * 4


# --------------------------------------------------------------------------- frames out of order, and lost ones


def frames(call: Call, count: int) -> list[str]:
    """The caller's first frames; each is full of its own number."""
    size = call.line.hears.bytes_for(20)
    return [call.chair.media(bytes([number]) * size, 20 * number) for number in range(1, count + 1)]


def numbers(call: Call) -> list[int]:
    """Which frames were heard; 0 is silence put in for a lost one."""
    quiet = call.line.hears.quiet(20)
    assert {len(chunk.data) for chunk in call.heard} == {len(quiet)}
    return [0 if chunk.data == quiet else chunk.data[0] for chunk in call.heard]


@pytest.mark.parametrize("line", LINES, ids=str)
async def test_frames_that_overtake_each_other_are_heard_in_their_order(line: LineKind) -> None:
    call = Call(line)
    spoken = frames(call, 8)
    for number in (1, 3, 4, 2, 6, 5, 7, 8):
        call.transport.feed(spoken[number - 1])
    assert numbers(call) == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("line", LINES, ids=str)
async def test_a_lost_frame_becomes_silence_of_its_length_after_three_more(line: LineKind) -> None:
    call = Call(line)
    spoken = frames(call, 8)
    for number in (1, 3, 4, 5):
        call.transport.feed(spoken[number - 1])
    assert numbers(call) == [1]
    call.transport.feed(spoken[5])
    assert numbers(call) == [1, 0, 3, 4, 5, 6]
    call.transport.feed(spoken[1])  # too late
    call.transport.feed(spoken[6])
    call.transport.feed(spoken[6])  # twice
    assert numbers(call) == [1, 0, 3, 4, 5, 6, 7]


async def test_what_is_held_back_is_heard_when_the_stream_ends(call: Call) -> None:
    spoken = frames(call, 4)
    for number in (1, 3, 4):
        call.transport.feed(spoken[number - 1])
    call.transport.feed(call.chair.stop())
    assert numbers(call) == [1, 3, 4]


async def test_order_is_kept_from_the_first_frame_on_though_nobody_listens_yet() -> None:
    call = Call(TELNYX)
    late: list[AudioChunk] = []
    call.transport.listen(lambda chunk: None)
    spoken = frames(call, 40)
    for text in spoken[:35]:
        call.transport.feed(text)
    call.transport.listen(late.append)
    for text in spoken[35:]:
        call.transport.feed(text)
    assert [chunk.data[0] for chunk in late] == [36, 37, 38, 39, 40]


async def test_a_carrier_that_does_not_count_is_heard_as_it_comes() -> None:
    call = Call(TELNYX)
    for number in (1, 2, 3):
        call.transport.feed(json.dumps({"event": "media", "media": {"payload": "AQID", "chunk": "0"}}))
        assert len(call.heard) == number


# --------------------------------------------------------------------------- sound too short for one message


async def test_crumbs_wait_for_each_other_on_a_line_that_takes_only_20_ms_or_more() -> None:
    call = Call(TELNYX)
    now = call.clock.now()
    told = [call.play(8, at_ms=8.0 * index) - now for index in range(5)]
    assert call.sizes() == [24]
    assert told == pytest.approx([0.0, 0.008, 0.016, 0.024, 0.032], abs=0.009)
    call.transport.finish(1)
    assert call.sizes() == [20, "mark"]
    await anyio.sleep(0.1)
    assert call.transport.heard_ms(1) == pytest.approx(40)  # 16 of the last 20 ms: its filling is not the reply's


async def test_no_piece_is_cut_so_that_the_rest_would_be_too_short() -> None:
    call = Call(TELNYX)
    call.play(70)
    assert call.sizes() == [70, "mark"]
    call.play(10, at_ms=70)
    call.play(10, at_ms=80)
    call.play(495, at_ms=90)
    assert call.sizes() == [20, 380, "mark", 115, "mark"]


async def test_the_crumb_of_one_reply_is_not_lost_to_the_next() -> None:
    call = Call(TELNYX)
    call.play(30)
    call.play(10, at_ms=30)
    call.play(40, reply_id=2)
    assert call.sizes() == [30, 20, 40]


async def test_a_clear_drops_the_crumb_too() -> None:
    call = Call(TELNYX)
    call.play(10)
    call.transport.clear()
    call.play(30, at_ms=500.0)
    call.transport.finish(1)
    assert call.sizes() == ["clear", 30, "mark"]


async def test_a_line_that_takes_any_length_sends_crumbs_at_once(call: Call) -> None:
    call.play(3)
    assert call.sizes() == [3]


# --------------------------------------------------------------------------- what only one carrier says


async def test_what_the_carrier_could_not_use_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    call = Call(TELNYX)
    assert isinstance(call.chair, telnyx.CarrierWriter)
    for _ in range(3):
        call.transport.feed(call.chair.error(telnyx.INVALID_MEDIA, "invalid_media", "payload is not base64"))
    assert call.transport.refused == 3
    assert [record.message for record in caplog.records] == ["the carrier could not use what we sent"]
    assert "invalid_media" in caplog.records[0].why


# --------------------------------------------------------------------------- hostile carriers

hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["inbound", "1", "AAAA", "0.1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["payload", "track", "chunk", "timestamp", "name", "digit", "code", "event"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=8,
)
part = st.dictionaries(
    st.sampled_from(["payload", "track", "chunk", "timestamp", "name", "digit", "code", "title"]),
    hostile | st.integers(0, 10**16).map(str) | st.binary(max_size=9).map(lambda raw: raw.hex()),
    max_size=5,
)
message = st.tuples(st.sampled_from(["media", "mark", "dtmf", "start", "stop", "connected", "error"]), part).map(
    lambda said: json.dumps({"event": said[0], "payload" if said[0] == "error" else said[0]: said[1]})
)


@pytest.mark.parametrize("line", LINES, ids=str)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(texts=st.lists(message | st.text(max_size=30) | hostile.map(json.dumps), max_size=30))
async def test_whatever_a_carrier_sends_nothing_raises_and_what_is_heard_are_whole_samples(
    line: LineKind, texts: list[str]
) -> None:
    call = Call(line)
    for text in texts:
        call.transport.feed(text)
    assert all(len(chunk.data) % line.hears.sample_bytes == 0 and chunk.data for chunk in call.heard)
    assert len(call.heard) <= 60 * len(texts)  # a lost frame is filled with silence, but not without end
    await call.transport.aclose()
