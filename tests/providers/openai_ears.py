"""One call's recogniser on an OpenAI at loopback, and everything it says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import aiohttp
import anyio
from anyio.abc import TaskGroup

from patter.audio.format import MULAW_8K, PCM_16K, AudioFormat
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.models import STTConfig
from patter.ports import StreamingTranscriber, Transcriber
from patter.providers.bench import Bench
from patter.providers.dialer import Dialer
from patter.providers.openai_audio.transcription_maker import make
from patter.signals import ListenerSignal, Transcribed, TranscriberSignal, Used
from tests.support.tone_speech import FRAME_MS, frames, speech

KEY = "sk-0123456789"
Said = TypeVar("Said")
Part = TypeVar("Part", Transcriber, StreamingTranscriber)


class Listening(Generic[Part]):
    """A recogniser and what it has said. `error` is what it ended with."""

    def __init__(self, ear: Part, notes: list[str]) -> None:
        self.ear, self.notes = ear, notes
        self.said: list[TranscriberSignal | ListenerSignal] = []
        self.errors: list[ProviderError] = []
        self.over = anyio.Event()
        self._news = anyio.Event()

    async def read(self) -> None:
        while True:
            try:
                async for signal in self.ear.signals():
                    self.said.append(signal)
                    self._wake()
                break
            except ProviderError as error:
                self.errors.append(error)
                self._wake()
        self.over.set()
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def until(self, done: Callable[[], Any]) -> None:
        """Wait until it has said something."""
        with anyio.fail_after(20):
            while not done():
                await self._news.wait()

    def of(self, kind: type[Said]) -> list[Said]:
        return [signal for signal in self.said if isinstance(signal, kind)]

    @property
    def finals(self) -> list[str]:
        return [words.text for words in self.of(Transcribed) if words.final]

    @property
    def partials(self) -> list[str]:
        return [words.text for words in self.of(Transcribed) if not words.final]

    @property
    def billed(self) -> dict[str, float]:
        """All amounts together."""
        sums: dict[str, float] = {}
        for used in self.of(Used):
            for name, amount in used.amounts.items():
                sums[name] = sums.get(name, 0.0) + amount
        return sums


@asynccontextmanager
async def listening(
    http: aiohttp.ClientSession,
    base_url: str,
    line: AudioFormat = MULAW_8K,
    *,
    heartbeat_s: float = 10.0,
    **settings: Any,
) -> AsyncIterator[Listening[Any]]:
    """A started recogniser; it is closed at the end, and its signals must end with it."""
    dialer, notes = Dialer(http, heartbeat_s=heartbeat_s), []  # type: tuple[Dialer, list[str]]
    bench = Bench(http, dialer, Clock(), key=KEY, base_url=base_url, hears=line, note=notes.append)
    heard: Listening[Any] = Listening(make(STTConfig("whisper", "", **settings), bench), notes)
    async with anyio.create_task_group() as tasks:
        await start(heard.ear, line, tasks)
        tasks.start_soon(heard.read)
        yield heard
        await heard.ear.aclose()
        await heard.ear.aclose()
        with anyio.fail_after(10):
            await heard.over.wait()
        await dialer.aclose()
        tasks.cancel_scope.cancel()


async def start(ear: Any, line: AudioFormat, tasks: TaskGroup) -> None:
    """Either kind of recogniser."""
    if hasattr(ear, "pause"):
        await ear.start(tasks)
    else:
        await ear.start(line, tasks)


def utter(ear: Transcriber, *words: str) -> None:
    """One utterance up to its pause, as the pipeline's ears drive it."""
    sound = speech(*words, line=PCM_16K)
    ear.hear(sound[:3200])
    ear.begin()
    ear.hear(sound[3200:] + PCM_16K.quiet(200))
    ear.pause()


async def speak(ear: StreamingTranscriber, *words: str, line: AudioFormat = MULAW_8K, speed: float = 10.0) -> None:
    """These words on the line, and silence after them."""
    for frame in frames(speech(*words, line=line) + line.quiet(600), line):
        ear.hear(frame)
        await anyio.sleep(FRAME_MS / 1000 / speed)
