"""A real front door of either carrier, on a free port, in one shape: good calls, strangers' bytes, and what is left behind.

Behind it are fake calls or real sessions, beside it a scripted REST API. It owns the building and the counting; the tests
own what is done to it.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import anyio
from anyio.abc import SocketStream
from hypothesis import HealthCheck, settings
from yarl import URL

from patter.builders import Carrier, Keys
from patter.bus import Bus
from patter.call.outfit import Outfit, Steered, Wiring
from patter.call.session import CallSession
from patter.call.toolbox import Toolbox
from patter.callbacks import CallbackRunner, Callbacks
from patter.clock import Clock
from patter.conversations.pipeline import Pipeline
from patter.events import CallEnded, CallStarted
from patter.guard import Guards
from patter.models import Agent, OnMessage
from patter.observe.cost import Prices
from patter.ports import CallInfo, Screen, Transport
from patter.providers.telnyx_rest import TelnyxRest
from patter.providers.twilio_rest import TwilioRest
from patter.server.desk import Desk, Route
from patter.server.front_door import FrontDoor, Joined, LineSettings
from patter.server.listener import listen
from patter.server.number_setup import NumberSetup
from patter.server.telnyx_routes import TelnyxRoutes
from patter.server.twilio_routes import TwilioRoutes
from patter.wire import twiml
from patter.wire.telnyx import AUTH_TOKEN
from patter.wire.telnyx import CarrierWriter as TelnyxWriter
from patter.wire.twilio import CarrierWriter as TwilioWriter
from patter.wire.twilio_signature import HEADER, sign
from tests.support import telnyx_house, twilio_house
from tests.support.parts import LinesResponder, LoudnessDetector, ScriptedTranscriber, ToneSynthesizer

LONG_S = 5.0  # many times every limit of these tests (conftest.py)
BOTH = ("twilio", "telnyx")
HOST = "voice.example.test"
OURS, THEIRS = twilio_house.OURS, twilio_house.THEIRS
FORM = "application/x-www-form-urlencoded"
PRICES = Prices.load()

hostile = settings(
    max_examples=20,
    derandomize=True,  # the same strangers every time
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def short(value: object) -> str:
    """A test's name from what it is done with."""
    return ascii(value)[:24]


@dataclass(frozen=True)
class Ring:
    """A call whose media socket may come: where, with which headers, and in whose words."""

    call_id: str
    path: str
    headers: dict[str, str]
    writer: Any
    opening: str


class Place:
    """One carrier's front door. `house` is the carrier's side of it (tests/support)."""

    name: str
    hook: str
    """The path of the webhook that every call begins with."""
    house: Any

    def __init__(self, *, real: bool = False) -> None:
        self.door: FrontDoor
        self.runner: CallbackRunner
        self.told: list[str] = []
        """What a user's callbacks were told."""
        if real:
            self.house.desk = Desk(self.house.bus, RealCalls(self.house.bus, self.house.clock).open_call)

    # ------------------------------------------------------------------ each carrier's own

    async def ring(self, number: int, **said: str) -> Ring:
        """A call comes in; `said` are fields that whoever calls has in hand. Its socket may be opened now."""
        raise NotImplementedError

    async def signed(self, number: int, **said: Any) -> int:
        """The status of a signed webhook about call `number` with the given fields."""
        raise NotImplementedError

    async def give_up(self, number: int) -> None:
        """The caller of a call that never came up hangs up."""
        raise NotImplementedError

    def books(self) -> dict[str, int]:
        """What the carrier's routes remember of calls that are on their way or up."""
        raise NotImplementedError

    # ------------------------------------------------------------------ what both do

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.door.port}"

    async def connect(self) -> SocketStream:
        """A connection of somebody unknown."""
        return await anyio.connect_tcp("127.0.0.1", self.door.port)

    async def answer_to(self, *pieces: bytes, pause_s: float = 0.0, eof: bool = False) -> bytes:
        """All that is answered to these bytes until the door closes the connection, which it must do in good time."""
        told = b""
        async with await self.connect() as stream:
            with anyio.fail_after(LONG_S), suppress(anyio.BrokenResourceError, anyio.EndOfStream):
                for piece in pieces:
                    await stream.send(piece)
                    await anyio.sleep(pause_s)
                if eof:
                    await stream.send_eof()
            with anyio.fail_after(LONG_S), suppress(anyio.BrokenResourceError, anyio.EndOfStream):
                while True:
                    told += await stream.receive()
        return told

    def socket(self, ring: Ring, **more: Any) -> Any:
        """Opens the call's media socket."""
        return self.house.client.ws_connect(self.address + ring.path, headers=ring.headers, **more)

    @asynccontextmanager
    async def talking(
        self, number: int, parameters: dict[str, str] | None = None, **said: str
    ) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, Any]]:
        """A good call is up."""
        ring = await self.ring(number, **said)
        async with self.up(ring, parameters) as socket:
            yield socket, ring.writer

    @asynccontextmanager
    async def up(
        self, ring: Ring, parameters: dict[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """The call that came in so is up."""
        async with self.socket(ring) as socket:
            await socket.send_str(ring.opening)
            await socket.send_str(ring.writer.start(parameters))
            await self.house.seen(CallStarted, call_id=ring.call_id)
            yield socket

    async def serves(self, number: int) -> None:
        """The door still does what it is for: a good call comes in, is answered, hears the agent and ends."""
        ring = await self.ring(number)
        async with self.up(ring) as socket:
            await socket.send_str(ring.writer.media(b"\xff" * 160, 0))
            await socket.send_str(ring.writer.stop())
        await self.ended(ring.call_id)

    async def ended(self, call_id: str) -> CallEnded:
        """The one ending of a call."""
        ended = await self.house.seen(CallEnded, call_id=call_id)
        assert isinstance(ended, CallEnded)
        return ended

    def endings(self, call_id: str) -> int:
        return len([item for item in self.house.events if isinstance(item, CallEnded) and item.call_id == call_id])

    async def _tell(self, payload: dict[str, Any]) -> None:
        self.told.append(str(payload.get("call_id", payload)))


class TwilioPlace(Place):
    name = "twilio"
    hook = "/webhooks/twilio/voice"

    def __init__(self, *, real: bool = False) -> None:
        self.house = twilio_house.House(100)
        super().__init__(real=real)

    async def post(self, path: str, form: dict[str, str], *, host: str = HOST, **more: str) -> tuple[int, str]:
        """A form at a path, signed for a host, with more headers."""
        form = {"AccountSid": twilio_house.ACCOUNT.sid, **form}
        headers = {
            HEADER: sign(f"https://{host}{path}", form, twilio_house.ACCOUNT.auth_token),
            "Content-Type": FORM,
            **more,
        }
        async with self.house.client.post(
            URL(self.address + path, encoded=True), data=urlencode(form), headers=headers
        ) as answer:
            return answer.status, await answer.text()

    async def signed(self, number: int, **said: Any) -> int:
        form = self.house.form(twilio_house.sid(number), **said)
        status, _ = await self.post(self.hook, form)
        return status

    async def ring(self, number: int, **said: str) -> Ring:
        call_id = twilio_house.sid(number)
        status, text = await self.post(self.hook, self.house.form(call_id, **said))
        assert status == 200, text
        stream = twiml.read(text).stream
        assert stream is not None, text
        writer = TwilioWriter(twilio_house.STREAM, twilio_house.ACCOUNT.sid, call_id)
        signature = sign(stream.url, {}, twilio_house.ACCOUNT.auth_token)
        return Ring(call_id, urlsplit(stream.url).path, {HEADER: signature}, writer, writer.connected())

    async def give_up(self, number: int) -> None:
        status, _ = await self.post(
            "/webhooks/twilio/status", self.house.form(twilio_house.sid(number), CallStatus="completed")
        )
        assert status == 204

    def books(self) -> dict[str, int]:
        routes = self.house.routes
        return {
            "arrivals": len(routes._arrivals._waiting),
            "lines up": len(routes._lines._up),
            "verdicts held": len(routes._lines._held),
            "ringing": len(routes._calls.ringing._tokens) + len(routes._calls.ringing._ids),
            "consultations": len(routes._calls.consultations._open),
        }


class TelnyxPlace(Place):
    name = "telnyx"
    hook = "/webhooks/telnyx/voice"

    def __init__(self, *, real: bool = False) -> None:
        self.house = telnyx_house.House(100)
        super().__init__(real=real)

    async def signed(self, number: int, **said: Any) -> int:
        given: dict[str, Any] = {"direction": "incoming", "state": "parked", **said}
        kind = given.pop("event_type", "call.initiated")
        status: int = await self.house.post(self.house.event(kind, telnyx_house.leg(number), **given))
        return status

    async def ring(self, number: int, **said: str) -> Ring:
        call_id = telnyx_house.leg(number)
        streams = len(self.house.commands("streaming_start"))
        await self.house.incoming(call_id, **said)
        await self.house.told("call.answered", call_id)
        order = await self.house.stream(streams + 1)
        token = order["stream_auth_token"]
        writer = TelnyxWriter("stream-1", telnyx_house.handle(call_id), auth_token=token)
        return Ring(call_id, urlsplit(order["stream_url"]).path, {AUTH_TOKEN: token}, writer, writer.connected())

    async def give_up(self, number: int) -> None:
        await self.house.told("call.hangup", telnyx_house.leg(number), hangup_cause="originator_cancel")

    def books(self) -> dict[str, int]:
        calls = self.house.routes._calls
        return {
            "arrivals": len(calls.arrivals._waiting),
            "lines up": len(calls.lines._up),
            "verdicts held": len(calls.lines._held),
            "ringing": len(calls.ringing._tokens) + len(calls.ringing._ids),
            "handovers": len(calls._handovers._by_call),
        }


@asynccontextmanager
async def place(name: str, *, real: bool = False) -> AsyncIterator[Place]:
    """The front door of a carrier. When it is left, nothing of it may be left: that is asserted here."""
    before = Remains()
    built = TwilioPlace(real=real) if name == "twilio" else TelnyxPlace(real=real)
    house = built.house
    async with AsyncExitStack() as stack:
        http, base = await stack.enter_async_context(house.api.open())
        house.client = await stack.enter_async_context(aiohttp.ClientSession())
        built.runner = await stack.enter_async_context(
            CallbackRunner(
                house.bus, Callbacks(built._tell, built._tell, built._tell, built._tell), prices=PRICES, keys=Keys()
            )
        )
        await stack.enter_async_context(house.desk)
        built.door = await stack.enter_async_context(_door(built, http, base))
        house.address = built.address
        built.door.answer(OURS, Route(Path("front-desk"), "phone"))
        yield built
        await built.door.close(0.0)
    _no_books(built)
    await before.are_all()


def _door(built: Place, http: aiohttp.ClientSession, base: str) -> FrontDoor:
    house, listener = built.house, listen()
    if isinstance(built, TwilioPlace):
        account = twilio_house.ACCOUNT
        carrier = Carrier("twilio", account.sid, account.auth_token)
        rest = TwilioRest(http, account.sid, account.auth_token, base, sleep=house.api.sleep)
        house.routes = TwilioRoutes(house.desk, house, house.clock, [account], "", bus=house.bus, rest=rest)
    else:
        carrier = Carrier("telnyx", telnyx_house.CONNECTION, "KEY-of-this-test", telnyx_house.PUBLIC_KEY)
        telnyx = TelnyxRest(http, carrier.secret, base, sleep=house.api.sleep)
        house.routes = TelnyxRoutes(house.desk, house, house.clock, carrier, "", bus=house.bus, rest=telnyx)
    settings = LineSettings(carrier, OURS, HOST, take_number=False)
    return FrontDoor(settings, listener, Joined(house.routes, _no_setup, _no_setup), house.desk)


async def _no_setup(_: object) -> NumberSetup:
    return NumberSetup()


# --------------------------------------------------------------------------- what may not be left


def _no_books(built: Place) -> None:
    house = built.house
    left = {
        **built.books(),
        "calls at the desk": len(house.desk._calls),
        "callback pairs": len(built.runner._calls) + len(built.runner._expected),
        "sinks beside the test's": len(house.bus._sinks) - 1,
        "subscriptions": len(house.bus._subscriptions),
        "numbers": len(house.desk._routes),
    }
    assert {what: count for what, count in left.items() if count} == {}


class Remains:
    """Tasks, timers and open files of this process, as they are now."""

    def __init__(self) -> None:
        self._tasks = asyncio.all_tasks()
        self._timers = self._running_timers()
        self._files = _open_files()

    async def are_all(self) -> None:
        """Nothing has been added since. What is just closing may take a moment."""
        left: dict[str, Any] = {}
        for _ in range(100):
            left = {
                "tasks": [task for task in asyncio.all_tasks() if task not in self._tasks],
                "timers": [timer for timer in self._running_timers() if timer not in self._timers],
                "files": max(0, _open_files() - self._files),
            }
            if not any(left.values()):
                return
            await anyio.sleep(0.01)
            gc.collect()
        raise AssertionError(f"left behind: {left}")

    @staticmethod
    def _running_timers() -> list[asyncio.TimerHandle]:
        scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        return [
            timer
            for timer in scheduled
            if not timer.cancelled()
            and "WebSocketResponse._send_heartbeat"
            not in repr(timer)  # aiohttp's own: finds its socket closed, and ends
        ]


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:  # not Linux
        return 0


# --------------------------------------------------------------------------- real sessions


class RealCalls:
    """Opens real sessions with engines that answer anything at once."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock

    def open_call(
        self,
        call: CallInfo,
        agent: Agent,
        transport: Transport,
        *,
        on_message: OnMessage | None = None,
        agent_name: str = "",
        agent_version: str = "",
        voicemail: str = "",
    ) -> CallSession:
        def rework(_: Steered, agent: Agent) -> tuple[Toolbox, Screen]:
            return Toolbox([]), Guards([]).screen

        def outfit(steered: Steered, agent: Agent) -> Outfit:
            conversation = Pipeline(
                responder=LinesResponder(delay=0.0),
                clock=self._clock,
                transcriber=ScriptedTranscriber(self._clock, ["Hello?"], 0.01),
                detector=LoudnessDetector(),
                synthesizer=ToneSynthesizer(0.0),
            )
            return Outfit(conversation, *rework(steered, agent), tts="tone/test")

        brief = Agent("Be brief.", provider="pipeline", first_message="Hello, {name}.", variables={"name": "you"})
        wiring = Wiring(outfit, rework)
        return CallSession(call, brief, transport, self._bus, self._clock, wiring, agent_name=agent_name)
