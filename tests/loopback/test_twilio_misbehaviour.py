"""The loopback Twilio on bad days: one thing goes wrong at a time, and only that."""

from __future__ import annotations

from collections import Counter

import pytest

from patter.loopback.misbehaviour import Misbehaviour
from patter.loopback.person import Person, says
from patter.loopback.tones import tone
from tests.loopback.app import CALLER, NUMBER, STREAM, Talk, response, town

pytestmark = pytest.mark.anyio


async def one_call(day: Misbehaviour, marks: int = 0) -> tuple[Talk, list[dict[str, str]], list[str], str]:
    """Half a second of a call: the stream, the webhooks of its beginning, the violations, and how it ended."""

    async def talking(talk: Talk) -> None:
        for number in range(marks):
            await talk.play(b"\x40" * 160)
            await talk.mark(str(number))
        await talk.until("stop")

    async with town(day, answers={"/voice": response(STREAM)}, talking=talking) as (app, carrier):
        leg = carrier.place_call(CALLER, NUMBER, Person(mouth=says(tone(400, 500)), stays_s=0.6))
        await leg.over.wait()
    return app.talks[0], app.forms("/voice"), carrier.violations, leg.status


def chunks(talk: Talk) -> list[int]:
    return [int(message["media"]["chunk"]) for message in talk.named("media")]


async def test_a_good_day() -> None:
    talk, webhooks, violations, status = await one_call(Misbehaviour(), marks=10)
    assert chunks(talk) == list(range(1, len(chunks(talk)) + 1))
    assert [message["mark"]["name"] for message in talk.named("mark")] == [str(number) for number in range(10)]
    assert len(webhooks) == 1
    assert (violations, status) == ([], "completed")


async def test_lost_frames() -> None:
    talk, _, violations, _ = await one_call(Misbehaviour(loss=0.3, seed=5))
    arrived = chunks(talk)
    assert arrived == sorted(arrived)
    assert len(arrived) < arrived[-1]
    assert violations == []


async def test_swapped_frames() -> None:
    talk, _, _, _ = await one_call(Misbehaviour(reorder=0.3, seed=5))
    arrived = chunks(talk)
    assert arrived != sorted(arrived)


async def test_jitter() -> None:
    talk, _, _, _ = await one_call(Misbehaviour(jitter_ms=80))
    assert chunks(talk) == list(range(1, len(chunks(talk)) + 1))


async def test_lost_marks() -> None:
    talk, _, _, _ = await one_call(Misbehaviour(lost_marks=0.5, seed=2), marks=20)
    assert 3 <= len(talk.named("mark")) <= 17


async def test_late_marks() -> None:
    talk, _, _, _ = await one_call(Misbehaviour(late_marks_ms=200), marks=1)
    before = [message["event"] for message in talk.messages[: talk.messages.index(talk.named("mark")[0])]]
    assert Counter(before)["media"] >= 9


async def test_webhooks_that_come_twice() -> None:
    _, webhooks, violations, status = await one_call(Misbehaviour(duplicate_webhooks=True))
    assert len(webhooks) == 2
    assert webhooks[0] == webhooks[1]
    assert (violations, status) == ([], "completed")


async def test_a_socket_that_dies() -> None:
    talk, _, violations, status = await one_call(Misbehaviour(drop_socket_after_s=0.2))
    assert talk.named("stop") == []
    assert 1 <= len(talk.named("media")) <= 12
    assert talk.socket.close_code == 1006
    assert (violations, status) == ([], "completed")


async def test_a_codec_that_nobody_asked_for() -> None:
    talk, _, _, _ = await one_call(Misbehaviour(wrong_codec=True))
    assert talk.named("start")[0]["start"]["mediaFormat"]["encoding"] == "AMR-NB"
