"""The vendors' keys and addresses, and the settings of webhooks, of one `Patter` or one engine.

It owns where they are read from and that none of them is ever shown; it refuses to know what they are used for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from patter import registry
from patter.address import Reach, checked_base

VARIABLES = {
    "openai": "OPENAI_API_KEY",
    "elevenlabs": "ELEVENLABS_API_KEY",
    "deepgram": "DEEPGRAM_API_KEY",
    "openai_url": "OPENAI_BASE_URL",
    "deepgram_url": "DEEPGRAM_BASE_URL",
    "elevenlabs_url": "ELEVENLABS_BASE_URL",
    "webhook_secret": "PATTER_WEBHOOK_SECRET",
    "webhook_reach": "PATTER_WEBHOOK_REACH",
}
"""Each field's variable of the environment: the keys stand where the vendors' own tools look."""

_URLS = ("openai_url", "deepgram_url", "elevenlabs_url")


@dataclass(frozen=True)
class Keys:
    """Keys are never shown in a repr. A `…_url` is another address of the vendor: a region, a proxy, a loopback vendor
    ("" = its own).

    `webhook_secret` signs what is posted to tools' webhooks and `on_message` addresses. `webhook_reach` says which addresses
    tools' webhooks may reach: "public", "loopback", "private" or networks (see `address.Reach`).

    Raises ValueError for an address that would carry the key unencrypted, or an unknown reach."""

    openai: str = field(default="", repr=False)
    elevenlabs: str = field(default="", repr=False)
    deepgram: str = field(default="", repr=False)
    openai_url: str = ""
    deepgram_url: str = ""
    elevenlabs_url: str = ""
    webhook_secret: str = field(default="", repr=False)
    webhook_reach: str = "public"

    def __post_init__(self) -> None:
        for name in _URLS:
            if url := getattr(self, name):
                object.__setattr__(self, name, checked_base(url, name))
        Reach.of(self.webhook_reach)

    @classmethod
    def of_environment(cls) -> Keys:
        """What the environment says: see `VARIABLES`. Raises ValueError as the class does, naming the field."""
        said = {name: os.environ.get(variable, "").strip() for name, variable in VARIABLES.items()}
        return cls(**{name: value for name, value in said.items() if value})

    def of(self, provider: str) -> str:
        """The key that an STT, LLM or TTS provider uses when its own settings carry none; "" if there is none."""
        return self._field(vendor_of(provider), "")

    def url_of(self, provider: str) -> str:
        """The address that a provider uses when its own settings carry none; "" = the vendor's own."""
        return self._field(vendor_of(provider), "_url")

    def _field(self, vendor: str, suffix: Literal["", "_url"]) -> str:
        return str(getattr(self, vendor + suffix)) if vendor in VARIABLES and vendor + suffix in VARIABLES else ""


def vendor_of(provider: str) -> str:
    """Whose key a provider needs, as the field of `Keys`; "" for none."""
    entries = (registry.entry_of("stt", provider), registry.entry_of("tts", provider))
    return next((entry.key for entry in entries if entry is not None and entry.key), "")
