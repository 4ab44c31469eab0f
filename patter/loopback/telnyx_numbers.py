"""A Telnyx account's numbers and its one Voice API application, with the webhook address that all its calls use.

It owns those rows and their checks; it refuses to know calls.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from patter.loopback.telnyx_refusal import Refusal
from patter.loopback.telnyx_webhooks import Route, timestamp

_SETTABLE = ("webhook_event_url", "webhook_event_failover_url", "webhook_api_version", "webhook_timeout_secs")
_APPLICATION_FIELDS = (*_SETTABLE, "application_name", "active")
_NUMBER_FIELDS = ("connection_id", "tags", "customer_reference")


def _row_id() -> str:
    return "2" + "".join(secrets.choice("0123456789") for _ in range(18))


@dataclass
class Number:
    """One of the account's numbers. `codec`: what calls to it have ("" = the carrier's)."""

    number: str
    connection_id: str
    codec: str = ""
    id: str = field(default_factory=_row_id)


class Directory:
    """The account."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.connection_id = _row_id()
        self.numbers: dict[str, Number] = {}
        self._created = timestamp(now())
        self._application: dict[str, Any] = {
            "record_type": "call_control_application",
            "id": self.connection_id,
            "application_name": "loopback",
            "active": True,
            "webhook_event_url": "",
            "webhook_event_failover_url": None,
            "webhook_api_version": "2",
            "webhook_timeout_secs": None,
            "created_at": self._created,
            "updated_at": self._created,
        }

    def route(self) -> Route:
        """Where the events of a new leg go."""
        return Route(self._application["webhook_event_url"], self._application["webhook_event_failover_url"] or "")

    def point(self, webhook_url: str) -> None:
        """Set the application's webhook address, as in the portal."""
        self._application["webhook_event_url"] = webhook_url

    def check_dial(self, fields: Mapping[str, Any]) -> None:
        """Raise Refusal unless the account may dial so."""
        if fields["connection_id"] != self.connection_id:
            raise Refusal("10015", "the account has no such connection_id", "/connection_id")
        if fields["from"] not in self.numbers:
            raise Refusal("10002", "the account has no such number to call from", "/from")

    # ----------------------------------------------------------------- rows of the API

    def application(self, application_id: str) -> dict[str, Any]:
        """The application's row. Raises Refusal."""
        if application_id != self.connection_id:
            raise Refusal("10005", "the account has no such application")
        return dict(self._application)

    def set_application(self, application_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Change the application. Raises Refusal."""
        self.application(application_id)
        for name in ("application_name", "webhook_event_url"):  # Telnyx wants both with every change
            if name not in fields:
                raise Refusal("10004", f"{name} is required", f"/{name}")
        for name, value in fields.items():
            if name not in _APPLICATION_FIELDS:
                raise Refusal("10015", f"{name} cannot be set", f"/{name}")
            if name.endswith("_url") and value and not _is_web(value):
                raise Refusal("10015", f"{name} must be a web address", f"/{name}")
        self._application |= fields
        return dict(self._application)

    def find(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The numbers a list request asks for."""
        unknown = query.keys() - {"filter[phone_number]", "filter[connection_id]", "page[number]", "page[size]"}
        if unknown:
            raise Refusal("10015", f"{min(unknown)} is no filter this carrier knows")
        wanted = str(query.get("filter[phone_number]", "")).removeprefix("+")
        rows = [row for row in self.numbers.values() if wanted in row.number]
        connection = query.get("filter[connection_id]", "")
        return [self._row(row) for row in rows if connection in ("", row.connection_id)]

    def number(self, number_id: str) -> dict[str, Any]:
        """One number's row. Raises Refusal."""
        return self._row(self._of(number_id))

    def set_number(self, number_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Bind a number to an application. Raises Refusal."""
        row = self._of(number_id)
        for name, value in fields.items():
            if name not in _NUMBER_FIELDS:
                raise Refusal("10015", f"{name} cannot be set", f"/{name}")
            if name == "connection_id":
                row.connection_id = str(value)
        return self._row(row)

    def _of(self, number_id: str) -> Number:
        for row in self.numbers.values():
            if number_id in (row.id, row.number):
                return row
        raise Refusal("10005", "the account has no such number")

    def _row(self, row: Number) -> dict[str, Any]:
        return {
            "record_type": "phone_number",
            "id": row.id,
            "phone_number": row.number,
            "phone_number_type": "local",
            "status": "active",
            "tags": [],
            "connection_id": row.connection_id,
            "connection_name": self._application["application_name"],
            "deletion_lock_enabled": False,
            "created_at": self._created,
            "purchased_at": self._created,
        }


def _is_web(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    parts = urlsplit(value)
    return parts.scheme in ("http", "https") and bool(parts.hostname)
