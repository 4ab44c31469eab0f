"""The played ElevenLabs voices: the vendor's own client understands them, and what the vendor would refuse breaks the stage."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anyio
import httpx
import pytest
from elevenlabs.client import AsyncElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.types.audio_output_multi import AudioOutputMulti
from elevenlabs.types.final_output_multi import FinalOutputMulti
from elevenlabs.types.voice_settings import VoiceSettings

from patter.audio.format import MULAW_8K, PCM_16K
from patter.loopback.elevenlabs_tts import SARAH, LoopbackElevenLabsTTS, credits_of
from patter.loopback.stage_script import ScriptBroken
from patter.loopback.tones import as_line, hum
from patter.wire.elevenlabs_tts import KEEP_ALIVE, Manner, Said, read, sound_of

# ruff: noqa: PT012 -- leaving the stage is what raises, so the stage stands inside

pytestmark = pytest.mark.anyio

TEXT = "Your taxi is booked for six."
HEADERS = {"xi-api-key": "k"}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    with anyio.fail_after(30):
        async with aclient() as made:
            yield made


def aclient() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers=HEADERS)


async def test_the_vendors_own_client_understands_it() -> None:
    async with LoopbackElevenLabsTTS(key="k", ragged=True) as vendor, httpx.AsyncClient() as transport:
        client = AsyncElevenLabs(api_key="k", base_url=vendor.base_url, httpx_client=transport)
        pieces = client.text_to_speech.stream(
            SARAH,
            text=TEXT,
            model_id="eleven_flash_v2_5",
            output_format="ulaw_8000",
            voice_settings=VoiceSettings(stability=0.5),
        )
        assert b"".join([piece async for piece in pieces]) == as_line(hum(TEXT), MULAW_8K)
        assert [voice.voice_id for voice in (await client.voices.get_all()).voices] == list(vendor.voices.values())
        assert "eleven_flash_v2_5" in [model.model_id for model in await client.models.list()]
        stranger = AsyncElevenLabs(api_key="x", base_url=vendor.base_url, httpx_client=transport)
        with pytest.raises(ApiError) as caught:
            await stranger.voices.get_all()
        assert caught.value.status_code == 401
        assert vendor.spoken == [TEXT]


@pytest.mark.parametrize(
    ("voice", "body", "query", "status", "code"),
    [
        ("nobody", {}, "ulaw_8000", 404, "voice_not_found"),
        (SARAH, {"model_id": "eleven_x"}, "ulaw_8000", 400, "model_not_found"),
        (SARAH, {}, "vinyl", 400, "invalid_output_format"),
        (SARAH, {"model_id": "eleven_v3", "text": "x" * 3001}, "ulaw_8000", 400, "max_character_limit_exceeded"),
        (
            SARAH,
            {"model_id": "eleven_multilingual_v2", "language_code": "en"},
            "ulaw_8000",
            400,
            "unsupported_language",
        ),
    ],
)
async def test_refusals_are_the_vendors(
    http: aiohttp.ClientSession, voice: str, body: dict[str, Any], query: str, status: int, code: str
) -> None:
    async with LoopbackElevenLabsTTS() as vendor:
        url = f"{vendor.base_url}/v1/text-to-speech/{voice}/stream?output_format={query}"
        async with http.post(url, json={"text": TEXT, "model_id": "eleven_flash_v2_5"} | body) as answer:
            assert answer.status == status
            assert (await answer.json())["detail"]["status"] == code
        async with http.post(url.replace(voice, SARAH), json={}) as answer:
            assert answer.status in (400, 422)


async def test_what_the_vendor_would_ignore_breaks_the_stage(http: aiohttp.ClientSession) -> None:
    with pytest.raises(ScriptBroken, match="what the vendor does not know: txt"):
        async with LoopbackElevenLabsTTS() as vendor:
            url = f"{vendor.base_url}/v1/text-to-speech/{SARAH}/stream?output_format=ulaw_8000"
            async with http.post(url, json={"text": TEXT, "model_id": "eleven_flash_v2_5", "txt": 1}) as answer:
                await answer.read()


def test_the_header_counts_credits() -> None:
    assert credits_of("eleven_flash_v2_5", "x" * 101) == 51
    assert credits_of("eleven_multilingual_v2", "x" * 101) == 101


# -------------------------------------------------------------------------------------------------------- the socket


def socket_of(vendor: LoopbackElevenLabsTTS, manner: Manner | None = None) -> str:
    return vendor.stage.ws + (manner or Manner(SARAH)).socket_path()


async def heard(ws: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    return [json.loads(message.data) async for message in ws]


async def test_contexts_speak_beside_each_other_and_end_one_by_one(http: aiohttp.ClientSession) -> None:
    manner = Manner(SARAH, format=PCM_16K)
    async with LoopbackElevenLabsTTS(between_s=0.002) as vendor:
        async with http.ws_connect(socket_of(vendor, manner)) as ws:
            for message in (*manner.sentence("a", TEXT), *manner.sentence("b", "Yes."), KEEP_ALIVE):
                await ws.send_str(message)
            await ws.send_json({"text": " ", "context_id": "c"})
            got: dict[str, bytes] = {}
            ended: list[str] = []
            while len(ended) < 2:
                text = (await ws.receive()).data
                message = json.loads(text)
                (FinalOutputMulti if "isFinal" in message else AudioOutputMulti).model_validate(message)
                said = read(text)
                assert isinstance(said, Said)
                got[said.context] = got.get(said.context, b"") + sound_of(said.audio)
                ended += [said.context] if said.final else []
            assert got == {"a": as_line(hum(TEXT), PCM_16K), "b": as_line(hum("Yes."), PCM_16K)}
            assert ended == ["b", "a"]
            await ws.send_json({"close_socket": True})
            assert await heard(ws) == []
            assert ws.close_code == 1000
        assert vendor.kept_alive == 1


async def test_text_that_was_not_flushed_is_not_said(http: aiohttp.ClientSession) -> None:
    async with LoopbackElevenLabsTTS() as vendor:
        async with http.ws_connect(socket_of(vendor)) as ws:
            for message in (
                {"text": " ", "context_id": "a"},
                {"text": "Never said. ", "context_id": "a"},
                {"context_id": "a", "close_context": True},
            ):
                await ws.send_json(message)
            assert read((await ws.receive()).data) == Said("a", final=True)
        assert vendor.spoken == []


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        (Manner("nobody").socket_path(), HEADERS, "voice_not_found"),
        (Manner(SARAH, "eleven_v3").socket_path(), HEADERS, "model_not_supported"),
        (Manner(SARAH).socket_path(), {"xi-api-key": "x"}, "invalid_api_key"),
        (Manner(SARAH).socket_path(), {"xi-api-key": ""}, "needs_authorization"),
        (Manner(SARAH, options={"inactivity_timeout": 0.05}).socket_path(), HEADERS, "input_timeout_exceeded"),
    ],
)
async def test_the_socket_says_why_it_is_closed(
    http: aiohttp.ClientSession, path: str, headers: dict[str, str], code: str
) -> None:
    async with (
        LoopbackElevenLabsTTS(key="k") as vendor,
        http.ws_connect(vendor.stage.ws + path, headers=headers) as ws,
    ):
        (fault,) = await heard(ws)
        assert (fault["error"], fault["code"], ws.close_code) == (code, 1008, 1008)


async def test_a_sixth_context_closes_the_socket(http: aiohttp.ClientSession) -> None:
    async with LoopbackElevenLabsTTS() as vendor, http.ws_connect(socket_of(vendor)) as ws:
        for name in "abcdef":
            await ws.send_json({"text": " ", "context_id": name})
        (fault,) = await heard(ws)
        assert (fault["error"], ws.close_code) == ("max_active_conversations", 1008)


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([{"text": "Hi ", "context_id": "a"}], "must have one space"),
        ([{"text": " ", "context_id": "a"}, {"text": "Hi", "context_id": "a", "flush": True}], "must end with a space"),
        ([{"text": " ", "context_id": "a", "flsh": True}], "does not know: flsh"),
        ([{"text": "Hi "}], "without context_id"),
        (["hello"], "takes JSON objects"),
        ([{"text": " ", "context_id": "a", "voice_settings": {"volume": 1}}], "does not know: volume"),
    ],
)
async def test_messages_that_the_vendor_would_misread_break_the_stage(
    http: aiohttp.ClientSession, messages: list[Any], says: str
) -> None:
    with pytest.raises(ScriptBroken, match=says):
        async with LoopbackElevenLabsTTS() as vendor, http.ws_connect(socket_of(vendor)) as ws:
            for message in messages:
                await (ws.send_json(message) if isinstance(message, dict) else ws.send_str(message))
            await ws.send_json({"close_socket": True})
            await heard(ws)
