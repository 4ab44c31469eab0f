"""A recogniser that only writes `words`: which answers count, and what a failure costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.providers.each_utterance import EachUtterance
from patter.signals import Transcribed, TranscriberSignal, Used

pytestmark = pytest.mark.anyio

SECOND = b"\x00\x10" * 16_000


class Counting(EachUtterance):
    """Tells how much sound it got; fails for two seconds, and never ends for three."""

    name, model = "counting", "sums"

    def __init__(self) -> None:
        super().__init__(Clock())
        self.asked: list[float] = []

    async def words(self, pcm_16k: bytes) -> str:
        seconds = len(pcm_16k) / len(SECOND)
        self.asked.append(seconds)
        if seconds == 2:
            raise ProviderError("it is tired", provider=self.name, stage="stt")
        if seconds == 3:
            await anyio.sleep_forever()
        if seconds == 4:
            raise KeyError("text")
        return f" {seconds:g} seconds\n"


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[Counting, AsyncIterator[TranscriberSignal]]]:
    ears = Counting()
    async with anyio.create_task_group() as tasks:
        await ears.start(tasks)
        with anyio.fail_after(20):
            yield ears, ears.signals()
        await ears.aclose()


def utter(ears: Counting, seconds: int) -> None:
    ears.begin()
    for _ in range(seconds):
        ears.hear(SECOND)
    ears.pause()


async def test_an_utterance_becomes_words_and_a_bill() -> None:
    async with listening() as (ears, signals):
        utter(ears, 1)
        used, words = await anext(signals), await anext(signals)
    assert isinstance(used, Used)
    assert used.amounts == {"audio_seconds": 1.0}
    assert isinstance(words, Transcribed)
    assert (words.text, words.final) == ("1 seconds", True)
    assert words.requested_at <= words.ready_at


async def test_an_answer_that_the_caller_overtook_is_not_told() -> None:
    async with listening() as (ears, signals):
        utter(ears, 3)
        await anyio.wait_all_tasks_blocked()
        ears.resume()
        ears.hear(SECOND + SECOND)
        ears.pause()
        assert [type(await anext(signals)) for _ in range(2)] == [Used, Transcribed]
    assert ears.asked == [3, 5]


async def test_after_a_commit_the_next_utterance_is_one_of_its_own() -> None:
    async with listening() as (ears, signals):
        utter(ears, 5)
        assert [await anext(signals) for _ in range(2)]
        ears.commit()
        utter(ears, 1)
        assert [await anext(signals) for _ in range(2)]
    assert ears.asked == [5, 1]


@pytest.mark.parametrize(("seconds", "says"), [(2, "it is tired"), (4, "KeyError")])
async def test_a_failure_loses_one_utterance_and_no_more(seconds: int, says: str) -> None:
    async with listening() as (ears, signals):
        utter(ears, seconds)
        with pytest.raises(ProviderError, match=says):
            await anext(signals)
        ears.commit()
        utter(ears, 1)
        again = ears.signals()
        assert [type(await anext(again)) for _ in range(2)] == [Used, Transcribed]


async def test_a_click_is_not_sent_to_anybody() -> None:
    async with listening() as (ears, signals):
        ears.begin()
        ears.hear(SECOND[:400])
        ears.pause()
        words = await anext(signals)
    assert isinstance(words, Transcribed)
    assert (words.text, ears.asked) == ("", [])
