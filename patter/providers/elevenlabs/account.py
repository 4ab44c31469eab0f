"""What an ElevenLabs account tells over REST: which voices it has, and the way in to one of its agents.

It owns the account's voice list (kept for some minutes) and the signed address of a conversation; it refuses to know what
is spoken. Voices are looked up by name in the account itself, because the vendor retires its default ones.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote
from weakref import WeakKeyDictionary

import aiohttp
import anyio
from yarl import URL

from patter.exceptions import ProviderError
from patter.providers.address import checked_base, is_loopback
from patter.providers.vendor import Vendor
from patter.providers.vendor_http import VendorRequest, sent

ELEVENLABS = Vendor("elevenlabs", "ElevenLabs", "ELEVENLABS_API_KEY")
BASE = "https://api.elevenlabs.io"
"""The usual address; regions and data residency have others: `https://api.us.elevenlabs.io`, …"""

VOICES_KEPT_S = 300.0  # a voice that was just added is found within that time
VOICES_SHOWN = 8
LIST_LIMIT = 8 * 1024 * 1024  # bytes; an entry with all its labels and samples is a few kB
TICKET_LIMIT = 64 * 1024
RACHEL_ENDED = "2026-02-28"
DEFAULTS_END = "2026-12-31"

_ID = re.compile(r"[A-Za-z0-9]{20}")
Stage = Literal["stt", "llm", "tts"]


@dataclass(slots=True)
class _Voices:
    """The voices of one account: (name, id) in the vendor's order."""

    fresh_until: float = 0.0
    entries: list[tuple[str, str]] = field(default_factory=list)
    lock: anyio.Lock = field(default_factory=anyio.Lock)


_KNOWN: WeakKeyDictionary[aiohttp.ClientSession, dict[tuple[str, str], _Voices]] = WeakKeyDictionary()


def base_of(base_url: str) -> str:
    """The vendor's address without a closing slash, `base_url` or the usual one. Raises ValueError."""
    return checked_base(base_url, "base_url") if base_url else BASE


def headers_of(key: str) -> dict[str, str]:
    """What every request carries."""
    return {"xi-api-key": key} if key else {}


def is_voice_id(name: str) -> bool:
    """Whether `name` looks like a voice's id: 20 letters and digits."""
    return _ID.fullmatch(name) is not None


async def resolve_voice(
    http: aiohttp.ClientSession, key: str, base_url: str, name: str, *, stage: Stage = "tts"
) -> str:
    """The id of the voice that the account calls `name`, in any case ("Sarah" also finds "Sarah - Confident").

    An id is given back as it is, without asking. Raises ProviderError for a name that the account does not have, and when
    the list cannot be read; ValueError for a `base_url` that cannot be used."""
    name = name.strip()
    if is_voice_id(name):
        return name
    entries = await _voices(http, key, base_of(base_url), stage)
    wanted = name.casefold()
    for spelling in (str.casefold, _short):
        for known, voice_id in entries:
            if spelling(known) == wanted or spelling(known) == spelling(name):
                return voice_id
    raise _unknown(name, [known for known, _ in entries], stage)


async def signed_url(http: aiohttp.ClientSession, key: str, base_url: str, agent_id: str) -> str:
    """The address of one conversation with the agent: to be opened within 15 minutes, once. Raises ProviderError."""
    base = base_of(base_url)
    request = VendorRequest(
        ELEVENLABS,
        "llm",
        "GET",
        f"{base}/v1/convai/conversation/get-signed-url?agent_id={quote(agent_id, safe='')}",
        headers_of(key),
        what=f"the agent {agent_id}",
    )
    data = await _read(http, request, TICKET_LIMIT)
    url = data.get("signed_url") if isinstance(data, dict) else None
    if not isinstance(url, str) or not _usable(url, base):
        raise ELEVENLABS.garbled("llm", "no address of a conversation")
    return url


def _usable(url: str, base: str) -> bool:
    """Whether a conversation may go to `url`: encrypted, or all of it on this machine."""
    try:
        scheme = URL(url).scheme
    except ValueError:
        return False
    return scheme == "wss" or (scheme == "ws" and is_loopback(url) and is_loopback(base))


async def _voices(http: aiohttp.ClientSession, key: str, base: str, stage: Stage) -> list[tuple[str, str]]:
    voices = _KNOWN.setdefault(http, {}).setdefault((base, key), _Voices())
    async with voices.lock:  # calls that begin together ask once
        if time.monotonic() >= voices.fresh_until:
            voices.entries = await _listed(http, key, base, stage)
            voices.fresh_until = time.monotonic() + VOICES_KEPT_S
    return voices.entries


async def _listed(http: aiohttp.ClientSession, key: str, base: str, stage: Stage) -> list[tuple[str, str]]:
    request = VendorRequest(ELEVENLABS, stage, "GET", f"{base}/v1/voices", headers_of(key), what="the list of voices")
    try:
        data = await _read(http, request, LIST_LIMIT)
    except ProviderError as error:
        if error.code != "missing_permissions":
            raise
        fix = "let the key read voices, or give the voice's id instead of its name"
        raise ProviderError(
            error.problem, provider=error.provider, stage=stage, fix=fix, status=error.status, code=error.code
        ) from None
    rows = data.get("voices") if isinstance(data, dict) else None
    if not isinstance(rows, list):
        raise ELEVENLABS.garbled(stage, "no list of voices")
    return [
        (row["name"], row["voice_id"])
        for row in rows
        if isinstance(row, dict) and isinstance(row.get("name"), str) and isinstance(row.get("voice_id"), str)
    ]


async def _read(http: aiohttp.ClientSession, request: VendorRequest, limit: int) -> Any:
    async with sent(http, request) as reply:
        body = bytearray()
        async for piece in reply.response.content.iter_any():
            body += piece
            if len(body) > limit:
                raise request.vendor.garbled(request.stage, f"more than {limit} bytes")
    try:
        return json.loads(body)
    except ValueError:
        raise request.vendor.garbled(request.stage, "no JSON") from None


def _short(name: str) -> str:
    """ "Rachel - calm, narration" → "rachel"; voices are listed with what they are good for."""
    return name.partition(" - ")[0].partition(" (")[0].strip().casefold()


def _unknown(name: str, known: list[str], stage: Stage) -> ProviderError:
    retired = (
        f"Rachel was to be retired on {RACHEL_ENDED}"
        if _short(name) == "rachel"
        else f"it may have been retired (all default voices end on {DEFAULTS_END})"
    )
    have = ", ".join(known[:VOICES_SHOWN]) + (", …" if len(known) > VOICES_SHOWN else "")
    return ProviderError(
        f"the account has no voice called {name!r}: {retired}",
        provider=ELEVENLABS.name,
        stage=stage,
        fix=f"choose one that it has ({have}), or give a voice's id" if known else "add a voice to it, or give an id",
        status=404,
        code="voice_not_found",
    )
