"""The embedded transcriber: what of a call's sound is decoded when, and which answers still count."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import numpy as np
import pytest

from patter.audio.format import PCM_16K
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.ports import Transcriber
from patter.providers.embedded.decode_queue import DecodeQueue
from patter.providers.embedded.mel import Floats
from patter.providers.embedded.whisper import WhisperTranscriber
from patter.providers.embedded.whisper_model import NoLongerWanted, Wanted
from patter.signals import Transcribed

pytestmark = pytest.mark.anyio
WAIT_S = 10
Following = Callable[[], Awaitable[Transcribed]]


class MarkingModel:
    """Answers with the marks it hears: a run of samples of the value n * 1000 is the word n."""

    name = "marks"

    def __init__(self) -> None:
        self.queue = DecodeQueue("marks")
        self.heard: list[float] = []
        self.drafts: list[bool] = []
        self.begun, self.given_up = threading.Event(), 0
        self.may_go = threading.Event()
        self.may_go.set()
        self.problem: Exception | None = None

    def load(self) -> None:
        pass

    def transcribe(self, samples: Floats, language: str, *, draft: bool, wanted: Wanted) -> str:
        self.begun.set()
        assert self.may_go.wait(WAIT_S)
        if not wanted():
            self.given_up += 1
            raise NoLongerWanted
        self.heard.append(len(samples) / 16000)
        self.drafts.append(draft)
        if self.problem is not None:
            raise self.problem
        marks = np.rint(samples * 32768 / 1000).astype(int)
        changes = marks[np.flatnonzero(np.diff(marks, prepend=0))]
        return " ".join(str(mark) for mark in changes if mark)


def word(number: int, ms: float = 200) -> bytes:
    return np.full(int(16 * ms), number * 1000, np.int16).tobytes()


def quiet(ms: float) -> bytes:
    return PCM_16K.quiet(ms)


@asynccontextmanager
async def listening(model: MarkingModel) -> AsyncIterator[tuple[WhisperTranscriber, Following]]:
    """A started transcriber, and a function that waits for its next signal."""
    transcriber = WhisperTranscriber(model, Clock(), "en-US")
    port: Transcriber = transcriber
    async with anyio.create_task_group() as tasks:
        await port.start(tasks)
        signals = port.signals()

        async def following() -> Transcribed:
            with anyio.fail_after(WAIT_S):
                return await anext(signals)

        yield transcriber, following
        model.may_go.set()
        await transcriber.aclose()
        with anyio.fail_after(WAIT_S):
            assert [late async for late in signals] == []
        model.queue.close()


async def test_a_pause_brings_the_whole_utterance_with_its_pre_roll() -> None:
    model = MarkingModel()
    async with listening(model) as (ear, following):
        ear.hear(quiet(5000) + word(1, 150))
        ear.begin()
        ear.hear(word(2) + quiet(200))
        ear.pause()
        said = await following()
        assert (said.text, said.final) == ("1 2", True)
        assert said.ready_at >= said.requested_at > 1.6e9
        assert said.audio_seconds == pytest.approx(0.5 + 0.2 + 0.2)
        assert model.heard == [pytest.approx(0.9)]
        assert model.drafts == [False]


async def test_after_a_commit_the_next_utterance_holds_nothing_of_the_last() -> None:
    model = MarkingModel()
    async with listening(model) as (ear, following):
        ear.hear(quiet(600))
        ear.begin()
        ear.hear(word(1) + quiet(200))
        ear.pause()
        assert (await following()).text == "1"
        ear.commit()
        ear.hear(quiet(100) + word(2, 100))
        ear.begin()
        ear.hear(word(3) + quiet(200))
        ear.pause()
        assert (await following()).text == "2 3"
        assert model.heard[1] == pytest.approx(0.1 + 0.1 + 0.2 + 0.2)


async def test_when_the_caller_goes_on_the_answer_is_moot_and_the_next_pause_has_all_words() -> None:
    model = MarkingModel()
    async with listening(model) as (ear, following):
        model.may_go.clear()
        ear.hear(quiet(600))
        ear.begin()
        ear.hear(word(1) + quiet(200))
        ear.pause()
        ear.resume()
        ear.hear(word(2) + quiet(200))
        ear.pause()
        model.may_go.set()
        assert (await following()).text == "1 2"


async def test_a_request_that_never_started_is_not_decoded_at_all() -> None:
    model = MarkingModel()
    async with listening(model) as (busy, first), listening(model) as (ear, following):
        model.may_go.clear()
        for one in (busy, ear):
            one.hear(quiet(600))
            one.begin()
            one.hear(word(1) + quiet(200))
            one.pause()
        ear.resume()
        ear.hear(word(2) + quiet(200))
        ear.pause()
        model.may_go.set()
        assert (await first()).text == "1"
        assert (await following()).text == "1 2"
        assert len(model.heard) == 2


async def test_long_speech_gives_drafts_without_a_pause() -> None:
    model = MarkingModel()
    async with listening(model) as (ear, following):
        ear.hear(quiet(600))
        ear.begin()
        for frame in range(70):
            ear.hear(word(1 + frame // 50, 20))
        draft = await following()
        assert not draft.final
        assert draft.text.startswith("1")
        assert draft.audio_seconds == 0.0
        assert model.drafts == [True]


async def test_a_draft_is_given_up_for_a_final() -> None:
    model = MarkingModel()
    async with listening(model) as (drafting, _), listening(model) as (ear, following):
        model.may_go.clear()
        drafting.hear(quiet(600))
        drafting.begin()
        for _ in range(70):
            drafting.hear(word(1, 20))
        assert await anyio.to_thread.run_sync(model.begun.wait, WAIT_S)
        ear.hear(quiet(600) + word(2))
        ear.pause()
        model.may_go.set()
        assert (await following()).text == "2"
        assert model.given_up == 1


async def test_no_draft_is_begun_in_what_may_be_the_pause() -> None:
    model = MarkingModel()
    async with listening(model) as (ear, following):
        ear.hear(quiet(600))
        ear.begin()
        ear.hear(word(1, 1100))
        for _ in range(20):
            ear.hear(quiet(20))
        ear.pause()
        assert (await following()).final
        assert model.drafts == [False]


async def test_nobody_waits_for_drafts_of_a_busy_engine() -> None:
    model = MarkingModel()
    async with listening(model) as (busy, first), listening(model) as (ear, following):
        model.may_go.clear()
        busy.hear(quiet(600))
        busy.begin()
        busy.hear(word(7) + quiet(200))
        busy.pause()
        ear.hear(quiet(600))
        ear.begin()
        for _ in range(200):
            ear.hear(word(1, 20))
        ear.pause()
        model.may_go.set()
        assert (await first()).text == "7"
        assert (await following()).final
        assert model.drafts == [False, False]


async def test_sound_without_words_still_gets_its_final() -> None:
    async with listening(MarkingModel()) as (ear, following):
        ear.hear(quiet(600))
        ear.begin()
        ear.pause()
        said = await following()
        assert (said.text, said.final) == ("", True)


async def test_a_pause_without_a_beginning_is_answered() -> None:
    async with listening(MarkingModel()) as (ear, following):
        ear.hear(quiet(300) + word(4) + quiet(200))
        ear.pause()
        assert (await following()).text == "4"


@pytest.mark.parametrize(
    "problem", [ProviderError("out of memory", provider="whisper", stage="stt"), RuntimeError("!")]
)
async def test_an_engine_that_fails_is_a_provider_error(problem: Exception) -> None:
    model = MarkingModel()
    model.problem = problem
    transcriber = WhisperTranscriber(model, Clock())
    async with anyio.create_task_group() as tasks:
        await transcriber.start(tasks)
        transcriber.hear(word(1))
        transcriber.pause()
        with pytest.raises(ProviderError, match="whisper"), anyio.fail_after(WAIT_S):
            await anext(transcriber.signals())
        await transcriber.aclose()
    model.queue.close()


async def test_between_utterances_memory_does_not_grow() -> None:
    model = MarkingModel()
    async with listening(model) as (ear, following):
        for _ in range(100):
            ear.hear(quiet(1000))
        ear.begin()
        ear.pause()
        assert (await following()).audio_seconds == pytest.approx(0.5)


async def test_a_decode_that_ends_after_the_call_disturbs_nobody() -> None:
    model = MarkingModel()
    transcriber = WhisperTranscriber(model, Clock())
    async with anyio.create_task_group() as tasks:
        await transcriber.start(tasks)
        model.may_go.clear()
        transcriber.hear(word(1))
        transcriber.pause()
        await transcriber.aclose()
        await transcriber.aclose()
    model.may_go.set()
    model.queue.close()
    assert len(model.heard) <= 1


async def test_using_it_before_it_is_started_is_said_clearly() -> None:
    model = MarkingModel()
    with pytest.raises(ProviderError, match="has not been started"):
        WhisperTranscriber(model, Clock()).pause()
