"""One call's ears on a Deepgram at loopback: a line that speaks, and everything the recogniser says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import anyio
from anyio.abc import TaskGroup

from patter.audio.format import MULAW_8K, AudioFormat
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.models import STTConfig, TurnTaking
from patter.ports import Ear
from patter.providers.bench import Bench
from patter.providers.deepgram.maker import make, target_of
from patter.providers.deepgram.nova import NovaTranscriber
from patter.providers.dialer import Dialer
from patter.signals import CallerPartial, Endpointed, ListenerSignal, Used
from tests.support.tone_speech import FRAME_MS, frames, speech

KEY = "k-1234567890"
Signal = TypeVar("Signal")


class Call:
    """A line of one format and its recogniser."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        base_url: str,
        line: AudioFormat = MULAW_8K,
        *,
        key: str = KEY,
        heartbeat_s: float = 10.0,
        keep_alive_s: float | None = None,
        turn_taking: TurnTaking = TurnTaking(),  # noqa: B008 -- a frozen value
        **settings: Any,
    ) -> None:
        self.line = line
        self.dialer = Dialer(http, heartbeat_s=heartbeat_s)
        self.config = STTConfig("deepgram", "", **settings)
        self.bench = Bench(http, self.dialer, Clock(), key=key, base_url=base_url, hears=line, turn_taking=turn_taking)
        self.listener = make(self.config, self.bench)
        if keep_alive_s is not None:
            self.listener = NovaTranscriber(
                self.dialer,
                self.bench.clock,
                lambda hears: target_of(self.config, self.bench),
                model=self.listener.model,
                keep_alive_s=keep_alive_s,
            )
        self.said: list[ListenerSignal] = []
        self.error: ProviderError | None = None
        self.over = anyio.Event()
        self._news = anyio.Event()

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Call]:
        """Started, and closed at the end."""
        async with anyio.create_task_group() as tasks:
            await self.start(tasks)
            yield self
            await self.listener.aclose()
            with anyio.fail_after(5):
                await self.over.wait()
            await self.dialer.aclose()
            tasks.cancel_scope.cancel()

    async def start(self, tasks: TaskGroup) -> None:
        await self.listener.start(self.line, tasks)
        tasks.start_soon(self._read)

    async def _read(self) -> None:
        try:
            async for signal in self.listener.signals():
                self.said.append(signal)
                self._news.set()
                self._news = anyio.Event()
        except ProviderError as error:
            self.error = error
        finally:
            self.over.set()
            self._news.set()

    async def until(
        self, kind: type[Signal], count: int = 1, fits: Callable[[Signal], bool] = lambda _: True
    ) -> Signal:
        """The signal number `count` of its kind that fits."""
        with anyio.fail_after(20):
            while True:
                news = self._news
                found = [signal for signal in self.of(kind) if fits(signal)]
                if len(found) >= count:
                    return found[count - 1]
                assert not self.over.is_set(), (self.error, self.said)
                await news.wait()

    def of(self, kind: type[Signal]) -> list[Signal]:
        return [signal for signal in self.said if isinstance(signal, kind)]

    @property
    def words(self) -> list[str]:
        """The words of every pause so far."""
        return [signal.text for signal in self.of(Endpointed) if signal.text]

    @property
    def partials(self) -> list[str]:
        return [signal.text for signal in self.of(CallerPartial)]

    @property
    def billed_s(self) -> float:
        return sum(used.amounts["audio_seconds"] for used in self.of(Used))

    async def speak(self, *words: str, speed: float = 16.0, ear: Ear | None = None) -> None:
        """These words, `speed` times as fast as real time; to the recogniser, or to another `ear`."""
        await self.sound(speech(*words, line=self.line), speed=speed, ear=ear)

    async def silence(self, ms: float, speed: float = 16.0, ear: Ear | None = None) -> None:
        await self.sound(self.line.quiet(ms), speed=speed, ear=ear)

    async def sound(self, audio: bytes, speed: float = 16.0, ear: Ear | None = None) -> None:
        for frame in frames(audio, self.line):
            (ear or self.listener.hear)(frame)
            await anyio.sleep(FRAME_MS / 1000 / speed)
