"""One leg of a call at Twilio: it rings, is answered, is recorded, ends, and tells of all that in order.

It owns a leg's life, in real time; it refuses to know TwiML, media sockets and REST requests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp
import anyio
from anyio.abc import TaskGroup

from patter.audio.format import MULAW_8K
from patter.clock import Clock
from patter.loopback.line import Line
from patter.loopback.media_leg import MediaLeg
from patter.loopback.misbehaviour import Misbehaviour
from patter.loopback.person import Handset, Person
from patter.loopback.reach import Reach
from patter.loopback.twilio_outbox import Outbox, Reports
from patter.loopback.twilio_parameters import LONGEST_CALL_S
from patter.loopback.twilio_recording import Tape
from patter.loopback.twilio_resources import CallRecord, PhoneNumber, date, new_sid
from patter.loopback.twilio_webhooks import Messenger

PATIENCE_S = 60.0  # of somebody whose call nobody answers
Direction = Literal["inbound", "outbound-api", "outbound-dial"]


@dataclass
class Exchange:
    """What all legs of a carrier share."""

    account_sid: str
    clock: Clock
    tasks: TaskGroup
    http: aiohttp.ClientSession
    reach: Reach
    messenger: Messenger
    day: Misbehaviour
    violations: list[str]
    people: dict[str, Person]
    numbers: dict[str, PhoneNumber]
    legs: dict[str, Leg]
    api_base: str
    skew_s: float = 0.0
    calls_per_second: float = 0.0
    next_call_at: float = 0.0
    tapes: dict[str, Tape] = field(default_factory=dict)
    rooms: dict[str, Room] = field(default_factory=dict)

    def now(self) -> float:
        """What the carrier's own clock shows, which may be wrong."""
        return self.clock.now() + self.skew_s

    def queue_s(self) -> float:
        """How long a call that is created now stays queued."""
        if not self.calls_per_second:
            return 0.0
        begins_at = max(self.clock.now(), self.next_call_at)
        self.next_call_at = begins_at + 1 / self.calls_per_second
        return begins_at - self.clock.now()

    def note(self, problem: str) -> None:
        """Something that the real carrier would refuse, ignore or warn of."""
        self.violations.append(problem)


@dataclass(frozen=True, slots=True)
class Guidance:
    """Where a call's TwiML comes from: `twiml` itself, or `url`, and `fallback_url` if that fails. `extra` goes with it."""

    url: str = ""
    method: str = "POST"
    twiml: str = ""
    fallback_url: str = ""
    fallback_method: str = "POST"
    extra: Mapping[str, str] = field(default_factory=dict)


async def first_of(*events: anyio.Event) -> None:
    """Until one of these has happened."""
    async with anyio.create_task_group() as tasks:

        async def wait(event: anyio.Event) -> None:
            await event.wait()
            tasks.cancel_scope.cancel()

        for event in events:
            tasks.start_soon(wait, event)


class Leg:
    """One leg, one life. `direction`: "inbound", "outbound-api" (created by REST) or "outbound-dial" (by `<Dial>`).

    `call_id` is the CallSid; `status` is the carrier's word: "queued", "ringing", "in-progress", "completed", "busy",
    "failed", "no-answer" or "canceled"."""

    def __init__(
        self,
        exchange: Exchange,
        caller: str,
        to: str,
        direction: Direction,
        person: Person | None,
        reports: Reports,
        *,
        parent_sid: str = "",
    ) -> None:
        self.record = CallRecord(
            new_sid("CA"), exchange.account_sid, caller, to, direction, parent_sid, created_at=exchange.now()
        )
        self.caller, self.to, self.direction, self.person = caller, to, direction, person or Person("no_answer")
        self.answered, self.ended, self.over = anyio.Event(), anyio.Event(), anyio.Event()
        """Taken; ended; and all of it told to whoever wants to know."""
        self.streaming = anyio.Event()
        """A media stream has begun."""
        self.announced: list[str] = []
        """What the carrier's own voice said to the person."""
        self.transferred_to = ""
        self.joined_with: Leg | None = None
        """Who was joined to this person last, by `<Dial>`."""
        self.recordings: list[str] = []
        """URLs of the finished ones (append ".wav")."""
        self.media: MediaLeg | None = None
        """The stream that is open."""
        self.time_limit_s = float(LONGEST_CALL_S)  # from the answer on
        self.turn = anyio.Event()
        """What goes on on this leg has to stop: there is an order, or the call is over."""
        self.outbox = Outbox(exchange.messenger)
        self.reports = reports
        self.tapes: dict[str, Tape] = {}
        self._exchange = exchange
        self._unknown = person is None
        self._handset = Handset(self.person, MULAW_8K)
        self.line = Line(self._handset, exchange.clock)
        self._order: Guidance | None = None
        self._verdict = ""
        self._sip = ""
        self._tasks: TaskGroup | None = None
        self._pressed = ""

    # ----------------------------------------------------------------- what a test looks at

    @property
    def call_id(self) -> str:
        """The CallSid."""
        return self.record.sid

    @property
    def handle(self) -> str:
        """What REST requests name the call by: the CallSid too."""
        return self.record.sid

    @property
    def status(self) -> str:
        """The carrier's word for what the call is doing."""
        return self.record.status

    @property
    def answered_by(self) -> str:
        """What machine detection said, "" = nothing (yet)."""
        return self.record.answered_by

    @property
    def heard(self) -> bytearray:
        """What the person has heard (µ-law 8 kHz); with a machine: what was left on it."""
        return self._handset.heard

    @property
    def digits_heard(self) -> str:
        """The keys whose tones the person has heard, or that were pressed by the other side's telephone."""
        return self._pressed + self._handset.digits_heard

    def press(self, digits: str) -> None:
        """Press keys one after the other. Without a stream and without anybody on the line nobody notices."""
        for digit in digits:
            if self.media is not None:
                self.media.press(digit)
            elif self.joined_with is not None and not self.joined_with.gone:
                self.joined_with.hear_keys(digit)

    def hang_up(self) -> None:
        """The person puts the receiver down."""
        self.stop("completed" if self.answered.is_set() else "canceled" if self.direction == "inbound" else "no-answer")

    # ----------------------------------------------------------------- what the carrier does

    @property
    def gone(self) -> bool:
        """Whether the call is over or about to be."""
        return bool(self._verdict)

    @property
    def greeted(self) -> anyio.Event:
        """A machine has played its greeting; set from the beginning for everybody else."""
        return self._handset.greeted

    def hear_keys(self, digits: str) -> None:
        """Keys that were not sent as sound."""
        self._pressed += digits

    def stop(self, status: str, sip: str = "200") -> None:
        """End the call with this status; only the first one counts."""
        if not self._verdict:
            self._verdict, self._sip = status, sip
            self.turn.set()

    def order(self, guidance: Guidance) -> None:
        """Drop what goes on, and do this instead."""
        self._order = guidance
        self.turn.set()

    def next_order(self) -> Guidance | None:
        """The order that waits, if there is one; whoever takes it starts a new turn."""
        order, self._order = self._order, None
        if not self.gone:
            self.turn = anyio.Event()
        return order

    async def run(self, life: Callable[[Leg], Awaitable[None]]) -> None:
        """The whole call: `life`, and then its end, with everything that has to be told."""
        self._exchange.legs[self.call_id] = self
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self.outbox.run)
            await life(self)
            self._end()
            await self.outbox.close()
            self._tasks.cancel_scope.cancel()
        self.over.set()

    def spawn(self, job: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        """Something beside the call, which ends with it."""
        if self._tasks is not None and not self.over.is_set():
            self._tasks.start_soon(job, *args)

    def tell(self, event: str, **extra: str) -> None:
        """A status callback."""
        form = self.record.form() | {
            "Timestamp": str(date(self._exchange.now())),
            "CallbackSource": "call-progress-events",
            **extra,
        }
        self.reports.add(self.outbox, event, form)

    async def ring(self, timeout_s: float) -> bool:
        """Let it ring at the person's; whether they took the call."""
        if self.gone:
            return False
        self.tell("initiated", CallStatus="initiated")
        if self._unknown:
            self.stop("failed", "404")
            return False
        self.record.status = "ringing"
        self.tell("ringing")
        person = self.person
        rings_s = timeout_s if person.answers == "no_answer" else min(person.rings_s, timeout_s)
        with anyio.move_on_after(rings_s):
            await self.turn.wait()
        if self.gone:
            return False
        if person.answers in ("busy", "reject"):
            self.stop("busy", "486" if person.answers == "busy" else "603")
        elif person.answers == "no_answer" or person.rings_s > timeout_s:
            self.stop("no-answer", "487")
        else:
            self.answer()
        return not self.gone

    def answer(self) -> None:
        """The call is up from now on."""
        if self.answered.is_set() or self.gone:
            return
        self.record.status, self.record.started_at = "in-progress", self._exchange.now()
        self.answered.set()
        self.spawn(self.line.run)
        self.spawn(self._leave)
        self.tell("answered")

    def limit(self, seconds: float) -> None:
        """End the call so long from now, if it is still up."""

        async def end() -> None:
            await anyio.sleep(seconds)
            self.stop("completed")

        self.spawn(end)

    async def _leave(self) -> None:
        self.limit(self.time_limit_s)
        with anyio.move_on_after(self.person.stays_s):
            await self._handset.leaves.wait()
        self.stop("completed")

    # ----------------------------------------------------------------- recording

    def start_tape(self, tape: Tape) -> None:
        """Record both sides from now on."""
        self.tapes[tape.sid] = self._exchange.tapes[tape.sid] = tape
        tape.start(self.line)
        self._tell_of(tape)

    def finish_tape(self, tape: Tape) -> None:
        """Stop recording; a recording that is over stays as it is."""
        if not tape.finished:
            tape.finish(self.line)
            self.recordings.append(tape.url)
            self._tell_of(tape)

    def _tell_of(self, tape: Tape) -> None:
        if tape.callback_url and tape.status in tape.callback_events:
            self.outbox.put(tape.callback_url, tape.form(), tape.callback_method)

    def _end(self) -> None:
        self.stop("completed")
        self.record.status, self.record.ended_at = self._verdict, self._exchange.now()
        self.ended.set()
        for tape in self.tapes.values():
            self.finish_tape(tape)
        extra = {"CallDuration": str(self.record.seconds), "Duration": str(self.record.minutes)}
        if self.direction != "inbound":
            extra["SipResponseCode"] = self._sip
        for tape in self.tapes.values():
            if tape.source == "OutboundAPI":
                extra |= {"RecordingUrl": tape.url, "RecordingSid": tape.sid, "RecordingDuration": tape.duration}
        self.tell("completed", **extra)


class Room:
    """A conference. This carrier's hold two at most; nobody hears anybody before it has started."""

    def __init__(self) -> None:
        self.members: list[Leg] = []
        self.over = anyio.Event()
        self._started = False

    def enter(self, leg: Leg, starts: bool) -> bool:
        """False if it is full."""
        if len(self.members) >= 2:
            return False
        self.members.append(leg)
        self._started |= starts
        if self._started and len(self.members) == 2:
            join(*self.members)
        return True

    def leave(self, leg: Leg, ends: bool) -> None:
        """With `ends`, everybody has to go."""
        self.members.remove(leg)
        leg.line.part()
        if ends or not self.members:
            self.over.set()


def join(one: Leg, other: Leg) -> None:
    """The two people hear each other from now on."""
    one.line.join(other.line)
    one.joined_with, other.joined_with = other, one
