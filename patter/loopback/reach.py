"""How a carrier on this machine gets to a public address: by a table of hosts instead of the Internet.

It owns that table; it refuses to know what is sent there.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

_PLAIN = {"https": "http", "wss": "ws"}


class Reach:
    """`hosts`: public host (with its port, if it has one) → "127.0.0.1:port", where it is really to be found."""

    def __init__(self) -> None:
        self.hosts: dict[str, str] = {}

    def of(self, url: str) -> tuple[str, dict[str, str]]:
        """Where to connect to for `url`, and the headers which the tunnel in front of it would set."""
        parts = urlsplit(url)
        real = self.hosts.get(parts.netloc)
        if real is None:
            return url, {}
        address = urlunsplit((_PLAIN.get(parts.scheme, parts.scheme), real, parts.path, parts.query, ""))
        secure = parts.scheme in _PLAIN
        return address, {"Host": parts.netloc, "X-Forwarded-Proto": "https" if secure else "http"}
