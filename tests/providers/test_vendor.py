"""What a vendor's refusals and broken connections are in plain words: whose fault, whether to try again, and no key in it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest

from patter.providers.vendor import Vendor, read_refusal, retry_after, scrubbed, secret_words

ACME = Vendor("acme", "Acme", "ACME_API_KEY")
OPENAI = {"error": {"message": "m", "type": "insufficient_quota", "param": None, "code": "slow"}}
ELEVEN = {"detail": {"status": "quota_exceeded", "message": "m"}}
PAID = {"detail": {"type": "payment_required", "code": "paid_plan_required", "message": "m", "request_id": "r"}}
DEEP = {"err_code": "INVALID_AUTH", "err_msg": "Invalid credentials.", "request_id": "r"}


@pytest.mark.parametrize(
    ("status", "body", "problem", "fix", "retryable", "code"),
    [
        (401, DEEP, r"refuses the key \(Invalid credentials\.\)", "ACME_API_KEY", False, "INVALID_AUTH"),
        (401, ELEVEN, "no credit", "at Acme", False, "quota_exceeded"),
        (402, {"err_code": "ASR_PAYMENT_REQUIRED", "err_msg": "m"}, "no credit", "plan", False, "ASR_PAYMENT_REQUIRED"),
        (402, PAID, "not in this plan", "plan", False, "paid_plan_required"),
        (403, {"error": {"message": "m", "code": None, "type": None}}, "refuses the key", "this key may do", False, ""),
        (404, {"error": {"message": "gone"}}, r"does not know the model 'x' \(gone\)", "check its name", False, ""),
        (400, {"detail": {"status": "voice_not_found", "message": "m"}}, "not know the model", "name", False,
         "voice_not_found"),
        (429, {"detail": {"status": "system_busy", "message": "m"}}, "too many requests", "later", True, "system_busy"),
        (429, OPENAI, "no credit", "plan", False, "insufficient_quota"),
        (408, {}, "failed with status 408", "later", True, ""),
        (500, "oh no", r"status 500 \(oh no\)", "later", True, ""),
        (503, {"error": "busy"}, r"status 503 \(busy\)", "later", True, ""),
        (302, "", "sends us to another address", "address", False, ""),
        (422, {"detail": [{"loc": ["body"], "msg": "too long", "type": "v"}]}, r"status 422 \(too long\)", "settings",
         False, "invalid"),
        (400, [1], r"status 400 \(\[1\]\)", "settings", False, ""),
    ],
)  # fmt: skip
def test_refusals(status: int, body: Any, problem: str, fix: str, retryable: bool, code: str) -> None:
    sent = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    error = ACME.refused("stt", status, sent, what="the model 'x'")
    assert re.search(problem, error.problem)
    assert fix in error.fix
    assert (error.retryable, error.code, error.status, error.stage) == (retryable, code, status, "stt")


def test_the_vendor_may_say_itself_whether_to_try_again() -> None:
    assert not ACME.refused("llm", 500, headers={"x-should-retry": "false"}).retryable
    assert ACME.refused("llm", 400, headers={"x-should-retry": "true"}).retryable


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "2"}, 2.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_to_wait_for() -> None:
    wait = retry_after({"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)})
    assert wait is not None
    assert 90 < wait <= 100
    assert "in 100 s" in ACME.refused("llm", 429, headers={"Retry-After": "100"}).fix


@pytest.mark.parametrize(
    "said",
    [
        "Incorrect API key provided: sk-proj-abcdef123456",
        "bad Bearer abcdef123456",
        "Token abcdef123456 is unknown",
        "my-own-secret-98765 is unknown",
    ],
)
def test_no_key_comes_back_in_an_error(said: str) -> None:
    secrets = secret_words([("X-Api-Key", "my-own-secret-98765"), ("Accept", "text/plain")])
    error = ACME.refused("tts", 401, json.dumps({"error": {"message": said}}).encode(), secrets=secrets)
    assert not re.search("abcdef123456|98765", f"{error} {error.code} {error.problem}")
    closed = ACME.closed("tts", 1008, said, secrets=secrets)
    assert not re.search("abcdef123456|98765", f"{closed} {closed.code}")


def test_what_is_secret_in_a_request() -> None:
    headers = [("Authorization", "Token abc-1"), ("xi-api-key", "k-2"), ("Accept", "text/plain")]
    url = "wss://a/b?token=t-3&conversation_signature=s-4&model=m"
    assert set(secret_words(headers, url)) == {"Token", "abc-1", "k-2", "t-3", "s-4"}
    assert scrubbed("Token k-12 is for text", ["Token", "k-12"]) == "Token … is for text"


def test_long_words_of_a_vendor_are_cut() -> None:
    assert len(ACME.refused("llm", 500, b"x" * 5000).problem) < 400
    assert read_refusal(b"\xff\xfe") == ("", "\ufffd\ufffd")


@pytest.mark.parametrize(
    ("error", "problem", "code", "retryable"),
    [
        (TimeoutError(), "did not answer in time", "timeout", True),
        (ConnectionResetError(), "broke off", "connection", True),
        (aiohttp.ServerDisconnectedError(), "broke off", "connection", True),
        (aiohttp.ClientPayloadError(), "broke off", "connection", True),
        (aiohttp.InvalidURL("http://x?token=secret"), "address cannot be used", "address", False),
        (aiohttp.WebSocketError(1002, "bad"), r"cannot be read \(no WebSocket\)", "garbled", True),
        (ACME.garbled("llm", "no JSON"), "no JSON", "garbled", True),
    ],
)
def test_broken_connections(error: BaseException, problem: str, code: str, retryable: bool) -> None:
    told = ACME.broken("llm", error)
    assert re.search(problem, told.problem)
    assert (told.code, told.retryable, "secret" in str(told)) == (code, retryable, False)
