"""Telnyx' REST API (Call Control v2), as far as calls, their application and phone numbers need it.

It owns the names of Telnyx' paths, fields and errors; it refuses to know why a call is made.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import anyio

from patter.builders import check_number
from patter.exceptions import CarrierError
from patter.providers.carrier_http import CarrierHttp, Dialect, Sleep, path_part

TELNYX = "https://api.telnyx.com"
GONE = frozenset({"90018"})
"""Error codes of a call that is over: no failure for whoever wants it over."""

RING_RANGE_S = (5, 600)  # what Telnyx' timeout_secs may be

_KEYS = "check TELNYX_API_KEY (KEY…): Telnyx portal, API Keys"
_TO = 'give the number in E.164 form, such as "+15551234567", and check that it exists'
_FROM = (
    "call from a number of this Telnyx account, or one verified there as a caller id (Telnyx portal, Verified Numbers)"
)
_FUNDS = "the account is inactive or out of funds: look into the Telnyx portal, Billing"
_VERIFY = "the account must be verified for this first: Telnyx portal, Account, Verifications"
_CONNECTION = "check TELNYX_CONNECTION_ID: the id of a Voice API application with a webhook URL (Telnyx portal, Voice)"
_PROFILE = (
    "assign an outbound voice profile to the Voice API application: Telnyx portal, Voice, Outbound Voice Profiles"
)
_COUNTRY = "allow calls to this country in the outbound voice profile: Telnyx portal, Voice, Outbound Voice Profiles"
_CHANNELS = "too many calls at once: wait for one to end, or raise the channel limit in the Telnyx portal"
_UNKNOWN = "the call, number or application is unknown to Telnyx: check TELNYX_CONNECTION_ID"
_VALUES = "Telnyx does not take these values: its message says which"
_OVER = "the call has ended"
_SOON = "too many requests: try again in a moment, or ask Telnyx for a higher limit"
_LATER = "Telnyx is not ready for it: try again in a moment"
_FIXES = {
    "10001": "this phone number is not active: look into the Telnyx portal, Numbers",
    "10002": _TO,
    "10003": "give a public https:// or wss:// address that Telnyx can reach, of at most 2000 characters",
    "10004": "a parameter is missing: Telnyx' message says which",
    "10005": _UNKNOWN,
    "10006": _CONNECTION,
    "10007": _LATER,
    "10008": _LATER,
    "10009": _KEYS,
    "10010": "this key may not do that: check the account it belongs to and the number that is called from",
    "10011": _SOON,
    "10015": _VALUES,
    "10016": _TO,
    "10027": _VALUES,
    "10032": _VALUES,
    "10033": _VALUES,
    "10035": "the resource is locked: ask Telnyx' support why",
    "10036": _LATER,
    "10037": _LATER,
    "10038": _VERIFY,
    "10039": _VERIFY,
    "20001": _KEYS,
    "20002": _KEYS,
    "20003": _KEYS,
    "20006": _KEYS,
    "20008": _KEYS,
    "20012": _FUNDS,
    "20013": "the account is blocked: ask Telnyx' support why",
    "20014": _VERIFY,
    "20015": "the feature is not enabled for this account: ask Telnyx' support for it",
    "20016": _VERIFY,
    "20017": _VERIFY,
    "20100": _FUNDS,
    "90010": "give a text of 1 to 3000 characters",
    "90014": "only the keys 0-9, A-D, * and # can be pressed, and w for a pause",
    "90015": "the call is unknown to Telnyx: it may have ended long ago",
    "90017": "client_state must be base64",
    "90018": _OVER,
    "90020": "the call has no sound yet: record once it is answered",
    "90034": "the call has not been answered yet: wait for that first",
    "90041": _CHANNELS,
    "90042": _CHANNELS,
    "90043": _CHANNELS,
    "90045": "the call streams its sound already",
    "90046": "Telnyx could not open the media socket: check that the public address can be reached over wss://",
    "90048": "the call streams no sound",
    "90102": "this is a call that we made: it cannot be answered by us",
}
_STATUSES = {
    400: _VALUES,
    401: _KEYS,
    402: _FUNDS,
    403: "this key may not do that, or the account is inactive: look into the Telnyx portal",
    404: _UNKNOWN,
    422: "Telnyx does not take these values, or the call has ended: its message says which",
    429: _SOON,
}
_PHRASES = {  # some codes have many causes; a field stands in brackets, the D codes are those of Telnyx' SIP side
    "connection_id": _CONNECTION,
    "(/from)": _FROM,
    "origination number": _FROM,
    "D35": _FROM,
    "D51": _FROM,
    "whitelisted": _COUNTRY,
    "D13": _COUNTRY,
    "no outbound": _PROFILE,
    "D38": _PROFILE,
}


def _read_error(body: Any) -> tuple[str, str]:
    """The code and the words of the first of Telnyx' errors, with the field it means."""
    errors = body.get("errors") if isinstance(body, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return "", ""
    code, source = first.get("code"), first.get("source")
    words = [text for text in (first.get("title"), first.get("detail")) if isinstance(text, str) and text]
    field = source.get("pointer") if isinstance(source, dict) else None
    said = " – ".join(dict.fromkeys(words)) + (f" ({field})" if isinstance(field, str) and field else "")
    return (str(code) if isinstance(code, int | str) else ""), said


_DIALECT = Dialect("telnyx", _read_error, _FIXES, _STATUSES, _PHRASES)


@dataclass(frozen=True, slots=True)
class TelnyxLeg:
    """The three names of a call at Telnyx: for commands, of this leg, of all legs that belong together."""

    call_control_id: str
    call_leg_id: str
    call_session_id: str


class TelnyxRest:
    """One Telnyx account over a shared `http` session, which stays open. Every method raises CarrierError.

    Numbers must be E.164, else ValueError before anything is sent. A request that is sent again carries the same
    `command_id`, by which Telnyx knows that it is the same."""

    def __init__(
        self, http: aiohttp.ClientSession, api_key: str, base_url: str = TELNYX, *, sleep: Sleep = anyio.sleep
    ) -> None:
        key = api_key.strip()
        self._http = CarrierHttp(http, _DIALECT, base_url or TELNYX, f"Bearer {key}", [key], sleep=sleep)

    @property
    def skew_s(self) -> float | None:
        """Telnyx' clock minus ours at its last answer, to about a second (None: no answer yet)."""
        return self._http.skew_s

    async def dial(
        self,
        *,
        connection_id: str,
        to: str,
        caller: str,
        client_state: str = "",
        webhook_url: str = "",
        ring_timeout_s: float = 30.0,
        detect_machine: bool = False,
        command_id: str = "",
        link_to: str = "",
    ) -> TelnyxLeg:
        """Call `to` from `caller`; returns the new leg while it is still on its way.

        `client_state` (base64) comes back in every webhook of the leg; `link_to` is the call_control_id of another leg of
        the same session. With `detect_machine` webhooks tell who answered and when a machine's greeting has ended. After a
        failure that left its fate open the call may exist twice, both with this `client_state`: hang up the second."""
        check_number(to, "the number to call")
        check_number(caller, "the number to call from")
        _check_client_state(client_state)
        body: dict[str, Any] = {
            "connection_id": connection_id,
            "to": to,
            "from": caller,
            "timeout_secs": min(max(round(ring_timeout_s), RING_RANGE_S[0]), RING_RANGE_S[1]),
            "command_id": command_id or str(uuid.uuid4()),
        }
        given = {"client_state": client_state, "webhook_url": webhook_url, "link_to": link_to}
        body |= {name: value for name, value in given.items() if value}
        if detect_machine:
            body["answering_machine_detection"] = "premium"
        leg = _data(await self._http.send("POST", "/v2/calls", body=body))
        names = [leg.get(name) for name in ("call_control_id", "call_leg_id", "call_session_id")]
        if not all(isinstance(name, str) and name for name in names):
            raise CarrierError("its answer does not name the call", provider="telnyx", fix="try again")
        return TelnyxLeg(*map(str, names))

    async def command(self, call_control_id: str, action: str, /, **fields: Any) -> dict[str, Any]:
        """Do `action` (answer, reject, streaming_start, hangup, transfer, bridge, speak, send_dtmf, record_start) on a call.

        Fields that are None are left out; `command_id` is added if there is none. Returns Telnyx' `data`. A call that is
        over raises CarrierError with a code in `GONE`."""
        body = {name: value for name, value in fields.items() if value is not None}
        for name in ("to", "from"):
            if name in body:
                check_number(body[name], f"the number in {name!r}")
        _check_client_state(body.get("client_state", ""))
        body.setdefault("command_id", str(uuid.uuid4()))
        path = (
            f"/v2/calls/{path_part(call_control_id, 'the call_control_id')}/actions/{path_part(action, 'the action')}"
        )
        return _data(await self._http.send("POST", path, body=body))

    async def application(self, connection_id: str) -> dict[str, Any]:
        """The Voice API application's record (`application_name`, `webhook_event_url`, `webhook_api_version`, …)."""
        return _data(await self._http.send("GET", _application(connection_id)))

    async def set_webhook(self, connection_id: str, url: str) -> None:
        """Let the application's webhooks come to `url`."""
        name = (await self.application(connection_id)).get("application_name", "")  # Telnyx wants it with every change
        body = {"application_name": name, "webhook_event_url": url}
        await self._http.send("PATCH", _application(connection_id), body=body)

    async def number(self, e164: str) -> dict[str, Any] | None:
        """The record of a phone number that this account owns (`id`, `connection_id`, `status`, …), else None."""
        check_number(e164, "the phone number")
        query = {"filter[phone_number]": e164[1:]}  # the filter takes digits only, and matches parts of numbers
        rows = (await self._http.send("GET", "/v2/phone_numbers", query=query)).get("data")
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and row.get("phone_number") == e164:
                return row
        return None


def _application(connection_id: str) -> str:
    return f"/v2/call_control_applications/{path_part(connection_id, 'the Telnyx connection id')}"


def _data(answer: Mapping[str, Any]) -> dict[str, Any]:
    data = answer.get("data")
    return data if isinstance(data, dict) else {}


def _check_client_state(state: Any) -> None:
    try:
        base64.b64decode(state, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise ValueError("client_state must be base64") from None
