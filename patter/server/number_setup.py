"""Points a phone number's webhook at this server, and back again when asked.

It owns what is looked at before a webhook is changed; it refuses to know what the webhook does.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from patter.builders import Carrier
from patter.exceptions import CarrierError
from patter.providers.telnyx_rest import TelnyxRest
from patter.providers.twilio_rest import TwilioRest
from patter.server import telnyx_gate, twilio_gate

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NumberSetup:
    """What a number's webhook was, and sentences for the user about what was found and done.

    `previous_url` may hold secrets of whoever set it: show `previous_host` at most. `url` is what stands there by our
    doing; empty if nothing was changed."""

    previous_url: str = field(default="", repr=False)
    notes: tuple[str, ...] = ()
    number: str = ""
    connection_id: str = ""
    url: str = ""
    previous_method: str = "POST"

    @property
    def previous_host(self) -> str:
        """Where calls led before, without paths, queries and names in it; empty for nowhere."""
        return _host(self.previous_url)


async def point_number(
    rest: TwilioRest | TelnyxRest, carrier: Carrier, number: str, public_url: str, *, take: bool = True
) -> NumberSetup:
    """Let calls to `number` (E.164) come to `public_url` ("https://voice.example.com"); without `take`, only look and note.

    An empty `public_url` (only without `take`) is compared with nothing. Raises CarrierError if the carrier refuses or the
    number is not this account's, ValueError for a number that is not E.164."""
    if take and not public_url:
        raise ValueError("a number cannot be pointed at no address")
    if isinstance(rest, TwilioRest):
        url = public_url.rstrip("/") + twilio_gate.VOICE if public_url else ""
        return await _point_twilio(rest, number, url, take)
    url = public_url.rstrip("/") + telnyx_gate.VOICE if public_url else ""
    return await _point_telnyx(rest, carrier.account, number, url, take)


async def restore(rest: TwilioRest | TelnyxRest, setup: NumberSetup) -> None:
    """Put back what `point_number` replaced, unless it changed nothing or somebody else has changed it meanwhile.

    Raises CarrierError."""
    if not setup.url:
        return
    if isinstance(rest, TwilioRest):
        row = await rest.number(setup.number) or {}
        if _text(row, "voice_url") == setup.url:
            await rest.set_voice_url(_text(row, "sid"), setup.previous_url, setup.previous_method)
            return
    elif _text(await rest.application(setup.connection_id), "webhook_event_url") == setup.url:
        await rest.set_webhook(setup.connection_id, setup.previous_url)
        return
    log.info("the number's webhook was changed by somebody else and stays", extra={"number": setup.number})


async def _point_twilio(rest: TwilioRest, number: str, url: str, take: bool) -> NumberSetup:
    row = await rest.number(number)
    if row is None:
        raise _not_owned(
            "twilio", number, "give a number of this account: Twilio console, Phone Numbers, Active numbers"
        )
    before, method = _text(row, "voice_url"), _text(row, "voice_method") or "POST"
    notes = []
    if _is_false(row.get("capabilities"), "voice"):
        notes.append(f"{number} cannot take calls: Twilio sold it without voice.")
    for name, what in (("trunk_sid", "a SIP trunk"), ("voice_application_sid", "a TwiML app")):
        if _text(row, name):
            notes.append(
                f"Twilio sends calls to {number} to {what} ({_text(row, name)}), so its webhook would be ignored and was "
                f"left alone: in the Twilio console, set the number's voice configuration to Webhook."
            )
            return NumberSetup(before, tuple(notes), number)
    if not url or (before == url and method == "POST"):
        return NumberSetup(before, tuple(notes), number)
    if before != url:
        notes += _moved(before, url, f"Calls to {number}", take)
    if not take:
        return NumberSetup(before, tuple(notes), number)
    await rest.set_voice_url(_text(row, "sid"), url)
    return NumberSetup(before, tuple(notes), number, url=url, previous_method=method)


async def _point_telnyx(rest: TelnyxRest, connection_id: str, number: str, url: str, take: bool) -> NumberSetup:
    row = await rest.number(number)
    if row is None:
        raise _not_owned("telnyx", number, "give a number of this account: Telnyx portal, Numbers, My Numbers")
    application = await rest.application(connection_id)
    before, name = _text(application, "webhook_event_url"), _text(application, "application_name") or connection_id
    notes = []
    if _text(row, "connection_id") != connection_id:
        notes.append(
            f"{number} is not bound to the Voice API application {name!r}, so its calls do not come here: bind it in the "
            f"Telnyx portal, Numbers, My Numbers."
        )
    if _text(row, "status") not in ("", "active"):
        notes.append(f"{number} is not active at Telnyx (it is {_text(row, 'status')!r}): calls do not reach it.")
    if application.get("active") is False:
        notes.append(f"The Voice API application {name!r} is switched off: switch it on in the Telnyx portal, Voice.")
    if _text(application, "webhook_api_version") not in ("", "2"):
        notes.append(
            f"The application {name!r} sends webhooks of another version: choose API v2 in the Telnyx portal, Voice."
        )
    if not url or before == url:
        return NumberSetup(before, tuple(notes), number, connection_id)
    notes += _moved(before, url, f"All calls of the application {name!r}", take)
    if not take:
        return NumberSetup(before, tuple(notes), number, connection_id)
    await rest.set_webhook(connection_id, url)
    return NumberSetup(before, tuple(notes), number, connection_id, url)


def _moved(before: str, url: str, calls: str, take: bool) -> list[str]:
    """What there is to say about calls that lead, or have led, somewhere else; logged before anything is changed."""
    old, new = _host(before), _host(url)
    if not take:
        return [f"{calls} lead to {old or 'nobody'}, not to {new}."]
    if not before:
        return []
    log.warning("the number's webhook led elsewhere and is replaced", extra={"led_to": old, "leads_to": new})
    if old == new:
        return [f"{calls} led to another address of {old}; they come to this server now."]
    return [f"{calls} led to {old}; they come to {new} now."]


def _host(url: str) -> str:
    """Only host and port: paths, queries and user names of other people's webhooks may be secrets."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.hostname}{port}" if parts.hostname else "an address of another kind"
    except ValueError:
        return "an address of another kind"


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def _is_false(row: Any, name: str) -> bool:
    return isinstance(row, dict) and row.get(name) is False


def _not_owned(provider: str, number: str, fix: str) -> CarrierError:
    return CarrierError(f"{number} is no number of this account", provider=provider, fix=fix, status=404)
