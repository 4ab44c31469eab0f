"""Voices by name and the way in to an agent, against a server that answers as the vendor's REST API does."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from elevenlabs.types.conversation_signed_url_response_model import ConversationSignedUrlResponseModel
from elevenlabs.types.get_voices_response import GetVoicesResponse

from patter.exceptions import ProviderError
from patter.loopback.stage import Stage
from patter.providers.elevenlabs.account import base_of, is_voice_id, resolve_voice, signed_url
from patter.providers.vendor_http import new_http

pytestmark = pytest.mark.anyio

KEY = "sk_test_0123456789abcdef"
SARAH, JANET, GEORGE = "EXAVITQu4vr4xnSDxMaL", "j4n3tj4n3tj4n3tj4n3t", "JBFqnCBsd6RMkjVDRZzb"
VOICES = [("Sarah - Mature, reassuring", SARAH), ("Janet", JANET), ("George (warm)", GEORGE)]


class Vendor:
    """Two routes of the REST API, counting how often they are asked."""

    def __init__(self, voices: list[tuple[str, str]]) -> None:
        self.voices = voices
        self.asked = 0
        self.refusal: tuple[int, Any] | None = None
        self.url = "wss://api.elevenlabs.io/v1/convai/conversation?agent_id=agent_1&conversation_signature=s"
        self.base = ""

    async def list_voices(self, request: web.Request) -> web.Response:
        self.asked += 1
        await anyio.sleep(0.01)
        rows = [{"voice_id": voice_id, "name": name, "category": "premade"} for name, voice_id in self.voices]
        GetVoicesResponse.model_validate({"voices": rows})
        return self._answer(request, {"voices": [*rows, {"voice_id": None}, 7]})

    async def sign(self, request: web.Request) -> web.Response:
        if request.query["agent_id"] != "agent_1":
            return web.json_response({"detail": {"status": "agent_not_found", "message": "No such agent"}}, status=404)
        body = {"signed_url": self.url}
        if isinstance(self.url, str):
            ConversationSignedUrlResponseModel.model_validate(body)
        return self._answer(request, body)

    def _answer(self, request: web.Request, body: Any) -> web.Response:
        if request.headers.get("xi-api-key") != KEY:
            detail = {"status": "invalid_api_key", "message": f"Invalid API key {request.headers.get('xi-api-key')}"}
            return web.json_response({"detail": detail}, status=401)
        if self.refusal is not None:
            return web.json_response(self.refusal[1], status=self.refusal[0])
        return web.json_response(body)


@asynccontextmanager
async def standing(voices: list[tuple[str, str]] = VOICES) -> AsyncIterator[tuple[Vendor, ClientSession]]:
    vendor, app = Vendor(voices), web.Application()
    app.router.add_get("/v1/voices", vendor.list_voices)
    app.router.add_get("/v1/convai/conversation/get-signed-url", vendor.sign)
    async with TestServer(app) as server, new_http() as http:
        vendor.base = str(server.make_url("/"))
        yield vendor, http


@pytest.mark.parametrize(
    ("name", "voice_id"),
    [
        ("Janet", JANET),
        ("  jANET ", JANET),
        ("sarah", SARAH),
        ("Sarah - Mature, reassuring", SARAH),
        ("Sarah - of another year", SARAH),
        ("george", GEORGE),
        (GEORGE, GEORGE),
    ],
)
async def test_a_voice_is_found_by_the_name_that_people_know(name: str, voice_id: str) -> None:
    async with standing() as (vendor, http):
        assert await resolve_voice(http, KEY, vendor.base, name) == voice_id
        assert vendor.asked == (0 if is_voice_id(name) else 1)


async def test_the_exact_name_goes_before_the_short_one() -> None:
    async with standing([("Sarah - Mature", SARAH), ("Sarah", JANET)]) as (vendor, http):
        assert await resolve_voice(http, KEY, vendor.base, "sarah") == JANET


async def test_calls_that_begin_together_ask_once_and_another_account_again() -> None:
    async with standing() as (vendor, http):
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(resolve_voice, http, KEY, vendor.base, "janet")
        assert vendor.asked == 1
        with pytest.raises(ProviderError):
            await resolve_voice(http, "sk_another_account", vendor.base, "janet")
        assert vendor.asked == 2


async def test_a_retired_voice_is_refused_with_the_voices_that_there_are() -> None:
    async with standing([(f"Voice {n}", f"{n:020d}") for n in range(12)]) as (vendor, http):
        with pytest.raises(ProviderError) as rachel:
            await resolve_voice(http, KEY, vendor.base, "rachel")
        with pytest.raises(ProviderError) as other:
            await resolve_voice(http, KEY, vendor.base, "Domi")
    assert "'rachel'" in rachel.value.problem
    assert "2026-02-28" in rachel.value.problem
    assert "2026-12-31" in other.value.problem
    assert "Voice 7" in other.value.fix
    assert "Voice 8" not in other.value.fix
    assert other.value.code == "voice_not_found"
    assert not other.value.retryable


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, {"detail": {"status": "missing_permissions", "message": "voices_read"}}, "let the key read voices"),
        (200, {"voices": None}, "cannot be read"),
        (200, "hello", "cannot be read"),
        (402, {"detail": {"code": "paid_plan_required", "message": "not in your plan"}}, "plan"),
    ],
)
async def test_a_list_that_cannot_be_read_says_why(status: int, body: Any, says: str) -> None:
    async with standing() as (vendor, http):
        vendor.refusal = (status, body)
        with pytest.raises(ProviderError) as refused:
            await resolve_voice(http, KEY, vendor.base, "janet")
    assert says in str(refused.value)


async def test_a_conversation_gets_a_signed_address() -> None:
    async with standing() as (vendor, http):
        assert await signed_url(http, KEY, vendor.base, "agent_1") == vendor.url


async def test_an_unknown_agent_and_a_wrong_key_are_told_apart_and_the_key_is_not_repeated() -> None:
    async with standing() as (vendor, http):
        with pytest.raises(ProviderError) as unknown:
            await signed_url(http, KEY, vendor.base, "agent_2")
        with pytest.raises(ProviderError) as wrong:
            await signed_url(http, "sk_wrong_0123456789", vendor.base, "agent_1")
    assert "agent_2" in unknown.value.problem
    assert unknown.value.status == 404
    assert "ELEVENLABS_API_KEY" in wrong.value.fix
    assert "sk_wrong" not in str(wrong.value)


@pytest.mark.parametrize("url", ["ws://api.elevenlabs.io/x", "https://api.elevenlabs.io", "", None, 5, "wss//x["])
async def test_an_address_that_would_not_be_encrypted_is_not_used(url: Any) -> None:
    async with standing() as (vendor, http):
        vendor.url = url
        with pytest.raises(ProviderError, match="cannot be read"):
            await signed_url(http, KEY, vendor.base, "agent_1")


async def test_a_certificate_that_cannot_be_trusted_is_told(self_signed: ssl.SSLContext) -> None:
    async with Stage(tls=self_signed) as stage, new_http() as http:
        with pytest.raises(ProviderError, match="TLS"):
            await signed_url(http, KEY, stage.http, "agent_1")


def test_regions_have_their_own_address() -> None:
    assert base_of("") == "https://api.elevenlabs.io"
    assert base_of("https://api.eu.residency.elevenlabs.io/") == "https://api.eu.residency.elevenlabs.io"
    with pytest.raises(ValueError, match="unencrypted"):
        base_of("http://api.eu.residency.elevenlabs.io")
