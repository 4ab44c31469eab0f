"""Telnyx' webhooks: a signed JSON body in, one flat frozen value out, whatever a peer may have put into it.

It owns the envelope, the types of its fields and their sizes; it refuses to know signatures, HTTP and what a call does next.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from patter.exceptions import WireError

ID_LIMIT = 512  # a call_control_id is about sixty characters; its size is not documented
TEXT_LIMIT = 128  # numbers, SIP addresses, causes
URL_LIMIT = 4_000


@dataclass(frozen=True, slots=True)
class Webhook:
    """One event of one leg; "" where the carrier said nothing or nonsense.

    `leg` is the call_leg_id, `handle` the call_control_id that commands need, `client_state` what we gave the leg, decoded.
    `result` is a machine detection's, `status` a spoken text's, `problem` why something failed."""

    id: str
    kind: str
    leg: str = ""
    handle: str = ""
    client_state: str = ""
    caller: str = ""
    callee: str = ""
    incoming: bool = False
    result: str = ""
    status: str = ""
    cause: str = ""
    sip_cause: str = ""
    problem: str = ""
    recording: str = ""
    recording_id: str = ""
    recording_s: float = 0.0


def read(body: bytes) -> Webhook:
    """The event of a webhook's body. Raises WireError for anything but an event in its envelope."""
    try:
        outer = json.loads(body)
    except (ValueError, RecursionError):
        raise WireError("the webhook is not JSON") from None
    data = _object(outer, "data")
    if data is None:
        raise WireError("the webhook has no data")
    kind, event_id = plain(data.get("event_type"), ID_LIMIT), plain(data.get("id"), ID_LIMIT)
    if not kind or not event_id:
        raise WireError("the webhook has no event_type or no id")
    said = _object(data, "payload") or {}
    return Webhook(
        id=event_id,
        kind=kind,
        leg=_id(said.get("call_leg_id")),
        handle=_id(said.get("call_control_id")),
        client_state=state_of(said.get("client_state")),
        caller=plain(said.get("from")),
        callee=plain(said.get("to")),
        incoming=said.get("direction") == "incoming",
        result=plain(said.get("result")),
        status=plain(said.get("status")),
        cause=plain(said.get("hangup_cause")),
        sip_cause=plain(said.get("sip_hangup_cause")),
        problem=plain(said.get("failure_reason")) or plain(said.get("reason")),
        recording=_recording(said),
        recording_id=plain(said.get("recording_id")),
        recording_s=_seconds(said.get("recording_started_at"), said.get("recording_ended_at")),
    )


def plain(value: object, limit: int = TEXT_LIMIT) -> str:
    """The printable characters of a text, at most `limit` of them; "" for what is no text."""
    if not isinstance(value, str):
        return ""
    return "".join(letter for letter in value[: 2 * limit] if letter.isprintable())[:limit]


def state_of(value: object) -> str:
    """The text in a client_state; "" if it is not base64 of a text."""
    if not isinstance(value, str) or len(value) > ID_LIMIT:
        return ""
    try:
        return plain(base64.b64decode(value, validate=True).decode(), ID_LIMIT)
    except (binascii.Error, ValueError):
        return ""


def _id(value: object) -> str:
    """An id as it is, or "": one that had to be cut or cleaned would name another thing."""
    return value if isinstance(value, str) and plain(value, ID_LIMIT) == value else ""


def _object(outer: object, key: str) -> Mapping[str, Any] | None:
    inner = outer.get(key) if isinstance(outer, dict) else None
    return inner if isinstance(inner, dict) else None


def _recording(said: Mapping[str, Any]) -> str:
    """Where a recording is: its lasting address if the account publishes recordings, else the one for ten minutes."""
    for key in ("public_recording_urls", "recording_urls"):
        found = _object(said, key) or {}
        for form in ("wav", "mp3"):
            address = found.get(form)
            if isinstance(address, str) and address.startswith(("https://", "http://")) and len(address) <= URL_LIMIT:
                return plain(address, URL_LIMIT)
    return ""


def _seconds(began: object, ended: object) -> float:
    """The time between two ISO 8601 stamps; 0.0 if they are none."""
    if not isinstance(began, str) or not isinstance(ended, str):
        return 0.0
    try:
        return max(0.0, (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
