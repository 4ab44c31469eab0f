"""OpenAI's models for live sound, which are told where an utterance ends: words while it is spoken, and breaks overcome."""

from __future__ import annotations

from typing import Any

import aiohttp
import anyio
import pytest

from patter.audio.format import PCM_16K
from patter.loopback.openai_transcription import REALTIME, LoopbackTranscription
from patter.loopback.openai_transcription_live import Manner
from patter.loopback.stage_faults import CutAfter, Fault
from patter.signals import Faulted, Transcribed
from tests.providers.openai_ears import KEY, listening, utter
from tests.support.tone_speech import speech, understood

pytestmark = pytest.mark.anyio
MODEL: dict[str, Any] = {"model": "gpt-live-transcribe"}


def vendor(**manner: Any) -> LoopbackTranscription:
    return LoopbackTranscription(understood, api_key=KEY, manner=Manner(**manner))


def sent(openai: LoopbackTranscription, kind: str) -> list[dict[str, Any]]:
    messages: list[Any] = [message for peer in openai.stage.peers for message in peer.received]
    return [message for message in messages if message["type"].endswith(kind)]


@pytest.mark.parametrize("model", ["gpt-live-transcribe", "gpt-realtime-whisper"])
async def test_words_come_while_the_caller_speaks_and_the_final_after_the_pause(
    http: aiohttp.ClientSession, model: str
) -> None:
    async with vendor(delta_ms=200) as openai, listening(http, openai.base_url, model=model) as heard:
        heard.ear.hear(PCM_16K.quiet(5000))
        heard.ear.begin()
        heard.ear.hear(speech("alpha", "bravo", line=PCM_16K))
        await heard.until(lambda: "alpha bravo" in heard.partials)
        assert not heard.finals
        heard.ear.hear(speech("charlie", line=PCM_16K) + PCM_16K.quiet(200))
        heard.ear.pause()
        await heard.until(lambda: heard.finals)
        assert heard.finals == ["alpha bravo charlie"]
        final = heard.of(Transcribed)[-1]
        assert 0 < final.requested_at <= final.ready_at
        assert heard.billed == {"audio_seconds": pytest.approx(0.5 + 0.72 + 0.2, abs=0.01)}, "silence is not sent"
        asked = sent(openai, "session.update")[0]["session"]["audio"]["input"]
        assert asked["turn_detection"] is None


async def test_a_caller_who_goes_on_is_heard_as_one_utterance(http: aiohttp.ClientSession) -> None:
    async with vendor() as openai, listening(http, openai.base_url, **MODEL) as heard:
        utter(heard.ear, "alpha")
        heard.ear.hear(speech("bravo", line=PCM_16K)[:3200])  # voice begins before it is found
        heard.ear.resume()
        heard.ear.hear(speech("bravo", line=PCM_16K)[3200:] + PCM_16K.quiet(200))
        heard.ear.pause()
        await heard.until(lambda: heard.finals)
        assert heard.finals == ["alpha bravo"]
        assert len(sent(openai, ".commit")) == 2


async def test_late_words_of_a_taken_utterance_are_billed_and_dropped(http: aiohttp.ClientSession) -> None:
    async with vendor(answer_s=0.2) as openai, listening(http, openai.base_url, **MODEL) as heard:
        utter(heard.ear, "alpha")
        heard.ear.commit()
        utter(heard.ear, "bravo")
        await heard.until(lambda: heard.finals)
        assert heard.finals == ["bravo"]
        assert "alpha" not in " ".join(heard.partials)
        assert heard.billed["audio_seconds"] == pytest.approx(0.88, abs=0.01)


async def test_a_short_sound_is_filled_up_and_no_sound_is_not_sent(http: aiohttp.ClientSession) -> None:
    async with vendor() as openai, listening(http, openai.base_url, **MODEL) as heard:
        heard.ear.pause()
        await heard.until(lambda: len(heard.finals) == 1)
        assert not sent(openai, ".commit")
        heard.ear.commit()
        heard.ear.begin()
        heard.ear.hear(PCM_16K.quiet(40))
        heard.ear.pause()
        await heard.until(lambda: len(heard.finals) == 2)
        assert heard.finals == ["", ""]
        assert not heard.of(Faulted)


async def test_what_has_been_written_down_is_not_heard_twice(http: aiohttp.ClientSession) -> None:
    async with vendor() as openai, listening(http, openai.base_url, **MODEL) as heard:
        utter(heard.ear, "alpha")
        await heard.until(lambda: heard.finals)
        heard.ear.commit()
        openai.stage.cut_all()
        utter(heard.ear, "bravo")
        await heard.until(lambda: len(heard.finals) == 2)
        assert heard.finals == ["alpha", "bravo"]
        assert openai.heard == ["alpha", "bravo"]


@pytest.mark.parametrize(
    "fault", [CutAfter(received=4), CutAfter(received=6), CutAfter(sent=3), CutAfter(sent=5), CutAfter(sent=7)]
)
async def test_after_a_break_the_next_connection_hears_what_was_not_written_down(
    http: aiohttp.ClientSession, fault: Fault
) -> None:
    async with vendor(delta_ms=200) as openai:
        openai.stage.faults.put(REALTIME, fault)
        async with listening(http, openai.base_url, **MODEL) as heard:
            heard.ear.begin()
            for word in ("alpha", "bravo", "charlie"):
                heard.ear.hear(speech(word, line=PCM_16K))
                await anyio.sleep(0.02)
            heard.ear.hear(PCM_16K.quiet(200))
            heard.ear.pause()
            await heard.until(lambda: heard.finals)
            heard.ear.commit()
            utter(heard.ear, "delta")
            await heard.until(lambda: len(heard.finals) == 2)
            assert heard.finals == ["alpha bravo charlie", "delta"]
            assert len(heard.of(Faulted)) == 1
    assert not heard.errors
