"""A vendor as its errors show it: whose fault a refusal is, whether to try again, and what the user can do about it.

It owns the wording of refusals and broken connections, and keeps keys out of it; it refuses to send anything.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from yarl import URL

from patter.exceptions import ProviderError

SAID_LIMIT = 300  # characters of a vendor's own words that are passed on
_KEYS = re.compile(r"\b(sk|xi|dg|key|Bearer|Token)[-_ ][A-Za-z0-9*_\-.]{6,}", re.IGNORECASE)
_CREDIT = frozenset(
    {
        "insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached", "quota_exceeded",
        "ASR_PAYMENT_REQUIRED", "payment_required", "paid_plan_required",
    }
)  # fmt: skip
"""Codes that mean: no credit left, or not in this plan. Trying again does not help."""
_UNKNOWN = frozenset({"model_not_found", "voice_not_found", "agent_not_found"})
"""Codes that mean a 404, whatever the status is."""
_PASSING = frozenset({408, 409, 425, 429})
"""Statuses below 500 that may be gone a moment later."""
_SECRET = re.compile(r"authorization|key|token|secret|signature|cookie", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Vendor:
    """Whom a request goes to. `name` as in prices and events, `title` as people write it, `setting` where the key is kept."""

    name: str
    title: str
    setting: str

    def refused(
        self,
        stage: str,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        secrets: Collection[str] = (),
        what: str = "",
    ) -> ProviderError:
        """The error for an HTTP refusal. `what` was asked for (a model, a voice), for a 404."""
        code, said = read_refusal(body)
        code, said = scrubbed(code, secrets)[:SAID_LIMIT], scrubbed(said, secrets)[:SAID_LIMIT]
        told = f" ({said})" if said else ""
        wait = retry_after(headers or {})
        credit = status == 402 or code in _CREDIT
        retryable = (status in _PASSING or status >= 500) and not credit
        if (wish := (headers or {}).get("x-should-retry")) in ("true", "false"):
            retryable = wish == "true"
        if credit:
            problem, fix = f"no credit left, or not in this plan{told}", f"look at your plan and credit at {self.title}"
        elif status == 401:
            problem, fix = f"it refuses the key{told}", f"check {self.setting}"
        elif status == 403:
            problem, fix = f"it refuses the key{told}", f"check {self.setting}, and what this key may do"
        elif status == 404 or code in _UNKNOWN:
            asked = what or "what was asked for"
            problem, fix = f"it does not know {asked}{told}", "check its name in the agent's settings"
        elif status == 429:
            problem, fix = f"too many requests{told}", "try again later, or raise the limit of the account"
            if wait:
                fix = f"try again in {wait:g} s, or raise the limit of the account"
        elif status >= 500 or status in _PASSING:
            problem, fix = f"it failed with status {status}{told}", "try again later"
        elif 300 <= status < 400:
            problem, fix = f"it sends us to another address (status {status})", "check the address"
        else:
            problem, fix = f"it refused the request with status {status}{told}", "check the agent's settings"
        return ProviderError(
            problem,
            provider=self.name,
            stage=stage,
            retryable=retryable,
            fix=fix,
            status=status,
            code=code,
            retry_after_s=wait,
        )

    def broken(self, stage: str, error: BaseException) -> ProviderError:
        """The error for a connection that could not be made, or broke.

        Its code is "tls", "address", "connection", "timeout" or "garbled"."""
        if isinstance(error, ProviderError):
            return error
        retryable, code = True, "connection"
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLError):
            problem, retryable, code = "no secure connection (TLS)", False, "tls"
            fix = "check the address, the clock and the certificates of this machine"
        elif isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
            problem, fix, retryable, code = "its address cannot be used", "check the address", False, "address"
        elif isinstance(error, aiohttp.ClientConnectorError):
            problem, fix = "it cannot be reached", "check the network and the address"
        elif isinstance(error, TimeoutError):
            problem, fix, code = "it did not answer in time", "try again", "timeout"
        elif isinstance(error, aiohttp.ClientResponseError):
            return self.garbled(stage, "no HTTP")
        elif isinstance(error, aiohttp.WebSocketError):
            return self.garbled(stage, "no WebSocket")
        else:
            problem, fix = "the connection broke off", "try again"
        return ProviderError(problem, provider=self.name, stage=stage, retryable=retryable, fix=fix, code=code)

    def closed(
        self,
        stage: str,
        code: int,
        reason: str,
        *,
        retryable: bool = True,
        fix: str = "",
        secrets: Collection[str] = (),
    ) -> ProviderError:
        """The error for a WebSocket that the vendor closed in the middle."""
        why = scrubbed(reason, secrets)[:SAID_LIMIT]
        problem = f"it closed the connection with code {code}" + (f" ({why})" if why else "")
        fix = fix or ("try again" if retryable else "check the agent's settings and the key")
        return ProviderError(
            problem, provider=self.name, stage=stage, retryable=retryable, fix=fix, status=code, code=why
        )

    def garbled(self, stage: str, what: str) -> ProviderError:
        """The error for an answer that is not what the vendor's protocol says."""
        return ProviderError(
            f"its answer cannot be read ({what})",
            provider=self.name,
            stage=stage,
            retryable=True,
            fix="check that the address is really this vendor's",
            code="garbled",
        )


def read_refusal(body: bytes) -> tuple[str, str]:
    """(code, message) of an error's body, whichever of the vendors' shapes it has; ("", text) for plain text."""
    text = body[:2000].decode("utf-8", "replace").strip()
    try:
        data = json.loads(body)
    except ValueError:
        return "", text
    if not isinstance(data, dict):
        return "", text
    inner: Any = data.get("error") or data.get("detail") or data
    if isinstance(inner, list) and inner and isinstance(inner[0], dict):
        return "invalid", str(inner[0].get("msg") or text)
    if not isinstance(inner, dict):
        return "", str(inner)
    codes = [str(inner[key]) for key in ("code", "status", "err_code", "type") if inner.get(key)]
    code = next((one for one in codes if one in _CREDIT), next(iter(codes), ""))  # the word that decides goes first
    said = next(
        (str(inner[key]) for key in ("message", "err_msg", "description", "reason") if inner.get(key)),
        "" if code else text,
    )
    return code, said


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the vendor asks to wait: `retry-after-ms`, or `retry-after` as a number or a date; None if neither."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name) or headers.get(name.title())
        if not value:
            continue
        try:
            return max(0.0, float(value) / unit)
        except ValueError:
            pass
        try:
            return max(0.0, (parsedate_to_datetime(value).astimezone(UTC) - datetime.now(UTC)).total_seconds())
        except ValueError:
            continue
    return None


def secret_words(headers: Iterable[tuple[str, str]], url: str = "") -> list[str]:
    """The keys and tokens among a request's headers and in its address, which no error may repeat."""
    words = [word for name, value in headers if _SECRET.search(name) for word in value.split()]
    return words + [value for name, value in URL(url).query.items() if _SECRET.search(name)]


def scrubbed(text: str, secrets: Collection[str]) -> str:
    """`text` without the keys it may repeat."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 4 and secret not in ("Bearer", "Token", "Basic"):
            text = text.replace(secret, "…")
    return _KEYS.sub("…", text)
