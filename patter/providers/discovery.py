"""Finds servers on this machine that speak OpenAI's protocol, so that an agent has a model without any setting.

It owns where to look and how to be sure; it refuses to decide which of them an agent uses.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import anyio

from patter.wire.openai_chat import model_names

USUAL = (
    ("Ollama", "http://127.0.0.1:11434/v1"),
    ("llama.cpp", "http://127.0.0.1:8080/v1"),
    ("vLLM", "http://127.0.0.1:8000/v1"),
)
"""Where such servers listen unless told otherwise."""

PROBE_S = 1.0  # on loopback a server answers in milliseconds; a busy one gets a second
REPLY_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """A server that answered as it should. `models` may be empty: it runs, but has none loaded."""

    name: str
    base_url: str
    models: tuple[str, ...]


async def find_servers(session: aiohttp.ClientSession, places: Sequence[tuple[str, str]] = USUAL) -> list[Found]:
    """The servers that listen at `places` (name, base_url), in that order; asked all at once, at most about a second."""
    found: dict[int, Found] = {}

    async def look(position: int, name: str, base_url: str) -> None:
        models = await _models(session, base_url)
        if models is not None:
            found[position] = Found(name, base_url, tuple(models))

    async with anyio.create_task_group() as tasks:
        for position, (name, base_url) in enumerate(places):
            tasks.start_soon(look, position, name, base_url)
    return [found[position] for position in sorted(found)]


async def _models(session: aiohttp.ClientSession, base_url: str) -> list[str] | None:
    """The models listed there, or None if that is no such server."""
    timeout = aiohttp.ClientTimeout(total=PROBE_S)
    try:
        async with session.get(f"{base_url}/models", timeout=timeout, allow_redirects=False) as response:
            if response.status != 200:
                return None
            body = b""
            async for data in response.content.iter_any():
                body += data
                if len(body) > REPLY_LIMIT:
                    return None
            return model_names(json.loads(body))
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
