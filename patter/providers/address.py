"""An address in the two forms that a vendor's API needs: for requests and for sockets.

It owns the second one; the rules of addresses are those of `patter.address`.
"""

from __future__ import annotations

from patter.address import checked_base, is_loopback

__all__ = ["as_socket", "checked_base", "is_loopback"]


def as_socket(url: str) -> str:
    """The same address for a WebSocket: wss for https, ws for http."""
    return "ws" + url.removeprefix("http") if url.startswith("http") else url
