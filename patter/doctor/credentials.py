"""The carrier's credentials in the environment: which are there, and whether they can be right.

It owns their names and forms; it refuses to ask anybody and never shows a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from patter.builders import Carrier, is_e164
from patter.doctor.findings import Finding
from patter.wire.telnyx_signature import check_public_key

CHECK = "credentials"
_TWILIO = ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN")
_TELNYX = ("TELNYX_API_KEY", "TELNYX_CONNECTION_ID", "TELNYX_PUBLIC_KEY")
_CONSOLE = {
    "TWILIO_ACCOUNT_SID": "the Twilio Console shows it on its first page, under Account Info",
    "TWILIO_AUTH_TOKEN": "the Twilio Console shows it on its first page, under Account Info",
    "TELNYX_API_KEY": "make one in the Telnyx portal, under Keys & Credentials",
    "TELNYX_CONNECTION_ID": "it is the id of your Voice API application in the Telnyx portal",
    "TELNYX_PUBLIC_KEY": "the Telnyx portal shows it under Keys & Credentials, Public Key",
}
_FORMS = {
    "TWILIO_ACCOUNT_SID": (re.compile(r"AC[0-9a-f]{32}"), '"AC" and 32 hexadecimal digits'),
    "TWILIO_AUTH_TOKEN": (re.compile(r"[0-9a-f]{32}"), "32 hexadecimal digits"),
    "TELNYX_API_KEY": (re.compile(r"KEY[A-Za-z0-9_-]{10,}"), 'text that begins with "KEY"'),
    "TELNYX_CONNECTION_ID": (re.compile(r"[0-9]{5,25}"), "a long number"),
}


@dataclass(frozen=True, slots=True)
class Given:
    """What the environment gives: the carrier (None without credentials that could work), its number and our host."""

    carrier: Carrier | None
    number: str
    host: str
    findings: tuple[Finding, ...]


def read(environment: Mapping[str, str]) -> Given:
    """The credentials, and what is wrong with them."""
    given = {name: environment.get(name, "").strip() for name in _TWILIO + _TELNYX}
    twilio, telnyx = any(given[name] for name in _TWILIO), any(given[name] for name in _TELNYX)
    host = environment.get("PATTER_WEBHOOK_HOST", "").strip()
    own = "TWILIO_PHONE_NUMBER" if twilio else "TELNYX_PHONE_NUMBER"
    number = (environment.get(own) or environment.get("PATTER_PHONE_NUMBER", "")).strip()
    if twilio and telnyx:
        fix = "Unset TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or the TELNYX_ variables."
        found = Finding(CHECK, "problem", "Credentials of two carriers are set; a phone line has one.", fix)
        return Given(None, number, host, (found,))
    if not twilio and not telnyx:
        fix = f"For real phones set {' and '.join(_TWILIO)}, or {', '.join(_TELNYX)}."
        return Given(None, number, host, (Finding(CHECK, "skipped", "No carrier's credentials are set.", fix),))
    names = _TWILIO if twilio else _TELNYX
    findings = [judged for name in names if (judged := _judged(name, given[name])) is not None]
    findings += _number(number, own)
    if any(finding.state == "problem" for finding in findings):
        return Given(None, number, host, tuple(findings))
    base = environment.get("PATTER_CARRIER_API", "").strip()
    if twilio:
        carrier = Carrier("twilio", given["TWILIO_ACCOUNT_SID"], given["TWILIO_AUTH_TOKEN"], api_base=base)
    else:
        key, connection, public_key = (given[name] for name in _TELNYX)
        carrier = Carrier("telnyx", connection, key, public_key, api_base=base)
    findings.insert(0, Finding(CHECK, "ok", f"{', '.join(names)} are set and have the right form."))
    return Given(carrier, number, host, tuple(findings))


def _judged(name: str, value: str) -> Finding | None:
    """What is wrong with one credential, or None."""
    where = _CONSOLE[name][0].upper() + _CONSOLE[name][1:]
    if not value:
        return Finding(CHECK, "problem", f"{name} is not set.", f"{where}.")
    if name == "TELNYX_PUBLIC_KEY":
        try:
            check_public_key(value)
        except ValueError as problem:
            return Finding(CHECK, "problem", f"TELNYX_PUBLIC_KEY cannot be right: {problem}.", f"{where}.")
        return None
    form, spelled = _FORMS[name]
    if form.fullmatch(value):
        return None
    return Finding(CHECK, "warning", f"{name} does not look right: it should be {spelled}.", f"{where}.")


def _number(number: str, name: str) -> list[Finding]:
    if not number:
        return [
            Finding("number", "problem", "No phone number is set.", f'Set {name} to your number, as "+15551234567".')
        ]
    if not is_e164(number):
        return [Finding("number", "problem", f"{number!r} is no E.164 number.", 'Write it as "+15551234567".')]
    return []
