"""The carrier's account, asked over its REST API: the credentials, the clock, the number and where its calls go.

It owns these questions, all of which only read; it refuses to change anything.
"""

from __future__ import annotations

import aiohttp

from patter.builders import Carrier
from patter.doctor.findings import Finding, State
from patter.exceptions import CarrierError
from patter.exchange import rest_of
from patter.providers.telnyx_rest import TelnyxRest
from patter.providers.twilio_rest import TwilioRest
from patter.server.number_setup import point_number

LATE_S = 30.0  # a clock that is this wrong makes timestamps and logs misleading
TOO_LATE_S = 240.0  # webhooks signed more than 300 s away from our clock are refused
_SET_CLOCK = "Set this machine's clock (chrony, systemd-timesyncd or your system's own)."


async def examine(carrier: Carrier, number: str, host: str, http: aiohttp.ClientSession) -> list[Finding]:
    """The findings: account, clock, number."""
    try:
        rest = rest_of(carrier, http)
        findings = [await _account(rest, carrier), _clock(rest)]
    except CarrierError as refused:
        return [_refused("account", refused)]
    except ValueError as wrong:
        return [Finding("account", "problem", _sentence(str(wrong)))]
    return [*findings, await _number(rest, carrier, number, host)]


async def _account(rest: TwilioRest | TelnyxRest, carrier: Carrier) -> Finding:
    if isinstance(rest, TwilioRest):
        account = await rest.account()
        name, status = str(account.get("friendly_name", "")), str(account.get("status", ""))
        if status not in ("active", ""):
            return Finding(
                "account", "problem", f'The account "{name}" is {status}.', "See the Twilio Console, Billing."
            )
        return Finding("account", "ok", f'Twilio knows the account "{name}".')
    application = await rest.application(carrier.account)
    name = str(application.get("application_name", ""))
    return Finding("account", "ok", f'Telnyx knows the application "{name}".')


def _clock(rest: TwilioRest | TelnyxRest) -> Finding:
    skew = rest.skew_s
    if skew is None:
        return Finding("clock", "skipped", "The carrier did not tell its time.")
    if abs(skew) < LATE_S:
        return Finding("clock", "ok", f"This clock and the carrier's differ by {abs(skew):.0f} s.")
    way = "behind" if skew > 0 else "ahead of"
    state: State = "problem" if abs(skew) > TOO_LATE_S else "warning"
    return Finding("clock", state, f"This clock is {abs(skew):.0f} s {way} the carrier's.", _SET_CLOCK)


async def _number(rest: TwilioRest | TelnyxRest, carrier: Carrier, number: str, host: str) -> Finding:
    try:
        setup = await point_number(rest, carrier, number, f"https://{host}" if host else "", take=False)
    except CarrierError as refused:
        return _refused("number", refused)
    leads = setup.previous_host
    found = f"{number} is yours; its calls go to {leads}." if leads else f"{number} is yours; its calls go nowhere yet."
    if setup.notes:
        return Finding("number", "warning", found, " ".join(setup.notes))
    return Finding("number", "ok", found)


def _refused(check: str, refused: CarrierError) -> Finding:
    said = f"{refused.provider.capitalize()}: {refused.problem}".removesuffix(".") + "."
    return Finding(check, "problem", said, _sentence(refused.fix) if refused.fix else "")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
