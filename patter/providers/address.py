"""Addresses of vendors: the rules for those that a user names, and the same address for a WebSocket.

It owns the way from one to the other; it refuses to resolve names or to connect.
"""

from __future__ import annotations

from patter.address import checked_base, is_loopback

__all__ = ["as_socket", "checked_base", "is_loopback"]


def as_socket(url: str) -> str:
    """The same address for a WebSocket: wss for https, ws for http."""
    scheme, mark, rest = url.partition("://")
    socket = {"http": "ws", "https": "wss"}.get(scheme.lower(), scheme)
    return f"{socket}{mark}{rest}"
