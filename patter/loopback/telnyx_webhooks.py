"""Telnyx' messenger: puts events into their envelope, signs them and delivers them, again where the answer asks for that.

It owns delivery and its rules; it refuses to know what an event means.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import anyio
from anyio.abc import TaskGroup

from patter.clock import Clock
from patter.loopback.misbehaviour import Misbehaviour
from patter.loopback.reach import Reach
from patter.wire import telnyx_signature

BUDGET_S = 2.0  # within this an app has to answer, as Telnyx' pages say
RETRIES_MS = (500, 1500)  # where a command has no policy of its own
RETRIED = (408, 429)  # and everything from 500 on


def timestamp(moment: float) -> str:
    """A moment (seconds since the epoch) as Telnyx writes it."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook as it was answered. `status` 0 = no answer."""

    event_type: str
    event_id: str
    url: str
    attempt: int
    status: int
    payload: Mapping[str, Any]


@dataclass
class Route:
    """Where the events of one leg go: all to `url`, then to `failover_url`; `by_event` and `retries_ms` by their names."""

    url: str
    failover_url: str = ""
    by_event: dict[str, list[str]] = field(default_factory=dict)
    retries_ms: dict[str, list[int]] = field(default_factory=dict)

    def override(self, fields: Mapping[str, Any]) -> None:
        """What a command says about webhooks from now on."""
        self.url = fields.get("webhook_url", self.url)
        self.by_event.update(fields.get("webhook_urls", {}))
        policies = fields.get("webhook_retries_policies", {})
        self.retries_ms.update({event: policy["retries_ms"] for event, policy in policies.items()})


class Messenger:
    """Delivers events of all legs. `violations` takes what an app should not answer; `deliveries` has every attempt.

    `now` is the carrier's own clock, which may be wrong."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        reach: Reach,
        clock: Clock,
        now: Callable[[], float],
        day: Misbehaviour,
        violations: list[str],
    ) -> None:
        self._seed = secrets.token_bytes(32)
        self.public_key = telnyx_signature.public_key_of(self._seed)
        self.deliveries: list[Delivery] = []
        self._http, self._reach, self._clock, self._now, self._day = http, reach, clock, now, day
        self._violations = violations
        self._open = 0
        self._quiet = anyio.Event()

    def post(self, tasks: TaskGroup, lane: anyio.Lock, route: Route, event_type: str, payload: dict[str, Any]) -> None:
        """Deliver an event in the background. First attempts in one `lane` keep their order; repeated ones do not."""
        data = {
            "record_type": "event",
            "event_type": event_type,
            "id": str(uuid.uuid4()),
            "occurred_at": timestamp(self._now()),
            "payload": payload,
        }
        for url in route.by_event.get(event_type) or [route.url]:
            if url:
                self._open += 1
                waits = route.retries_ms.get(event_type, RETRIES_MS)
                tasks.start_soon(self._deliver, lane, [url, route.failover_url], waits, data)
            else:
                self._violations.append(f"{event_type} has nowhere to go: the application has no webhook_event_url")

    async def drained(self, seconds: float) -> None:
        """Wait until everything is delivered or given up, `seconds` at most."""
        with anyio.move_on_after(seconds):
            while self._open:
                self._quiet = anyio.Event()
                await self._quiet.wait()

    async def _deliver(self, lane: anyio.Lock, urls: list[str], waits: Sequence[int], data: dict[str, Any]) -> None:
        try:
            async with lane, anyio.create_task_group() as twins:
                if self._day.duplicate_webhooks:
                    twins.start_soon(self._attempt, urls[0], data, 1)
                delivered = await self._attempt(urls[0], data, 1)
            for number, wait_ms in enumerate(waits, 2):
                if delivered:
                    return
                await anyio.sleep(wait_ms / 1000)
                delivered = await self._attempt(urls[0], data, number)
            if not delivered and urls[1]:
                await self._attempt(urls[1], data, 1)
        finally:
            self._open -= 1
            self._quiet.set()

    async def _attempt(self, url: str, data: dict[str, Any], attempt: int) -> bool:
        """Whether this is settled: taken, or turned down for good."""
        body = json.dumps({"data": data, "meta": {"attempt": attempt, "delivered_to": url}}).encode()
        moment = str(int(self._now()))
        address, headers = self._reach.of(url)
        headers |= {
            "Content-Type": "application/json",
            "User-Agent": "telnyx-webhooks",
            telnyx_signature.HEADER: telnyx_signature.sign(self._seed, moment, body),
            telnyx_signature.TIMESTAMP_HEADER: moment,
        }
        name = data["event_type"]
        status = 0
        try:
            timeout = aiohttp.ClientTimeout(total=BUDGET_S)
            async with self._http.post(
                address, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                status = answer.status
        except TimeoutError:
            self._violations.append(f"{name} was not answered within {BUDGET_S:g} s")
        except aiohttp.ClientError:
            pass  # nobody is there; the list of deliveries tells
        self.deliveries.append(Delivery(name, data["id"], url, attempt, status, data["payload"]))
        if status >= 300:
            self._violations.append(f"{name} was answered with {status}")
        return 200 <= status < 500 and status not in RETRIED
