"""A vendor as its errors show it: whose fault a refusal is, whether to try again, and what the user can do about it.

It owns the wording of refusals and broken connections, and keeps keys out of it; it refuses to send anything.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

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
        said = scrubbed(said, secrets)[:SAID_LIMIT]
        told = f" ({said})" if said else ""
        credit = status == 402 or code in _CREDIT
        retryable = (status in (408, 409, 425, 429) or status >= 500) and not credit
        if credit:
            problem, fix = f"no credit left, or not in this plan{told}", f"look at your plan and credit at {self.title}"
        elif status in (401, 403):
            problem, fix = f"it refuses the key{told}", f"check {self.setting}"
        elif status == 404:
            problem, fix = (
                f"it does not know {what or 'what was asked for'}{told}",
                "check its name in the agent's settings",
            )
        elif status == 429:
            problem, fix = f"too many requests{told}", "try again later, or raise the limit of the account"
        elif status >= 500:
            problem, fix = f"it failed with status {status}{told}", "try again later"
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
            retry_after_s=retry_after(headers or {}),
        )

    def broken(self, stage: str, error: BaseException) -> ProviderError:
        """The error for a connection that could not be made, or broke."""
        if isinstance(error, ProviderError):
            return error
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLError):
            problem, fix = (
                "no secure connection (TLS)",
                "check the address, the clock and the certificates of this machine",
            )
            return ProviderError(problem, provider=self.name, stage=stage, fix=fix, code="tls")
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientConnectorDNSError):
            problem, fix = "it cannot be reached", "check the network and the address"
        elif isinstance(error, TimeoutError):
            problem, fix = "it did not answer in time", "try again"
        else:
            problem, fix = "the connection broke off", "try again"
        return ProviderError(problem, provider=self.name, stage=stage, retryable=True, fix=fix, code="connection")

    def closed(self, stage: str, code: int, reason: str, *, retryable: bool = True, fix: str = "") -> ProviderError:
        """The error for a WebSocket that the vendor closed in the middle."""
        why = scrubbed(reason, ())[:SAID_LIMIT]
        problem = f"it closed the connection with code {code}" + (f" ({why})" if why else "")
        return ProviderError(
            problem, provider=self.name, stage=stage, retryable=retryable, fix=fix or "try again", status=code, code=why
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
    code = next((str(inner[key]) for key in ("code", "status", "err_code", "type") if inner.get(key)), "")
    said = next((str(inner[key]) for key in ("message", "err_msg", "description", "reason") if inner.get(key)), text)
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


def scrubbed(text: str, secrets: Collection[str]) -> str:
    """`text` without the keys it may repeat."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "…")
    return _KEYS.sub("…", text)
