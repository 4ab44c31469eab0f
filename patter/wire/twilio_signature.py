"""`X-Twilio-Signature`: signs a request as the carrier does, and verifies one against every spelling of its URL.

It owns the arithmetic; it refuses to know requests, and where the auth token and the public URL come from.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Literal
from urllib.parse import parse_qs, urlsplit, urlunsplit

HEADER = "X-Twilio-Signature"
Params = Mapping[str, str] | Iterable[tuple[str, str]]
Algorithm = Literal["sha1", "sha256"]

_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}
_TWINS = {"https": "wss", "wss": "https", "http": "ws", "ws": "http"}


def sign(url: str, params: Params, token: str, algorithm: Algorithm = "sha1") -> str:
    """The signature of a form POST with `params` (none for GET, JSON bodies and socket upgrades) to exactly `url`."""
    return _digest(url + _joined(params), token, algorithm)


def verify(signature: str, url: str, params: Params, token: str, algorithm: Algorithm = "sha1") -> bool:
    """Whether the carrier signed this. `url` is the public one, rebuilt from configuration, never from a Host header."""
    if not signature or not token:
        return False
    joined = _joined(params)
    given = signature.encode()
    good = False
    for candidate in candidates(url):  # all of them, always: the time must not tell which one was right
        good |= hmac.compare_digest(_digest(candidate + joined, token, algorithm).encode(), given)
    return good


def verify_body(url: str, body: bytes) -> bool:
    """Whether the `bodySHA256` of the URL's query is that of `body` (JSON webhooks; the URL itself is signed)."""
    claimed = parse_qs(urlsplit(url).query).get("bodySHA256", [""])[0]
    return hmac.compare_digest(hashlib.sha256(body).hexdigest().encode(), claimed.lower().encode())


def candidates(url: str) -> list[str]:
    """`url` as the carrier may have spelled it: with and without port, as its http or ws twin, with a bare host's slash."""
    parts = urlsplit(url)
    found = [url]
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    for scheme in dict.fromkeys((parts.scheme, _TWINS.get(parts.scheme, parts.scheme))):
        ports = {_PORTS.get(scheme, 80), 80, parts.port} - {None}
        netlocs = [parts.netloc, host] + [f"{host}:{port}" for port in ports if parts.port in (None, port)]
        paths = [parts.path] if parts.path not in ("", "/") else ["", "/"]
        found += [
            urlunsplit((scheme, netloc, path, parts.query, parts.fragment)) for netloc in netlocs for path in paths
        ]
    return list(dict.fromkeys(found))


def _joined(params: Params) -> str:
    pairs = params.items() if isinstance(params, Mapping) else params
    return "".join(name + value for name, value in sorted(set(pairs)))


def _digest(data: str, token: str, algorithm: Algorithm) -> str:
    mac = hmac.new(token.encode(), data.encode(), hashlib.sha256 if algorithm == "sha256" else hashlib.sha1)
    return base64.b64encode(mac.digest()).decode("ascii")
