"""Model servers on this machine are found, and other servers are not taken for one."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web

from patter.loopback.openai_chat import LoopbackChat
from patter.loopback.stage_http import Answer, Visit
from patter.providers.discovery import Found, find_servers

pytestmark = pytest.mark.anyio


async def test_servers_are_found_in_order_with_their_models() -> None:
    async with (
        LoopbackChat(models=["a", "b"]) as one,
        LoopbackChat(models=[]) as two,
        aiohttp.ClientSession() as session,
    ):
        places = [("Ollama", one.base_url), ("nobody", "http://127.0.0.1:1/v1"), ("vLLM", two.base_url)]
        assert await find_servers(session, places) == [
            Found("Ollama", one.base_url, ("a", "b")),
            Found("vLLM", two.base_url, ()),
        ]


async def test_another_kind_of_server_is_no_model_server() -> None:
    async def missing(visit: Visit) -> web.StreamResponse:
        return await visit.answer(Answer(404))

    async with LoopbackChat(models=None) as other, aiohttp.ClientSession() as session:
        other.stage.route("GET", "/v1/nothing/models", missing)
        places = [("llama.cpp", other.base_url), ("wrong path", other.base_url + "/nothing")]
        assert await find_servers(session, places) == []
