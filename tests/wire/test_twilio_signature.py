"""The carrier's signature: the published vectors, with Twilio's own validator as judge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from patter.wire.twilio_signature import candidates, sign, verify, verify_body

TOKEN = "0123456789abcdef0123456789abcdef"
VOICE = "https://voice.example.test/twilio/voice?call=42"
PARAMS = {
    "AccountSid": "AC0123456789abcdef0123456789abcdef",
    "ApiVersion": "2010-04-01",
    "CallSid": "CA0123456789abcdef0123456789abcdef",
    "CallStatus": "ringing",
    "Direction": "inbound",
    "From": "+14155550123",
    "To": "+14155550199",
}
BODY_SHA = "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
BODY_URL = f"https://voice.example.test/hook?bodySHA256={BODY_SHA}"
SOCKET = "wss://voice.example.test/twilio/media"


@pytest.mark.parametrize(
    ("url", "params", "signature"),
    [
        (VOICE, PARAMS, "wCer7bsC/VpSSdobyBMkEaar1NQ="),
        (VOICE.replace(".test", ".test:443"), PARAMS, "nqwuZYQiLLMspP0aTyNg4+eKmjk="),
        (BODY_URL, {}, "RTOGfpDdeOcwfFgcs6kPxrKgByA="),
        (SOCKET, {}, "jO+qLHLp+lz9/rbFAwoUaDtDsdc="),
        (SOCKET + "/", {}, "Vazs6/5LJcjSGck+tdYu+vCzHKs="),
    ],
)
def test_known_signatures(url: str, params: dict[str, str], signature: str) -> None:
    assert sign(url, params, TOKEN) == signature
    assert verify(signature, url, params, TOKEN)


def test_the_shared_key_signature_of_the_beta() -> None:
    signature = "VlW3R1IeCk9xmUBjhL8tgBHAHljPV2KshNGvS28VKiA="
    assert sign(VOICE, PARAMS, TOKEN, "sha256") == signature
    assert verify(signature, VOICE, PARAMS, TOKEN, "sha256")
    assert not verify(signature, VOICE, PARAMS, TOKEN)


def test_both_spellings_of_the_default_port_are_accepted() -> None:
    with_port = VOICE.replace(".test", ".test:443")
    assert verify(sign(with_port, PARAMS, TOKEN), VOICE, PARAMS, TOKEN)
    assert verify(sign(VOICE, PARAMS, TOKEN), with_port, PARAMS, TOKEN)
    assert verify(sign("wss://voice.example.test:443/twilio/media", {}, TOKEN), SOCKET, {}, TOKEN)


def test_a_socket_may_be_signed_as_https_and_with_the_slash_of_a_bare_host() -> None:
    assert verify(sign(SOCKET.replace("wss", "https"), {}, TOKEN), SOCKET, {}, TOKEN)
    assert verify(sign("wss://voice.example.test/", {}, TOKEN), "wss://voice.example.test", {}, TOKEN)
    assert not verify(sign(SOCKET + "/", {}, TOKEN), SOCKET, {}, TOKEN)


def test_anything_else_is_refused() -> None:
    good = sign(VOICE, PARAMS, TOKEN)
    assert not verify(good, VOICE, PARAMS | {"From": "+14155550124"}, TOKEN)
    assert not verify(good, VOICE.replace("42", "43"), PARAMS, TOKEN)
    assert not verify(good, VOICE, PARAMS, "another token")
    assert not verify("", VOICE, PARAMS, TOKEN)
    assert not verify("ÿ" * 28, VOICE, PARAMS, TOKEN)
    assert not verify(sign(VOICE, PARAMS, ""), VOICE, PARAMS, "")
    assert not verify(sign("https://evil.test/twilio/voice?call=42", PARAMS, TOKEN), VOICE, PARAMS, TOKEN)


def test_repeated_parameters_count_once_in_byte_order() -> None:
    repeated = [("b", "2"), ("a", "z"), ("a", "y"), ("a", "z"), ("B", "1"), ("empty", "")]
    assert sign(VOICE, repeated, TOKEN) == sign(
        VOICE, [("B", "1"), ("a", "y"), ("a", "z"), ("b", "2"), ("empty", "")], TOKEN
    )


def test_a_body_hash_is_checked_against_the_body() -> None:
    assert verify_body(BODY_URL, b'{"a":1}')
    assert not verify_body(BODY_URL, b'{"a":2}')
    assert not verify_body(VOICE, b'{"a":1}')


hosts = st.sampled_from(
    ["https://h.test", "https://h.test:8443", "http://127.0.0.1:5050", "https://h.test:443", "http://[::1]:80"]
)
texts = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)


@given(hosts, st.dictionaries(texts, texts, max_size=6))
def test_twilios_validator_accepts_what_we_sign_and_we_accept_what_it_signs(host: str, params: dict[str, str]) -> None:
    url = f"{host}/webhooks/twilio/voice"
    judge = RequestValidator(TOKEN)
    assert judge.validate(url, params, sign(url, params, TOKEN))
    assert verify(judge.compute_signature(url, params), url, params, TOKEN)


def test_the_candidates_of_a_loopback_address_keep_its_port_or_drop_it() -> None:
    assert candidates("http://127.0.0.1:5050/v") == [
        "http://127.0.0.1:5050/v", "http://127.0.0.1/v", "ws://127.0.0.1:5050/v", "ws://127.0.0.1/v",
    ]  # fmt: skip
