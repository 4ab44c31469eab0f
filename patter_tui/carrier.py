"""What the environment says about a telephone carrier: whose keys there are, and which are missing. It asks no carrier.

Keys go from here to the engine over loopback and nowhere else; nothing in this file prints one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from patter.exceptions import PatterError

_NUMBER = re.compile(r"\+[1-9]\d{1,14}")

_KEYS = {
    "twilio": {
        "account": ("TWILIO_ACCOUNT_SID", "it begins with AC and stands on the first page of console.twilio.com"),
        "secret": ("TWILIO_AUTH_TOKEN", "it stands under the Account SID on the first page of console.twilio.com"),
    },
    "telnyx": {
        "secret": ("TELNYX_API_KEY", "it begins with KEY: portal.telnyx.com, API Keys"),
        "account": ("TELNYX_CONNECTION_ID", "the id of a Voice API application: portal.telnyx.com, Voice, Voice API"),
        "public_key": ("TELNYX_PUBLIC_KEY", "it proves Telnyx' webhooks: portal.telnyx.com, API Keys, Public Key"),
    },
}
_NUMBERS = {"twilio": "TWILIO_PHONE_NUMBER", "telnyx": "TELNYX_PHONE_NUMBER"}

PORT = 8000
"""Where a public host of one's own leads to, unless told otherwise; a tunnel takes any free port."""

TITLES = {"twilio": "Twilio", "telnyx": "Telnyx"}


class Missing(PatterError):
    """The environment is not enough to use a carrier: one sentence that says exactly what is missing and where it is found."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Access to one carrier. `number` and `host` are "" where the environment names none."""

    carrier: str
    account: str
    secret: str = field(repr=False)
    public_key: str = ""
    number: str = ""
    host: str = ""
    api_base: str = ""

    def to_json(self) -> dict[str, Any]:
        """The engine's names for them."""
        return {
            "carrier": self.carrier, "account": self.account, "secret": self.secret, "public_key": self.public_key,
            "api_base": self.api_base,
        }  # fmt: skip


def keys_in(environment: Mapping[str, str] = os.environ) -> Keys:
    """The one carrier whose keys are in the environment. Raises Missing (also when there are two)."""
    found = {carrier: _set(names.values(), environment) for carrier, names in _KEYS.items()}
    meant = [carrier for carrier, names in found.items() if names]
    if not meant:
        raise Missing(
            "There are no carrier keys in the environment: set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN "
            "(console.twilio.com, first page), or TELNYX_API_KEY, TELNYX_CONNECTION_ID and TELNYX_PUBLIC_KEY "
            "(portal.telnyx.com)."
        )
    if len(meant) > 1:
        ways = [f"`unset {' '.join(found[other])}` to use {TITLES[one]}" for one, other in (meant, meant[::-1])]
        raise Missing(f"The keys of both Twilio and Telnyx are in the environment: {', or '.join(ways)}.")
    return _complete(meant[0], environment)


def problem_in(environment: Mapping[str, str] = os.environ) -> str:
    """Why no carrier can be used from this environment, in a sentence; "" if one can."""
    try:
        keys_in(environment)
    except Missing as problem:
        return str(problem)
    return ""


def _set(keys: Any, environment: Mapping[str, str]) -> list[str]:
    return [name for name, _ in keys if environment.get(name, "").strip()]


def _complete(carrier: str, environment: Mapping[str, str]) -> Keys:
    wanted = _KEYS[carrier]
    missing = [f"{name} ({where})" for name, where in wanted.values() if not environment.get(name, "").strip()]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise Missing(f"For {TITLES[carrier]} {' and '.join(missing)} {verb} not set.")
    values = {field_: environment[name].strip() for field_, (name, _) in wanted.items()}
    number = environment.get(_NUMBERS[carrier], "") or environment.get("PATTER_PHONE_NUMBER", "")
    return Keys(
        carrier, **values, number=number.strip(), host=bare_host(environment.get("PATTER_WEBHOOK_HOST", "")),
        api_base=environment.get("PATTER_CARRIER_API", "").strip(),
    )  # fmt: skip


def bare_host(text: str) -> str:
    """A public name without scheme and slash: "https://voice.example.com/" → "voice.example.com"."""
    return re.sub(r"^(https?|wss?)://", "", text.strip()).rstrip("/")


def is_number(text: str) -> bool:
    """Whether it is written as carriers want it: "+15551234567"."""
    return _NUMBER.fullmatch(text) is not None


def plain_number(text: str) -> str:
    """A number as people write it, without the signs in between: "+1 (555) 123-4567" → "+15551234567"."""
    return re.sub(r"[\s().\-/]", "", text)
