"""A whole Telnyx on this machine: numbers, people at telephones, webhooks signed with a key of its own, media, REST.

It owns the account and everybody's calls; it refuses to know who answers the webhooks. As an example, a test of yours::

    async with LoopbackTelnyxCarrier() as carrier:
        carrier.add_number("+15550100000")
        carrier.reach["voice.example.com"] = "127.0.0.1:8000"
        phone = Patter(
            telnyx_key=carrier.api_key, telnyx_connection_id=carrier.connection_id,
            telnyx_public_key=carrier.public_key, carrier_api=carrier.api_base,
            phone_number="+15550100000", webhook_url="voice.example.com",
        )
        ...                                                  # phone.serve(agent, port=8000) beside this
        leg = carrier.place_call("+15550199000", "+15550100000", Person(mouth=says(question)))
        await leg.streaming.wait()
        leg.press("1")
        leg.hang_up()
        await leg.over.wait()
        carrier.people["+15550111000"] = Person("machine", greeting=greeting)    # who answers when phone.call() dials
        assert carrier.violations == []                      # nothing the real Telnyx would refuse, ignore or warn of
"""

from __future__ import annotations

import secrets
import uuid
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self
from urllib.parse import quote

import aiohttp
import anyio
from aiohttp import web

from patter.clock import Clock
from patter.loopback.line import Recording
from patter.loopback.misbehaviour import GOOD_DAY, Misbehaviour
from patter.loopback.person import Person
from patter.loopback.reach import Reach
from patter.loopback.telnyx_api import Api, Asked, PlannedRefusal
from patter.loopback.telnyx_commands import Commands, Fields
from patter.loopback.telnyx_leg import CODECS, Exchange, Leg, Ring
from patter.loopback.telnyx_numbers import Directory, Number
from patter.loopback.telnyx_webhooks import Delivery, Messenger

LAST_WEBHOOKS_S = 3.0  # what is still to be delivered when the carrier closes


class LoopbackTelnyxCarrier:
    """One Telnyx account whose calls really happen. `async with` starts and ends it; all times are real.

    `codec`: what telephone lines have, "PCMU", "PCMA" or "L16" (16 kHz); `big_endian`: how L16 is on the wire
    (nobody says). `skew_s`: how far the carrier's clock is ahead of ours. `repeats_dials`: a dial with a
    command_id that is known already is not ignored (documented for commands to a call, and a dial is none).

    To read: `api_base`, `api_key`, `public_key`, `connection_id`, `violations` (sentences), `requests`, `deliveries` (of
    webhooks), `legs` by call_id. To fill: `people` by number; numbers nobody is at are not in service."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        misbehaviour: Misbehaviour = GOOD_DAY,
        codec: str = "PCMU",
        big_endian: bool = False,
        skew_s: float = 0.0,
        repeats_dials: bool = False,
    ) -> None:
        if codec not in CODECS:
            raise ValueError(f"codec is {codec!r}; it must be one of {', '.join(CODECS)}")
        self.clock = clock or Clock()
        self.codec = codec
        self.skew_s = skew_s
        self.api_base = ""
        self.api_key = "KEY" + secrets.token_hex(16).upper() + "_" + secrets.token_urlsafe(16)
        self.public_key = ""
        self.people: dict[str, Person] = {}
        self.violations: list[str] = []
        self.legs: dict[str, Leg] = {}
        self._day, self._big_endian = misbehaviour, big_endian
        self._reach = Reach()
        self._directory = Directory(self._now)
        self._by_handle: dict[str, Leg] = {}
        self._commands = Commands(self._by_handle, self._dial)
        self._api = Api(
            self.api_key, self._commands, self._directory, self._now, self.violations, repeats_dials=repeats_dials
        )
        self._exchange: Exchange | None = None
        self._stack = AsyncExitStack()

    # ----------------------------------------------------------------- its life

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(aiohttp.ClientSession())
            runner = web.AppRunner(self._api.app(), access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            self.api_base = f"http://{host}:{port}"
            tasks = await stack.enter_async_context(anyio.create_task_group())
            messenger = Messenger(http, self._reach, self.clock, self._now, self._day, self.violations)
            self.public_key = messenger.public_key
            self._exchange = Exchange(
                clock=self.clock,
                now=self._now,
                tasks=tasks,
                http=http,
                reach=self._reach,
                messenger=messenger,
                day=self._day,
                violations=self.violations,
                connection_id=self.connection_id,
                big_endian=self._big_endian,
                keep=self._keep,
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = self._open().tasks
        if error is None:
            await self._end_calls()
        tasks.cancel_scope.cancel()
        if error is None or isinstance(error, anyio.get_cancelled_exc_class()):
            await self._stack.__aexit__(kind, error, trace)
        else:  # a failed assertion comes out as it is, not as a group of one
            await self._stack.aclose()

    async def _end_calls(self) -> None:
        with anyio.move_on_after(LAST_WEBHOOKS_S):
            for leg in list(self.legs.values()):
                leg.hang_up()
            for leg in list(self.legs.values()):
                await leg.over.wait()
            await self.settled()

    async def settled(self, seconds: float = LAST_WEBHOOKS_S) -> None:
        """Wait until every webhook so far is delivered or given up, `seconds` at most."""
        await self._open().messenger.drained(seconds)

    def _now(self) -> float:
        return self.clock.now() + self.skew_s

    # ----------------------------------------------------------------- the account

    @property
    def connection_id(self) -> str:
        """The Voice API application's id."""
        return self._directory.connection_id

    @property
    def numbers(self) -> dict[str, Number]:
        """The account's numbers."""
        return self._directory.numbers

    @property
    def reach(self) -> dict[str, str]:
        """Public host → "127.0.0.1:port" that is really connected to."""
        return self._reach.hosts

    @property
    def requests(self) -> list[Asked]:
        """Every REST request so far."""
        return self._api.requests

    @property
    def deliveries(self) -> list[Delivery]:
        """Every attempt to deliver a webhook so far."""
        return self._exchange.messenger.deliveries if self._exchange is not None else []

    @property
    def webhook_url(self) -> str:
        """Where the application's webhooks go."""
        return self._directory.route().url

    def add_number(self, number: str, voice_url: str = "", *, codec: str = "") -> Number:
        """The account gets a number, bound to the application. `voice_url` becomes the application's webhook address (at
        Telnyx numbers have none); `codec`: what calls to this number have, if another than the carrier's."""
        if voice_url:
            self._directory.point(voice_url)
        row = self.numbers[number] = Number(number, self.connection_id, codec)
        return row

    def refuse_next(
        self,
        status: int,
        code: str = "",
        message: str = "",
        retry_after: float | None = None,
        times: int = 1,
        *,
        done: bool = False,
    ) -> None:
        """Make the next `times` REST requests fail. `retry_after`: seconds until x-ratelimit-reset; `done`: they are
        carried out, and only the answer is lost."""
        refusal = PlannedRefusal(status, code, message or "refused on request", retry_after, done)
        self._api.planned.extend([refusal] * times)

    # ----------------------------------------------------------------- calls

    def place_call(self, caller: str, to: str, person: Person | None = None) -> Leg:
        """Somebody calls one of the account's numbers. Raises ValueError if it is none."""
        if to not in self.numbers or self.numbers[to].connection_id != self.connection_id:
            raise ValueError(f"{to} is no number of this account that is bound to its application")
        leg = Leg(
            self._open(),
            "incoming",
            caller,
            to,
            person or Person(),
            self._directory.route(),
            codec=self.numbers[to].codec or self.codec,
        )
        return self._begin(leg)

    def _dial(self, fields: Fields, ring: Ring, session_id: str, client_state: str | None) -> Leg:
        route = self._directory.route()
        route.override(fields)
        person = self.people.get(fields["to"])
        ring.in_service = person is not None
        leg = Leg(
            self._open(),
            "outgoing",
            fields["from"],
            fields["to"],
            person or Person(),
            route,
            codec=self.codec,
            ring=ring,
            session_id=session_id,
            client_state=client_state,
            time_limit_s=fields.get("time_limit_secs", 14_400),
        )
        return self._begin(leg)

    def _begin(self, leg: Leg) -> Leg:
        self.legs[leg.call_id] = self._by_handle[leg.handle] = leg
        self._open().tasks.start_soon(leg.run)
        return leg

    def _open(self) -> Exchange:
        if self._exchange is None:
            raise RuntimeError("the carrier is not open: use it with `async with`")
        return self._exchange

    def _keep(self, recording: Recording) -> str:
        name = str(uuid.uuid4())
        self._api.files[name] = recording.wav()
        return f"{self.api_base}/recordings/{quote(name)}.wav"
