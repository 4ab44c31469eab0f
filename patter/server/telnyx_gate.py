"""What Telnyx must prove before it is believed: an Ed25519 signature, made a moment ago, on a webhook that is no replay.

It owns the public address, the paths under it and the reading of signed bodies; it refuses to know what a webhook means.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from aiohttp import web

from patter.clock import Clock
from patter.exceptions import WireError
from patter.server.answers import Refused, raw_body
from patter.wire.telnyx_signature import HEADER, TIMESTAMP_HEADER, check_public_key, verify
from patter.wire.telnyx_webhook import Webhook, read

log = logging.getLogger(__name__)

VOICE = "/webhooks/telnyx/voice"
MEDIA = "/ws/telnyx/{token}"

WEBHOOK_LIMIT = 64 * 1024  # a webhook has two or three kilobytes
REPLAY_S = 600.0  # twice what a signature may be old or early
EVENTS = 100_000  # ids of webhooks kept; a hundred calls have about a hundred webhooks a minute


class Gate:
    """Checks signatures with the account's `public_key` (base64). Raises ValueError for none, or for what is no key.

    `public` is the address the carrier knows us by, e.g. "https://voice.example.com"; it may change. Signatures are dated,
    so `wall` is the wall clock itself: one that was anchored at our start would be wrong after a laptop's sleep."""

    def __init__(self, public_key: str, public: str, clock: Clock, wall: Callable[[], float] = time.time) -> None:
        if not public_key.strip():
            raise ValueError(
                "The Telnyx public key is missing, without which nobody can tell whose webhooks come: set TELNYX_PUBLIC_KEY. "
                "You find it in the Telnyx portal under Account settings, Keys & Credentials, Public key."
            )
        self._key = check_public_key(public_key)
        self._wall = wall
        self._replays = Replays(clock)
        self.public = public

    @property
    def public(self) -> str:
        """Scheme and host, without a slash at the end."""
        return self._public

    @public.setter
    def public(self, address: str) -> None:
        self._public = address.rstrip("/")

    @property
    def webhook_url(self) -> str:
        """Where our webhooks come to."""
        return self._public + VOICE

    def stream_url(self, token: str) -> str:
        """Where the media socket of one call is."""
        return "ws" + self._public.removeprefix("http") + MEDIA.format(token=token)

    async def webhook(self, request: web.Request) -> Webhook | None:
        """The signed event; None for one that came before. Raises Refused."""
        body = await raw_body(request, WEBHOOK_LIMIT)
        signature, stamp = request.headers.get(HEADER, ""), request.headers.get(TIMESTAMP_HEADER, "")
        if not verify(self._key, signature, stamp, body, self._wall()):
            log.warning("a webhook was refused", extra={"route": request.path, "dated": stamp[:20]})
            raise Refused(403, f"{HEADER} does not match, or its time is not ours: the webhook is not from Telnyx.")
        try:
            webhook = read(body)
        except WireError as problem:
            raise Refused(400, f"This cannot be read: {problem}.") from None
        return webhook if self._replays.fresh(webhook.id) else None


class Replays:
    """Which webhooks have come already, for as long as one of them could be played to us again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: OrderedDict[str, float] = OrderedDict()

    def fresh(self, event_id: str) -> bool:
        """Whether this one has not come before; it has from now on."""
        now = self._clock.now()
        if self._seen.get(event_id, 0.0) > now - REPLAY_S:
            return False
        self._seen[event_id] = now
        self._seen.move_to_end(event_id)
        while len(self._seen) > EVENTS or next(iter(self._seen.values())) <= now - REPLAY_S:
            self._seen.popitem(last=False)
        return True
