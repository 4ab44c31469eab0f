"""Carrier keys in the environment: which are there, which are missing, and what is said about it."""

from __future__ import annotations

import pytest

from patter_tui.carrier import Keys, Missing, bare_host, is_number, keys_in, plain_number, problem_in

TWILIO = {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "sesame"}
TELNYX = {"TELNYX_API_KEY": "KEY1", "TELNYX_CONNECTION_ID": "17", "TELNYX_PUBLIC_KEY": "pk="}


def test_twilios_keys_are_found_with_number_host_and_another_api() -> None:
    more = {
        "TWILIO_PHONE_NUMBER": "+15550100",
        "PATTER_WEBHOOK_HOST": "https://voice.example.com/",
        "PATTER_CARRIER_API": "http://127.0.0.1:9",
    }
    found = keys_in(TWILIO | more)
    assert found == Keys(
        "twilio", "AC1", "sesame", number="+15550100", host="voice.example.com", api_base="http://127.0.0.1:9"
    )
    assert "sesame" not in repr(found)


def test_telnyx_keys_are_the_engines_account_secret_and_public_key() -> None:
    found = keys_in(TELNYX | {"PATTER_PHONE_NUMBER": "+15550111"})
    assert found.to_json() == {
        "carrier": "telnyx", "account": "17", "secret": "KEY1", "public_key": "pk=", "api_base": "",
    }  # fmt: skip
    assert found.number == "+15550111"


@pytest.mark.parametrize("left_out", [*TWILIO, *TELNYX])
def test_what_is_missing_is_named_with_the_place_where_it_is_found(left_out: str) -> None:
    given = TWILIO if left_out.startswith("TWILIO") else TELNYX
    said = problem_in({name: value for name, value in given.items() if name != left_out})
    assert left_out in said
    assert ".com" in said
    assert all(name not in said for name in given if name != left_out)
    assert said.count(". ") == 0


def test_an_empty_variable_is_a_missing_one() -> None:
    assert "TWILIO_AUTH_TOKEN" in problem_in(TWILIO | {"TWILIO_AUTH_TOKEN": "  "})


def test_without_any_keys_both_carriers_are_named() -> None:
    said = problem_in({})
    assert all(name in said for name in (*TWILIO, *TELNYX))


def test_two_carriers_at_once_are_refused_with_the_way_out() -> None:
    with pytest.raises(Missing) as said:
        keys_in(TWILIO | {"TELNYX_API_KEY": "KEY1"})
    assert "`unset TELNYX_API_KEY` to use Twilio" in str(said.value)
    assert "`unset TWILIO_ACCOUNT_SID TWILIO_AUTH_TOKEN` to use Telnyx" in str(said.value)
    assert "sesame" not in str(said.value)


def test_numbers_are_taken_as_people_write_them() -> None:
    assert plain_number("+1 (555) 123-4567") == "+15551234567"
    assert is_number("+15551234567")
    assert not any(is_number(text) for text in ("", "15551234567", "+0155", "+1555123456789012", "+1555\n", "+١٥٥٥"))
    assert bare_host("wss://voice.example.com/") == "voice.example.com"
