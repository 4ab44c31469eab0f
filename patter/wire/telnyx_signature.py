"""Telnyx's proof that a webhook is its own: an Ed25519 signature over the time and the raw body.

It owns the making and checking of that proof; it refuses to know HTTP and what the body says.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nacl.signing import VerifyKey

HEADER = "telnyx-signature-ed25519"
TIMESTAMP_HEADER = "telnyx-timestamp"
TOLERANCE_S = 300.0  # what the carrier's own library allows
TIMESTAMP_DIGITS = 12


def verify(
    public_key: str, signature: str, timestamp: str, body: bytes, now: float, tolerance_s: float = TOLERANCE_S
) -> bool:
    """Whether `body` was signed by the owner of `public_key` (base64) at `timestamp` (unix seconds), near to `now`.

    Never raises: whatever is malformed is not a signature. A replay within the tolerance is for the caller to notice."""
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= TIMESTAMP_DIGITS):
        return False
    if abs(now - int(timestamp)) > tolerance_s:
        return False
    from nacl.exceptions import BadSignatureError

    try:
        _key(public_key).verify(timestamp.encode() + b"|" + body, b64decode(signature, validate=True))
    except (BadSignatureError, ValueError, TypeError):  # also base64 that is none, and keys of a wrong length
        return False
    return True


def sign(seed: bytes, timestamp: str, body: bytes) -> str:
    """The signature (base64) that the holder of the 32 secret bytes `seed` gives. Raises ValueError for another length."""
    from nacl.signing import SigningKey

    if len(seed) != 32:
        raise ValueError("an Ed25519 seed has 32 bytes")
    return b64encode(SigningKey(seed).sign(timestamp.encode() + b"|" + body).signature).decode()


def public_key_of(seed: bytes) -> str:
    """The public key (base64) that belongs to the 32 secret bytes `seed`. Raises ValueError for another length."""
    from nacl.signing import SigningKey

    if len(seed) != 32:
        raise ValueError("an Ed25519 seed has 32 bytes")
    return b64encode(bytes(SigningKey(seed).verify_key)).decode()


def check_public_key(text: str) -> str:
    """The key as it is used, without spaces around it. Raises ValueError that says where to find the right one."""
    key = text.strip()
    try:
        length = len(b64decode(key, validate=True))
    except ValueError:
        length = -1
    if length == 32:
        return key
    found = "is not base64" if length < 0 else f"has {length} bytes instead of 32"
    raise ValueError(
        f"The Telnyx public key {found}. Copy it from the Telnyx portal: Account settings, Keys & Credentials, Public key. "
        "It has 44 characters and ends with =."
    )


@lru_cache(maxsize=16)
def _key(public_key: str) -> VerifyKey:
    from nacl.signing import VerifyKey

    return VerifyKey(b64decode(public_key, validate=True))
