"""The diagnosis: what it says of good and bad credentials, numbers, addresses and clocks, and that its drill is a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import aiohttp
import pytest

from patter.doctor import account, credentials, drill, way_in
from patter.doctor.findings import Finding, as_json
from patter.loopback.telnyx_carrier import LoopbackTelnyxCarrier
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from patter.server.listener import listen
from tests.support.carriers import CARRIERS, OURS, carrier_of
from tests.support.carriers import credentials as given_by

TWILIO = {
    "TWILIO_ACCOUNT_SID": "AC" + "1" * 32, "TWILIO_AUTH_TOKEN": "2" * 32, "TWILIO_PHONE_NUMBER": OURS,
}  # fmt: skip
TELNYX = {
    "TELNYX_API_KEY": "KEY0123456789ABCDEF", "TELNYX_CONNECTION_ID": "2411111111111111111",
    "TELNYX_PUBLIC_KEY": "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=", "TELNYX_PHONE_NUMBER": OURS,
}  # fmt: skip


def worst(findings: list[Finding] | tuple[Finding, ...]) -> tuple[str, str]:
    """State and words of the worst finding."""
    order = ["problem", "warning", "skipped", "ok"]
    found = min(findings, key=lambda finding: order.index(finding.state))
    return found.state, f"{found.found} {found.fix}"


@pytest.mark.parametrize("environment", [TWILIO, TELNYX])
def test_good_credentials_make_a_carrier(environment: dict[str, str]) -> None:
    given = credentials.read(environment)

    assert given.carrier is not None
    assert (given.number, worst(given.findings)[0]) == (OURS, "ok")


@pytest.mark.parametrize(
    ("environment", "state", "says"),
    [
        ({}, "skipped", "TWILIO_ACCOUNT_SID"),
        (TWILIO | TELNYX, "problem", "two carriers"),
        (TWILIO | {"TWILIO_AUTH_TOKEN": ""}, "problem", "TWILIO_AUTH_TOKEN is not set"),
        (TWILIO | {"TWILIO_AUTH_TOKEN": "SK-secret"}, "warning", "32 hexadecimal digits"),
        (TWILIO | {"TWILIO_PHONE_NUMBER": "0800 123"}, "problem", "E.164"),
        (TWILIO | {"TWILIO_PHONE_NUMBER": ""}, "problem", "TWILIO_PHONE_NUMBER"),
        (TELNYX | {"TELNYX_PUBLIC_KEY": ""}, "problem", "TELNYX_PUBLIC_KEY is not set"),
        (TELNYX | {"TELNYX_PUBLIC_KEY": "c2hvcnQ="}, "problem", "5 bytes instead of 32"),
        (TELNYX | {"TELNYX_API_KEY": "0123"}, "warning", 'begins with "KEY"'),
    ],
)
def test_credentials_that_cannot_be_right_are_told(environment: dict[str, str], state: str, says: str) -> None:
    got, words = worst(credentials.read(environment).findings)

    assert (got, says in words) == (state, True), words
    assert "secret" not in words


@pytest.mark.anyio
@pytest.mark.parametrize("name", CARRIERS)
async def test_the_account_is_read_and_never_changed(name: str) -> None:
    async with carrier_of(name) as carrier, aiohttp.ClientSession() as http:
        findings = await account.examine(given_by(carrier), OURS, "voice.example.com", http)
        asked = {request.method for request in carrier.requests}

    assert [(found.check, found.state) for found in findings[:2]] == [("account", "ok"), ("clock", "ok")]
    assert findings[2].check == "number"
    assert OURS in findings[2].found
    assert asked == {"GET"}


@pytest.mark.anyio
@pytest.mark.parametrize("name", CARRIERS)
async def test_wrong_keys_and_foreign_numbers_are_problems_with_a_fix(name: str) -> None:
    async with carrier_of(name) as carrier, aiohttp.ClientSession() as http:
        foreign = await account.examine(given_by(carrier), "+15559990000", "", http)
        carrier.refuse_next(401, "20003" if isinstance(carrier, LoopbackTwilioCarrier) else "10009", "Authenticate")
        refused = await account.examine(given_by(carrier), OURS, "", http)

    for findings in (foreign, refused):
        [problem] = [found for found in findings if found.state == "problem"]
        assert problem.fix


@pytest.mark.anyio
async def test_the_public_address_must_lead_to_this_very_port() -> None:
    listener = listen()
    port: int = listener.getsockname()[1]
    listener.close()
    async with aiohttp.ClientSession() as http:
        here = await way_in.examine(f"127.0.0.1:{port}", port, http)
        nowhere = await way_in.examine("127.0.0.1:9", port, http)
        unset = await way_in.examine("", port, http)
        async with LoopbackTwilioCarrier() as other:
            host = other.api_base.removeprefix("http://")
            elsewhere = await way_in.examine(host, port, http)

    assert [found.state for found in (here, nowhere, unset, elsewhere)] == ["ok", "problem", "skipped", "problem"]
    assert "not Patter" in elsewhere.found
    assert f"http://127.0.0.1:{port}" in nowhere.fix


@pytest.mark.anyio
@pytest.mark.parametrize("name", CARRIERS)
async def test_the_drill_passes_on_an_installation_that_works(name: str) -> None:
    findings = await drill.examine(name)

    assert [found for found in findings if found.state != "ok"] == []
    assert {found.check.partition(" ")[2] for found in findings} == {
        "loopback", "strangers", "signature", "codec", "marks", "keys", "recording", "machines", "manners",
    }  # fmt: skip


@pytest.mark.anyio
async def test_the_drill_sees_a_carrier_that_signs_with_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proof that the drill can fail: the carrier's signature no longer fits the credentials."""
    monkeypatch.setattr(drill, "PATIENCE_S", 0.5)
    monkeypatch.setattr(LoopbackTelnyxCarrier, "public_key", TELNYX["TELNYX_PUBLIC_KEY"], raising=False)

    findings = await drill.examine("telnyx")

    assert any(found.state == "problem" for found in findings)


def test_findings_are_lines_and_json() -> None:
    found = Finding("number", "problem", "No phone number is set.", "Set one.")

    assert found.line().splitlines()[1].strip() == "→ Set one."
    assert json.loads(as_json([found]))["ok"] is False
    assert json.loads(as_json([Finding("clock", "ok", "Right.")]))["ok"] is True


@pytest.mark.e2e
def test_the_command_prints_json_and_says_by_its_exit_code_whether_something_stands_in_the_way() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TWILIO", "TELNYX", "PATTER"))}
    command = [sys.executable, "-m", "patter.doctor", "--json"]
    good = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=60)
    bad = subprocess.run(command, env=clean | {"TWILIO_ACCOUNT_SID": "x"}, capture_output=True, text=True, timeout=60)

    assert (good.returncode, bad.returncode) == (0, 1), good.stderr + bad.stderr
    assert json.loads(good.stdout)["ok"] is True
    assert any("TWILIO_AUTH_TOKEN" in found["found"] for found in json.loads(bad.stdout)["findings"])
