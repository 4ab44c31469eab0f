"""Deepgram on a bad day: nothing but the words in flight is lost, every fault is told, and what cannot be mended ends."""

from __future__ import annotations

import ssl
from typing import Any

import aiohttp
import anyio
import pytest

from patter.exceptions import ProviderError
from patter.loopback.deepgram import LoopbackDeepgram
from patter.loopback.deepgram_manner import Manner
from patter.loopback.deepgram_messages import fatal
from patter.loopback.stage import Stage, closed_port, deaf_port
from patter.loopback.stage_faults import CutAfter, Garbled, HalfOpen, Refuse
from patter.loopback.stage_script import Close, Expect, Garbage, Script, Send
from patter.providers.deepgram import nova, stream
from patter.signals import CallerPartial, ConnectionUsed, Endpointed, Faulted, TurnLikely, TurnUnlikely
from patter.wire.deepgram import PATH as NOVA_PATH
from patter.wire.deepgram_flux import PATH as FLUX_PATH
from tests.support.deepgram_call import KEY, Call
from tests.support.tone_speech import WORDS, understood

pytestmark = pytest.mark.anyio

NOVA, FLUX = "nova-3", "flux-general-en"
QUICK = Manner(interim_ms=250, end_of_turn_ms=400)


@pytest.fixture(params=[(NOVA, NOVA_PATH), (FLUX, FLUX_PATH)], ids=["nova", "flux"])
def protocol(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A model and the path of its endpoint."""
    made: tuple[str, str] = request.param
    return made


# ------------------------------------------------------------------ breaks that are mended


async def test_a_break_within_an_utterance_loses_no_word(
    http: aiohttp.ClientSession, protocol: tuple[str, str]
) -> None:
    async with LoopbackDeepgram(understood, manner=QUICK) as vendor:
        call = Call(http, vendor.base_url, model=protocol[0])
        async with call.up():
            await call.speak(*WORDS[:4])
            await call.until(CallerPartial)
            vendor.stage.cut_all()
            await call.speak(*WORDS[4:8])
            await call.silence(700)
            await call.until(Endpointed)

            assert call.words == [" ".join(WORDS[:8])]
            assert [fault.stage for fault in call.of(Faulted)] == ["stt"]
            assert len(call.of(ConnectionUsed)) == 2
        sent = sum(peer.binary_bytes for peer in vendor.stage.peers)
        assert call.billed_s == pytest.approx(sent / 8000, abs=1.0)  # what was under way when it broke counts too


async def test_final_pieces_are_not_heard_again_after_a_break(http: aiohttp.ClientSession) -> None:
    async with LoopbackDeepgram(understood, manner=Manner(interim_ms=250, final_ms=500)) as vendor:
        call = Call(http, vendor.base_url)
        async with call.up():
            await call.speak(*WORDS[:5])
            await call.until(CallerPartial, fits=lambda partial: len(partial.text.split()) >= 3)
            vendor.stage.cut_all()
            await call.speak(*WORDS[5:8])
            await call.silence(700)
            await call.until(Endpointed)

            assert call.words == [" ".join(WORDS[:8])]
            assert vendor.stage.peers[1].binary_bytes < vendor.stage.peers[0].binary_bytes + 3 * 1920 + 5600


async def test_a_turn_that_is_longer_than_what_is_kept_keeps_its_first_words(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEPT_S", 1.5)
    async with LoopbackDeepgram(understood, manner=QUICK) as vendor:
        call = Call(http, vendor.base_url, model=FLUX)
        async with call.up():
            await call.speak(*WORDS[:12], speed=5)
            await call.until(CallerPartial, fits=lambda partial: len(partial.text.split()) >= 10)
            vendor.stage.cut_all()
            await call.speak(*WORDS[12:14])
            await call.silence(700)
            ended = await call.until(Endpointed)

            heard = ended.text.split()
            assert heard[:4] == list(WORDS[:4])
            assert heard[-4:] == list(WORDS[10:14])
            assert len(set(WORDS[:14]) - set(heard)) <= 1
            assert len(heard) <= 15  # a word that was cut in two may be there twice


async def test_what_may_be_over_is_taken_back_when_the_connection_breaks(http: aiohttp.ClientSession) -> None:
    async with LoopbackDeepgram(understood, manner=Manner(end_of_turn_ms=1000)) as vendor:
        call = Call(http, vendor.base_url, model=FLUX, eager=True)
        async with call.up():
            await call.speak("alpha", "bravo")
            await call.silence(760)
            await call.until(TurnLikely)
            vendor.stage.cut_all()
            await call.until(TurnUnlikely)
            await call.silence(600)
            assert (await call.until(Endpointed)).text == "alpha bravo"


async def test_a_refusal_that_passes_is_told_and_tried_again(
    http: aiohttp.ClientSession, protocol: tuple[str, str]
) -> None:
    model, path = protocol
    async with LoopbackDeepgram(understood, manner=QUICK) as vendor:
        vendor.stage.faults.put(path, Refuse(503), Refuse(429, retry_after="0.1"))
        call = Call(http, vendor.base_url, model=model)
        async with call.up():
            await call.speak("alpha")
            await call.silence(700)
            assert (await call.until(Endpointed)).text == "alpha"
            assert len(call.of(Faulted)) == 2


async def test_a_server_that_sends_nonsense_is_left(http: aiohttp.ClientSession, protocol: tuple[str, str]) -> None:
    model, path = protocol
    async with LoopbackDeepgram(understood, manner=QUICK) as vendor:
        vendor.stage.faults.put(path, Garbled(frame=True))
        call = Call(http, vendor.base_url, model=model)
        async with call.up():
            await call.speak("alpha")
            await call.silence(700)
            assert (await call.until(Endpointed)).text == "alpha"


async def test_a_server_that_goes_on_sending_nonsense_is_left(http: aiohttp.ClientSession) -> None:
    async with Stage() as stage:
        bye = Expect({"type": "CloseStream"})
        stage.script(NOVA_PATH, Script([Expect(bytes), *[Garbage()] * stream.GARBAGE]), Script([Expect(bytes), bye]))
        call = Call(http, stage.http)
        async with call.up():
            await call.silence(200)
            await call.until(ConnectionUsed, 2)
            await call.silence(200)


async def test_a_half_open_socket_is_noticed_and_its_audio_is_not_lost(
    http: aiohttp.ClientSession, protocol: tuple[str, str]
) -> None:
    model, path = protocol
    async with LoopbackDeepgram(understood, manner=QUICK) as vendor:
        vendor.stage.faults.put(path, HalfOpen())
        call = Call(http, vendor.base_url, model=model, heartbeat_s=0.2)
        async with call.up():
            await call.speak("alpha", "bravo")
            await call.until(ConnectionUsed, 2)
            await call.silence(700)
            assert (await call.until(Endpointed)).text == "alpha bravo"


async def test_a_vendor_that_answers_pings_and_says_nothing_is_left(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nova, "PATIENCE_S", 0.5)
    async with LoopbackDeepgram(understood, manner=Manner(answer_s=30.0)) as vendor:
        call = Call(http, vendor.base_url)
        async with call.up():
            await call.speak("alpha", "bravo", "charlie", speed=2)
            vendor.manner = QUICK
            await call.speak("delta", speed=2)
            await call.silence(600, speed=2)
            assert (await call.until(Endpointed)).text == "alpha bravo charlie delta"
            assert "nothing any more" in call.of(Faulted)[0].problem


async def test_a_fatal_error_of_the_vendor_is_told_and_mended(http: aiohttp.ClientSession) -> None:
    async with Stage() as stage:
        broken = fatal("INTERNAL_SERVER_ERROR", "Something broke.") | {"sequence_id": 1}
        bye = Expect({"type": "CloseStream"})
        stage.script(FLUX_PATH, Script([Expect(bytes), Send(broken)]), Script([Expect(bytes), bye]))
        call = Call(http, stage.http, model=FLUX)
        async with call.up():
            await call.silence(200)
            await call.until(ConnectionUsed, 2)
            assert call.of(Faulted)[0].problem == "it failed (INTERNAL_SERVER_ERROR: Something broke.)"
            await call.silence(200)


async def test_a_line_that_says_nothing_keeps_its_stream(http: aiohttp.ClientSession) -> None:
    async with LoopbackDeepgram(understood, manner=Manner(interim_ms=250, idle_s=0.9)) as vendor:
        call = Call(http, vendor.base_url, keep_alive_s=0.3)
        async with call.up():
            await anyio.sleep(1.15)  # from the first moment
            await call.speak("alpha")
            await call.silence(500)
            assert (await call.until(Endpointed)).text == "alpha"
            assert not call.of(Faulted)
            assert {"type": "KeepAlive"} in vendor.stage.peers[0].received


async def test_a_stream_that_was_closed_for_silence_is_opened_again(http: aiohttp.ClientSession) -> None:
    async with LoopbackDeepgram(understood, manner=Manner(interim_ms=250, idle_s=0.4)) as vendor:
        call = Call(http, vendor.base_url)
        async with call.up():
            fault = await call.until(Faulted)
            assert "heard nothing from us" in fault.problem
            assert "NET-0001" in fault.problem
            await call.speak("alpha")
            await call.silence(500)
            assert (await call.until(Endpointed)).text == "alpha"


# ------------------------------------------------------------------ what ends it


async def refused(http: aiohttp.ClientSession, base_url: str, **settings: Any) -> ProviderError:
    """The error that starting ends with."""
    call = Call(http, base_url, **settings)
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(15), pytest.raises(ProviderError) as caught:
            await call.start(tasks)
        await call.listener.aclose()
    assert caught.value.stage == "stt"
    assert KEY not in str(caught.value)
    return caught.value


async def test_a_wrong_key_is_said_at_once(http: aiohttp.ClientSession, protocol: tuple[str, str]) -> None:
    async with LoopbackDeepgram(understood, api_key="another") as vendor:
        error = await refused(http, vendor.base_url, model=protocol[0])

    assert (error.status, error.retryable) == (401, False)
    assert "Invalid credentials" in str(error)
    assert "DEEPGRAM_API_KEY" in error.fix


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (402, "Project does not have enough credits", "no credit"),
        (403, "Project does not have access to the requested model", "does not let this key use the model nova-3"),
        (404, "Not found", "does not know the model nova-3"),
        (400, "No such model/version combination found.", "No such model/version"),
    ],
)
async def test_what_no_other_try_would_change_is_not_tried_again(
    http: aiohttp.ClientSession, status: int, said: str, words: str
) -> None:
    async with LoopbackDeepgram(understood) as vendor:
        body = {"err_code": "X", "err_msg": said, "request_id": "r"}
        vendor.stage.faults.put(NOVA_PATH, Refuse(status, body, {"dg-error": said}))
        error = await refused(http, vendor.base_url)

    assert error.status == status
    assert words in error.problem
    assert said in error.problem
    assert error.fix


async def test_a_vendor_that_asks_for_a_long_wait_is_out(http: aiohttp.ClientSession) -> None:
    async with LoopbackDeepgram(understood) as vendor:
        vendor.stage.faults.put(NOVA_PATH, Refuse(429, retry_after="30"))
        error = await refused(http, vendor.base_url)

    assert (error.status, error.retry_after_s) == (429, 30.0)


async def test_parameters_of_the_other_protocol_are_refused_as_the_vendor_does(http: aiohttp.ClientSession) -> None:
    async with LoopbackDeepgram(understood) as vendor:
        error = await refused(http, vendor.base_url, model=FLUX, options={"smart_format": True})
        assert "smart_format" in error.problem
        error = await refused(http, vendor.base_url, model=NOVA, options={"eot_threshold": 0.7})
        assert "eot_threshold" in error.problem


async def test_a_vendor_that_stays_away_is_given_up_after_some_quick_tries(http: aiohttp.ClientSession) -> None:
    error = await refused(http, f"http://127.0.0.1:{closed_port()}")

    assert error.retryable
    assert "cannot be reached" in error.problem


async def test_a_vendor_that_does_not_shake_hands_is_given_up(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "TRY_S", 0.1)
    async with deaf_port() as port:
        error = await refused(http, f"http://127.0.0.1:{port}")

    assert "did not answer in time" in error.problem


async def test_a_certificate_that_nobody_vouches_for_is_no_vendor(
    http: aiohttp.ClientSession, self_signed: ssl.SSLContext
) -> None:
    async with Stage(tls=self_signed) as stage:
        LoopbackDeepgram(understood).mount(stage)
        error = await refused(http, stage.http)

    assert (error.code, error.retryable) == ("tls", False)


async def test_audio_that_the_vendor_cannot_read_is_not_sent_again(http: aiohttp.ClientSession) -> None:
    async with Stage() as stage:
        stage.script(NOVA_PATH, Script([Expect(bytes), Close(1008, "DATA-0000")]))
        call = Call(http, stage.http)
        async with call.up():
            await call.silence(100)
            with anyio.fail_after(10):
                await call.over.wait()
    assert call.error is not None
    assert "cannot read the audio" in call.error.problem
    assert "encoding" in call.error.fix


async def test_breaks_that_do_not_end_are_given_up_with_the_words_so_far_told(
    http: aiohttp.ClientSession, protocol: tuple[str, str]
) -> None:
    model, path = protocol
    async with LoopbackDeepgram(understood, manner=QUICK) as vendor:
        call = Call(http, vendor.base_url, model=model)
        async with call.up():
            await call.speak("alpha", "bravo")
            await call.until(CallerPartial)
            vendor.stage.faults.keep(path, CutAfter(received=2))
            vendor.stage.cut_all()
            while not call.over.is_set():
                await call.silence(100)
        assert call.error is not None
        assert call.error.retryable
        assert len(call.of(Faulted)) == stream.TRIES
        assert call.partials
