"""Telnyx's signature: a published vector, two independent libraries as judges both ways, and everything that is none."""

from __future__ import annotations

import base64

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from telnyx.lib import webhook_verification as theirs

from patter.wire.telnyx_signature import HEADER, TIMESTAMP_HEADER, check_public_key, public_key_of, sign, verify

SEED = bytes(range(32))
KEY = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
AT = "1760000000"
NOW = 1_760_000_000.0
BODY = b'{"data":{"event_type":"call.initiated"}}'
SIGNATURE = "UIEcOeqTo4MKspXBsVJIK3/7+ncnEUOrSDh7+dZUsTAOWSVYBwe3lBRys+n+hEvzldT9ql71YgVDNiM3TqCqBg=="


def test_the_known_vector_is_made_and_accepted() -> None:
    assert public_key_of(SEED) == KEY
    assert sign(SEED, AT, BODY) == SIGNATURE
    assert verify(KEY, SIGNATURE, AT, BODY, NOW)


@pytest.mark.parametrize("off", [-300, -299, 0, 300])
def test_five_minutes_to_either_side_are_tolerated(off: float) -> None:
    assert verify(KEY, SIGNATURE, AT, BODY, NOW + off)


@pytest.mark.parametrize("off", [-301, 301, 86_400 * 365])
def test_an_old_or_future_signature_is_refused(off: float) -> None:
    assert not verify(KEY, SIGNATURE, AT, BODY, NOW + off)
    assert verify(KEY, SIGNATURE, AT, BODY, NOW + off, tolerance_s=abs(off))


FLIPPED = base64.b64encode(bytes([base64.b64decode(SIGNATURE)[0] ^ 1]) + base64.b64decode(SIGNATURE)[1:]).decode()


@pytest.mark.parametrize(
    ("key", "signature", "at", "body"),
    [
        (KEY, SIGNATURE, AT, BODY + b" "),
        (KEY, SIGNATURE, AT, b""),
        (KEY, SIGNATURE, "1760000001", BODY),
        (KEY, SIGNATURE, " 1760000000", BODY),
        (KEY, SIGNATURE, "1760000000.0", BODY),
        (KEY, SIGNATURE, "１７６０００００００", BODY),
        (KEY, SIGNATURE, "", BODY),
        (KEY, SIGNATURE, "-1760000000", BODY),
        (KEY, SIGNATURE, "9" * 5000, BODY),
        (KEY, FLIPPED, AT, BODY),
        (KEY, "", AT, BODY),
        (KEY, SIGNATURE[:-4], AT, BODY),
        (KEY, SIGNATURE + "AAAA", AT, BODY),
        (KEY, "not base64 ⚡", AT, BODY),
        (public_key_of(bytes(32)), SIGNATURE, AT, BODY),
        ("", SIGNATURE, AT, BODY),
        ("AAAA", SIGNATURE, AT, BODY),
        (base64.b64encode(bytes(32)).decode(), SIGNATURE, AT, BODY),
    ],
)
def test_anything_else_is_no_proof(key: str, signature: str, at: str, body: bytes) -> None:
    assert not verify(key, signature, at, body, NOW)


@given(st.text(max_size=100), st.text(max_size=100), st.text(max_size=20), st.binary(max_size=50))
def test_nothing_whatever_crashes_the_check(key: str, signature: str, at: str, body: bytes) -> None:
    assert not verify(key, signature, at, body, NOW)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_another_library_accepts_what_we_sign_and_we_what_it_signs(seed: bytes, body: bytes) -> None:
    signer = Ed25519PrivateKey.from_private_bytes(seed)
    signed = AT.encode() + b"|" + body
    assert base64.b64encode(signer.sign(signed)).decode() == sign(seed, AT, body)
    assert verify(public_key_of(seed), base64.b64encode(signer.sign(signed)).decode(), AT, body, NOW)
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key_of(seed)))
    public.verify(base64.b64decode(sign(seed, AT, body)), signed)
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(sign(seed, AT, body)), signed + b"x")


def test_the_carriers_own_library_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theirs.time, "time", lambda: NOW)
    headers = {HEADER: sign(SEED, AT, BODY), TIMESTAMP_HEADER: AT}
    theirs.verify_webhook_signature(BODY, headers, KEY)
    for wrong in ({**headers, HEADER: FLIPPED}, {**headers, TIMESTAMP_HEADER: "1760000001"}, {HEADER: SIGNATURE}):
        with pytest.raises(theirs.WebhookVerificationError):
            theirs.verify_webhook_signature(BODY, wrong, KEY)
    assert (HEADER, TIMESTAMP_HEADER) == (theirs.SIGNATURE_HEADER, theirs.TIMESTAMP_HEADER)


def test_a_public_key_is_checked_before_it_is_used() -> None:
    assert check_public_key(f" {KEY}\n") == KEY
    for wrong, why in (("", "0 bytes"), ("KEY0123_abc", "not base64"), (KEY[:-4], "instead of 32"), ("clé", "base64")):
        with pytest.raises(ValueError, match=rf"{why}.*Keys & Credentials"):
            check_public_key(wrong)


def test_a_seed_of_another_length_is_a_mistake() -> None:
    for use in (lambda: sign(b"short", AT, BODY), lambda: public_key_of(b"short")):
        with pytest.raises(ValueError, match="32 bytes"):
            use()
