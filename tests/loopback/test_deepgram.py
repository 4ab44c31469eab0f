"""The played Deepgram, judged by the vendor's own client: whom it lets in, what it says and when."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import pytest

from patter.audio.format import MULAW_8K, PCM_16K, AudioFormat
from patter.loopback.deepgram import LoopbackDeepgram
from patter.loopback.deepgram_manner import Manner
from patter.loopback.stage_script import ScriptBroken
from patter.wire.deepgram import CLOSE_STREAM, FINALIZE, KEEP_ALIVE, nova_parameters, query_of
from patter.wire.deepgram_flux import FORCE_END_TURN, configure, flux_parameters
from tests.support.tone_speech import frames, speech, understood

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own dependencies are not ours to mend
    import deepgram.listen.v1.types as v1
    import deepgram.listen.v2.types as v2
    from deepgram import AsyncDeepgramClient
    from deepgram.environment import DeepgramClientEnvironment

pytestmark = pytest.mark.anyio

KEY = "loopback-key"
V1: dict[str, Any] = {
    "Results": v1.ListenV1Results,
    "SpeechStarted": v1.ListenV1SpeechStarted,
    "UtteranceEnd": v1.ListenV1UtteranceEnd,
    "Metadata": v1.ListenV1Metadata,
    "Error": v1.ListenV1Error,
}
V2: dict[str, Any] = {
    "Connected": v2.ListenV2Connected,
    "TurnInfo": v2.ListenV2TurnInfo,
    "ConfigureSuccess": v2.ListenV2ConfigureSuccess,
    "ConfigureFailure": v2.ListenV2ConfigureFailure,
    "Error": v2.ListenV2FatalError,
}
NOVA = query_of(nova_parameters("nova-3", MULAW_8K, endpointing_ms=200))
FLUX = query_of(flux_parameters("flux-general-en", MULAW_8K, eager_threshold=0.5))


class Client:
    """A bare client that keeps every message as the vendor's package reads it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, types: dict[str, Any]) -> None:
        self.socket, self.types = socket, types
        self.got: list[Any] = []

    async def say(self, audio: bytes, line: AudioFormat = MULAW_8K) -> None:
        for frame in frames(audio, line):
            await self.socket.send_bytes(frame.data)
            await anyio.sleep(0.001)  # twenty times as fast as a caller

    async def until(self, kind: str, **fields: Any) -> Any:
        """The next message of this type with these fields."""
        with anyio.fail_after(10):
            while True:
                message = await self.socket.receive_json()
                read = self.types[message["type"]].model_validate(message)
                self.got.append(read)
                if message["type"] == kind and all(message.get(name) == value for name, value in fields.items()):
                    return read

    async def end(self) -> int | None:
        """The code it is closed with."""
        with anyio.fail_after(10):
            while (await self.socket.receive()).type is not aiohttp.WSMsgType.CLOSE:
                pass
        return self.socket.close_code


@asynccontextmanager
async def talking(vendor: LoopbackDeepgram, path: str, query: str, key: str = KEY) -> AsyncIterator[Client]:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{vendor.stage.ws}{path}?{query}", headers={"Authorization": f"Token {key}"}) as socket,
    ):
        yield Client(socket, V1 if path.startswith("/v1") else V2)


async def test_the_first_protocol_from_voice_to_goodbye() -> None:
    async with (
        LoopbackDeepgram(understood, api_key=KEY, manner=Manner(interim_ms=200)) as vendor,
        talking(vendor, "/v1/listen", NOVA) as client,
    ):
        await client.say(MULAW_8K.quiet(200) + speech("alpha", "bravo", line=MULAW_8K) + MULAW_8K.quiet(1300))
        started = await client.until("SpeechStarted")
        interim = await client.until("Results", is_final=False)
        final = await client.until("Results", speech_final=True)
        gap = await client.until("UtteranceEnd")
        await client.socket.send_str(CLOSE_STREAM)
        goodbye = await client.until("Metadata")

        assert started.timestamp == pytest.approx(0.2, abs=0.03)
        assert interim.is_final is False
        best = final.channel.alternatives[0]
        assert (best.transcript, final.is_final) == ("alpha bravo", True)
        assert [word.word for word in best.words] == ["alpha", "bravo"]
        assert best.words[-1].end == pytest.approx(0.6, abs=0.05)
        assert final.start + final.duration == pytest.approx(0.8, abs=0.05)  # the pause that was asked for
        assert gap.last_word_end == pytest.approx(0.6, abs=0.05)
        assert goodbye.duration == pytest.approx(1.98, abs=0.03)
        assert await client.end() == 1000


async def test_words_are_given_when_they_are_asked_for() -> None:
    async with LoopbackDeepgram(understood) as vendor, talking(vendor, "/v1/listen", NOVA) as client:
        await client.say(speech("alpha", line=MULAW_8K))
        await client.socket.send_str(KEEP_ALIVE)
        await client.socket.send_str(FINALIZE)
        asked = await client.until("Results", from_finalize=True)

        assert asked.channel.alternatives[0].transcript == "alpha"
        assert asked.is_final


async def test_long_speech_is_final_before_it_ends() -> None:
    async with (
        LoopbackDeepgram(understood, manner=Manner(final_ms=400)) as vendor,
        talking(vendor, "/v1/listen", NOVA) as client,
    ):
        await client.say(speech("alpha", "bravo", "charlie", line=MULAW_8K) + MULAW_8K.quiet(400))
        first = await client.until("Results", is_final=True)
        await client.until("Results", speech_final=True)

        assert first.speech_final is False
        finals = [got for got in client.got if got.type == "Results" and got.is_final]
        said = " ".join(got.channel.alternatives[0].transcript for got in finals).split()
        assert said == ["alpha", "bravo", "charlie"]


async def test_a_stream_that_falls_silent_is_closed() -> None:
    async with (
        LoopbackDeepgram(understood, manner=Manner(idle_s=0.3)) as vendor,
        talking(vendor, "/v1/listen", NOVA) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_keep_alive, client)  # messages alone do not keep a stream that has had no audio
        assert await client.end() == 1011
        tasks.cancel_scope.cancel()


async def _keep_alive(client: Client) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            await client.socket.send_str(KEEP_ALIVE)
            await anyio.sleep(0.05)


async def test_the_second_protocol_from_voice_to_goodbye() -> None:
    async with (
        LoopbackDeepgram(understood, manner=Manner(end_of_turn_ms=600)) as vendor,
        talking(vendor, "/v2/listen", FLUX) as client,
    ):
        await client.say(speech("alpha", "bravo", line=MULAW_8K) + MULAW_8K.quiet(440))
        await client.until("TurnInfo", event="EagerEndOfTurn")
        await client.say(speech("charlie", line=MULAW_8K) + MULAW_8K.quiet(900))
        await client.until("TurnInfo", event="EndOfTurn")
        await client.until("TurnInfo", event="Update", turn_index=1)
        await client.socket.send_str(CLOSE_STREAM)
        assert await client.end() == 1000

    assert [got.sequence_id for got in client.got] == list(range(len(client.got)))
    turns = [got for got in client.got if got.type == "TurnInfo" and got.turn_index == 0 and got.transcript]
    events = [turn.event for turn in turns if turn.event != "Update"]
    assert events == ["StartOfTurn", "EagerEndOfTurn", "TurnResumed", "EagerEndOfTurn", "EndOfTurn"]
    assert turns[-1].transcript == "alpha bravo charlie"
    assert turns[-1].trigger == "model"
    assert turns[-1].end_of_turn_confidence >= 0.7
    assert all(turn.trigger is None for turn in turns[:-1])


async def test_a_turn_is_ended_by_hand_and_by_the_longest_silence() -> None:
    async with LoopbackDeepgram(understood) as vendor, talking(vendor, "/v2/listen", FLUX) as client:
        await client.socket.send_json({"type": "Configure", "thresholds": {"eot_threshold": 1.0}})
        await client.socket.send_str(configure(500))
        await client.until("ConfigureSuccess")
        accepted = await client.until("ConfigureSuccess")
        await client.say(speech("alpha", line=MULAW_8K) + MULAW_8K.quiet(100))
        await client.until("TurnInfo", event="StartOfTurn")
        await client.socket.send_str(FORCE_END_TURN)
        by_hand = await client.until("TurnInfo", event="EndOfTurn")
        await client.say(speech("bravo", line=MULAW_8K) + MULAW_8K.quiet(700))
        in_silence = await client.until("TurnInfo", event="EndOfTurn")
        await client.socket.send_json({"type": "Configure", "thresholds": {"eot_timeout_ms": 1}})
        refused = await client.until("ConfigureFailure")

        assert accepted.thresholds.eot_timeout_ms == 500
        assert (by_hand.trigger, by_hand.transcript) == ("manual", "alpha")
        assert (in_silence.trigger, in_silence.transcript) == ("timeout", "bravo")
        assert "eot_timeout_ms" in refused.description


@pytest.mark.parametrize(
    ("path", "query", "said"),
    [
        ("/v1/listen", "model=flux-general-en&encoding=mulaw&sample_rate=8000", "model/version"),
        ("/v1/listen", "model=nova-9&encoding=mulaw&sample_rate=8000", "model/version"),
        ("/v1/listen", "model=nova-3&encoding=mulaw&sample_rate=8000&eot_threshold=0.7", "eot_threshold"),
        ("/v1/listen", "model=nova-3&encoding=mulaw&sample_rate=8000&keywords=a", "keywords"),
        ("/v1/listen", "model=nova-2&encoding=mulaw&sample_rate=8000&keyterm=a", "keyterm"),
        ("/v1/listen", "model=nova-3&encoding=mulaw", "sample_rate"),
        ("/v1/listen", "model=nova-3&encoding=mp7&sample_rate=8000", "encoding"),
        ("/v1/listen", "model=nova-3&encoding=mulaw&sample_rate=8000&endpointing=soon", "endpointing"),
        ("/v1/listen", "model=nova-3&encoding=mulaw&sample_rate=8k", "sample_rate"),
        ("/v1/listen", "model=nova-3&encoding=mulaw&sample_rate=8000&utterance_end_ms=1000", "interim_results"),
        ("/v2/listen", "model=nova-3&encoding=mulaw&sample_rate=8000", "model/version"),
        ("/v2/listen", "model=flux-general-en&encoding=mulaw&sample_rate=8000&interim_results=true", "interim_results"),
        ("/v2/listen", "model=flux-general-en&encoding=mulaw&sample_rate=8000&eot_timeout_ms=100", "eot_timeout_ms"),
        ("/v2/listen", "model=flux-general-en&encoding=mulaw&sample_rate=8000&eager_eot_threshold=0.8", "eager"),
        ("/v2/listen", "model=flux-general-en&encoding=mulaw&sample_rate=8000&language_hint=es", "language_hint"),
    ],
)
async def test_a_query_that_the_vendor_does_not_take_is_refused(path: str, query: str, said: str) -> None:
    async with LoopbackDeepgram(understood) as vendor:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with talking(vendor, path, query):
                pass
    assert caught.value.status == 400
    assert caught.value.headers is not None
    assert said in caught.value.headers["dg-error"]


async def test_a_stranger_is_not_let_in() -> None:
    async with LoopbackDeepgram(understood, api_key=KEY) as vendor:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with talking(vendor, "/v1/listen", NOVA, key="other"):
                pass
    assert caught.value.status == 401


@pytest.mark.parametrize(("path", "query"), [("/v1/listen", NOVA), ("/v2/listen", FLUX)])
async def test_what_no_client_may_say_breaks_the_script(path: str, query: str) -> None:
    vendor = LoopbackDeepgram(understood)
    await vendor.__aenter__()
    async with talking(vendor, path, query) as client:
        await client.socket.send_str('{"type":"Dance"}')
        await client.until("Error")
    with pytest.raises(ScriptBroken, match="no message of this protocol"):
        await vendor.__aexit__(None)


async def test_whoever_turns_sound_into_words_may_take_time() -> None:
    async def slow(pcm: bytes) -> str:
        await anyio.sleep(0.05)
        return understood(pcm)

    query = query_of(nova_parameters("nova-3", PCM_16K))
    async with (
        LoopbackDeepgram(slow, manner=Manner(answer_s=0.05)) as vendor,
        talking(vendor, "/v1/listen", query) as client,
    ):
        await client.say(speech("alpha", "bravo", line=PCM_16K) + PCM_16K.quiet(500), PCM_16K)
        final = await client.until("Results", speech_final=True)

        assert final.channel.alternatives[0].transcript == "alpha bravo"


@pytest.mark.filterwarnings("ignore")  # its own dependencies are not ours to mend
async def test_the_vendors_own_client_is_served() -> None:
    async with LoopbackDeepgram(understood, api_key=KEY) as vendor:
        place = DeepgramClientEnvironment(
            base=vendor.stage.http, production=vendor.stage.ws, agent=vendor.stage.ws, agent_rest=vendor.stage.http
        )
        client = AsyncDeepgramClient(api_key=KEY, environment=place)
        sound = speech("alpha", "bravo", line=MULAW_8K) + MULAW_8K.quiet(600)
        async with client.listen.v1.connect(
            model="nova-3", encoding="mulaw", sample_rate=8000, endpointing=200
        ) as nova:
            for frame in frames(sound, MULAW_8K):
                await nova.send_media(frame.data)
            await nova.send_close_stream()
            said = [message async for message in nova]
        async with client.listen.v2.connect(model="flux-general-en", encoding="mulaw", sample_rate=8000) as flux:
            for frame in frames(sound, MULAW_8K):
                await flux.send_media(frame.data)
            await flux.send_close_stream()
            turns = [message async for message in flux]

    finals = [got.channel.alternatives[0].transcript for got in said if isinstance(got, v1.ListenV1Results)]
    assert "".join(finals) == "alpha bravo"
    assert isinstance(said[-1], v1.ListenV1Metadata)
    assert isinstance(turns[0], v2.ListenV2Connected)
    ended = [turn for turn in turns if isinstance(turn, v2.ListenV2TurnInfo) and turn.event == "EndOfTurn"]
    assert [turn.transcript for turn in ended] == ["alpha bravo"]
