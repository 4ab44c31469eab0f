"""Addresses that a user names: where they lead, and whether a key or a caller's words may be sent there.

It owns these rules and refuses to resolve names or to connect.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_METADATA = frozenset(
    ipaddress.ip_address(host)
    for host in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)
"""Where the machines of clouds ask who they are and for credentials, beside the link-local 169.254.169.254."""


def is_loopback(url: str) -> bool:
    """Whether `url` points at this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_base(url: str, setting: str, *, carries_key: bool = True) -> str:
    """`url` without a closing slash. Raises ValueError, naming the `setting`, unless it is https.

    It may be http on this machine, and elsewhere when no key is sent there."""
    example = f'{setting} must be an address such as "https://api.example.com"'
    try:
        parts = urlsplit(url)
        host, guarded = parts.hostname, parts.username is not None or parts.password is not None
        scheme, _ = parts.scheme, parts.port
    except ValueError:
        raise ValueError(example) from None
    if guarded:
        raise ValueError(f"{setting} holds a user name or a password: take it out of the address")
    odd = parts.query or parts.fragment or any(sign.isspace() for sign in url)
    if not host or scheme not in ("https", "http") or odd:
        raise ValueError(f"{example}, not {url!r}")
    if scheme == "http" and carries_key and not is_loopback(url):
        raise ValueError(f"{setting} would send the key unencrypted: use https:// (http only for this machine)")
    return url.rstrip("/")


@dataclass(frozen=True, slots=True)
class Reach:
    """Which addresses may be reached beside public ones. Link-local ones (cloud metadata) never are."""

    loopback: bool = False
    private: bool = False
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, setting: str) -> Reach:
        """The reach that a setting means: "public", "loopback" (this machine too), "private" (that and private networks),
        or networks such as "10.1.0.0/16"; several are joined by commas. Raises ValueError for anything else."""
        words = [word.strip() for word in setting.split(",") if word.strip()]
        networks = []
        for word in words:
            if word in ("public", "loopback", "private"):
                continue
            try:
                networks.append(ipaddress.ip_network(word))
            except ValueError:
                known = '"public", "loopback", "private" or a network such as "10.1.0.0/16"'
                raise ValueError(f"webhook_reach must be {known}, not {word!r}") from None
        return cls("loopback" in words or "private" in words, "private" in words, tuple(networks))

    def allows(self, host: str) -> bool:
        """Whether the address `host` (an IP in text form) may be connected to. Raises ValueError for a name."""
        address = _plain(ipaddress.ip_address(host.partition("%")[0]))
        if address.is_link_local or address.is_multicast or address.is_unspecified or address in _METADATA:
            return False
        if any(address in network for network in self.networks if network.version == address.version):
            return True
        if address.is_loopback:
            return self.loopback
        return not address.is_reserved and (address.is_global or self.private)


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one only wraps, so that no spelling gets around the rules."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
