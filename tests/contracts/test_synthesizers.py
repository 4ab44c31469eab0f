"""What every synthesizer must do, whichever vendor is behind it. All of them pass it, over real sockets on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import aiohttp
import anyio
import pytest
from anyio.abc import TaskGroup

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_8K, PCM_16K, PCM_24K, AudioChunk, AudioFormat
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.loopback import elevenlabs_tts, openai_speech
from patter.loopback.elevenlabs_tts import LoopbackElevenLabsTTS
from patter.loopback.openai_speech import LoopbackOpenAISpeech
from patter.loopback.stage_faults import Fault, Garbled, Hangup, Refuse
from patter.loopback.tones import as_line, tone
from patter.models import TTSConfig
from patter.ports import Synthesizer
from patter.providers.bench import Bench
from patter.providers.dialer import Dialer
from patter.providers.elevenlabs.maker import make as make_elevenlabs
from patter.providers.embedded.hibari import HibariSynthesizer
from patter.providers.fallback_voice import FallbackVoice
from patter.providers.openai_audio.speech_maker import make as make_openai
from patter.providers.speech_cache import CachedVoice, SpeechCache
from patter.providers.vendor_http import new_http
from patter.signals import SynthesizerPiece

pytestmark = pytest.mark.anyio

MS_PER_LETTER = 10.0
TEXTS = ("Hello there.", "How are you today, my friend?", "Good.")


def voice(text: str) -> bytes:
    """A pitch of its own for every length of text, so that one sentence's sound is not another's."""
    return tone(100.0 + 10 * len(text), len(text) * MS_PER_LETTER)


@dataclass
class House:
    """A synthesizer with what is behind it. `path`: where the vendor is asked for sound, "" = no vendor."""

    synthesizer: Synthesizer
    format: AudioFormat
    vendor: Any = None
    path: str = ""
    exact: bool = True

    def sound(self, text: str) -> bytes:
        """How the loopback vendor says a text."""
        return as_line(voice(text), self.format)


@dataclass
class Ground:
    """What houses are built on."""

    stack: AsyncExitStack
    http: aiohttp.ClientSession
    tasks: TaskGroup | None = None
    values: dict[str, Any] = field(default_factory=dict)

    def bench(self, plays: AudioFormat | None, base_url: str, *, attended: bool) -> Bench:
        dialer = Dialer(self.http)
        self.stack.push_async_callback(dialer.aclose)
        tasks = self.tasks if attended else None
        return Bench(self.http, dialer, Clock(), key="k", base_url=base_url, plays=plays, tasks=tasks)


Build = Callable[[Ground], Any]


async def elevenlabs(ground: Ground, plays: AudioFormat, streaming: str, *, attended: bool = True) -> House:
    vendor = await ground.stack.enter_async_context(
        LoopbackElevenLabsTTS(voice=voice, key="k", ragged=True, **ground.values)
    )
    config = TTSConfig("elevenlabs", "", "Sarah", streaming=streaming)
    made = make_elevenlabs(config, ground.bench(plays, vendor.base_url, attended=attended))
    ground.stack.push_async_callback(made.aclose)
    path = elevenlabs_tts.STREAM if streaming == "http" else elevenlabs_tts.SOCKET
    return House(made, plays, vendor, path)


async def openai(ground: Ground, model: str) -> House:
    vendor = await ground.stack.enter_async_context(
        LoopbackOpenAISpeech(voice=voice, key="k", ragged=True, **ground.values)
    )
    config = TTSConfig("openai", "", "coral", model=model)
    made = make_openai(config, ground.bench(MULAW_8K, vendor.base_url, attended=False))
    return House(made, PCM_24K, vendor, openai_speech.SPEECH)


async def cached(ground: Ground) -> House:
    house = await openai(ground, "tts-1")
    keeping = CachedVoice(house.synthesizer, SpeechCache())
    for text in TEXTS:
        keeping.keep(text)
    return House(keeping, house.format, house.vendor, house.path)


async def fallback(ground: Ground) -> House:
    house = await elevenlabs(ground, PCM_16K, "http")
    return House(FallbackVoice([house.synthesizer]), house.format, house.vendor, house.path)


async def embedded(ground: Ground) -> House:
    if find_spec("hibari") is None:
        pytest.skip("needs the embedded voice")
    return House(HibariSynthesizer(), PCM_24K, exact=False)


HOUSES: dict[str, Build] = {
    "elevenlabs-socket": lambda ground: elevenlabs(ground, MULAW_8K, ""),
    "elevenlabs-socket-pcm": lambda ground: elevenlabs(ground, PCM_8K, "websocket"),
    "elevenlabs-socket-unattended": lambda ground: elevenlabs(ground, MULAW_8K, "websocket", attended=False),
    "elevenlabs-http": lambda ground: elevenlabs(ground, ALAW_8K, "http"),
    "elevenlabs-http-pcm": lambda ground: elevenlabs(ground, PCM_16K, "http"),
    "openai-events": lambda ground: openai(ground, ""),
    "openai-bytes": lambda ground: openai(ground, "tts-1"),
    "cached": cached,
    "fallback": fallback,
    "embedded": embedded,
}
ALL = [pytest.param(name, marks=pytest.mark.local if name == "embedded" else ()) for name in HOUSES]
WITH_VENDOR = [name for name in HOUSES if name != "embedded"]
WAYS_OUT = ["elevenlabs-socket", "elevenlabs-http", "openai-events", "openai-bytes"]


@asynccontextmanager
async def standing(name: str, **values: Any) -> AsyncIterator[House]:
    """The house of this name. `values`: the loopback vendor's settings."""
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks, AsyncExitStack() as stack:
            http = await stack.enter_async_context(new_http())
            yield await HOUSES[name](Ground(stack, http, tasks, values))


async def said(synthesizer: Synthesizer, text: str) -> list[SynthesizerPiece]:
    async with aclosing(synthesizer.synthesize(text)) as pieces:  # type: ignore[type-var]
        return [piece async for piece in pieces]


def sound(pieces: list[SynthesizerPiece]) -> bytes:
    return b"".join(piece.data for piece in pieces if isinstance(piece, AudioChunk))


@pytest.mark.parametrize("name", ALL)
async def test_a_text_comes_whole_in_order_and_in_one_format(name: str) -> None:
    async with standing(name) as house:
        await house.synthesizer.start()
        for text in TEXTS:
            pieces = await said(house.synthesizer, text)
            chunks = [piece for piece in pieces if isinstance(piece, AudioChunk)]
            assert {chunk.format for chunk in chunks} == {house.format}
            assert all(chunk.data and len(chunk.data) % house.format.sample_bytes == 0 for chunk in chunks)
            if house.exact:
                assert sound(pieces) == house.sound(text)
                assert house.vendor.spoken[-1] == text
            else:
                assert sum(chunk.ms for chunk in chunks) > 200


@pytest.mark.parametrize("name", ALL)
async def test_text_without_words_is_silence_and_costs_nothing(name: str) -> None:
    async with standing(name) as house:
        for text in ("", "  \n", "...", "—", "🙂"):
            assert sound(await said(house.synthesizer, text)) == b""
        if house.vendor is not None:
            assert house.vendor.spoken == []


@pytest.mark.parametrize("name", ALL)
async def test_it_may_be_started_twice_or_not_at_all(name: str) -> None:
    async with standing(name) as house:
        assert sound(await said(house.synthesizer, TEXTS[0]))
        await house.synthesizer.start()
        await house.synthesizer.start()
        assert sound(await said(house.synthesizer, TEXTS[2]))


@pytest.mark.parametrize("name", ALL)
async def test_it_says_who_speaks(name: str) -> None:
    async with standing(name) as house:
        assert all((house.synthesizer.name, house.synthesizer.model, house.synthesizer.voice))


@pytest.mark.parametrize("name", WITH_VENDOR)
async def test_sentences_at_the_same_time_do_not_mix(name: str) -> None:
    texts = [f"This is the sentence of caller {'x' * number}." for number in range(1, 10)]
    got: dict[str, bytes] = {}
    async with standing(name, between_s=0.002, chunk_ms=40.0) as house:

        async def one(text: str) -> None:
            got[text] = sound(await said(house.synthesizer, text))

        async with anyio.create_task_group() as tasks:
            for text in texts:
                tasks.start_soon(one, text)
        assert got == {text: house.sound(text) for text in texts}


@pytest.mark.parametrize("name", WITH_VENDOR)
async def test_closing_ends_the_work_and_the_next_sentence_is_clean(name: str) -> None:
    async with standing(name, between_s=0.005, chunk_ms=20.0) as house:
        async with aclosing(house.synthesizer.synthesize(TEXTS[1])) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                if isinstance(piece, AudioChunk):
                    break
        if not house.path.endswith("input"):  # a request is broken off; a socket goes on
            while not house.vendor.left:
                await anyio.sleep(0.005)
        assert sound(await said(house.synthesizer, TEXTS[0])) == house.sound(TEXTS[0])


@pytest.mark.parametrize("name", WITH_VENDOR)
async def test_cancelling_is_closing(name: str) -> None:
    async with standing(name, first_s=10.0) as house:
        with anyio.move_on_after(0.05) as scope:
            await said(house.synthesizer, TEXTS[1])
        assert scope.cancelled_caught
        house.vendor.first_s = 0.0
        assert sound(await said(house.synthesizer, TEXTS[0])) == house.sound(TEXTS[0])


FAULTS = [
    pytest.param(Refuse(401, {"detail": {"status": "invalid_api_key", "message": "no"}}), False, id="wrong key"),
    pytest.param(Refuse(402, {"detail": {"code": "payment_required", "message": "no"}}), False, id="no credit"),
    pytest.param(Refuse(403), False, id="forbidden"),
    pytest.param(Refuse(404), False, id="unknown"),
    pytest.param(Refuse(429, retry_after="60"), True, id="too many"),
    pytest.param(Refuse(503), True, id="down"),
    pytest.param(Hangup(), True, id="hangs up"),
    pytest.param(Garbled(frame=True), True, id="garbage"),
]


@pytest.mark.parametrize("name", WAYS_OUT)
@pytest.mark.parametrize(("fault", "retryable"), FAULTS)
async def test_a_fault_is_an_error_that_says_whose_and_the_next_sentence_works(
    name: str, fault: Fault, retryable: bool
) -> None:
    async with standing(name) as house:
        house.vendor.stage.faults.keep(house.path, fault)
        with pytest.raises(ProviderError) as caught:
            await said(house.synthesizer, TEXTS[0])
        assert (caught.value.stage, caught.value.retryable) == ("tts", retryable)
        assert caught.value.provider == house.synthesizer.name
        assert caught.value.problem
        house.vendor.stage.faults.heal(house.path)
        assert sound(await said(house.synthesizer, TEXTS[0])) == house.sound(TEXTS[0])
