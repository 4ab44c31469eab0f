"""OpenAI's live sessions that find voice themselves: what goes out, what is told and when, and how breaks are overcome."""

from __future__ import annotations

import time
from base64 import b64encode
from bisect import bisect
from typing import Any

import aiohttp
import anyio
import pytest

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_16K, AudioChunk, AudioFormat
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.loopback.openai_transcription import REALTIME, LoopbackTranscription
from patter.loopback.openai_transcription_live import Manner
from patter.loopback.stage import Stage
from patter.loopback.stage_faults import CutAfter, Fault, Refuse
from patter.loopback.stage_script import Abort, Audio, Close, Expect, Garbage, Script, Send, Step
from patter.models import STTConfig, TurnTaking
from patter.providers.bench import Bench
from patter.providers.dialer import Dialer
from patter.providers.openai_audio.live_transcription import LiveTranscriber
from patter.providers.openai_audio.transcription_maker import make, warm
from patter.signals import CallerPartial, ConnectionUsed, Endpointed, Faulted, SpeechStarted, SpeechStopped, Used
from tests.providers.openai_ears import KEY, listening, speak
from tests.support.tone_speech import frames, speech, understood

pytestmark = pytest.mark.anyio
LIVE: dict[str, Any] = {"options": {"realtime": True}}
TRANSCRIPTION = "conversation.item.input_audio_transcription."


def vendor(**manner: Any) -> LoopbackTranscription:
    return LoopbackTranscription(understood, api_key=KEY, manner=Manner(**manner))


def appended(peer: Any) -> list[str]:
    return [message["audio"] for message in peer.received if message["type"] == "input_audio_buffer.append"]


def update(peer: Any) -> dict[str, Any]:
    """The input settings that were asked for last."""
    sessions = [message["session"] for message in peer.received if message["type"] == "session.update"]
    found: dict[str, Any] = sessions[-1]["audio"]["input"]
    return found


# ------------------------------------------------------------------------------------------------- what is heard


async def test_a_sentence_is_told_from_its_first_sound_to_its_words(http: aiohttp.ClientSession) -> None:
    async with vendor() as openai, listening(http, openai.base_url, **LIVE) as heard:
        began = time.time()
        await speak(heard.ear, "alpha", "bravo", "charlie")
        await heard.until(lambda: heard.of(Endpointed))
        kinds = [type(signal) for signal in heard.said if not isinstance(signal, Used | ConnectionUsed)]
        assert kinds[:2] == [SpeechStarted, SpeechStopped]
        assert set(kinds[2:-1]) == {CallerPartial}
        assert kinds[-1] is Endpointed
        start, stop, end = heard.of(SpeechStarted)[0], heard.of(SpeechStopped)[0], heard.of(Endpointed)[0]
        assert (end.text, end.sure) == ("alpha bravo charlie", False)
        assert began - 0.1 <= start.began_at < start.at < stop.ended_at < stop.at <= time.time() + 0.1
        assert end.speech_ended_at == stop.ended_at
        assert stop.ended_at <= end.recognition_at <= end.transcript_at
        assert heard.of(CallerPartial)[-1].text == "alpha bravo charlie"
        assert 0.6 < heard.billed["audio_seconds"] < 1.6
    assert openai.stage.peers[0].query == {"intent": "transcription"}


async def test_times_are_those_of_the_sound_on_every_connection(http: aiohttp.ClientSession) -> None:
    """Counted in frames, so that a machine that stumbles between two of them does not matter."""
    quiet, voiced = 25, 8  # frames: 500 ms, and a word of 160 ms
    sound = MULAW_8K.quiet(20 * quiet) + speech("alpha", line=MULAW_8K) + MULAW_8K.quiet(600)
    async with vendor() as openai, listening(http, openai.base_url, **LIVE) as heard:
        came: list[float] = []
        for turn in (1, 2):
            first = len(came)
            for frame in frames(sound, MULAW_8K):
                came.append(heard.ear._clock.now())
                heard.ear.hear(frame)
                await anyio.sleep(0.01)
            await heard.until(lambda turn=turn: len(heard.of(Endpointed)) == turn)
            began = bisect(came, heard.of(SpeechStarted)[-1].began_at) - first
            ended = bisect(came, heard.of(SpeechStopped)[-1].ended_at) - first
            assert abs(began - quiet) <= 3
            assert abs(ended - quiet - voiced) <= 3
            openai.stage.cut_all()


@pytest.mark.parametrize(("line", "name"), [(MULAW_8K, "audio/pcmu"), (ALAW_8K, "audio/pcma"), (PCM_16K, "audio/pcm")])
async def test_a_telephone_lines_sound_goes_out_as_it_came_in(
    http: aiohttp.ClientSession, line: AudioFormat, name: str
) -> None:
    async with vendor() as openai, listening(http, openai.base_url, line, **LIVE) as heard:
        sound = list(frames(speech("golf", "hotel", line=line) + line.quiet(600), line))
        for at, frame in enumerate(sound):
            wire = b64encode(frame.data).decode() if at % 2 else ""  # not every carrier sends base64
            heard.ear.hear(AudioChunk(frame.data, line, wire))
        await heard.until(lambda: heard.of(Endpointed))
        assert heard.of(Endpointed)[0].text == "golf hotel"
        peer = openai.stage.peers[0]
        assert update(peer)["format"]["type"] == name
        as_it_came = [b64encode(frame.data).decode() for frame in sound]
        assert (appended(peer)[: len(sound)] == as_it_came) == (line is not PCM_16K)


async def test_a_server_that_takes_another_format_than_asked_for_gets_it(http: aiohttp.ClientSession) -> None:
    async with vendor(takes=("audio/pcm",)) as openai, listening(http, openai.base_url, **LIVE) as heard:
        await speak(heard.ear, "golf", "hotel")
        await heard.until(lambda: heard.of(Endpointed))
        assert heard.of(Endpointed)[0].text == "golf hotel"


async def test_the_settings_decide_how_pauses_are_found(http: aiohttp.ClientSession) -> None:
    options = {"realtime": True, "turn_detection": "semantic_vad", "eagerness": "high", "noise_reduction": "near_field"}
    async with vendor() as openai, listening(http, openai.base_url, options=options, keyterms=("Rye",)) as heard:
        await speak(heard.ear, "golf")
        await heard.until(lambda: heard.of(Endpointed))
        assert heard.of(Endpointed)[0].sure
        asked = update(openai.stage.peers[0])
        assert asked["turn_detection"] == {"type": "semantic_vad", "eagerness": "high"}
        assert asked["noise_reduction"] == {"type": "near_field"}
        assert asked["transcription"]["keywords"] == ["Rye"]


async def test_new_settings_hold_from_then_on(http: aiohttp.ClientSession) -> None:
    async with vendor() as openai, listening(http, openai.base_url, **LIVE) as heard:
        heard.ear.settle(TurnTaking())
        assert len(openai.stage.peers[0].received) == 1, "nothing has changed"
        heard.ear.settle(TurnTaking(pause_ms=340))
        await speak(heard.ear, "golf")
        await heard.until(lambda: heard.of(Endpointed))
        assert update(openai.stage.peers[0])["turn_detection"]["silence_duration_ms"] == 340


# --------------------------------------------------------------------------------------------------- strict scripts

READY: list[Step] = [
    Send({"type": "session.created", "event_id": "e1", "session": {"type": "transcription"}}),
    Expect({"type": "session.update"}),
    Send({"type": "session.updated", "event_id": "e2", "session": {"type": "transcription"}}),
]


def utterance(item: str, start_ms: int, end_ms: int) -> list[Step]:
    return [
        Send({"type": "input_audio_buffer.speech_started", "item_id": item, "audio_start_ms": start_ms}),
        Send({"type": "input_audio_buffer.speech_stopped", "item_id": item, "audio_end_ms": end_ms}),
        Send({"type": "input_audio_buffer.committed", "item_id": item}),
    ]


def completed(item: str, text: str) -> Send:
    usage = {"type": "duration", "seconds": 1}
    message = {"type": f"{TRANSCRIPTION}completed", "item_id": item, "content_index": 0, "transcript": text}
    return Send(message | {"usage": usage})


def script(*steps: Step) -> Script:
    return Script([*READY, *steps], {"intent": "transcription", "model": None}, {"Authorization": f"Bearer {KEY}"},
                  is_audio=lambda message: isinstance(message, dict) and message["type"].endswith(".append"))  # fmt: skip


async def test_transcripts_that_overtake_each_other_are_put_in_order(http: aiohttp.ClientSession) -> None:
    steps = [*utterance("a", 0, 200), *utterance("b", 300, 500), completed("b", "second"), completed("a", "first")]
    async with Stage() as stage:
        stage.script(REALTIME, script(Audio(30), *steps))
        async with listening(http, f"{stage.http}/v1", **LIVE) as heard:
            await speak(heard.ear, "golf")
            await heard.until(lambda: len(heard.of(Endpointed)) == 2)
            assert [end.text for end in heard.of(Endpointed)] == ["first", "second"]


async def test_an_utterance_without_words_is_told_and_ends(http: aiohttp.ClientSession) -> None:
    failed = {"type": f"{TRANSCRIPTION}failed", "item_id": "a", "error": {"code": "x", "message": "too noisy"}}
    complaint = {"type": "error", "error": {"type": "invalid_request_error", "code": None, "message": "odd event"}}
    async with Stage() as stage:
        stage.script(REALTIME, script(*utterance("a", 0, 0), Send(failed), Send(complaint)))
        async with listening(http, f"{stage.http}/v1", **LIVE) as heard:
            await heard.until(lambda: len(heard.of(Faulted)) == 2)
            assert [end.text for end in heard.of(Endpointed)] == [""]
            assert "too noisy" in heard.of(Faulted)[0].problem
            assert "odd event" in heard.of(Faulted)[1].problem
    assert not heard.errors


@pytest.mark.parametrize(
    ("steps", "says", "retryable"),
    [
        (
            [Send({"type": "error", "error": {"code": "insufficient_quota", "message": f"{KEY} is dry"}})],
            "is dry",
            False,
        ),
        ([Close(4000, "invalid_request_error.beta_api_shape_disabled")], "4000", False),
    ],
)
async def test_what_a_new_connection_cannot_mend_ends_it(
    http: aiohttp.ClientSession, steps: list[Step], says: str, *, retryable: bool
) -> None:
    async with Stage() as stage:
        stage.script(REALTIME, script(*steps))
        async with listening(http, f"{stage.http}/v1", **LIVE) as heard:
            await heard.until(lambda: heard.errors)
            assert says in str(heard.errors[0])
            assert KEY not in str(heard.errors[0])
            assert (heard.errors[0].stage, heard.errors[0].retryable) == ("stt", retryable)


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        (Send({"type": "error", "error": {"code": "invalid_value", "message": "no such model"}}), "no such model"),
        (Close(1000), "before the session began"),
        (Garbage(), "cannot be read"),
        (Abort(), "broke off"),
    ],
)
async def test_a_session_that_does_not_come_about_is_an_error_of_the_start(
    http: aiohttp.ClientSession, refused: Step, says: str
) -> None:
    async with Stage() as stage:
        stage.script(REALTIME, Script([Expect({"type": "session.update"}), refused]))
        with pytest.raises(BaseExceptionGroup) as caught:
            async with listening(http, f"{stage.http}/v1", **LIVE):
                pass
        error = caught.value.exceptions[0]
        assert isinstance(error, ProviderError)
        assert says in str(error)


# ---------------------------------------------------------------------------------------------------------- breaks


@pytest.mark.parametrize("fault", [CutAfter(received=28), CutAfter(sent=3), CutAfter(sent=6)])
async def test_after_a_break_the_next_connection_hears_what_was_not_written_down(
    http: aiohttp.ClientSession, fault: Fault
) -> None:
    async with vendor(answer_s=0.05) as openai:
        openai.stage.faults.put(REALTIME, fault)
        async with listening(http, openai.base_url, **LIVE) as heard:
            await speak(heard.ear, "alpha", "bravo", "charlie")
            await heard.until(lambda: heard.of(Endpointed))
            await speak(heard.ear, "delta")
            await heard.until(lambda: len(heard.of(Endpointed)) == 2)
            assert [end.text for end in heard.of(Endpointed)] == ["alpha bravo charlie", "delta"]
            assert len(heard.of(SpeechStarted)) == 2, "what is heard twice is told once"
            assert len(heard.of(SpeechStopped)) == 2
            assert len(heard.of(ConnectionUsed)) == 2
            assert len(heard.of(Faulted)) == 1
    assert not heard.errors


async def test_what_has_been_written_down_is_not_heard_twice(http: aiohttp.ClientSession) -> None:
    async with vendor() as openai, listening(http, openai.base_url, **LIVE) as heard:
        await speak(heard.ear, "alpha")
        await heard.until(lambda: heard.of(Endpointed))
        openai.stage.cut_all()
        await speak(heard.ear, "bravo")
        await heard.until(lambda: len(heard.of(Endpointed)) == 2)
        assert [end.text for end in heard.of(Endpointed)] == ["alpha", "bravo"]
        assert openai.heard == ["alpha", "bravo"]


async def test_a_socket_that_was_opened_while_it_rang_is_used(http: aiohttp.ClientSession) -> None:
    async with vendor() as openai:
        dialer = Dialer(http)
        bench = Bench(http, dialer, Clock(), key=KEY, base_url=openai.base_url, hears=MULAW_8K)
        config = STTConfig("whisper", "", **LIVE)
        await warm(config, bench)
        ear, said = make(config, bench), []
        assert isinstance(ear, LiveTranscriber)
        async with anyio.create_task_group() as tasks:
            await ear.start(MULAW_8K, tasks)
            await ear.aclose()
            said = [signal async for signal in ear.signals()]
        assert said == [ConnectionUsed("stt", "local", True, said[0].ms)]  # type: ignore[union-attr]
        assert len(openai.stage.peers) == 1


async def test_an_expired_session_is_followed_by_another(http: aiohttp.ClientSession) -> None:
    async with vendor(session_ms=700) as openai, listening(http, openai.base_url, **LIVE) as heard:
        openai.manner = Manner()  # for those that come
        await speak(heard.ear, "alpha", "bravo", "charlie", "delta")
        await heard.until(lambda: heard.of(Endpointed))
        assert heard.of(Endpointed)[0].text == "alpha bravo charlie delta"
        assert "session has ended" in heard.of(Faulted)[0].problem
        assert len(openai.stage.peers) == 2


async def test_a_connection_that_stands_but_is_dead_is_replaced(http: aiohttp.ClientSession) -> None:
    async with vendor() as openai, listening(http, openai.base_url, heartbeat_s=0.2, **LIVE) as heard:
        openai.stage.peers[0].freeze()
        await speak(heard.ear, "alpha", "bravo")
        await heard.until(lambda: heard.of(Endpointed))
        assert heard.of(Endpointed)[0].text == "alpha bravo"
        assert heard.of(Faulted)


async def test_a_vendor_that_is_gone_for_good_is_an_error_after_a_few_tries(http: aiohttp.ClientSession) -> None:
    async with vendor() as openai, listening(http, openai.base_url, **LIVE) as heard:
        openai.stage.faults.keep(REALTIME, Refuse(503))
        openai.stage.cut_all()
        await heard.until(lambda: heard.errors)
        assert heard.errors[0].retryable
        assert len(heard.of(Faulted)) == 3


async def test_sockets_that_all_break_at_once_are_not_opened_for_ever(http: aiohttp.ClientSession) -> None:
    async with Stage() as stage:
        stage.script(REALTIME, *[script(Abort())] * 3)
        async with listening(http, f"{stage.http}/v1", **LIVE) as heard:
            await heard.until(lambda: heard.errors)
            assert len(heard.of(ConnectionUsed)) == 3


async def test_what_is_still_being_written_down_at_the_end_is_billed(http: aiohttp.ClientSession) -> None:
    async with vendor(answer_s=30) as openai, listening(http, openai.base_url, **LIVE) as heard:
        await speak(heard.ear, "alpha", "bravo")
        await heard.until(lambda: heard.of(SpeechStopped))
    assert heard.billed["audio_seconds"] > 0.4
    assert not heard.of(Endpointed)
