"""A caller on a G.711 line, a call put together by the real workshop, and vendors of which one has a bad day.

It owns the line, what was said and heard on it, and where agents and keys lead; it refuses to know which faults there are.
Words are tones, so what the caller heard is known word by word.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import anyio

from patter.assembly import Workshop
from patter.audio.convert import Converter
from patter.audio.format import MULAW_8K, PCM_16K, AudioChunk
from patter.builders import Keys
from patter.bus import Bus
from patter.call.session import CallSession
from patter.clock import Clock
from patter.events import CallEnded, Event, FaultOccurred, UsageMeasured
from patter.loopback.stage import Stage
from patter.models import Agent, LLMConfig, Recovery, STTConfig, TTSConfig
from patter.ports import Abilities, CallInfo
from patter.vendors.house import VendorHouse
from tests.support.parts import FakeLine
from tests.support.tone_speech import frames, speech, understood
from tests.support.vendor_house import TONES, Mind

Kind = TypeVar("Kind", bound=Event)
WAIT_S = 20.0  # the machine is shared

GREETING, ASKED, ANSWER, OTHERS_ANSWER = "delta", "alpha bravo", "charlie", "echo"
APOLOGY, GOODBYE = "golf hotel", "lima mike"
KEYS = {vendor: f"key-of-{vendor}-never-to-be-shown" for vendor in ("openai", "deepgram", "elevenlabs")}
LIMIT_MS = 6000  # far beyond what a busy machine delays a fault that is known at once
VOICE_ID = "JBFqnCBsd6RMkjVDRZzb"


class Line(FakeLine):
    """A telephone line of G.711 on which somebody speaks, and listens to every sound."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.can_transfer = False
        self._heard = bytearray()
        self._understood = (0, "")

    @property
    def abilities(self) -> Abilities:
        return Abilities(MULAW_8K, MULAW_8K, announce=self.can_announce)

    def play(self, chunk: AudioChunk, reply_id: int, at_ms: float) -> float:
        self._heard += chunk.data
        return super().play(chunk, reply_id, at_ms)

    @property
    def words(self) -> str:
        """What was played, as words."""
        if self._understood[0] != len(self._heard):
            self._understood = len(self._heard), understood(Converter(MULAW_8K, PCM_16K).convert(bytes(self._heard)))
        return self._understood[1]

    @property
    def playing(self) -> bool:
        """Whether the caller has not heard all of it yet."""
        return self._playhead.queued_ms(self._clock.now()) > 0

    async def say(self, *words: str) -> None:
        """The caller says this and is silent for a moment, three times as fast as people do."""
        sound = speech(*words, line=MULAW_8K) + MULAW_8K.quiet(600)
        for frame in frames(sound, MULAW_8K):
            self._ear(frame)
            await anyio.sleep(0.02 / 3)

    async def hum(self) -> None:
        """The line's own silence, until it is cancelled."""
        while True:
            self._ear(AudioChunk(MULAW_8K.quiet(20), MULAW_8K))
            await anyio.sleep(0.02)


@dataclass(eq=False)
class Scene:
    """A call that runs, and everything that happens in it."""

    line: Line
    session: CallSession
    workshop: Workshop
    events: list[Event] = field(default_factory=list)
    _more: anyio.Event = field(default_factory=anyio.Event)

    def saw(self, event: Event) -> None:
        self.events.append(event)
        self._more.set()
        self._more = anyio.Event()

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, kind: type[Kind], fits: Callable[[Kind], bool] = lambda _: True) -> Kind:
        """The first of its kind that fits. AssertionError if the call ends before."""
        with anyio.move_on_after(WAIT_S):
            while True:
                found = [event for event in self.of(kind) if fits(event)]
                if found:
                    return found[0]
                if self.of(CallEnded):
                    break
                await self._more.wait()
        raise AssertionError(f"no such {kind.__name__}: {self.told}")

    async def happens(self, check: Callable[[], object]) -> None:
        """Return when something is so, or the call is over."""
        while not (check() or self.of(CallEnded)):
            more = self._more
            with anyio.move_on_after(0.1):  # what is played is no event
                await more.wait()

    async def over(self) -> CallEnded:
        """Wait for the call's end."""
        with anyio.fail_after(WAIT_S):
            while not self.of(CallEnded):
                await self._more.wait()
        return self.ended

    @property
    def faults(self) -> list[FaultOccurred]:
        return self.of(FaultOccurred)

    @property
    def ended(self) -> CallEnded:
        (ended,) = self.of(CallEnded)
        return ended

    @property
    def used(self) -> set[tuple[str, str, str]]:
        """(stage, provider, model) of everything billed."""
        return {(used.stage, used.provider, used.model) for used in self.of(UsageMeasured)}

    @property
    def told(self) -> list[str]:
        """The call in short, for whoever has to find out what went wrong."""
        return [f"{event.at:.2f} {event!r}"[:300] for event in self.events]


@asynccontextmanager
async def calling(agent: Agent, keys: Keys, *, announces: bool = False) -> AsyncIterator[Scene]:
    """Run a call; the caller hangs up at the end, if it is not over by then."""
    clock = Clock()
    bus, line = Bus(clock), Line(clock)
    line.can_announce = announces
    async with Workshop(bus, clock, keys=keys) as workshop:
        session = workshop.open_call(CallInfo("CA1", direction="inbound", telephony="loopback"), agent, line)
        scene = Scene(line, session, workshop)
        bus.add_sink(scene.saw)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run)
            yield scene
            line.leaves()
            await scene.over()


# ------------------------------------------------------------------------------------------------------------- vendors


def mind(answer: str) -> Mind:
    """A brain that always says this."""
    return Mind(lambda said, results: f"{answer}.")


@asynccontextmanager
async def vendors(answer: str = ANSWER, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[VendorHouse]:
    """A house of all vendors."""
    async with Stage(tls=tls) as stage:
        yield VendorHouse(stage, TONES, mind(answer).answer)


def keys_for(root: str) -> Keys:
    """Keys of all vendors, at this root."""
    return Keys(**KEYS, openai_url=f"{root}/v1", deepgram_url=root, elevenlabs_url=root)


def pipeline(**changes: Any) -> Agent:
    """A pipeline of vendors at the keys' addresses; the names of the stages may be replaced."""
    plain = Agent(
        "Be brief.",
        provider="pipeline",
        first_message=f"{GREETING}.",
        stt=STTConfig("deepgram", ""),
        llm=LLMConfig("gpt-4.1-mini"),
        tts=TTSConfig("elevenlabs", "", voice=VOICE_ID),
        recovery=Recovery(f"{APOLOGY}.", f"{GOODBYE}.", LIMIT_MS),
    )
    return replace(plain, **changes)


def secrets_in(text: str) -> list[str]:
    """Which of the keys can be read in it."""
    return [key for key in KEYS.values() if key in text]


async def no_tasks_left(before: set[asyncio.Task[Any]]) -> None:
    """Return when no task is left that was not there before."""
    with anyio.move_on_after(5):
        while left := [task for task in asyncio.all_tasks() - before if "TestRunner" not in repr(task)]:
            await anyio.sleep(0.02)
        return
    raise AssertionError(f"tasks were left: {left}")
