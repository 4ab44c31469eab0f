"""Media sockets of both carriers that say anything at all: before `start`, in a call, and after its end."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import aiohttp
import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.events import CallEnded, CallerSaid, CallStarted
from patter.server import media_socket
from tests.hostile.doors import BOTH, Place, hostile, place
from tests.hostile.words import NASTY

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("name", BOTH)]
sessions = pytest.mark.parametrize("real", [False, True], ids=["fake", "real"])

EVENTS = (
    "connected", "start", "media", "dtmf", "mark", "error", "clear", "", "Start", "nobody knows", "x" * 300,
)  # fmt: skip
KEYS = (
    "event", "start", "media", "dtmf", "mark", "stop", "payload", "track", "chunk", "timestamp", "digit", "name", "streamSid",
    "stream_id", "callSid", "accountSid", "call_control_id", "customParameters", "custom_parameters", "mediaFormat",
    "media_format", "encoding", "sampleRate", "sample_rate", "channels", "code", "title", "detail", "sequenceNumber",
)  # fmt: skip
leaf = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(NASTY) | st.text(max_size=12)
    | st.sampled_from(["inbound", "outbound", "////", "//8=", "AAA", "%%%", "1", "-1", "٣", "9" * 15, "9" * 5_000])
)  # fmt: skip
nested = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=8,
)
messages = st.builds(
    lambda event, rest: json.dumps({"event": event, **rest}),
    st.sampled_from(EVENTS) | leaf,
    st.dictionaries(st.sampled_from(KEYS[1:]), nested, max_size=4),
)
RAW = (
    "", "{", "null", "[]", '"start"', "7", "\0", "{" * 9_000, "[" * 9_000, '{"event":' * 5_000, '{"event":NaN}', '{"event":{}}',
    '{"event":"media","media":{"payload":"' + "/" * 60_000 + '"}}',
    '{"event":"media","media":{"payload":"//","chunk":' + "9" * 5_000 + "}}",
    '{"event":"media","media":{"payload":"////","chunk":1e400}}', '{"a":1,"event":"media","event":"start"}', "\u202e",
)  # fmt: skip
frames: st.SearchStrategy[str | bytes] = (
    messages | st.sampled_from(RAW) | st.text(max_size=30) | st.binary(max_size=200)
)
streams = st.lists(frames, max_size=12)


async def say(socket: aiohttp.ClientWebSocketResponse, told: list[str | bytes]) -> None:
    """All of it, as far as the door listens."""
    with suppress(ConnectionError):
        for frame in told:
            if isinstance(frame, bytes):
                await socket.send_bytes(frame)
            else:
                await socket.send_str(frame.encode(errors="replace").decode())


async def is_over(here: Place) -> None:
    """All calls have ended, each once."""
    with anyio.fail_after(5):
        while here.house.desk.count:
            await anyio.sleep(0.005)
    ended = [event.call_id for event in here.house.events if isinstance(event, CallEnded)]
    assert len(ended) == len(set(ended))


@hostile
@given(told=streams)
async def test_a_stream_that_begins_with_anything_else_becomes_no_call(name: str, told: list[str | bytes]) -> None:
    async with place(name) as here:
        ring = await here.ring(1)
        async with here.socket(ring) as socket:
            await say(socket, told)
        assert here.house.calls.sessions == {}
        await here.give_up(1)
        await here.serves(2)


@sessions
@hostile
@given(told=streams)
async def test_a_call_goes_on_whatever_its_stream_says(name: str, real: bool, told: list[str | bytes]) -> None:
    async with place(name, real=real) as here:
        ring = await here.ring(1)
        async with here.up(ring) as socket:
            await say(socket, told)
            await say(socket, [ring.writer.start(), ring.writer.media(b"\xff" * 160, 0), ring.writer.dtmf("5")])
            await say(socket, [ring.writer.stop(), ring.writer.media(b"\xff" * 160, 20), ring.writer.start(), *told])
            assert (await here.ended(ring.call_id)).reason == "caller_hung_up"
        await is_over(here)
        assert len([event for event in here.house.events if isinstance(event, CallStarted)]) == 1
        await here.serves(2)


async def test_a_key_that_is_leaned_on_is_one_short_entry(name: str) -> None:
    async with place(name, real=True) as here:
        ring = await here.ring(1)
        async with here.up(ring) as socket:
            await say(socket, [ring.writer.dtmf("7") for _ in range(500)] + [ring.writer.dtmf("#")])
            entry = await here.house.seen(CallerSaid, call_id=ring.call_id, source="dtmf")
            assert len(entry.text) < 100
        await is_over(here)


@sessions
async def test_a_flood_of_everything_is_one_call(name: str, real: bool) -> None:
    async with place(name, real=real) as here:
        ring = await here.ring(1)
        async with here.up(ring) as socket:
            flood = [ring.writer.mark(f"nobody asked {n}") for n in range(1_000)]
            flood += [ring.writer.dtmf("7") for _ in range(1_000)]
            flood += [ring.writer.media(b"\xff" * 160, 0) for _ in range(1_000)]
            flood += [ring.writer.start() for _ in range(200)]
            await say(socket, [*flood, ring.writer.stop()])
            await here.ended(ring.call_id)
        await is_over(here)
        await here.serves(2)


@pytest.mark.parametrize(
    "frame",
    [b"x" * 70_000, "x" * 70_000, '{"event":"media","x":"' + "y" * 70_000 + '"}'],
    ids=["bytes", "text", "json"],
)
@pytest.mark.parametrize("up", [False, True], ids=["before", "in a call"])
async def test_a_giant_frame_ends_the_stream(name: str, up: bool, frame: str | bytes) -> None:
    async with place(name) as here:
        ring = await here.ring(1)
        async with here.up(ring) if up else here.socket(ring) as socket:
            await say(socket, [frame])
            with anyio.fail_after(5):
                while (await socket.receive()).type not in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
                    pass
        if up:
            assert (await here.ended(ring.call_id)).reason == "line_lost"
        await here.give_up(1)
        await is_over(here)
        await here.serves(2)


@pytest.mark.parametrize(
    "raw",
    [b"\x83\x80abcd", b"\x81\x05abcde", b"\xf1\x80abcd", b"\x88\x81abcd\x00", b"\x89\xfe\x00\xffabcd" + b"x" * 255,
     b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xffabcd", b"\x01\x81abcdx" * 50, b"GET / HTTP/1.1\r\n\r\n", b"\x81\x82abcd\x9e\x9d"],
    ids=ascii,
)  # fmt: skip
async def test_what_is_no_websocket_frame_ends_the_call(name: str, raw: bytes) -> None:
    async with place(name) as here:
        ring = await here.ring(1)
        async with here.up(ring) as socket:
            transport = socket.get_extra_info("socket")
            assert transport is not None
            conn = socket._response.connection  # the only way to the bytes below the frames
            assert conn is not None
            assert conn.transport is not None
            conn.transport.write(raw)
        await here.ended(ring.call_id)
        await is_over(here)
        await here.serves(2)


async def test_a_media_socket_of_two_streams_is_one_call(name: str) -> None:
    async with place(name) as here:
        ring, other = await here.ring(1), await here.ring(2)
        async with here.up(ring) as socket, here.up(other) as second:
            await say(socket, [other.writer.start(), other.writer.media(b"\x00" * 160, 0), other.writer.stop()])
            if name == "twilio":  # a stop ends the stream it comes on, whatever it names
                pass
            await here.ended(ring.call_id)
            assert not here.endings(other.call_id)
            await say(second, [other.writer.media(b"\xff" * 160, 0), other.writer.stop()])
            await here.ended(other.call_id)
        await is_over(here)


@pytest.mark.parametrize(
    "payload",
    ["", "/", "//", "///", "////", "=", "%%", "////\n", "é", "AAAA" * 9_000],
    ids=lambda text: ascii(text)[:9],
)
async def test_a_payload_is_sound_or_nothing(name: str, payload: str) -> None:
    async with place(name) as here:
        ring = await here.ring(1)
        async with here.up(ring) as socket:
            frame: dict[str, Any] = {"track": "inbound", "chunk": "1", "timestamp": "0", "payload": payload}
            await say(socket, [json.dumps({"event": "media", "media": frame}), ring.writer.stop()])
            await here.ended(ring.call_id)
        heard = here.house.calls.sessions[ring.call_id].heard
        assert all(isinstance(sound, bytes) and sound for sound in heard)
        await here.serves(2)


async def test_sockets_that_wait_for_nothing_end_with_the_door(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_socket, "START_SECONDS", 60.0)
    async with place(name) as here:
        ring = await here.ring(1)
        async with here.socket(ring) as socket:
            await socket.send_str(ring.opening)
            await here.house.client.get(here.address + "/health")


@sessions
async def test_what_a_caller_gives_along_is_kept_but_never_believed(name: str, real: bool) -> None:
    given_along = {key: value for value, key in enumerate(NASTY)}
    parameters = {key: NASTY[-1 - value] for key, value in given_along.items()}
    async with place(name, real=real) as here:
        ring = await here.ring(1)
        async with here.up(ring, parameters) as socket:
            [started] = [event for event in here.house.events if isinstance(event, CallStarted)]
            assert started.call_id == ring.call_id
            await say(socket, [ring.writer.stop()])
        await is_over(here)
        await here.serves(2)
