"""Several voices in order: who speaks when one fails, where a broken sentence goes on, and who comes back when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import anyio
import pytest

from patter.audio.format import MULAW_8K, PCM_24K, AudioChunk, AudioFormat
from patter.exceptions import ProviderError
from patter.providers.fallback_voice import MS_PER_CHARACTER, OUT_S, REFUSED_S, FallbackVoice, rest_of
from patter.signals import Faulted, Spent, SynthesizerPiece
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio

TEXT = "Your taxi is booked for six, and the driver will call you."


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


class PlayedVoice:
    """Says a character in so many ms; `breaks` tells after which share of the next texts it fails (1.0: never)."""

    def __init__(self, name: str, *breaks: float, format: AudioFormat = MULAW_8K, retryable: bool = True) -> None:
        self.name, self.model, self.voice = name, f"{name}-1", f"{name}'s"
        self.breaks = list(breaks)
        self.format = format
        self.retryable = retryable
        self.retry_after_s: float | None = None
        self.asked: list[str] = []
        self.fails_start = False
        self.closed = 0
        self.counts = False

    async def start(self) -> None:
        if self.fails_start:
            raise self._failure()

    async def synthesize(self, text: str) -> AsyncIterator[SynthesizerPiece]:
        self.asked.append(text)
        share = self.breaks.pop(0) if self.breaks else 1.0
        whole = self.format.bytes_for(MS_PER_CHARACTER * len(text))
        if share:
            if self.counts:
                yield Spent({"input_tokens": 7.0})
            yield AudioChunk(b"\x01" * (int(whole * share) & ~1), self.format)
        if share < 1.0:
            raise self._failure()

    async def aclose(self) -> None:
        self.closed += 1

    def _failure(self) -> ProviderError:
        return ProviderError(
            f"{self.name} is down",
            provider=self.name,
            stage="tts",
            retryable=self.retryable,
            fix="wait",
            retry_after_s=self.retry_after_s,
        )


async def said(voice: FallbackVoice, text: str = TEXT) -> list[SynthesizerPiece]:
    async with aclosing(voice.synthesize(text)) as pieces:
        return [piece async for piece in pieces]


async def collect(voice: FallbackVoice, heard: list[SynthesizerPiece]) -> None:
    async with aclosing(voice.synthesize(TEXT)) as pieces:
        async for piece in pieces:
            heard.append(piece)


def faults(pieces: list[SynthesizerPiece]) -> list[Faulted]:
    return [piece for piece in pieces if isinstance(piece, Faulted)]


async def test_the_first_one_speaks_as_long_as_it_can() -> None:
    first, second = PlayedVoice("ada"), PlayedVoice("bob")
    voice = FallbackVoice([first, second], virtual_clock())
    pieces = await said(voice)
    assert faults(pieces) == []
    assert [piece for piece in pieces if isinstance(piece, Spent)] == [
        Spent({"characters": float(len(TEXT))}, "ada", "ada-1")
    ]
    assert (voice.name, voice.model, voice.voice) == ("ada", "ada-1", "ada's")
    assert second.asked == []


async def test_the_next_one_takes_over_and_stays_for_a_while() -> None:
    first, second = PlayedVoice("ada", 0.0), PlayedVoice("bob", format=PCM_24K)
    voice = FallbackVoice([first, second], virtual_clock())
    pieces = await said(voice)
    assert pieces[0] == Faulted("tts", "ada", "ada is down", "bob speaks instead")
    assert [piece.format for piece in pieces if isinstance(piece, AudioChunk)] == [PCM_24K]
    assert [piece.provider for piece in pieces if isinstance(piece, Spent)] == ["bob"]
    assert (voice.name, voice.model, voice.voice) == ("bob", "bob-1", "bob's")
    await anyio.sleep(OUT_S - 1)
    assert faults(await said(voice)) == []
    assert second.asked == [TEXT, TEXT]
    await anyio.sleep(1)
    assert voice.name == "ada"
    await said(voice)
    assert first.asked == [TEXT, TEXT]


async def test_what_does_not_mend_itself_is_out_for_longer() -> None:
    voice = FallbackVoice([PlayedVoice("ada", 0.0, retryable=False), PlayedVoice("bob")], virtual_clock())
    await said(voice)
    await anyio.sleep(REFUSED_S - 1)
    assert voice.name == "bob"
    await anyio.sleep(1)
    assert voice.name == "ada"


async def test_a_vendor_that_asks_for_time_gets_it() -> None:
    first = PlayedVoice("ada", 0.0)
    first.retry_after_s = 120.0
    voice = FallbackVoice([first, PlayedVoice("bob")], virtual_clock())
    await said(voice)
    await anyio.sleep(119)
    assert voice.name == "bob"


async def test_one_that_breaks_off_is_followed_from_where_it_was() -> None:
    first, second = PlayedVoice("ada", 0.5), PlayedVoice("bob")
    pieces = await said(FallbackVoice([first, second], virtual_clock()))
    assert second.asked == ["and the driver will call you."]
    assert [piece for piece in pieces if isinstance(piece, Spent)] == [
        Spent({"characters": float(len(TEXT))}, "ada", "ada-1"),
        Spent({"characters": 29.0}, "bob", "bob-1"),
    ]
    assert [type(piece) for piece in pieces] == [AudioChunk, Spent, Faulted, AudioChunk, Spent]


async def test_what_was_nearly_said_is_not_said_again() -> None:
    first, second = PlayedVoice("ada", 0.98), PlayedVoice("bob")
    pieces = await said(FallbackVoice([first, second], virtual_clock()))
    assert len(faults(pieces)) == 1
    assert second.asked == []


async def test_when_all_fail_the_last_failure_is_told() -> None:
    voices = [PlayedVoice("ada", 0.0), PlayedVoice("bob", 0.0), PlayedVoice("cay", 0.0)]
    voice = FallbackVoice(voices, virtual_clock())
    heard: list[SynthesizerPiece] = []
    with pytest.raises(ProviderError, match="cay is down") as caught:
        await collect(voice, heard)
    assert caught.value.tries == 3
    assert [piece.provider for piece in faults(heard)] == ["ada", "bob"]
    assert faults(await said(voice)) == []  # all are out: the first is tried all the same
    assert [len(one.asked) for one in voices] == [2, 1, 1]


async def test_a_voice_of_its_own_count_keeps_it() -> None:
    first = PlayedVoice("ada")
    first.counts = True
    spent = [piece for piece in await said(FallbackVoice([first], virtual_clock())) if isinstance(piece, Spent)]
    assert spent == [Spent({"input_tokens": 7.0}, "ada", "ada-1")]


async def test_one_that_cannot_start_is_told_with_the_next_sentence() -> None:
    first, second = PlayedVoice("ada"), PlayedVoice("bob")
    first.fails_start = True
    voice = FallbackVoice([first, second], virtual_clock())
    await voice.start()
    assert voice.name == "bob"
    assert faults(await said(voice)) == [Faulted("tts", "ada", "ada is down", "wait")]
    assert faults(await said(voice)) == []
    second.fails_start = True
    with pytest.raises(ProviderError, match="ada is down"):
        await voice.start()


async def test_the_estimate_learns_the_voices_pace() -> None:
    class Slow(PlayedVoice):
        async def synthesize(self, text: str) -> AsyncIterator[SynthesizerPiece]:
            self.asked.append(text)
            share = self.breaks.pop(0)
            yield AudioChunk(b"\x01" * MULAW_8K.bytes_for(2 * MS_PER_CHARACTER * len(text) * share), MULAW_8K)
            if share < 1.0:
                raise self._failure()

    first, second = Slow("ada", *[1.0] * 12, 0.5), PlayedVoice("bob")
    voice = FallbackVoice([first, second], virtual_clock())
    for _ in range(13):
        await said(voice)
    assert second.asked == ["and the driver will call you."]


async def test_all_are_closed_and_at_least_one_is_needed() -> None:
    voices = [PlayedVoice("ada"), PlayedVoice("bob")]
    await FallbackVoice(voices, virtual_clock()).aclose()
    assert [one.closed for one in voices] == [1, 1]
    with pytest.raises(ValueError):
        FallbackVoice([])


@pytest.mark.parametrize(
    ("said_characters", "rest"),
    [
        (0, TEXT),
        (3, TEXT),  # inside the first word
        (12, "is booked for six, and the driver will call you."),
        (25, "and the driver will call you."),
        (36, "and the driver will call you."),
        (52, "call you."),
        (57, ""),
        (500, ""),
    ],
)
def test_the_rest_begins_with_a_clause_or_a_word(said_characters: float, rest: str) -> None:
    assert rest_of(TEXT, said_characters) == rest
