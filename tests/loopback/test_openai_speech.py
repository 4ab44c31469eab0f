"""The played OpenAI speech: the vendor's own client understands it, and its refusals are the vendor's."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from patter.audio.format import PCM_24K
from patter.loopback.openai_speech import LoopbackOpenAISpeech, usage_of
from patter.loopback.stage_script import ScriptBroken
from patter.loopback.tones import as_line, hum
from patter.wire.openai_speech import Done, EventReader, Sound

pytestmark = pytest.mark.anyio

TEXT = "Your taxi is booked for six."


def client_of(vendor: LoopbackOpenAISpeech, key: str = "k") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=vendor.base_url, api_key=key, max_retries=0)


@pytest.mark.parametrize("model", ["gpt-4o-mini-tts", "tts-1"])
async def test_the_vendors_own_client_gets_the_bytes(model: str) -> None:
    async with LoopbackOpenAISpeech(key="k", ragged=True) as vendor, client_of(vendor) as client:
        async with client.audio.speech.with_streaming_response.create(
            model=model, voice="coral", input=TEXT, response_format="pcm"
        ) as answer:
            assert b"".join([data async for data in answer.iter_bytes()]) == as_line(hum(TEXT), PCM_24K)
        assert "tts-1" in [listed.id async for listed in client.models.list()]


async def test_the_vendors_own_client_gets_the_events() -> None:
    async with LoopbackOpenAISpeech() as vendor, client_of(vendor) as client:
        async with client.audio.speech.with_streaming_response.create(
            model="gpt-4o-mini-tts", voice="marin", input=TEXT, response_format="pcm", stream_format="sse"
        ) as answer:
            body = b"".join([data async for data in answer.iter_bytes()])
        assert [json.loads(line[5:])["type"] for line in body.splitlines() if line][-1] == "speech.audio.done"
        *sounds, done = EventReader().feed(body)
        whole = as_line(hum(TEXT), PCM_24K)
        assert b"".join(event.data for event in sounds if isinstance(event, Sound)) == whole
        usage = usage_of(TEXT, whole)
        assert done == Done(usage["input_tokens"], usage["output_tokens"])


@pytest.mark.parametrize(
    ("values", "kind", "code"),
    [
        ({"model": "tts-9"}, openai.NotFoundError, "model_not_found"),
        ({"input": "x" * 4097}, openai.BadRequestError, "string_above_max_length"),
        ({"voice": "rachel"}, openai.BadRequestError, "invalid_value"),
        ({"model": "tts-1", "voice": "marin"}, openai.BadRequestError, "invalid_value"),
        ({"model": "tts-1", "stream_format": "sse"}, openai.BadRequestError, "unsupported_value"),
        ({"response_format": "mp3"}, openai.BadRequestError, "unsupported_value"),
    ],
)
async def test_refusals_are_the_vendors(values: dict[str, Any], kind: type[openai.APIStatusError], code: str) -> None:
    asked: dict[str, Any] = {"model": "gpt-4o-mini-tts", "voice": "coral", "input": TEXT, "response_format": "pcm"}
    async with LoopbackOpenAISpeech() as vendor, client_of(vendor) as client:
        with pytest.raises(kind) as caught:
            await client.audio.speech.create(**(asked | values))
        assert caught.value.code == code


async def test_a_wrong_key_is_refused() -> None:
    async with LoopbackOpenAISpeech(key="k") as vendor, client_of(vendor, "x") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_what_the_vendor_would_ignore_breaks_the_stage() -> None:
    with pytest.raises(ScriptBroken, match="does not know: volume"):
        async with LoopbackOpenAISpeech() as vendor, client_of(vendor) as client:
            await client.audio.speech.create(
                model="tts-1", voice="coral", input=TEXT, response_format="pcm", extra_body={"volume": 2}
            )
    with pytest.raises(ScriptBroken, match="ignores instructions"):
        async with LoopbackOpenAISpeech() as vendor, client_of(vendor) as client:
            await client.audio.speech.create(
                model="tts-1", voice="coral", input=TEXT, response_format="pcm", instructions="calm"
            )
