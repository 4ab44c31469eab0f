"""What one call has to tell by callbacks: in order, beside the call, and all of it before the call is gone.

It owns the queue and the running numbers; it refuses to know what is told, and what is answered.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import anyio

from patter.loopback.twilio_webhooks import Messenger
from patter.mailbox import Mailbox


class Outbox:
    """Callbacks of one call; `run` delivers them until `close`."""

    def __init__(self, messenger: Messenger) -> None:
        self._messenger = messenger
        self._mail: Mailbox[tuple[str, Mapping[str, str], str]] = Mailbox()
        self._empty = anyio.Event()

    def put(self, url: str, form: Mapping[str, str], method: str = "POST") -> None:
        """One more, behind the others."""
        self._mail.put((url, form, method))

    async def run(self) -> None:
        """Deliver until the last one."""
        async for url, form, method in self._mail:
            await self._messenger.tell(url, form, method)
        self._empty.set()

    async def close(self) -> None:
        """Nothing more will come; returns when all has been delivered."""
        self._mail.close()
        await self._empty.wait()


class Reports:
    """Who is told of which events of a call: `events` of initiated, ringing, answered, completed; `url` "" = nobody."""

    def __init__(self, url: str = "", method: str = "POST", events: Collection[str] = ("completed",)) -> None:
        self.url, self.method, self.events = url, method, frozenset(events)
        self._number = 0

    def add(self, outbox: Outbox, event: str, form: Mapping[str, str]) -> None:
        """An event happened."""
        if self.url and event in self.events:
            outbox.put(self.url, {**form, "SequenceNumber": str(self._number)}, self.method)
            self._number += 1
