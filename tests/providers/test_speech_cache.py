"""Fixed texts as finished sound: what is kept, what is not, and who shares a synthesis. No sockets, virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import anyio
import pytest

from patter.audio.format import MULAW_8K, AudioChunk
from patter.exceptions import ProviderError
from patter.providers.speech_cache import TEXTS_LIMIT, CachedVoice, SpeechCache
from patter.signals import ConnectionUsed, Faulted, Spent, SynthesizerPiece
from tests.support.virtual_time import VIRTUAL_BACKEND

pytestmark = pytest.mark.anyio

TEXT = "Hello and welcome."
CHUNK_S = 0.1


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


class SlowVoice:
    """A synthesizer that takes a tenth of a second for each of four chunks; `fails_at` breaks off before one of them."""

    name, model, voice = "slow", "slow-1", "sam"

    def __init__(self) -> None:
        self.said: list[str] = []
        self.fails_at = -1
        self.mended = False
        self.counts = True

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    async def synthesize(self, text: str) -> AsyncIterator[SynthesizerPiece]:
        self.said.append(text)
        fails_at, self.fails_at = self.fails_at, -1
        yield ConnectionUsed("tts", self.name, True)
        if self.counts:
            yield Spent({"characters": float(len(text))})
        for number in range(4):
            await anyio.sleep(CHUNK_S)
            if number == fails_at:
                raise ProviderError("it broke off", provider=self.name, stage="tts", retryable=True)
            if self.mended and number == 2:
                yield Faulted("tts", self.name, "it broke off", "the sentence is asked for again")
            yield AudioChunk(text.encode()[:8] + bytes([number]), MULAW_8K, "base64")


async def said(voice: CachedVoice, text: str = TEXT) -> list[SynthesizerPiece]:
    async with aclosing(voice.synthesize(text)) as pieces:
        return [piece async for piece in pieces]


def sound(pieces: list[SynthesizerPiece]) -> bytes:
    return b"".join(piece.data for piece in pieces if isinstance(piece, AudioChunk))


WHOLE = b"".join(TEXT.encode()[:8] + bytes([number]) for number in range(4))


async def test_what_was_prepared_comes_at_once_and_costs_only_who_hears_it_first() -> None:
    inner = SlowVoice()
    voice = CachedVoice(inner, SpeechCache())
    told = await voice.prepare(TEXT)
    assert told == [ConnectionUsed("tts", "slow", True), Spent({"characters": 18.0})]
    began = anyio.current_time()
    pieces = await said(voice)
    assert anyio.current_time() == began
    assert sound(pieces) == WHOLE
    assert [piece for piece in pieces if not isinstance(piece, AudioChunk)] == [Spent({"characters": 18.0})]
    again = await said(voice)
    assert [piece for piece in again if not isinstance(piece, AudioChunk)] == [Spent({})]
    assert inner.said == [TEXT]
    assert await voice.prepare(TEXT) == []
    assert await voice.prepare("...") == []


async def test_a_price_is_told_also_if_the_voice_tells_none() -> None:
    inner = SlowVoice()
    inner.counts = False
    assert (await CachedVoice(inner, SpeechCache()).prepare(TEXT))[-1] == Spent({"characters": 18.0})


async def test_a_conversation_is_not_kept() -> None:
    inner, cache = SlowVoice(), SpeechCache()
    voice = CachedVoice(inner, cache)
    for _ in range(2):
        assert sound(await said(voice, TEXT)) == WHOLE
    assert inner.said == [TEXT, TEXT]
    assert cache.size == 0


async def test_a_text_to_keep_is_kept_when_it_is_said() -> None:
    inner, cache = SlowVoice(), SpeechCache()
    voice = CachedVoice(inner, cache)
    voice.keep(TEXT)
    first = await said(voice)
    assert Spent({"characters": 18.0}) in first
    assert sound(await said(voice, f"  {TEXT}\n")) == WHOLE
    assert inner.said == [TEXT]
    assert cache.size == len(WHOLE) + 4 * len("base64")


async def test_voices_models_and_kinds_do_not_share_their_sound() -> None:
    inner, cache = SlowVoice(), SpeechCache()
    await CachedVoice(inner, cache, kind="ulaw").prepare(TEXT)
    await CachedVoice(inner, cache, kind="pcm").prepare(TEXT)
    inner.voice = "another"
    await CachedVoice(inner, cache, kind="pcm").prepare(TEXT)
    await CachedVoice(inner, cache, kind="pcm").prepare(TEXT)
    assert len(inner.said) == 3


async def test_who_asks_while_it_is_made_follows_and_pays_nothing() -> None:
    inner = SlowVoice()
    voice = CachedVoice(inner, SpeechCache())
    voice.keep(TEXT)
    got: dict[int, list[SynthesizerPiece]] = {}

    async def ask(number: int, after_s: float) -> None:
        await anyio.sleep(after_s)
        got[number] = await said(voice)

    async with anyio.create_task_group() as tasks:
        for number, after_s in enumerate((0.0, 0.05, 0.15, 0.25)):
            tasks.start_soon(ask, number, after_s)
    assert [sound(got[number]) for number in range(4)] == [WHOLE] * 4
    assert inner.said == [TEXT]
    assert [[piece.amounts for piece in got[number] if isinstance(piece, Spent)] for number in range(4)] == [
        [{"characters": 18.0}], [{}], [{}], [{}],
    ]  # fmt: skip


@pytest.mark.parametrize("counts", [True, False])
async def test_who_follows_owes_nothing_from_the_first_sound_on_unless_it_has_to_make_the_rest(counts: bool) -> None:
    inner = SlowVoice()
    inner.counts = counts
    voice = CachedVoice(inner, SpeechCache())
    voice.keep(TEXT)
    got: list[SynthesizerPiece] = []

    async def lead() -> None:
        with anyio.move_on_after(0.25):
            await said(voice)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lead)
        await anyio.sleep(0.05)
        async with aclosing(voice.synthesize(TEXT)) as pieces:
            async for piece in pieces:
                got.append(piece)
                if len(got) == 2:
                    assert [type(piece) for piece in got] == [
                        Spent,
                        AudioChunk,
                    ]  # an interruption here costs nothing more
                    assert got[0] == Spent({})
    assert [piece.amounts for piece in got if isinstance(piece, Spent)] == [{}, {"characters": 18.0}]


async def test_what_nobody_hears_in_the_end_is_not_owed_for_ever() -> None:
    voice = CachedVoice(SlowVoice(), SpeechCache())
    for number in range(TEXTS_LIMIT + 5):
        await voice.prepare(f"Hello {number}.")
    assert len(voice._owed) == TEXTS_LIMIT


@pytest.mark.parametrize("how", ["fails", "is interrupted"])
async def test_what_fails_or_is_interrupted_is_not_kept_and_followers_hear_it_all_the_same(how: str) -> None:
    inner, cache = SlowVoice(), SpeechCache()
    voice = CachedVoice(inner, cache)
    voice.keep(TEXT)
    inner.fails_at = 2 if how == "fails" else -1
    got: list[bytes] = []

    async def lead() -> None:
        with anyio.move_on_after(0.25):
            try:
                await said(voice)
            except ProviderError:
                assert how == "fails"
                assert cache.size == 0

    async def follow() -> None:
        await anyio.sleep(0.05)
        got.append(sound(await said(voice)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lead)
        tasks.start_soon(follow)
        tasks.start_soon(follow)
    assert got == [WHOLE, WHOLE]
    assert inner.said == [TEXT, TEXT]
    assert sound(await said(voice)) == WHOLE
    assert inner.said == [TEXT, TEXT]


async def test_a_failure_ahead_is_told_and_tried_anew_by_who_needs_it() -> None:
    inner = SlowVoice()
    voice = CachedVoice(inner, SpeechCache())
    inner.fails_at = 0
    with pytest.raises(ProviderError):
        await voice.prepare(TEXT)
    assert sound(await said(voice)) == WHOLE


async def test_mended_sound_is_not_for_ever() -> None:
    inner, cache = SlowVoice(), SpeechCache()
    inner.mended = True
    voice = CachedVoice(inner, cache)
    await voice.prepare(TEXT)
    assert cache.size == 0


async def test_the_cache_has_a_size_and_what_was_used_longest_ago_goes_first() -> None:
    inner = SlowVoice()
    cache = SpeechCache(limit=150)
    voice = CachedVoice(inner, cache)
    for text in ("one one one", "two two two"):
        await voice.prepare(text)
    await said(voice, "one one one")
    await voice.prepare("three three")
    assert 0 < cache.size <= 150
    inner.said.clear()
    await said(voice, "one one one")
    await said(voice, "two two two")
    assert inner.said == ["two two two"]


async def test_a_text_larger_than_the_cache_leaves_the_others_alone() -> None:
    inner, cache = SlowVoice(), SpeechCache(limit=70)
    voice = CachedVoice(inner, cache)
    await voice.prepare("one one one")
    kept = cache.size
    cache.limit = 59
    await voice.prepare("two two two")
    assert cache.size == kept


async def test_announcements_are_forgotten_in_the_end() -> None:
    cache = SpeechCache()
    keys = [("p", "m", "v", "", f"Hello {number}") for number in range(TEXTS_LIMIT + 1)]
    for key in keys:
        cache.announce(key)
    assert not cache.announced(keys[0])
    assert cache.announced(keys[-1])


async def test_it_is_the_voice_it_wraps() -> None:
    voice = CachedVoice(SlowVoice(), SpeechCache())
    await voice.start()
    assert (voice.name, voice.model, voice.voice) == ("slow", "slow-1", "sam")
    await voice.aclose()
