"""All vendors on one stage for tests, quick and deterministic: words are tones, and a brain that each test is given.

It owns the house, and agents and keys that lead there; it refuses to know what is asked and answered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from patter.audio.format import PCM_24K
from patter.builders import Keys
from patter.loopback.openai_chat_living import Call, Messages, Tools, text_of
from patter.loopback.stage import Stage
from patter.models import RealtimeConfig, STTConfig, TTSConfig
from patter.vendors.house import NO_DELAYS, Delays, VendorHouse
from patter.vendors.senses import Senses
from tests.support.tone_speech import WORDS, speech, understood

ENGINES: Mapping[str, Mapping[str, Any]] = {
    "openai_realtime": {"provider": "openai_realtime", "realtime": RealtimeConfig(silence_ms=300)},
    "elevenlabs_convai": {"provider": "elevenlabs_convai", "agent_id": "agent_of_the_house"},
    "pipeline": {
        "provider": "pipeline",
        "stt": STTConfig("deepgram", "", model="flux-general-en"),
        "tts": TTSConfig("elevenlabs", "", voice="george"),
    },
}
"""Arguments of `Patter.agent` for each engine, with vendors of the house."""

Think = Callable[[str, Mapping[str, str]], "str | Call | Sequence[str | Call]"]
"""(the caller's last words, results of the tools since by name) → words, a tool call, or both in order."""


async def tones(pcm_16k: bytes) -> str:
    """The words of `tone_speech`."""
    return understood(pcm_16k)


async def toned(text: str) -> bytes:
    """The words of `tone_speech` in a text, as tones."""
    words = (word.strip(".,!?").lower() for word in text.split())
    return speech(*(word for word in words if word in WORDS), line=PCM_24K)


TONES = Senses(tones, toned, "hears tones", "speaks in tones")


class Mind:
    """A brain whose answers are a function, and everything it was asked."""

    def __init__(self, think: Think) -> None:
        self._think = think
        self.asked: list[list[tuple[str, str]]] = []
        """(role, words) of every conversation it was asked with."""
        self.offered: list[list[str]] = []
        """The names of the tools that it was offered each time."""

    async def answer(self, messages: Messages, tools: Tools) -> AsyncIterator[str | Call]:
        """See `openai_chat_living.Answer`."""
        self.asked.append([(message["role"], text_of(message.get("content"))) for message in messages])
        self.offered.append([str(tool["name"]) for tool in tools])
        said, results, names = "", dict[str, str](), dict[str, str]()
        for message in messages:
            if message["role"] == "user":
                said, results = text_of(message["content"]), {}
            names |= {call["id"]: call["function"]["name"] for call in message.get("tool_calls") or ()}
            if message["role"] == "tool":
                results[names[message["tool_call_id"]]] = text_of(message["content"])
        pieces = self._think(said, results)
        for piece in [pieces] if isinstance(pieces, str | Call) else pieces:
            yield piece


@asynccontextmanager
async def vendor_house(
    mind: Mind, *, tools: Tools = (), delays: Delays = NO_DELAYS, senses: Senses = TONES
) -> AsyncIterator[VendorHouse]:
    """The house, up. Leaving it raises ScriptBroken if a client did what a vendor would not have taken."""
    async with Stage() as stage:
        yield VendorHouse(stage, senses, mind.answer, tools=tools, delays=delays)


def keys_of(house: VendorHouse) -> Keys:
    """Keys and addresses that lead to the house."""
    return Keys(**settings_of(house, "{}", "{}_url"))


def patter_of(house: VendorHouse) -> dict[str, Any]:
    """The same as arguments of `Patter`."""
    return settings_of(house, "{}_key", "{}_url")


def settings_of(house: VendorHouse, key: str, url: str) -> dict[str, str]:
    """Keys and addresses under those names."""
    told = house.environment()
    vendors = ("openai", "deepgram", "elevenlabs")
    keys = {key.format(vendor): told[f"{vendor.upper()}_API_KEY"] for vendor in vendors}
    return keys | {url.format(vendor): told[f"{vendor.upper()}_BASE_URL"] for vendor in vendors}
