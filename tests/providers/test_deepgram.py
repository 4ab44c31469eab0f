"""A caller heard through Deepgram, played on loopback by a server that listens: words, times, pauses, money."""

from __future__ import annotations

from dataclasses import replace

import aiohttp
import anyio
import pytest
from yarl import URL

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_8K, PCM_16K, AudioFormat
from patter.clock import Clock
from patter.conversations.streaming_ears import StreamingEars
from patter.loopback.deepgram import LoopbackDeepgram
from patter.loopback.deepgram_manner import Manner
from patter.models import STTConfig, TurnTaking
from patter.providers.bench import Bench
from patter.providers.deepgram.maker import WARM_S, target_of
from patter.providers.dialer import Dialer
from patter.signals import (
    CallerPartial,
    ConnectionUsed,
    ConversationSignal,
    Endpointed,
    SpeechStarted,
    TurnLikely,
    TurnUnlikely,
    Used,
    UtteranceEnded,
)
from tests.support.deepgram_call import KEY, Call
from tests.support.tone_speech import understood

pytestmark = pytest.mark.anyio

NOVA, FLUX = "nova-3", "flux-general-en"
QUICK = Manner(interim_ms=250, end_of_turn_ms=400)


@pytest.mark.parametrize("line", [MULAW_8K, ALAW_8K, PCM_8K, PCM_16K], ids=lambda line: f"{line.encoding}-{line.rate}")
@pytest.mark.parametrize("model", [NOVA, FLUX])
async def test_every_word_is_heard_once_in_the_lines_own_format(
    http: aiohttp.ClientSession, model: str, line: AudioFormat
) -> None:
    async with LoopbackDeepgram(understood, api_key=KEY, manner=QUICK) as vendor:
        call = Call(http, vendor.base_url, line, model=model)
        async with call.up():
            await call.silence(200, speed=20)
            await call.speak("alpha", "bravo", "charlie", speed=20)
            await call.silence(700, speed=20)
            await call.speak("delta", speed=20)
            await call.silence(700, speed=20)
            await call.until(Endpointed, 2)

            assert call.words == ["alpha bravo charlie", "delta"]
            heard = vendor.stage.peers[0]
            assert heard.binary_bytes == heard.binary_frames * line.bytes_for(20)  # frame for frame as it came
        assert call.billed_s == pytest.approx(line.ms_of(heard.binary_bytes) / 1000)


@pytest.mark.parametrize("model", [NOVA, FLUX])
async def test_times_are_those_of_the_callers_sound(http: aiohttp.ClientSession, model: str) -> None:
    async with LoopbackDeepgram(understood, manner=Manner(end_of_turn_ms=200)) as vendor:
        call = Call(http, vendor.base_url, model=model)
        async with call.up():
            await call.silence(100, speed=1)
            await anyio.sleep(0.4)  # the line pauses: stream time is not the call's
            await call.silence(100, speed=1)
            began = call.bench.clock.now()
            await call.speak("alpha", "bravo", speed=1)
            ended = call.bench.clock.now() - 0.08  # there is a gap after the last word
            await call.silence(400, speed=1)
            pause = await call.until(Endpointed)

            assert call.of(SpeechStarted)[0].began_at == pytest.approx(began, abs=0.25)
            assert pause.speech_ended_at == pytest.approx(ended, abs=0.25)
            assert pause.speech_ended_at <= pause.recognition_at <= pause.transcript_at


async def test_voice_is_told_before_its_words(http: aiohttp.ClientSession) -> None:
    async with LoopbackDeepgram(understood) as vendor:
        call = Call(http, vendor.base_url)
        async with call.up():
            await call.speak("alpha")
            await call.until(SpeechStarted)
            assert call.partials == []
            await call.silence(600)
            await call.until(Endpointed)


async def test_long_speech_comes_in_pieces_and_is_joined(http: aiohttp.ClientSession) -> None:
    words = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel")
    async with LoopbackDeepgram(understood, manner=Manner(interim_ms=250, final_ms=600)) as vendor:
        call = Call(http, vendor.base_url)
        async with call.up():
            await call.speak(*words)
            await call.silence(600)
            assert (await call.until(Endpointed)).text == " ".join(words)
            assert len(call.of(SpeechStarted)) == 1


async def test_noise_without_words_is_told_as_a_pause_without_words(http: aiohttp.ClientSession) -> None:
    async with LoopbackDeepgram(lambda pcm: "", manner=QUICK) as vendor:
        call = Call(http, vendor.base_url)
        async with call.up():
            await call.speak("alpha")
            await call.silence(600)
            assert (await call.until(Endpointed)).text == ""


async def test_a_turn_that_may_be_over_is_told_only_when_it_is_wanted(http: aiohttp.ClientSession) -> None:
    async with LoopbackDeepgram(understood, manner=Manner(end_of_turn_ms=600)) as vendor:
        for eager in (False, True):
            call = Call(http, vendor.base_url, model=FLUX, eager=eager)
            async with call.up():
                await call.speak("alpha", "bravo")
                await call.silence(420)
                await call.speak("charlie")
                await call.silence(900)
                ended = await call.until(Endpointed)

                assert (ended.text, ended.sure) == ("alpha bravo charlie", True)
                told = [type(signal) for signal in call.said if isinstance(signal, TurnLikely | TurnUnlikely)]
                assert told == ([TurnLikely, TurnUnlikely, TurnLikely] if eager else [])


async def test_a_turn_ends_although_the_line_gives_no_silence(http: aiohttp.ClientSession) -> None:
    async with LoopbackDeepgram(understood, manner=QUICK) as vendor:
        call = Call(http, vendor.base_url, model=FLUX)
        async with call.up():
            await call.speak("alpha", "bravo")
            assert (await call.until(Endpointed)).text == "alpha bravo"


async def test_words_come_although_the_line_gives_no_silence(http: aiohttp.ClientSession) -> None:
    async with LoopbackDeepgram(understood, manner=QUICK) as vendor:
        call = Call(http, vendor.base_url)
        async with call.up():
            await call.speak("alpha", "bravo", "charlie")
            assert (await call.until(Endpointed)).text == "alpha bravo charlie"
            assert {"type": "Finalize"} in vendor.stage.peers[0].received


async def test_words_without_times_are_placed_by_when_they_came(http: aiohttp.ClientSession) -> None:
    manner = replace(QUICK, placed_words=False)
    async with LoopbackDeepgram(understood, manner=manner) as vendor:
        call = Call(http, vendor.base_url, model=FLUX)
        async with call.up():
            await call.speak("alpha", "bravo", speed=1)
            ended = call.bench.clock.now() - 0.08
            await call.silence(500, speed=1)
            pause = await call.until(Endpointed)

            assert pause.speech_ended_at == pytest.approx(ended, abs=0.5)  # an update comes every quarter of a second


async def test_a_socket_that_was_opened_while_it_rang_is_used(http: aiohttp.ClientSession) -> None:
    async with LoopbackDeepgram(understood, manner=QUICK) as vendor:
        call = Call(http, vendor.base_url)
        await call.dialer.warm(target_of(call.config, call.bench), WARM_S)
        async with call.up():
            assert (await call.until(ConnectionUsed)).reused
            await call.speak("alpha")
            await call.silence(600)
            assert (await call.until(Endpointed)).text == "alpha"
        assert len(vendor.stage.peers) == 1


async def test_a_call_that_was_cut_says_goodbye_all_the_same(http: aiohttp.ClientSession) -> None:
    async with LoopbackDeepgram(understood) as vendor:
        call = Call(http, vendor.base_url)
        async with anyio.create_task_group() as tasks:
            await call.start(tasks)
            await call.silence(200)
            tasks.cancel_scope.cancel()  # as a session does before it closes its parts
        await call.listener.aclose()
        await call.listener.aclose()

        left = [signal async for signal in call.listener.signals()]
        assert sum(used.amounts["audio_seconds"] for used in left if isinstance(used, Used)) == pytest.approx(0.2)
        with anyio.fail_after(5):
            while vendor.stage.open_sockets:
                await anyio.sleep(0.01)
        assert vendor.stage.peers[0].received == [{"type": "CloseStream"}]


async def test_what_is_in_the_settings_is_asked_for(http: aiohttp.ClientSession) -> None:
    async with LoopbackDeepgram(understood) as vendor:
        call = Call(
            http,
            f"{vendor.base_url}/v1",
            model="nova-3-medical",
            language="multi",
            keyterms=("Patter", "Zoë"),
            options={"smart_format": True, "endpointing": 25, "vad_events": None, "tag": ["a", "b"]},
        )
        async with call.up():
            pass
        query = vendor.stage.peers[0].query
        assert query["model"] == "nova-3-medical"
        assert query["language"] == "multi"
        assert query["keyterm"] == ["Patter", "Zoë"]
        assert query["smart_format"] == "true"
        assert query["endpointing"] == "25"
        assert query["tag"] == ["a", "b"]
        assert "vad_events" not in query


@pytest.mark.parametrize(("set_to", "spoken", "expected"), [("en", "de", "de"), ("fr", "de", "fr"), ("en", "en", "en")])
async def test_a_model_of_many_languages_expects_the_agents_unless_it_is_told(
    http: aiohttp.ClientSession, set_to: str, spoken: str, expected: str
) -> None:
    bench = Bench(http, Dialer(http), Clock(), "k", language=spoken)
    made = target_of(STTConfig("deepgram", "k", set_to, model="flux-general-multi"), bench)
    assert URL(made.url).query.getall("language_hint") == [expected]


async def test_the_rates_of_several_languages_are_counted_as_such(http: aiohttp.ClientSession) -> None:
    async with LoopbackDeepgram(understood) as vendor:
        call = Call(http, vendor.base_url, language="multi")
        async with call.up():
            await call.silence(100)
        assert [(used.model, used.stage) for used in call.of(Used)] == [("nova-3-multilingual", "stt")]


async def test_an_address_that_cannot_be_used_is_refused_before_the_call(http: aiohttp.ClientSession) -> None:
    for address in ("http://example.com", "ftp://example.com", "example.com"):
        with pytest.raises(ValueError, match="base_url"):
            Call(http, address)


async def test_ears_take_turns_by_its_pauses(http: aiohttp.ClientSession) -> None:
    told: list[ConversationSignal] = []
    over = anyio.Event()

    def tell(signal: ConversationSignal) -> None:
        told.append(signal)
        if isinstance(signal, UtteranceEnded):
            over.set()

    async with LoopbackDeepgram(understood, manner=QUICK) as vendor:
        call = Call(http, vendor.base_url)
        ears = StreamingEars(call.listener, TurnTaking(), call.bench.clock, tell)
        async with anyio.create_task_group() as tasks:
            await ears.start(MULAW_8K, tasks)
            await call.speak("alpha", "bravo", speed=1, ear=ears.hear)
            await call.silence(400, speed=1, ear=ears.hear)
            with anyio.fail_after(10):
                await over.wait()
            await ears.aclose()
    ended = next(signal for signal in told if isinstance(signal, UtteranceEnded))
    assert ended.text == "alpha bravo"
    assert ended.at >= ended.speech_ended_at + 0.4
    assert any(isinstance(signal, CallerPartial) for signal in told)
