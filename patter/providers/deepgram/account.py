"""Where Deepgram is and who asks: the address, the key, and its refusals and goodbyes in plain words.

It owns those; it refuses to know what is heard.
"""

from __future__ import annotations

import re

import aiohttp

from patter.exceptions import ProviderError
from patter.providers.address import as_socket, checked_base
from patter.providers.dialer import Target
from patter.providers.vendor import Vendor
from patter.providers.vendor_http import VendorRequest, sent
from patter.wire.deepgram import end_of

DEEPGRAM = Vendor("deepgram", "Deepgram", "DEEPGRAM_API_KEY")
BASE = "https://api.deepgram.com"
"""The usual address; `https://api.eu.deepgram.com` keeps data in Europe, and self-hosted servers have their own."""

WARM_S = 8.0
"""How long a socket may wait for its call: the vendor closes one that has had no audio for ten seconds."""

_VERSION = re.compile(r"/v[12](/listen)?$")


def target(base_url: str, key: str, path: str, query: str, model: str) -> Target:
    """The socket for one call. Two calls with the same settings have equal ones. Raises ValueError for a bad `base_url`."""
    base = _VERSION.sub("", checked_base(base_url or BASE, "base_url"))
    headers = (("Authorization", _authorization(key)),) if key else ()
    return Target(DEEPGRAM, "stt", f"{as_socket(base)}{path}?{query}", headers, what=f"the model {model}")


async def check_key(http: aiohttp.ClientSession, base_url: str, key: str) -> None:
    """Raise ProviderError if the vendor does not know the key; any other answer says nothing for certain."""
    base = _VERSION.sub("", checked_base(base_url or BASE, "base_url"))
    request = VendorRequest(
        DEEPGRAM,
        "stt",
        "GET",
        f"{base}/v1/auth/token",
        {"Authorization": _authorization(key)},
        attempts=1,
        silence_s=4.0,
    )
    try:
        async with sent(http, request) as reply:
            await reply.response.read()
    except ProviderError as error:
        if error.status == 401:
            raise


def _authorization(key: str) -> str:
    return f"{'Bearer' if key.startswith('eyJ') else 'Token'} {key}"  # a temporary token is a JWT


def explained(error: ProviderError, model: str) -> ProviderError:
    """`error` with what this vendor means by it."""
    problem, fix, retryable = error.problem, error.fix, error.retryable
    meaning, advice, may_pass = end_of(error.code)
    if meaning:
        problem, fix, retryable = f"{meaning} ({error.code})", advice or "try again", may_pass
    elif error.status == 403:
        problem = problem.replace("it refuses the key", f"it does not let this key use the model {model}")
        fix = f"choose another model, or ask for access in the key's project; else check {DEEPGRAM.setting}"
    elif error.status == 400:
        fix = "check the model, the language and the options of the transcription's settings"
    return ProviderError(
        problem,
        provider=error.provider,
        stage="stt",
        retryable=retryable,
        fix=fix,
        status=error.status,
        code=error.code,
        retry_after_s=error.retry_after_s,
    )
