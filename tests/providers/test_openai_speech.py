"""OpenAI's voices in detail: tokens, the models' end, long texts, other servers, and what breaks in the middle."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import date
from typing import Any

import aiohttp
import anyio
import pytest

from patter.audio.format import PCM_24K, AudioChunk
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.loopback.openai_speech import MODELS, SPEECH, LoopbackOpenAISpeech, usage_of
from patter.loopback.stage_faults import CutAfter, HalfOpen, Refuse, Silent
from patter.loopback.tones import as_line, hum
from patter.models import TTSConfig
from patter.observe.cost import Prices
from patter.providers.bench import Bench
from patter.providers.dialer import Dialer
from patter.providers.openai_audio import speech
from patter.providers.openai_audio.speech import OpenAISpeech
from patter.providers.openai_audio.speech_maker import make
from patter.providers.vendor_http import new_http
from patter.signals import ConnectionUsed, Faulted, Spent, SynthesizerPiece

pytestmark = pytest.mark.anyio

TEXT = "Your taxi is booked for six."
KEY = "sk-test-0123456789abcdef"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    with anyio.fail_after(30):
        async with new_http() as made:
            yield made


def voice(http: aiohttp.ClientSession, vendor: LoopbackOpenAISpeech, model: str = "", **values: Any) -> OpenAISpeech:
    return OpenAISpeech(http, Clock(), **({"key": KEY, "base": vendor.base_url, "model": model} | values))


async def said(made: OpenAISpeech, text: str = TEXT) -> list[SynthesizerPiece]:
    async with aclosing(made.synthesize(text)) as pieces:
        return [piece async for piece in pieces]


def sound(pieces: list[SynthesizerPiece]) -> bytes:
    return b"".join(piece.data for piece in pieces if isinstance(piece, AudioChunk))


def of(kind: type, pieces: list[SynthesizerPiece]) -> list[Any]:
    return [piece for piece in pieces if isinstance(piece, kind)]


async def test_settings_come_from_the_agent_and_the_bench(http: aiohttp.ClientSession) -> None:
    async with LoopbackOpenAISpeech(key=KEY) as vendor:
        options = {"instructions": "calm", "speed": 1.1}
        config = TTSConfig("openai", "", "coral", options=options)
        made = make(config, Bench(http, Dialer(http), Clock(), KEY, vendor.base_url))
        await said(made)
        assert vendor.stage.visits[-1].json == {
            "model": "gpt-4o-mini-tts", "voice": "coral", "input": TEXT, "response_format": "pcm", "stream_format": "sse",
            "instructions": "calm", "speed": 1.1,
        }  # fmt: skip
        with pytest.raises(ValueError):
            make(TTSConfig("openai", "", streaming="websocket"), Bench(http, Dialer(http), Clock()))
        with pytest.raises(ValueError):
            make(TTSConfig("openai", "", base_url="http://example.com"), Bench(http, Dialer(http), Clock()))


async def test_tokens_are_counted_and_have_a_price(http: aiohttp.ClientSession) -> None:
    async with LoopbackOpenAISpeech() as vendor:
        (spent,) = of(Spent, await said(voice(http, vendor)))
        usage = usage_of(TEXT, as_line(hum(TEXT), PCM_24K))
        assert spent.amounts == {"input_tokens": usage["input_tokens"], "output_tokens": usage["output_tokens"]}
        cost, known = Prices.load().cost("tts", "openai", "gpt-4o-mini-tts", spent.amounts)
        assert known
        assert cost == pytest.approx((usage["input_tokens"] * 0.6 + usage["output_tokens"] * 12) / 1e6)
        assert of(Spent, await said(voice(http, vendor, "tts-1"))) == []  # its characters are counted


@pytest.mark.parametrize("model", ["", "tts-1"])
async def test_a_connection_is_used_again(http: aiohttp.ClientSession, model: str) -> None:
    async with LoopbackOpenAISpeech(key=KEY) as vendor:
        made = voice(http, vendor, model)
        await made.start()
        for _ in range(2):
            assert of(ConnectionUsed, await said(made)) == [ConnectionUsed("tts", "openai", True)]


async def test_a_wrong_key_is_told_at_the_start_and_never_shown(http: aiohttp.ClientSession) -> None:
    async with LoopbackOpenAISpeech(key=KEY) as vendor:
        with pytest.raises(ProviderError, match=r"refuses the key.*check OPENAI_API_KEY") as caught:
            await voice(http, vendor, key="sk-wrong-key-1").start()
        assert "sk-wrong-key-1" not in str(caught.value)
        vendor.stage.faults.put(MODELS, Refuse(404))  # another server may not list its models
        await voice(http, vendor).start()


@pytest.mark.parametrize(
    ("model", "chosen", "today", "says"),
    [
        ("gpt-4o-mini-tts", "coral", date(2027, 1, 6), r"gpt-4o-mini-tts ended on 2027-01-06.*elevenlabs.*embedded"),
        ("tts-1", "coral", date(2028, 1, 1), "tts-1 ended on"),
        ("gpt-4o-mini-tts-2025-12-15", "coral", date(2027, 1, 6), "ended on 2027-01-06"),
        ("tts-1", "marin", date(2026, 12, 1), r"tts-1 has no voice 'marin': choose one of alloy"),
    ],
)
async def test_what_openai_would_refuse_is_told_without_asking(
    http: aiohttp.ClientSession, model: str, chosen: str, today: date, says: str
) -> None:
    made = OpenAISpeech(http, Clock(), model=model, voice=chosen, today=today)
    for doing in (made.start(), said(made)):
        with pytest.raises(ProviderError, match=says) as caught:
            await doing
        assert (caught.value.stage, caught.value.retryable) == ("tts", False)


async def test_another_server_may_have_such_names(http: aiohttp.ClientSession) -> None:
    async with LoopbackOpenAISpeech() as vendor:
        made = voice(http, vendor, "tts-1", today=date(2028, 1, 1))
        await made.start()
        assert sound(await said(made))


async def test_a_server_that_ignores_events_may_send_bytes(http: aiohttp.ClientSession) -> None:
    async with LoopbackOpenAISpeech(models=("gpt-like",)) as vendor:
        vendor._events = vendor._bytes  # type: ignore[method-assign]
        pieces = await said(voice(http, vendor, "gpt-like"))
        assert sound(pieces) == as_line(hum(TEXT), PCM_24K)


async def test_a_long_text_is_asked_for_in_parts(http: aiohttp.ClientSession) -> None:
    async with LoopbackOpenAISpeech(voice=lambda text: b"\x01\x00" * len(text)) as vendor:
        text = "This is a sentence of a long speech. " * 150
        pieces = await said(voice(http, vendor), text)
        assert [len(part) <= 4096 for part in vendor.spoken] == [True, True]
        assert " ".join(vendor.spoken) == text.strip()
        assert len(of(Spent, pieces)) == 2


@pytest.mark.parametrize(("model", "cut"), [("", 60_001), ("tts-1", 4_321)])
async def test_a_stream_that_breaks_off_goes_on_where_it_broke(
    http: aiohttp.ClientSession, model: str, cut: int
) -> None:
    async with LoopbackOpenAISpeech(ragged=True) as vendor:
        vendor.stage.faults.put(SPEECH, CutAfter(bytes=cut))
        pieces = await said(voice(http, vendor, model))
        assert sound(pieces) == as_line(hum(TEXT), PCM_24K)
        assert [piece.fix for piece in of(Faulted, pieces)] == ["the sentence is asked for again"]


async def test_an_error_inside_the_stream_is_mended_too(http: aiohttp.ClientSession) -> None:
    async with LoopbackOpenAISpeech() as vendor:
        vendor.gives_up_after = 3
        pieces = await said(voice(http, vendor))
        assert sound(pieces) == as_line(hum(TEXT), PCM_24K)
        assert [piece.problem for piece in of(Faulted, pieces)] == [
            "it gave up in the middle (The server had an error)"
        ]


async def test_events_that_just_end_are_an_error(http: aiohttp.ClientSession) -> None:
    async with LoopbackOpenAISpeech() as vendor:
        vendor.ends_silently = True
        with pytest.raises(ProviderError, match="broke off") as caught:
            await said(voice(http, vendor))
        assert caught.value.tries == 2


@pytest.mark.parametrize(
    ("refusal", "says", "retryable"),
    [
        (
            Refuse(404, {"error": {"message": "no", "code": "model_not_found"}}),
            "does not know the model 'gpt-4o-mini-tts'",
            False,
        ),
        (Refuse(400, {"error": {"message": "bad voice", "code": "invalid_value"}}), "bad voice", False),
        (Refuse(429, {"error": {"message": "x", "code": "insufficient_quota"}}), "no credit left", False),
        (Refuse(429, retry_after="30"), "too many requests", True),
    ],
)
async def test_refusals_are_told_in_plain_words(
    http: aiohttp.ClientSession, refusal: Refuse, says: str, retryable: bool
) -> None:
    async with LoopbackOpenAISpeech() as vendor:
        vendor.stage.faults.put(SPEECH, refusal)
        with pytest.raises(ProviderError, match=says) as caught:
            await said(voice(http, vendor))
        assert (caught.value.retryable, caught.value.stage) == (retryable, "tts")


@pytest.mark.parametrize("fault", [Silent(), HalfOpen()])
async def test_a_vendor_that_says_nothing_is_not_waited_for(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    monkeypatch.setattr(speech, "SILENCE_S", 0.2)
    async with LoopbackOpenAISpeech(voice=lambda text: b"\x01\x00" * 400) as vendor:
        vendor.stage.faults.keep(SPEECH, fault)
        with pytest.raises(ProviderError) as caught:
            await said(voice(http, vendor))
        assert caught.value.retryable
