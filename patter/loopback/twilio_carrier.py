"""A whole Twilio on this machine: its REST API, its numbers, the people behind them, and the calls between them and an app.

It owns what a test sets up and looks at; it refuses to know the app, which it meets by webhooks and sockets only.

To test an agent without a telephone, start the carrier, point a number at the app, and call it:

    async with LoopbackTwilioCarrier() as carrier:
        carrier.reach["agent.example.com"] = "127.0.0.1:8000"  # the app's public name, and where it really listens
        carrier.add_number("+15550001111", "https://agent.example.com/webhooks/twilio/voice")
        leg = carrier.place_call("+15557770000", "+15550001111", Person(mouth=says(question, after_ms=2000), stays_s=10))
        await leg.over.wait()
        assert leg.status == "completed"
        assert leg.heard.strip(b"\\xff")  # somebody answered
        assert carrier.violations == []  # and nothing was done that Twilio would not take

An app that dials is given `carrier.api_base`, `account_sid` and `auth_token` instead of Twilio's; whom it may reach stands
in `carrier.people`: `carrier.people["+15557770000"] = Person(answers="machine", greeting=…)`.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType

import aiohttp
import anyio
from aiohttp import web

from patter.clock import Clock
from patter.loopback.misbehaviour import GOOD_DAY, Misbehaviour
from patter.loopback.person import Person
from patter.loopback.reach import Reach
from patter.loopback.twilio_api import Asked, Planned, TwilioApi
from patter.loopback.twilio_calls import incoming
from patter.loopback.twilio_leg import Exchange, Leg
from patter.loopback.twilio_resources import PhoneNumber, new_sid
from patter.loopback.twilio_webhooks import Delivery, Messenger

LAST_CALLBACKS_S = 2.0  # for the calls that are up when the carrier goes


class LoopbackTwilioCarrier:
    """The carrier; use it as an async context manager. Leaving it hangs up the calls that are up.

    `numbers`: the account's own. `people`: who is at a number that is dialled (a number that is missing does not exist).
    `reach`: public host → "127.0.0.1:port". `legs` by CallSid. `violations`: everything that the real carrier would refuse,
    ignore or warn of. `requests`: what was asked of the REST API; `deliveries`: the webhooks, as they were answered.
    `skew_s`: how far the carrier's clock is ahead of ours. `calls_per_second`: how many calls an account may create; the
    others stay queued (Twilio's own limit is 1; 0 = none). All times are real."""

    def __init__(
        self,
        clock: Clock | None = None,
        misbehaviour: Misbehaviour = GOOD_DAY,
        *,
        skew_s: float = 0.0,
        calls_per_second: float = 0.0,
    ) -> None:
        self.account_sid, self.auth_token = new_sid("AC"), secrets.token_hex(16)
        self.api_base = ""
        self.numbers: dict[str, PhoneNumber] = {}
        self.people: dict[str, Person] = {}
        self.legs: dict[str, Leg] = {}
        self.violations: list[str] = []
        self.requests: list[Asked] = []
        self.deliveries: list[Delivery] = []
        self.clock = clock or Clock()
        self.skew_s, self.calls_per_second = skew_s, calls_per_second
        self._day = misbehaviour
        self._reach = Reach()
        self.reach = self._reach.hosts
        self._stack = AsyncExitStack()
        self._exchange: Exchange | None = None
        self._api: TwilioApi | None = None

    async def __aenter__(self) -> LoopbackTwilioCarrier:
        async with AsyncExitStack() as stack:
            http = aiohttp.ClientSession()
            stack.push_async_callback(_whatever_happens, http.close)
            messenger = Messenger(http, self._reach, self.auth_token, self._day, self.violations.append)
            messenger.deliveries = self.deliveries
            tasks = anyio.create_task_group()
            self._exchange = Exchange(
                self.account_sid, self.clock, tasks, http, self._reach, messenger, self._day,
                self.violations, self.people, self.numbers, self.legs, "", self.skew_s, self.calls_per_second,
            )  # fmt: skip
            self._api = TwilioApi(self._exchange, self.auth_token)
            self._api.requests = self.requests
            runner = web.AppRunner(self._api.app, shutdown_timeout=1.0)
            await runner.setup()
            stack.push_async_callback(_whatever_happens, runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.api_base = self._exchange.api_base = f"http://127.0.0.1:{runner.addresses[0][1]}"
            await stack.enter_async_context(tasks)
            stack.callback(tasks.cancel_scope.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        cancelled = isinstance(problem, anyio.get_cancelled_exc_class())
        try:
            if not cancelled:
                await self._farewell()
        finally:
            if problem is None or cancelled:
                await self._stack.__aexit__(kind, problem, trace)
            else:  # a failed assertion comes out as it is, not as a group of one
                await self._stack.aclose()

    async def _farewell(self) -> None:
        for leg in self.legs.values():
            leg.hang_up()
        with anyio.move_on_after(LAST_CALLBACKS_S):
            for leg in self.legs.values():
                await leg.over.wait()

    def add_number(self, e164: str, voice_url: str = "", status_callback: str = "") -> PhoneNumber:
        """Give the account a number, whose calls are asked for at `voice_url`."""
        number = PhoneNumber(e164, voice_url, status_callback, created_at=self.clock.now() + self.skew_s)
        self.numbers[e164] = number
        return number

    def place_call(self, caller: str, to: str, person: Person | None = None) -> Leg:
        """Somebody (who says nothing, unless you say who) calls one of the numbers. The call runs beside.

        Raises ValueError for a number the account does not have, and RuntimeError if the carrier was not started."""
        if self._exchange is None:
            raise RuntimeError("start the carrier first: async with LoopbackTwilioCarrier() as carrier")
        if to not in self.numbers:
            raise ValueError(f"{to} is no number of this account: add_number first")
        leg = incoming(self._exchange, caller, self.numbers[to], person or Person())
        self.legs[leg.call_id] = leg
        return leg

    def refuse_next(
        self,
        status: int,
        code: int | str = 20500,
        message: str = "refused on request",
        retry_after: float | None = None,
        times: int = 1,
        *,
        done: bool = False,
    ) -> None:
        """Make the next `times` REST requests fail. `retry_after` in seconds; `done`: they are carried out, and only the
        answer is lost."""
        if self._api is None:
            raise RuntimeError("start the carrier first: async with LoopbackTwilioCarrier() as carrier")
        self._api.planned.extend([Planned(status, int(code), message, retry_after, done)] * times)


async def _whatever_happens(close: Callable[[], Awaitable[None]]) -> None:
    with anyio.CancelScope(shield=True):
        await close()
