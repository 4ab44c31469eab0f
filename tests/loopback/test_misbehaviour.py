"""Bad days on one line, in virtual time: each thing that goes wrong, alone and as often as was asked for."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import anyio
import pytest

from patter.audio.format import MULAW_8K
from patter.loopback.media_leg import MediaLeg
from patter.loopback.misbehaviour import GOOD_DAY, Misbehaviour
from patter.wire import twilio
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio
Texts = list[tuple[float, dict[str, Any]]]


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


async def one_second(misbehaviour: Misbehaviour, *asked: str) -> tuple[MediaLeg, Texts]:
    """A second of a stream whose server says `asked` at its beginning: the leg, and what arrived when (ms)."""
    clock = virtual_clock()
    texts: Texts = []
    began = clock.now()

    async def send(text: str) -> None:
        texts.append((round((clock.now() - began) * 1000, 1), json.loads(text)))

    wire = twilio.CarrierWriter("MZ1", "AC1", "CA1")
    read = partial(twilio.read_server, stream_sid="MZ1")
    leg = MediaLeg(wire, MULAW_8K, clock, bytes, lambda _: None, read=read, misbehaviour=misbehaviour)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leg.run, send)
        await anyio.sleep(0.001)
        for text in asked:
            leg.receive(text)
        await anyio.sleep(1.008)
        leg.hang_up()
    return leg, texts


def chunks(texts: Texts) -> list[int]:
    return [int(message["media"]["chunk"]) for _, message in texts if message["event"] == "media"]


def marks(texts: Texts) -> list[float]:
    return [at for at, message in texts if message["event"] == "mark"]


async def test_a_good_day_has_every_frame_in_order() -> None:
    _, texts = await one_second(GOOD_DAY)
    assert chunks(texts) == list(range(1, 51))


async def test_lost_frames_leave_a_gap_in_the_numbers() -> None:
    _, texts = await one_second(Misbehaviour(loss=0.2, seed=3))
    arrived = chunks(texts)
    assert arrived == sorted(arrived)
    assert 5 <= 50 - len(arrived) <= 15


async def test_swapped_frames_all_arrive() -> None:
    _, texts = await one_second(Misbehaviour(reorder=0.2, seed=3))
    arrived = chunks(texts)
    assert arrived != sorted(arrived)
    assert set(range(1, 49)) <= set(arrived)
    assert all(abs(at - number) <= 1 for at, number in enumerate(arrived, 1))


async def test_jitter_makes_frames_late_but_never_early() -> None:
    _, texts = await one_second(Misbehaviour(jitter_ms=60))
    arrived = chunks(texts)
    late = [at - 20 * number for (at, _), number in zip((t for t in texts if "media" in t[1]), arrived, strict=True)]
    assert arrived == list(range(1, len(arrived) + 1))
    assert min(late) >= 0
    assert 40 < max(late) <= 60
    assert len(set(late)) > 10


async def test_late_and_lost_marks() -> None:
    server = twilio.StreamWriter("MZ1")
    asked = [part for n in range(20) for part in (server.media(b"\x40" * 160), server.mark(str(n)))]
    _, punctual = await one_second(GOOD_DAY, *asked)
    _, late = await one_second(Misbehaviour(late_marks_ms=100), *asked)
    _, lost = await one_second(Misbehaviour(lost_marks=0.5, seed=1), *asked)
    assert len(marks(punctual)) == 20
    assert [after - before for before, after in zip(marks(punctual), marks(late), strict=True)] == [100.0] * 20
    assert 5 <= len(marks(lost)) <= 15


async def test_the_socket_drops_without_a_goodbye() -> None:
    leg, texts = await one_second(Misbehaviour(drop_socket_after_s=0.5))
    assert leg.dropped
    assert texts[-1][1]["event"] == "media"
    assert chunks(texts)[-1] == 24


async def test_the_wrong_codec_is_announced() -> None:
    _, texts = await one_second(Misbehaviour(wrong_codec=True))
    start = next(message["start"] for _, message in texts if message["event"] == "start")
    assert start["mediaFormat"] == {"encoding": "AMR-NB", "sampleRate": 8000, "channels": 1}


async def test_the_same_seed_gives_the_same_day() -> None:
    day = Misbehaviour(loss=0.1, reorder=0.1, jitter_ms=30, seed=8)
    (_, first), (_, second) = await one_second(day), await one_second(day)
    assert first == second
