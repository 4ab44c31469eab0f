"""The played OpenAI that listens, used by the vendor's own client and judged by the vendor's own types."""

from __future__ import annotations

import io
import wave
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import openai
import pytest
from openai.types.realtime.realtime_server_event import RealtimeServerEvent
from pydantic import TypeAdapter

from patter.audio.format import MULAW_8K, PCM_16K, PCM_24K, AudioFormat
from patter.loopback.openai_transcription import TRANSCRIPTIONS, LoopbackTranscription
from patter.loopback.openai_transcription_live import Manner
from patter.loopback.stage_script import ScriptBroken
from tests.support.tone_speech import speech, understood

pytestmark = pytest.mark.anyio
KEY = "sk-0123456789"
SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)


@pytest.fixture
async def vendor() -> AsyncIterator[LoopbackTranscription]:
    async with LoopbackTranscription(understood, api_key=KEY, manner=Manner(delta_ms=200)) as made:
        yield made
    for event in made.sent:
        SERVER_EVENT.validate_python(event)


@pytest.fixture
async def client(vendor: LoopbackTranscription) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=vendor.base_url, api_key=KEY, max_retries=0) as made:
        yield made


def wav(*words: str) -> tuple[str, bytes]:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 16000, 0, "NONE", ""))
        out.writeframes(speech(*words, line=PCM_16K))
    return "call.wav", file.getvalue()


async def test_the_vendors_own_client_is_answered_as_by_the_vendor(
    vendor: LoopbackTranscription, client: openai.AsyncOpenAI
) -> None:
    ask = client.audio.transcriptions.create
    whole = await ask(file=wav("alpha", "bravo"), model="gpt-4o-transcribe", language="en", prompt="Words.")
    assert whole.text == "alpha bravo"
    assert whole.usage is not None
    assert whole.usage.type == "tokens"
    stream = await ask(file=wav("alpha", "bravo"), model="gpt-transcribe", stream=True, keywords=["alpha"])
    events = [event async for event in stream]
    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    verbose = await ask(file=wav("golf"), model="whisper-1", response_format="verbose_json")
    assert verbose.text == "golf"
    assert verbose.segments is not None
    assert verbose.segments[0].no_speech_prob < 0.5
    assert (await client.models.retrieve("gpt-transcribe")).id == "gpt-transcribe"
    assert vendor.heard == ["alpha bravo", "alpha bravo", "golf"]


async def test_what_the_vendor_would_refuse_is_refused(
    vendor: LoopbackTranscription, client: openai.AsyncOpenAI
) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.audio.transcriptions.create(file=wav("golf"), model="gpt-live-transcribe")
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-none")
    with pytest.raises(openai.BadRequestError, match="too short"):
        await client.audio.transcriptions.create(file=wav(), model="gpt-transcribe")
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="sk-another").audio.transcriptions.create(file=wav("golf"), model="whisper-1")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"model": "gpt-transcribe", "keyterms": "x"}, "unknown field 'keyterms'"),
        ({"model": "gpt-4o-transcribe", "response_format": "verbose_json"}, "response_format"),
        ({"model": "whisper-1", "keywords[]": "x"}, "keywords"),
        ({"model": "gpt-4o-transcribe-diarize", "prompt": "x"}, "prompt"),
        ({"model": "whisper-1", "language": "en-US"}, "ISO-639-1"),
    ],
)
async def test_a_form_that_is_wrong_breaks_the_stage(fields: dict[str, str], says: str) -> None:
    form = aiohttp.FormData(fields)
    form.add_field("file", wav("golf")[1], filename="call.wav")
    vendor = LoopbackTranscription(understood)
    async with aiohttp.ClientSession() as http, breaking(vendor, says):
        url, headers = vendor.stage.http + TRANSCRIPTIONS, {"Authorization": "Bearer x"}
        async with http.post(url, data=form, headers=headers) as response:
            assert response.status == 400


@asynccontextmanager
async def breaking(vendor: LoopbackTranscription, says: str) -> AsyncIterator[None]:
    """Leaving the vendor must say what was wrong."""
    await vendor.__aenter__()
    yield
    with pytest.raises(ScriptBroken, match=says):
        await vendor.__aexit__(None)


@pytest.mark.parametrize(("line", "kind"), [(MULAW_8K, "audio/pcmu"), (PCM_24K, "audio/pcm")])
@pytest.mark.parametrize("model", ["gpt-transcribe", "gpt-live-transcribe"])
async def test_a_live_session_with_the_vendors_own_client(
    client: openai.AsyncOpenAI, vendor: LoopbackTranscription, line: AudioFormat, kind: str, model: str
) -> None:
    finds_pauses = model == "gpt-transcribe"
    form: Any = {"type": kind, "rate": 24000} if kind == "audio/pcm" else {"type": kind}
    vad: Any = {"type": "server_vad", "silence_duration_ms": 300} if finds_pauses else None
    heard: Any = {"format": form, "transcription": {"model": model}, "turn_detection": vad}
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as session:
        await session.session.update(session={"type": "transcription", "audio": {"input": heard}})
        sound = line.quiet(500) + speech("alpha", "bravo", line=line) + line.quiet(500)
        step = line.bytes_for(100)
        for at in range(0, len(sound), step):
            await session.input_audio_buffer.append(audio=b64encode(sound[at : at + step]).decode())
        if not finds_pauses:
            await session.input_audio_buffer.commit()
        kinds, words = [], ""
        async for event in session:
            kinds.append(event.type.removeprefix("conversation.item.input_audio_transcription."))
            if event.type.endswith("transcription.delta"):
                words += event.delta  # type: ignore[union-attr,operator]
            if event.type == "conversation.item.input_audio_transcription.completed":
                assert event.transcript == "alpha bravo"
                assert event.usage.type == ("tokens" if finds_pauses else "duration")
                break
    assert words == "alpha bravo"
    assert kinds[:2] == ["session.created", "session.updated"]
    assert ("input_audio_buffer.speech_started" in kinds) == finds_pauses
    assert (kinds.index("delta") < kinds.index("input_audio_buffer.committed")) == (not finds_pauses)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"transcription": {"model": "gpt-live-transcribe"}, "turn_detection": {"type": "server_vad"}}, "Turn detection"),
        ({"transcription": {"model": "gpt-realtime-whisper", "prompt": "x"}, "turn_detection": None}, "Prompt"),
        ({"transcription": {"model": "whisper-1"}, "turn_detection": {"type": "semantic_vad", "threshold": 1}}, "Unknown"),
        ({"transcription": {"model": "whisper-1"}, "silence": 3}, "Unknown parameter"),
    ],
)  # fmt: skip
async def test_settings_that_the_vendor_refuses_break_the_stage(settings: dict[str, Any], says: str) -> None:
    vendor = LoopbackTranscription(understood)
    async with aiohttp.ClientSession() as http, breaking(vendor, says):
        url, headers = f"{vendor.stage.ws}/v1/realtime?intent=transcription", {"Authorization": "Bearer x"}
        async with http.ws_connect(url, headers=headers) as socket:
            session = {"type": "transcription", "audio": {"input": settings}}
            await socket.send_json({"type": "session.update", "session": session})
            events = [await socket.receive_json(), await socket.receive_json()]
            assert [event["type"] for event in events] == ["session.created", "error"]


async def test_a_commit_without_sound_is_refused_and_the_session_goes_on(vendor: LoopbackTranscription) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession() as http:
        url = f"{vendor.stage.ws}/v1/realtime?intent=transcription"
        async with http.ws_connect(url, headers=headers) as socket:
            await socket.receive_json()
            await socket.send_json({"type": "input_audio_buffer.commit"})
            assert (await socket.receive_json())["error"]["code"] == "input_audio_buffer_commit_empty"
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await http.ws_connect(url, headers={"Authorization": "Bearer another"})
