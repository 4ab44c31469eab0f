"""Speech-to-text by OpenAI's requests: what is sent when, what counts, what it costs, and what is told when it fails."""

from __future__ import annotations

from datetime import date

import aiohttp
import anyio
import pytest

from patter.audio.format import PCM_16K
from patter.clock import Clock
from patter.loopback.openai_transcription import TRANSCRIPTIONS, LoopbackTranscription
from patter.loopback.openai_transcription_live import Manner
from patter.loopback.stage import Stage, closed_port
from patter.loopback.stage_faults import CutAfter, Fault, Garbled, Hangup, Refuse
from patter.loopback.stage_http import Answer, Exchange, Visit
from patter.models import STTConfig
from patter.providers.bench import Bench
from patter.providers.dialer import Dialer
from patter.providers.openai_audio.live_transcription import LiveTranscriber
from patter.providers.openai_audio.live_utterances import LiveUtteranceTranscriber
from patter.providers.openai_audio.transcription import OpenAITranscriber
from patter.providers.openai_audio.transcription_maker import make
from patter.providers.retired import TABLE, Retired
from patter.signals import ConnectionUsed, Faulted, Transcribed
from tests.providers.openai_ears import KEY, listening, utter
from tests.support.tone_speech import speech, understood

pytestmark = pytest.mark.anyio


def vendor(**manner: float) -> LoopbackTranscription:
    return LoopbackTranscription(understood, api_key=KEY, manner=Manner(**manner))  # type: ignore[arg-type]


def asked(stage: Stage) -> list[Visit]:
    return [visit for visit in stage.visits if visit.path == TRANSCRIPTIONS]


# ------------------------------------------------------------------------------------------------------- utterances


async def test_an_utterance_is_sent_whole_and_its_words_come_as_they_are_written(http: aiohttp.ClientSession) -> None:
    async with (
        vendor() as openai,
        listening(http, openai.base_url, keyterms=("Rye", "Salt"), language="en-US") as heard,
    ):
        utter(heard.ear, "alpha", "bravo", "charlie")
        await heard.until(lambda: heard.finals)
        assert heard.finals == ["alpha bravo charlie"]
        assert heard.partials == ["alpha", "alpha bravo", "alpha bravo charlie"]
        final = heard.of(Transcribed)[-1]
        assert 0 < final.requested_at <= final.ready_at
        form = asked(openai.stage)[0].form
        assert form["model"] == ["gpt-transcribe"]
        assert (form["language"], form["keywords[]"]) == (["en"], ["Rye", "Salt"])
        assert heard.billed == {"audio_seconds": pytest.approx(0.92)}
        assert heard.of(ConnectionUsed)
    assert not heard.errors


@pytest.mark.parametrize(
    ("model", "amounts"),
    [
        ("whisper-1", {"audio_seconds": 1.0}),  # the vendor rounds up
        ("gpt-transcribe", {"audio_seconds": pytest.approx(0.68)}),  # its price is by the minute
        ("gpt-4o-mini-transcribe", {"input_tokens": 7.0, "output_tokens": 2.0}),
    ],
)
async def test_usage_is_told_in_what_the_model_has_a_price_for(
    http: aiohttp.ClientSession, model: str, amounts: dict[str, float]
) -> None:
    async with vendor() as openai, listening(http, openai.base_url, model=model) as heard:
        utter(heard.ear, "alpha", "bravo")
        await heard.until(lambda: heard.finals)
        assert heard.finals == ["alpha bravo"]
        assert heard.billed == amounts


async def test_when_the_caller_goes_on_the_request_is_given_up_and_the_next_has_all_words(
    http: aiohttp.ClientSession,
) -> None:
    async with vendor(answer_s=0.3) as openai, listening(http, openai.base_url) as heard:
        utter(heard.ear, "alpha")
        await anyio.sleep(0.1)
        heard.ear.resume()
        heard.ear.hear(speech("bravo", line=PCM_16K) + PCM_16K.quiet(200))
        heard.ear.pause()
        await heard.until(lambda: heard.finals)
        assert heard.finals == ["alpha bravo"]
        assert openai.heard[-1] == "alpha bravo"
        assert heard.billed["audio_seconds"] == pytest.approx(0.44 + 0.88)  # what was sent in vain is billed as well


async def test_after_a_commit_late_words_are_nobodys_and_the_next_utterance_is_its_own(
    http: aiohttp.ClientSession,
) -> None:
    async with vendor(answer_s=0.2) as openai, listening(http, openai.base_url) as heard:
        utter(heard.ear, "alpha")
        heard.ear.commit()
        utter(heard.ear, "bravo")
        await heard.until(lambda: heard.finals)
        assert heard.finals == ["bravo"]


async def test_without_voice_or_with_hardly_any_sound_nothing_is_sent(http: aiohttp.ClientSession) -> None:
    async with vendor() as openai, listening(http, openai.base_url, model="whisper-1") as heard:
        heard.ear.hear(PCM_16K.quiet(3000))
        heard.ear.pause()  # nobody has said that there was voice
        await heard.until(lambda: len(heard.finals) == 1)
        heard.ear.commit()
        heard.ear.hear(PCM_16K.quiet(60))
        heard.ear.begin()
        heard.ear.pause()
        await heard.until(lambda: len(heard.finals) == 2)
        assert heard.finals == ["", ""]
        assert not asked(openai.stage)
        assert not heard.billed


async def test_what_whisper_makes_up_for_a_cough_is_not_believed(http: aiohttp.ClientSession) -> None:
    async with vendor() as openai, listening(http, openai.base_url, model="whisper-1") as heard:
        heard.ear.begin()
        heard.ear.hear(PCM_16K.quiet(900))
        heard.ear.pause()
        await heard.until(lambda: heard.finals)
        assert heard.finals == [""]
        assert len(asked(openai.stage)) == 1


async def test_a_server_that_neither_streams_nor_counts(http: aiohttp.ClientSession) -> None:
    async with Stage() as stage:
        stage.exchanges("GET", "/v1/models/small", Exchange(Answer(404, body="not found")))
        stage.exchanges("POST", TRANSCRIPTIONS, Exchange(Answer(body={"text": " Hello. "})))
        async with listening(http, f"{stage.http}/v1", model="small") as heard:
            utter(heard.ear, "alpha")
            await heard.until(lambda: heard.finals)
            assert (heard.finals, heard.partials) == (["Hello."], [])
            assert heard.billed == {"audio_seconds": pytest.approx(0.44)}
            assert heard.ear.name == "local"


# ----------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Refuse(500), id="500"),
        pytest.param(Refuse(429, retry_after="0"), id="429"),
        pytest.param(Hangup(), id="hangs-up"),
        pytest.param(CutAfter(bytes=0), id="cut-before-the-first-byte"),
        pytest.param(CutAfter(bytes=120), id="cut-in-the-middle"),
        pytest.param(Garbled(), id="garbled"),
    ],
)
async def test_a_passing_fault_is_overcome_by_one_more_try_and_told(http: aiohttp.ClientSession, fault: Fault) -> None:
    async with vendor() as openai:
        openai.stage.faults.put(TRANSCRIPTIONS, fault)
        async with listening(http, openai.base_url) as heard:
            utter(heard.ear, "golf", "hotel")
            await heard.until(lambda: heard.finals)
            assert heard.finals == ["golf hotel"]
            assert len(heard.of(Faulted)) == 1
    assert not heard.errors


async def test_what_fails_twice_is_an_error_and_the_next_utterance_is_tried_again(http: aiohttp.ClientSession) -> None:
    async with vendor() as openai:
        openai.stage.faults.put(TRANSCRIPTIONS, Refuse(503), Refuse(503))
        async with listening(http, openai.base_url) as heard:
            utter(heard.ear, "golf")
            await heard.until(lambda: heard.errors)
            assert (heard.errors[0].stage, heard.errors[0].status, heard.errors[0].retryable) == ("stt", 503, True)
            heard.ear.commit()
            utter(heard.ear, "hotel")
            await heard.until(lambda: heard.finals)
            assert heard.finals == ["hotel"]


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        (Refuse(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}), "refuses the key"),
        (Refuse(429, {"error": {"code": "insufficient_quota", "message": "no credit"}}), "no credit left"),
        (Refuse(404, {"error": {"code": "model_not_found", "message": "gone"}}), "'gpt-transcribe'"),
        (Refuse(429, retry_after="60"), "too many requests"),
        (Refuse(413), "status 413"),
    ],
)
async def test_what_another_try_cannot_mend_is_said_at_once(
    http: aiohttp.ClientSession, refusal: Refuse, says: str
) -> None:
    async with vendor() as openai:
        openai.stage.faults.put(TRANSCRIPTIONS, refusal)
        async with listening(http, openai.base_url) as heard:
            utter(heard.ear, "golf")
            await heard.until(lambda: heard.errors)
            assert says in str(heard.errors[0])
            assert KEY not in str(heard.errors[0])
            assert len(asked(openai.stage)) <= 1


async def test_a_wrong_key_is_said_before_the_caller_has_spoken(http: aiohttp.ClientSession) -> None:
    async with LoopbackTranscription(understood, api_key="sk-another") as openai:  # noqa: SIM117
        async with listening(http, openai.base_url) as heard:
            await heard.until(lambda: heard.errors)
            assert heard.errors[0].status == 401
            assert not asked(openai.stage)


async def test_nobody_there(http: aiohttp.ClientSession) -> None:
    async with listening(http, f"http://127.0.0.1:{closed_port()}/v1") as heard:
        utter(heard.ear, "golf")
        await heard.until(lambda: heard.errors)
        assert "cannot be reached" in str(heard.errors[0])


# ---------------------------------------------------------------------------------------------------------- choices


@pytest.mark.parametrize(
    ("settings", "kind", "model"),
    [
        ({}, OpenAITranscriber, "gpt-transcribe"),
        ({"model": "gpt-4o-transcribe"}, OpenAITranscriber, "gpt-4o-transcribe"),
        ({"options": {"realtime": True}}, LiveTranscriber, "gpt-transcribe"),
        ({"model": "gpt-live-transcribe"}, LiveUtteranceTranscriber, "gpt-live-transcribe"),
        (
            {"model": "gpt-realtime-whisper", "options": {"delay": "low"}},
            LiveUtteranceTranscriber,
            "gpt-realtime-whisper",
        ),
    ],
)
async def test_the_model_and_the_settings_choose_the_way(
    http: aiohttp.ClientSession, settings: dict[str, object], kind: type, model: str
) -> None:
    bench = Bench(http, Dialer(http), Clock(), key=KEY)
    made = make(STTConfig("whisper", "", **settings), bench)  # type: ignore[arg-type]
    assert isinstance(made, kind)
    assert (made.model, made.name) == (model, "openai")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"base_url": "http://api.example.com/v1"}, "unencrypted"),
        ({"base_url": "example"}, "base_url"),
        ({"options": {"turn_detection": "server_vad"}}, "realtime"),
        ({"options": {"realtime": True, "turn_detection": "none"}}, "turn_detection"),
    ],
)
async def test_settings_that_cannot_work_are_refused(
    http: aiohttp.ClientSession, settings: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        make(STTConfig("whisper", KEY, **settings), Bench(http, Dialer(http), Clock()))  # type: ignore[arg-type]


async def test_a_model_that_is_gone_is_replaced_and_noted(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TABLE, "gpt-old-transcribe", Retired(date(2026, 1, 1), "gpt-transcribe", "nowhere"))
    notes: list[str] = []
    bench = Bench(http, Dialer(http), Clock(), note=notes.append)
    made = make(STTConfig("whisper", KEY, model="gpt-old-transcribe"), bench)
    assert made.model == "gpt-transcribe"
    assert "gpt-old-transcribe ended" in notes[0]
