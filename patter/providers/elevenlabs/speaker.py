"""Who speaks: one voice of one account with its settings, found before the first call, and its refusals in plain words.

It owns what both ways to the vendor's voices share; it refuses to ask for any sound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from patter.audio.format import AudioFormat
from patter.exceptions import ProviderError
from patter.providers.elevenlabs.account import ELEVENLABS, headers_of, resolve_voice
from patter.wire.elevenlabs_tts import Fault, Manner

_PASSING = frozenset(
    (
        "max_active_conversations",
        "too_many_concurrent_requests",
        "system_busy",
        "input_timeout_exceeded",
        "rate_limited",
    )
)
"""What a socket may be closed for that does not come back when the sentence is asked for again."""

_KEY = frozenset(("invalid_api_key", "needs_authorization", "missing_permissions", "invalid_authorization_header"))


@dataclass(slots=True)
class Speaker:
    """`voice` is a name of the account's or an id; `base` the vendor's address; `options` see `Manner`."""

    http: aiohttp.ClientSession
    key: str = field(repr=False)
    base: str
    voice: str
    model: str
    format: AudioFormat
    language: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    _manner: Manner | None = None

    async def manner(self) -> Manner:
        """How to ask for this voice; its name is looked up once. Raises ProviderError."""
        if self._manner is None:
            voice_id = await resolve_voice(self.http, self.key, self.base, self.voice)
            self._manner = Manner(voice_id, self.model, self.format, self.language, self.options)
        return self._manner

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries: the key, which so stands in no address and no message."""
        return headers_of(self.key)

    def explained(self, error: ProviderError) -> ProviderError:
        """The same error; one that a user can do something about says it in plain words."""
        found = self._words(error.code)
        if found is None:
            return error
        return ProviderError(
            found[0],
            provider=error.provider,
            stage="tts",
            retryable=error.retryable,
            fix=found[1],
            status=error.status,
            code=error.code,
            retry_after_s=error.retry_after_s,
            tries=error.tries,
        )

    def fault(self, fault: Fault) -> ProviderError:
        """The error for what the vendor said before it closed a socket."""
        retryable = fault.code in _PASSING
        problem = f"it gave up ({(fault.message or fault.code)[:300]})"
        fix = "try again" if retryable else "check the agent's settings"
        if fault.code in _KEY:
            problem, fix = "it refuses the key", f"check {ELEVENLABS.setting}"
        error = ProviderError(
            problem, provider=ELEVENLABS.name, stage="tts", retryable=retryable, fix=fix, status=1008, code=fault.code
        )
        return self.explained(error)

    def _words(self, code: str) -> tuple[str, str] | None:
        known = {
            "paid_plan_required": (
                f"the voice {self.voice!r} needs a paid plan",
                "use a voice of your own account, or take a plan that includes this one",
            ),
            "voice_not_found": (
                f"the account has no voice {self.voice!r}",
                "add it to the account, or choose another one (default voices are being retired)",
            ),
            "quota_exceeded": (
                "the characters of this plan are used up",
                f"add credit or wait for the next month at {ELEVENLABS.title}",
            ),
            "too_many_concurrent_requests": (
                "more sentences at the same time than the plan allows",
                "try again later, or take a larger plan",
            ),
            "max_character_limit_exceeded": (
                f"the text is too long for {self.model}",
                "say it in shorter sentences",
            ),
        }
        return known.get(code)
