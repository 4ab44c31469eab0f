"""What an OpenAI account tells over REST: whether its key is good and a model is there.

It owns that one question; it refuses to know what the model is used for.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

import aiohttp

from patter.exceptions import ProviderError
from patter.providers.address import checked_base
from patter.providers.vendor import Vendor
from patter.providers.vendor_http import VendorRequest, sent

OPENAI = Vendor("openai", "OpenAI", "OPENAI_API_KEY")
BASE = "https://api.openai.com/v1"
VOUCH_S = 4.0  # somebody waits for the call to be placed


async def vouch(
    http: aiohttp.ClientSession, key: str, base_url: str, model: str, stage: Literal["stt", "llm", "tts"]
) -> None:
    """Ask for the model by name. Raises ProviderError for a refused key (401) or an unknown model (404); any other answer
    says nothing for certain: keys may be forbidden to look models up, and compatible servers need not know this address."""
    base = checked_base(base_url, "base_url") if base_url else BASE
    request = VendorRequest(
        OPENAI,
        stage,
        "GET",
        f"{base}/models/{quote(model, safe='')}",
        {"Authorization": f"Bearer {key}"},
        attempts=1,
        silence_s=VOUCH_S,
        what=f"the model {model!r}",
    )
    try:
        async with sent(http, request) as reply:
            await reply.response.read()
    except ProviderError as error:
        if error.status == 401 or (error.status == 404 and error.code == "model_not_found"):
            raise
