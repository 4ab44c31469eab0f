"""What Twilio's REST API says about calls, recordings, numbers and the account: the JSON it answers with.

It owns names and spellings; it refuses to know how a thing came to be as it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

API = "/2010-04-01"


def new_sid(prefix: str) -> str:
    """Two letters and 32 hexadecimal digits."""
    return prefix + secrets.token_hex(16)


def date(moment: float) -> str | None:
    """A moment (seconds since the epoch) as the API writes it; None for 0.0, which means never."""
    return formatdate(moment) if moment else None


@dataclass
class PhoneNumber:
    """A number of the account, as it is set up."""

    phone_number: str
    voice_url: str = ""
    status_callback: str = ""
    voice_method: str = "POST"
    voice_fallback_url: str = ""
    voice_fallback_method: str = "POST"
    status_callback_method: str = "POST"
    voice_application_sid: str = ""
    trunk_sid: str = ""
    voice_receive_mode: str = "voice"
    voice_caller_id_lookup: str = "false"
    friendly_name: str = ""
    sid: str = field(default_factory=lambda: new_sid("PN"))
    created_at: float = 0.0

    def resource(self, account_sid: str) -> dict[str, Any]:
        """The number's JSON."""
        return {
            "sid": self.sid,
            "account_sid": account_sid,
            "friendly_name": self.friendly_name or self.phone_number,
            "phone_number": self.phone_number,
            "voice_url": self.voice_url or None,
            "voice_method": self.voice_method,
            "voice_fallback_url": self.voice_fallback_url or None,
            "voice_fallback_method": self.voice_fallback_method,
            "voice_caller_id_lookup": self.voice_caller_id_lookup == "true",
            "voice_application_sid": self.voice_application_sid or None,
            "voice_receive_mode": self.voice_receive_mode,
            "trunk_sid": self.trunk_sid or None,
            "status_callback": self.status_callback,
            "status_callback_method": self.status_callback_method,
            "sms_url": "",
            "sms_method": "POST",
            "sms_fallback_url": "",
            "sms_fallback_method": "POST",
            "sms_application_sid": "",
            "address_requirements": "none",
            "beta": False,
            "capabilities": {"voice": True, "sms": False, "mms": False, "fax": False},
            "emergency_status": "Inactive",
            "origin": "twilio",
            "status": "in-use",
            "api_version": "2010-04-01",
            "date_created": date(self.created_at),
            "date_updated": date(self.created_at),
            "uri": f"{API}/Accounts/{account_sid}/IncomingPhoneNumbers/{self.sid}.json",
        }


@dataclass
class CallRecord:
    """What the carrier's books say about one call. Moments in seconds since the epoch, 0.0 = not yet."""

    sid: str
    account_sid: str
    caller: str
    callee: str
    direction: str
    parent_sid: str = ""
    status: str = "queued"
    answered_by: str = ""
    created_at: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0

    @property
    def seconds(self) -> int:
        """How long it was up, in whole seconds."""
        return round(self.ended_at - self.started_at) if self.started_at and self.ended_at else 0

    @property
    def minutes(self) -> int:
        """What is billed: begun minutes."""
        return -(-self.seconds // 60)

    def form(self) -> dict[str, str]:
        """The fields that every webhook of this call has. Empty ones belong to it and are signed."""
        form = {
            "AccountSid": self.account_sid,
            "ApiVersion": "2010-04-01",
            "CallSid": self.sid,
            "CallStatus": self.status,
            "Direction": self.direction,
            "From": self.caller,
            "Caller": self.caller,
            "To": self.callee,
            "Called": self.callee,
            "CallerCity": "",
            "FromCity": "",
            "CalledCountry": "US" if self.callee.startswith("+1") else "",
            "FromCountry": "US" if self.caller.startswith("+1") else "",
        }
        if self.parent_sid:
            form["ParentCallSid"] = self.parent_sid
        return form

    def resource(self) -> dict[str, Any]:
        """The call's JSON."""
        uri = f"{API}/Accounts/{self.account_sid}/Calls/{self.sid}"
        over = bool(self.ended_at)
        return {
            "sid": self.sid,
            "account_sid": self.account_sid,
            "parent_call_sid": self.parent_sid or None,
            "to": self.callee,
            "to_formatted": self.callee,
            "from": self.caller,
            "from_formatted": self.caller,
            "phone_number_sid": None,
            "status": self.status,
            "direction": self.direction,
            "answered_by": self.answered_by.partition("_")[0] or None,
            "date_created": date(self.created_at),
            "date_updated": date(self.ended_at or self.started_at or self.created_at),
            "start_time": date(self.started_at),
            "end_time": date(self.ended_at),
            "duration": str(self.seconds) if over else None,
            "price": None,
            "price_unit": "USD",
            "api_version": "2010-04-01",
            "forwarded_from": None,
            "group_sid": None,
            "caller_name": None,
            "queue_time": "0",
            "trunk_sid": None,
            "annotation": None,
            "uri": uri + ".json",
            "subresource_uris": {"recordings": uri + "/Recordings.json", "streams": uri + "/Streams.json"},
        }


def account(account_sid: str, created_at: float) -> dict[str, Any]:
    """The account's JSON. Its token stays out of it."""
    uri = f"{API}/Accounts/{account_sid}"
    return {
        "sid": account_sid,
        "friendly_name": "Loopback",
        "status": "active",
        "type": "Full",
        "owner_account_sid": account_sid,
        "date_created": date(created_at),
        "date_updated": date(created_at),
        "uri": uri + ".json",
        "subresource_uris": {"calls": uri + "/Calls.json", "recordings": uri + "/Recordings.json"},
    }


def page(name: str, rows: Sequence[Mapping[str, Any]], path: str) -> dict[str, Any]:
    """A list's JSON, all of it on one page."""
    first = f"{path}?PageSize=50&Page=0"
    return {
        name: list(rows),
        "page": 0,
        "page_size": 50,
        "start": 0,
        "end": max(0, len(rows) - 1),
        "uri": path,
        "first_page_uri": first,
        "next_page_uri": None,
        "previous_page_uri": None,
    }
