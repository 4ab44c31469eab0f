"""Twilio's REST API, as far as calls, their recordings and phone numbers need it.

It owns the names of Twilio's paths, parameters and errors; it refuses to know why a call is made.
"""

from __future__ import annotations

import base64
import re
from typing import Any

import aiohttp
import anyio

from patter.builders import check_number
from patter.exceptions import CarrierError
from patter.providers.carrier_http import CarrierHttp, Dialect, Sleep, path_part

TWILIO = "https://api.twilio.com"
GONE = frozenset({"20404", "21220"})
"""Error codes of a call that is over: no failure for whoever wants it over."""

RING_RANGE_S = (1, 600)  # what Twilio's Timeout may be
STATUS_EVENTS = ("initiated", "ringing", "answered", "completed")

_KEYS = "check TWILIO_ACCOUNT_SID (AC…) and TWILIO_AUTH_TOKEN: both stand on the first page of the Twilio console"
_FROM = "call from a number of this Twilio account, or one verified as its caller id"
_TO = 'give the number in E.164 form, such as "+15551234567", and check that it exists'
_GEO = "allow calls to this country: Twilio console, Voice, Settings, Geo permissions"
_TRIAL = "a trial account only calls verified numbers: verify this one in the Twilio console, or upgrade the account"
_SOON = "too many requests at once: try again in a moment, or ask Twilio for more concurrency"
_URL = "give a public https:// address that Twilio can reach"
_OVER = "the call is over, or not in a state that allows this"
_FIXES = {
    "10001": "the account is not active: look into the Twilio console",
    "10004": "too many calls at once for this account: try again when one has ended",
    "13223": _TO,
    "13224": _TO,
    "13225": "Twilio does not call this number: use another one",
    "13226": _TO,
    "13227": _GEO,
    "20003": _KEYS,
    "20005": "the account is not active: look into the Twilio console",
    "20008": "these are test credentials, which cannot do this: use the live ones",
    "20404": "the call, number or account is unknown to Twilio or over: check the account SID",
    "20429": _SOON,
    "21201": _TO,
    "21205": _URL,
    "21210": _FROM,
    "21211": _TO,
    "21212": _FROM,
    "21213": _FROM,
    "21214": _TO,
    "21215": _GEO,
    "21216": "the account may not call this number: ask Twilio's support why",
    "21217": _TO,
    "21218": "the TwiML application is unknown: give a Url instead",
    "21219": _TRIAL,
    "21220": _OVER,
    "21608": _TRIAL,
}
_STATUSES = {
    400: "Twilio does not take these values: its message says which",
    401: _KEYS,
    403: "this key may not do that: use the account's own auth token, or a key with the permission",
    404: "the call, number or account is unknown to Twilio: check the account SID",
    429: _SOON,
}


def _read_error(body: Any) -> tuple[str, str]:
    """Twilio's `code` and `message` (newer APIs say `detail` or `title`)."""
    if not isinstance(body, dict):
        return "", ""
    code = body.get("code")
    message = body.get("message") or body.get("detail") or body.get("title")
    return (str(code) if isinstance(code, int | str) else ""), (message if isinstance(message, str) else "")


_DIALECT = Dialect("twilio", _read_error, _FIXES, _STATUSES)


class TwilioRest:
    """One Twilio account over a shared `http` session, which stays open. Every method raises CarrierError.

    Numbers must be E.164, else ValueError before anything is sent. A request may be sent again after a failure that leaves
    its fate open, so a thing asked for once may be done twice."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        account_sid: str,
        auth_token: str,
        base_url: str = TWILIO,
        *,
        sleep: Sleep = anyio.sleep,
    ) -> None:
        sid, token = account_sid.strip(), auth_token.strip()
        credentials = base64.b64encode(f"{sid}:{token}".encode()).decode()
        self._http = CarrierHttp(http, _DIALECT, base_url or TWILIO, f"Basic {credentials}", [token], sleep=sleep)
        self._account = f"/2010-04-01/Accounts/{path_part(sid, 'the Twilio account SID')}"

    @property
    def skew_s(self) -> float | None:
        """Twilio's clock minus ours at its last answer, to about a second (None: no answer yet)."""
        return self._http.skew_s

    async def account(self) -> dict[str, Any]:
        """The account's own record (`status`, `type`, `friendly_name`)."""
        return await self._http.send("GET", f"{self._account}.json")

    async def number(self, e164: str) -> dict[str, Any] | None:
        """The record of a phone number that this account owns (`sid`, `voice_url`, …), else None."""
        check_number(e164, "the phone number")
        page = await self._http.send("GET", f"{self._account}/IncomingPhoneNumbers.json", query={"PhoneNumber": e164})
        rows = page.get("incoming_phone_numbers")
        for row in rows if isinstance(rows, list) else []:  # the filter also matches parts of numbers
            if isinstance(row, dict) and row.get("phone_number") == e164:
                return row
        return None

    async def set_voice_url(self, sid: str, url: str, method: str = "POST") -> None:
        """Let calls to the number with this SID (PN…) be asked for at `url`."""
        path = f"{self._account}/IncomingPhoneNumbers/{path_part(sid, 'the phone number SID')}.json"
        await self._http.send("POST", path, form=[("VoiceUrl", url), ("VoiceMethod", method)])

    async def create_call(
        self,
        *,
        to: str,
        caller: str,
        url: str = "",
        status_url: str = "",
        ring_timeout_s: float = 30.0,
        detect_machine: bool = False,
        machine_url: str = "",
        twiml: str = "",
    ) -> str:
        """Call `to` from `caller`; returns the CallSid while it is still queued.

        Once answered, Twilio asks `url` what to do, or does `twiml`. With `detect_machine` the call goes on at once, and
        `machine_url` is told who answered: a human early, a machine when its greeting has ended.

        A 5xx is tried again although the first request may have gone through: our `url` carries a one-time token, so
        whoever answers a second leg's webhook turns that leg away."""
        check_number(to, "the number to call")
        check_number(caller, "the number to call from")
        if bool(url) == bool(twiml):
            raise ValueError("a call needs a url or twiml, and not both")
        form = [("To", to), ("From", caller), ("Url", url) if url else ("Twiml", twiml)]
        form.append(("Timeout", str(min(max(round(ring_timeout_s), RING_RANGE_S[0]), RING_RANGE_S[1]))))
        if status_url:
            form.append(("StatusCallback", status_url))
            form += [("StatusCallbackEvent", event) for event in STATUS_EVENTS]
        if detect_machine:
            form += [("MachineDetection", "DetectMessageEnd"), ("AsyncAmd", "true")]
            form.append(("AsyncAmdStatusCallback", machine_url))
        return _sid(await self._http.send("POST", f"{self._account}/Calls.json", form=form))

    async def update_call(self, call_sid: str, *, status: str = "", twiml: str = "") -> None:
        """End a call (`status` "completed" or "canceled"), or give a live one other `twiml`, which ends its stream.

        A call that is over raises CarrierError with a code in `GONE`."""
        form = [pair for pair in (("Status", status), ("Twiml", twiml)) if pair[1]]
        await self._http.send("POST", self._call(call_sid, ".json"), form=form)

    async def fetch_call(self, call_sid: str) -> dict[str, Any]:
        """The call's record (`status`, `direction`, `answered_by`, `duration`, …)."""
        return await self._http.send("GET", self._call(call_sid, ".json"))

    async def start_recording(self, call_sid: str, callback_url: str) -> str:
        """Record a live call from now on, each side in a channel of its own; returns the recording's SID (RE…).

        `callback_url` is told when the recording can be fetched."""
        form = [("RecordingChannels", "dual"), ("RecordingStatusCallback", callback_url)]
        return _sid(await self._http.send("POST", self._call(call_sid, "/Recordings.json"), form=form))

    def _call(self, call_sid: str, rest: str) -> str:
        return f"{self._account}/Calls/{path_part(call_sid, 'the CallSid')}{rest}"


_SID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # it names files and stands in addresses: nothing else may be in it


def _sid(record: dict[str, Any]) -> str:
    sid = record.get("sid")
    if not isinstance(sid, str) or not _SID.fullmatch(sid):
        raise CarrierError("its answer names no SID", provider="twilio", fix="try again")
    return sid
