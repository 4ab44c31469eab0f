"""What every recogniser must do, whoever is behind it: the ones that are told of utterances and the ones that find them.

Each hears the same sentences on a telephone line and on a wide one, from a vendor played on loopback.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar, cast

import aiohttp
import anyio
import pytest
from anyio.abc import TaskGroup

from patter.audio.convert import Converter
from patter.audio.format import MULAW_8K, PCM_16K, PCM_24K, AudioFormat
from patter.clock import Clock
from patter.conversations.ears import Ears
from patter.conversations.streaming_ears import StreamingEars
from patter.exceptions import ProviderError
from patter.loopback.deepgram import LoopbackDeepgram
from patter.loopback.openai_transcription import REALTIME, TRANSCRIPTIONS, LoopbackTranscription
from patter.loopback.stage import LoopbackVendor
from patter.loopback.stage_faults import CutAfter, Fault, Refuse
from patter.models import STTConfig, TurnTaking
from patter.ports import StreamingTranscriber, Transcriber
from patter.providers.bench import Bench
from patter.providers.dialer import Dialer
from patter.providers.embedded.hibari import HibariSynthesizer, voice_missing
from patter.providers.embedded.maker import make_transcriber
from patter.providers.embedded.whisper_model import recognition_missing
from patter.providers.level_detector import LevelDetector
from patter.providers.vendor_http import new_http
from patter.registry import maker_of
from patter.signals import (
    CallerPartial,
    ConversationSignal,
    Faulted,
    SpeechStarted,
    SpeechStopped,
    Used,
    UtteranceEnded,
)
from tests.support.tone_speech import FRAME_MS, frames, speech, understood

pytestmark = pytest.mark.anyio
KEY = "sk-0123456789"
SPEED = 10.0  # times real time: recognisers count sound, not seconds
WAIT_S = 20
Signal = TypeVar("Signal")


@dataclass(frozen=True)
class Case:
    """One recogniser: its settings, its vendor, and the path where the vendor's faults are felt."""

    provider: str
    vendor: Callable[[], LoopbackVendor]
    path: str
    settings: dict[str, object] = field(default_factory=dict)
    root: str = ""


def openai() -> LoopbackVendor:
    return LoopbackTranscription(understood, api_key=KEY)


def deepgram() -> LoopbackVendor:
    return LoopbackDeepgram(understood)


CASES = [
    pytest.param(Case("whisper", openai, TRANSCRIPTIONS, root="/v1"), id="by-utterance"),
    pytest.param(Case("whisper", openai, REALTIME, {"options": {"realtime": True}}, "/v1"), id="realtime"),
    pytest.param(Case("whisper", openai, REALTIME, {"model": "gpt-live-transcribe"}, "/v1"), id="live-model"),
    pytest.param(Case("deepgram", deepgram, "/v1/listen"), id="deepgram"),
    pytest.param(Case("deepgram", deepgram, "/v2/listen", {"model": "flux-general-en"}), id="deepgram-flux"),
]
LINES = [pytest.param(MULAW_8K, id="mulaw"), pytest.param(PCM_16K, id="pcm-16k")]


class Caller:
    """A line with a recogniser behind the pipeline's ears, and what they say."""

    def __init__(self, recogniser: Transcriber | StreamingTranscriber, line: AudioFormat, clock: Clock) -> None:
        self.recogniser, self.line = recogniser, line
        self.said: list[ConversationSignal] = []
        self.failed: list[ProviderError] = []
        self._news = anyio.Event()
        settings = TurnTaking()
        self.ears: Ears | StreamingEars
        if hasattr(recogniser, "pause"):
            self.ears = Ears(cast(Transcriber, recogniser), LevelDetector(), None, settings, clock, self._tell)
        else:
            self.ears = StreamingEars(recogniser, settings, clock, self._tell, failed=self.failed.append)

    def _tell(self, signal: ConversationSignal) -> None:
        self.said.append(signal)
        self._news.set()
        self._news = anyio.Event()

    async def sound(self, audio: bytes) -> None:
        for frame in frames(audio, self.line):
            self.ears.hear(frame)
            await anyio.sleep(FRAME_MS / 1000 / SPEED)

    async def says(self, *words: str) -> None:
        await self.sound(speech(*words, line=self.line))

    async def silent(self, ms: float) -> None:
        await self.sound(self.line.quiet(ms))

    def of(self, kind: type[Signal]) -> list[Signal]:
        return [signal for signal in self.said if isinstance(signal, kind)]

    async def until(self, done: Callable[[], bool]) -> None:
        """The line stays open, with nothing on it, until something has been said."""
        with anyio.fail_after(WAIT_S):
            while not done():
                self.ears.hear(next(frames(self.line.quiet(FRAME_MS), self.line)))
                await anyio.sleep(FRAME_MS / 1000 / SPEED)


@asynccontextmanager
async def calling(
    case: Case, line: AudioFormat, *, key: str = KEY, faults: tuple[Fault, ...] = ()
) -> AsyncIterator[Caller]:
    vendor = case.vendor()
    clock = Clock()
    async with vendor, new_http() as http:
        vendor.stage.faults.put(case.path, *faults)
        caller = Caller(made(case, vendor.stage.http + case.root, http, line, clock, key), line, clock)
        async with anyio.create_task_group() as tasks:
            await caller.ears.start(line, tasks)
            yield caller
            await ended(caller)
            tasks.cancel_scope.cancel()


def made(
    case: Case, base_url: str, http: aiohttp.ClientSession, line: AudioFormat, clock: Clock, key: str
) -> Transcriber | StreamingTranscriber:
    config = STTConfig(case.provider, key, base_url=base_url, **case.settings)  # type: ignore[arg-type]
    bench = Bench(http, Dialer(http), clock, key=key, base_url=base_url, hears=line)
    recogniser: Transcriber | StreamingTranscriber = maker_of("stt", case.provider)(config, bench)
    return recogniser


async def ended(caller: Caller) -> None:
    """Closing ends the signals, twice is once."""
    if isinstance(caller.ears, StreamingEars):
        await caller.ears.aclose()
    await caller.recogniser.aclose()
    await caller.recogniser.aclose()
    with anyio.fail_after(WAIT_S):
        async for _ in caller.recogniser.signals():
            pass


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("case", CASES)
async def test_two_sentences_are_heard_word_for_word_and_billed(case: Case, line: AudioFormat) -> None:
    async with calling(case, line) as caller:
        await caller.silent(600)
        await caller.says("alpha", "golf", "mike")
        await caller.until(lambda: len(caller.of(UtteranceEnded)) == 1)
        await caller.says("delta", "echo")
        await caller.until(lambda: len(caller.of(UtteranceEnded)) == 2)
        first, second = caller.of(UtteranceEnded)
        assert [first.text, second.text] == ["alpha golf mike", "delta echo"]
        assert first.speech_ended_at <= first.recognition_at <= first.transcript_at <= first.at
        kinds = [type(signal) for signal in caller.said if not isinstance(signal, Used)]
        assert kinds.index(SpeechStarted) < kinds.index(CallerPartial) < kinds.index(UtteranceEnded)
        assert kinds.index(SpeechStarted) < kinds.index(SpeechStopped) < kinds.index(UtteranceEnded)
        assert not caller.of(Faulted)
    used = caller.of(Used)
    assert used, "the bill comes at the latest when the call is over"
    assert {(one.stage, one.model) for one in used} == {("stt", caller.recogniser.model)}
    assert 1.0 < sum(one.amounts["audio_seconds"] for one in used) < 30.0


@pytest.mark.parametrize("case", CASES)
async def test_a_silent_line_has_no_words_and_no_voice(case: Case) -> None:
    async with calling(case, MULAW_8K) as caller:
        await caller.silent(2500)
        assert not caller.of(UtteranceEnded) + caller.of(CallerPartial) + caller.of(SpeechStarted)


@pytest.mark.parametrize("case", CASES)
async def test_a_break_in_the_middle_is_overcome_and_told(case: Case) -> None:
    fault = CutAfter(bytes=0) if case.path == TRANSCRIPTIONS else CutAfter(received=50)
    async with calling(case, MULAW_8K, faults=(fault,)) as caller:
        await caller.silent(300)
        await caller.says("bravo", "india", "kilo", "oscar", "lima")
        await caller.until(lambda: bool(caller.of(UtteranceEnded)))
        assert caller.of(UtteranceEnded)[0].text == "bravo india kilo oscar lima"
        assert caller.of(Faulted)
        assert not any(fault.fatal for fault in caller.of(Faulted))


@pytest.mark.parametrize("case", CASES)
async def test_a_refused_key_is_said_in_plain_words_without_the_key(case: Case) -> None:
    refused = Refuse(401, {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}})
    vendor, clock = case.vendor(), Clock()
    async with vendor, new_http() as http:
        vendor.stage.faults.put(case.path, refused)
        recogniser = made(case, vendor.stage.http + case.root, http, MULAW_8K, clock, KEY)
        caller = Caller(recogniser, MULAW_8K, clock)
        async with anyio.create_task_group() as tasks:
            told = await refusal(caller, tasks)
            assert "refuses the key" in told
            assert KEY not in told
            await recogniser.aclose()
            tasks.cancel_scope.cancel()


async def refusal(caller: Caller, tasks: TaskGroup) -> str:
    """What is said of a refused key: when the call begins, or with the first utterance."""
    try:
        await caller.ears.start(MULAW_8K, tasks)
    except ProviderError as error:
        return str(error)
    await caller.silent(300)
    await caller.says("alpha", "golf")
    await caller.until(lambda: bool(caller.of(Faulted)))
    return f"{caller.of(Faulted)[0].problem} {caller.of(Faulted)[0].fix}"


@pytest.mark.local
@pytest.mark.skipif(bool(recognition_missing() or voice_missing()), reason="needs the embedded engines")
async def test_the_embedded_recogniser_hears_speech_on_a_telephone_line() -> None:
    voice = HibariSynthesizer()
    await voice.start()
    pcm = b"".join([chunk.data async for chunk in voice.synthesize("I would like to book a table for Tuesday.")])
    line = Converter(PCM_24K, MULAW_8K).convert(pcm)
    async with new_http() as http:
        ear = make_transcriber(STTConfig("embedded", ""), Bench(http, Dialer(http), Clock(), hears=MULAW_8K))
        async with anyio.create_task_group() as tasks:
            await ear.start(tasks)
            ear.begin()
            ear.hear(Converter(MULAW_8K, PCM_16K).convert(line))
            ear.pause()
            finals = []
            with anyio.fail_after(50):  # no ears around it, which would not wait so long for a machine that is busy
                async for words in ear.signals():
                    if words.final:
                        finals.append(words)
                        await ear.aclose()
        assert "book a table" in finals[0].text.lower()
        assert finals[0].audio_seconds > 1
