"""What Twilio must prove before it is believed: the signature of an account we know, over the address we gave it.

It owns the public address, the paths under it and the reading of signed forms; it refuses to know what a webhook means.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from patter.server.answers import Refused, raw_body
from patter.wire.twilio_signature import HEADER, verify

log = logging.getLogger(__name__)

VOICE = "/webhooks/twilio/voice"
STATUS = "/webhooks/twilio/status"
RECORDING = "/webhooks/twilio/recording"
AMD = "/webhooks/twilio/amd"
CONSULT = "/webhooks/twilio/consult"
DIALLED = "/webhooks/twilio/dialled"
MEDIA = "/ws/twilio/{token}"

FORM_LIMIT = 64 * 1024  # a voice webhook has about thirty short fields
FIELDS = 200
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Account:
    """A carrier account that may call in. `loopback`: the dialler of rehearsals on this machine."""

    sid: str
    auth_token: str = field(repr=False)
    loopback: bool = False


@dataclass(frozen=True, slots=True)
class Webhook:
    """A signed form: whose it is, its fields, and what our own address of it said."""

    account: Account
    form: dict[str, str]
    query: dict[str, str]


class Gate:
    """Checks signatures. `public` is the address the carrier knows us by, e.g. "https://voice.example.com"; it may change."""

    def __init__(self, accounts: list[Account], public: str) -> None:
        self._accounts = {account.sid: account for account in accounts}
        self.public = public

    @property
    def public(self) -> str:
        """Scheme and host, without a slash at the end."""
        return self._public

    @public.setter
    def public(self, address: str) -> None:
        self._public = address.rstrip("/")

    def webhook(self, path: str, **query: str) -> str:
        """The address of one of our webhooks."""
        return self._public + path + (f"?{urlencode(query)}" if query else "")

    def stream(self, token: str) -> str:
        """The address of a media socket."""
        return "ws" + self._public.removeprefix("http") + MEDIA.format(token=token)

    async def read(self, request: web.Request) -> Webhook:
        """The form of a webhook that a known account has signed. Raises Refused for any other."""
        if request.content_type != FORM:
            raise Refused(400, f"A webhook is a form ({FORM}).")
        raw = await raw_body(request, FORM_LIMIT)
        try:
            fields = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=FIELDS, errors="strict")
        except ValueError:
            raise Refused(400, "The form cannot be read.") from None
        form = dict(fields)
        account = self._accounts.get(form.get("AccountSid", ""))
        if account is None or not self._signed(request, fields, self._public, account):
            log.warning("a webhook was refused", extra={"route": request.path, "known_account": account is not None})
            raise Refused(403, f"{HEADER} does not match: the webhook is not from a known carrier account.")
        return Webhook(account, form, dict(request.query))

    def check_socket(self, request: web.Request, account_sid: str) -> None:
        """Raise Refused unless the account has signed the opening of this media socket."""
        account = self._accounts.get(account_sid)
        base = "ws" + self._public.removeprefix("http")
        slash = base + request.raw_path + "/"  # the carrier has been seen to sign a socket's address so
        given = request.headers.get(HEADER, "")
        if account is None or not (
            self._signed(request, [], base, account) or verify(given, slash, [], account.auth_token)
        ):
            log.warning("a media socket was refused", extra={"known_account": account is not None})
            raise Refused(403, f"{HEADER} does not match: the media socket is not from a known carrier account.")

    def _signed(self, request: web.Request, fields: list[tuple[str, str]], base: str, account: Account) -> bool:
        given = request.headers.get(HEADER, "")
        return any(verify(given, base + path, fields, account.auth_token) for path in _spellings(request))


def _spellings(request: web.Request) -> list[str]:
    """The request's path and query as they came, and as they read once a proxy has tidied their escapes."""
    raw = request.raw_path
    return list(dict.fromkeys([raw, request.path_qs] if raw.startswith("/") else [request.path_qs]))
