"""Recorded conversations with Deepgram, message for message: what the recogniser makes of them, and what it says when."""

from __future__ import annotations

from typing import Any

import aiohttp
import anyio
import pytest

from patter.loopback.stage import Stage
from patter.loopback.stage_script import Close, Expect, Garbage, Script, Send, Step
from patter.models import TurnTaking
from patter.signals import (
    CallerPartial,
    Endpointed,
    Faulted,
    ListenerSignal,
    SpeechStarted,
    TurnLikely,
    TurnUnlikely,
    Used,
)
from patter.wire.deepgram import PATH as NOVA_PATH
from patter.wire.deepgram_flux import PATH as FLUX_PATH
from tests.support.deepgram_call import KEY, Call
from tests.support.traces import rows

pytestmark = pytest.mark.anyio

FRAMES = 160  # bytes of mu-law in 20 ms


def steps(trace: str) -> list[Step]:
    """The trace as a strict script."""
    made: list[Step] = []
    for row in rows("deepgram", trace):
        match row:
            case {"side": "vendor", "json": message}:
                made.append(Send(message))
            case {"side": "client", "json": message}:
                made.append(Expect(message))
            case {"side": "client", "audio": count}:
                made += [Expect(_of_a_frame)] * count
    return made


def _of_a_frame(message: Any) -> bool:
    return isinstance(message, bytes) and len(message) == FRAMES


async def played(
    http: aiohttp.ClientSession, trace: str, path: str, kind: type[Any], count: int, **settings: Any
) -> list[ListenerSignal]:
    """Everything that is said while the trace is played; it is over when so many of a kind have come."""
    async with Stage() as stage:
        authorization = {"Authorization": f"Token {KEY}"}
        stage.script(path, Script([*steps(trace), Close(1000)], headers=authorization))
        call = Call(http, stage.http, **settings)
        async with call.up():
            audio = sum(row["audio"] for row in rows("deepgram", trace) if "audio" in row)
            await call.sound(call.line.quiet(20 * audio), speed=500)
            await call.until(kind, count)
            await anyio.sleep(0.05)
    return call.said


def told(said: list[ListenerSignal]) -> list[tuple[str, str]]:
    """(kind, words) of what was heard."""
    kinds = (SpeechStarted, CallerPartial, Endpointed, TurnLikely, TurnUnlikely)
    return [(type(signal).__name__, getattr(signal, "text", "")) for signal in said if isinstance(signal, kinds)]


async def test_final_pieces_are_joined_up_to_the_pause_and_not_told_again(http: aiohttp.ClientSession) -> None:
    said = await played(http, "nova_two_finals", NOVA_PATH, Endpointed, 1)

    whole = "Could you put me through to the garage, please."
    assert told(said) == [
        ("SpeechStarted", ""),
        ("CallerPartial", "could you put"),
        ("CallerPartial", "Could you put me through"),
        ("CallerPartial", "Could you put me through to the"),
        ("CallerPartial", whole),
        ("Endpointed", whole),
    ]
    endpoint = next(signal for signal in said if isinstance(signal, Endpointed))
    assert not endpoint.sure
    assert endpoint.speech_ended_at <= endpoint.recognition_at <= endpoint.transcript_at
    assert sum(used.amounts["audio_seconds"] for used in said if isinstance(used, Used)) == pytest.approx(4.4)


async def test_without_a_pause_the_gap_between_words_ends_them_once(http: aiohttp.ClientSession) -> None:
    said = await played(http, "nova_utterance_end", NOVA_PATH, Endpointed, 1)

    assert [words for kind, words in told(said) if kind == "Endpointed"] == ["It's the blue one by the door"]


async def test_a_line_that_falls_silent_gets_its_words_and_is_kept(http: aiohttp.ClientSession) -> None:
    async with Stage() as stage:
        stage.script(NOVA_PATH, Script([*steps("nova_finalize_close"), Close(1000)]))
        call = Call(http, stage.http, keep_alive_s=0.8)
        async with call.up():
            await call.sound(call.line.quiet(2000), speed=500)
            assert (await call.until(Endpointed)).text == "No, thank you."
            with anyio.fail_after(10):
                while not any(message == {"type": "KeepAlive"} for message in stage.peers[0].received):
                    await anyio.sleep(0.02)


async def test_a_pause_that_is_told_before_the_words_are_final_is_told_once(http: aiohttp.ClientSession) -> None:
    said = await played(http, "nova_speech_final_first", NOVA_PATH, Endpointed, 2)

    assert [words for kind, words in told(said) if kind == "Endpointed"] == ["half past nine", "or ten"]


async def test_a_turn_may_be_over_goes_on_and_is_over(http: aiohttp.ClientSession) -> None:
    said = await played(http, "flux_turn", FLUX_PATH, Endpointed, 1, model="flux-general-en", eager=True)

    whole = "do you have parking for vans"
    assert told(said) == [
        ("SpeechStarted", ""),
        ("CallerPartial", "do"),
        ("CallerPartial", "do you have"),
        ("CallerPartial", "do you have parking"),
        ("TurnLikely", "do you have parking"),
        ("CallerPartial", "do you have parking for"),
        ("TurnUnlikely", ""),
        ("CallerPartial", whole),
        ("TurnLikely", whole),
        ("Endpointed", whole),
    ]
    endpoint = next(signal for signal in said if isinstance(signal, Endpointed))
    assert endpoint.sure
    assert endpoint.speech_ended_at <= endpoint.recognition_at <= endpoint.transcript_at


async def test_a_change_of_settings_is_made_on_the_open_stream(http: aiohttp.ClientSession) -> None:
    async with Stage() as stage:
        script = Script([*steps("flux_configured"), Close(1000)], query={"eot_timeout_ms": "1500", "language": None})
        stage.script(FLUX_PATH, script)
        call = Call(http, stage.http, model="flux-general-en")
        async with call.up():
            call.listener.settle(TurnTaking(max_silence_ms=3000))
            call.listener.settle(TurnTaking(max_silence_ms=3000))
            await call.sound(call.line.quiet(3000), speed=500)
            endpoint = await call.until(Endpointed)
            assert (endpoint.text, endpoint.sure) == ("six one nine", True)
            assert "SLOW_AUDIO" in (await call.until(Faulted)).problem


@pytest.mark.parametrize(("path", "model"), [(NOVA_PATH, "nova-3"), (FLUX_PATH, "flux-general-en")])
async def test_one_message_that_cannot_be_read_is_passed_over(
    http: aiohttp.ClientSession, path: str, model: str
) -> None:
    trace = "nova_two_finals" if path == NOVA_PATH else "flux_turn"
    vendor = [row["json"] for row in rows("deepgram", trace) if "json" in row]
    last = next(item for item in vendor if item.get("speech_final") or item.get("event") == "EndOfTurn")
    async with Stage() as stage:
        script: list[Step] = [Expect(bytes), Garbage(), Send(last), Expect({"type": "CloseStream"})]
        stage.script(path, Script(script))
        call = Call(http, stage.http, model=model)
        async with call.up():
            await call.silence(400)
            await call.until(Endpointed)
            assert "cannot be read" in call.of(Faulted)[0].problem
