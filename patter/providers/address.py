"""Where a URL leads: whether to this machine.

It owns that one question; it refuses to resolve names.
"""

from __future__ import annotations

import ipaddress

from yarl import URL


def is_loopback(url: str) -> bool:
    """Whether `url` points at this machine."""
    host = URL(url).host or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_base(url: str, setting: str) -> str:
    """`url` without a closing slash. Raises ValueError, naming the `setting`, unless it is https (http, ws: this machine)."""
    scheme = URL(url).scheme
    if not URL(url).host or scheme not in ("https", "http"):
        raise ValueError(f'{setting} must be an address such as "https://api.example.com", not {url!r}')
    if scheme == "http" and not is_loopback(url):
        raise ValueError(f"{setting} would send the key unencrypted: use https:// (http only for this machine)")
    return url.rstrip("/")


def as_socket(url: str) -> str:
    """The same address for a WebSocket: wss for https, ws for http."""
    return "ws" + url.removeprefix("http") if url.startswith("http") else url
