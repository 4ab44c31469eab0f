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
