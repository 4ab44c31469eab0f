"""One leg of a call at Telnyx: it rings, is answered, carries sound, is joined to another, ends, and tells of all that.

It owns a leg's life, in real time; it refuses to know HTTP requests and how commands are spelled.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp
import anyio
from anyio.abc import TaskGroup

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_16K, AudioFormat
from patter.clock import Clock
from patter.loopback.line import Line, Recording
from patter.loopback.misbehaviour import Misbehaviour
from patter.loopback.person import Handset, Person
from patter.loopback.reach import Reach
from patter.loopback.telnyx_detection import detect
from patter.loopback.telnyx_stream import MediaStream, StreamOrder
from patter.loopback.telnyx_webhooks import Messenger, Route, timestamp
from patter.loopback.tones import hum

CODECS: dict[str, AudioFormat] = {"PCMU": MULAW_8K, "PCMA": ALAW_8K, "L16": PCM_16K}
PATIENCE_S = 60.0  # of somebody whose call nobody answers
GOODBYE_S = 2.0  # for the media socket to take its `stop`


@dataclass
class Exchange:
    """What all legs of a carrier share. `now` is the carrier's own clock; `big_endian`: how its L16 is."""

    clock: Clock
    now: Callable[[], float]
    tasks: TaskGroup
    http: aiohttp.ClientSession
    reach: Reach
    messenger: Messenger
    day: Misbehaviour
    violations: list[str]
    connection_id: str
    big_endian: bool
    keep: Callable[[Recording], str]
    """Keeps a recording for the API; returns its URL."""
    user_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass
class Ring:
    """How a leg we dial is rung, and what happens once it is answered. `in_service`: the number exists."""

    timeout_s: float = 30.0
    detection: str = "disabled"
    in_service: bool = True
    on_answered: Callable[[], None] = lambda: None


class Leg:
    """One leg, one life. `direction` "incoming" (a person calls us) or "outgoing" (we dial a person).

    `call_id` is Telnyx' call_leg_id, `handle` its call_control_id. `status`: "parked", "bridging", "answered", "hangup"."""

    def __init__(
        self,
        exchange: Exchange,
        direction: Literal["incoming", "outgoing"],
        caller: str,
        to: str,
        person: Person,
        route: Route,
        *,
        codec: str = "PCMU",
        ring: Ring | None = None,
        session_id: str = "",
        client_state: str | None = None,
        time_limit_s: float = 14_400.0,
    ) -> None:
        self.call_id = str(uuid.uuid4())
        self.handle = "v3:" + secrets.token_urlsafe(36)
        self.session_id = session_id or str(uuid.uuid4())
        self.direction, self.caller, self.to, self.person, self.route = direction, caller, to, person, route
        self.client_state = client_state
        self.status = "parked" if direction == "incoming" else "bridging"
        self.hangup_cause = ""
        self.answered, self.over = anyio.Event(), anyio.Event()
        self.streaming = anyio.Event()
        """A media stream has begun."""
        self.digits_heard = ""
        """Keys that were pressed for the person by `send_dtmf` or by a joined person."""
        self.announced: list[str] = []
        self.recordings: list[str] = []
        """URLs of the finished ones."""
        self.transferred_to = ""
        self.joined_with: Leg | None = None
        self.stays_when_parted = False
        self.codec = codec
        self.stream: MediaStream | None = None
        self.started_at = exchange.now()
        self.answered_at = 0.0
        self._exchange = exchange
        self._ring = ring or Ring()
        self._time_limit_s = time_limit_s
        self._handset = Handset(person, CODECS[codec])
        self.line = Line(self._handset, exchange.clock)
        self._lane = anyio.Lock()
        self._ended = anyio.Event()
        self._hangup: dict[str, str] = {}
        self._tasks: TaskGroup | None = None

    @property
    def heard(self) -> bytearray:
        """What the person has heard, in the line's format."""
        return self._handset.heard

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return not self._ended.is_set()

    # ----------------------------------------------------------------- the person

    def press(self, digits: str) -> None:
        """The person presses keys."""
        for digit in digits:
            if self.stream is not None:
                self.stream.press(digit)
            if self.joined_with is not None:
                self.joined_with.digits_heard += digit
            self.tell("call.dtmf.received", digit=digit)

    def hang_up(self) -> None:
        """The person puts the receiver down; before an answer the caller gives up."""
        if self.status == "parked":
            self.end("originator_cancel", "caller", "487")
        elif self.status == "bridging":
            self.end("call_rejected", "callee", "603")
        else:
            self.end("normal_clearing", "caller" if self.direction == "incoming" else "callee", "200")

    # ----------------------------------------------------------------- its life

    async def run(self) -> None:
        """From the first ring to the last webhook."""
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                self._tell_of_ringing()
                tasks.start_soon(self._wait_for_us if self.direction == "incoming" else self._ring_them)
                await self._ended.wait()
                await self._wind_up()
                tasks.cancel_scope.cancel()
        finally:
            self._tasks = None
            self.over.set()

    def pick_up(self) -> None:
        """It is answered: sound flows from now on."""
        if self._tasks is None or self.status not in ("parked", "bridging"):
            return
        self.status = "answered"
        self.answered_at = self._exchange.now()
        self.tell("call.answered", **self._began(), state="answered")
        self._tasks.start_soon(self.line.run)
        self._tasks.start_soon(self._leave_sometime)
        self._tasks.start_soon(self._stop_at_the_limit)
        self._tasks.start_soon(detect, self._ring.detection, self._handset, self.tell)
        self.answered.set()
        self._ring.on_answered()

    def end(self, cause: str, source: str, sip: str) -> None:
        """It is over, whatever it was doing; the first cause counts."""
        if self.alive:
            self.status, self.hangup_cause = "hangup", cause
            self._hangup = {"hangup_cause": cause, "hangup_source": source, "sip_hangup_cause": sip}
            self._ended.set()

    async def _ring_them(self) -> None:
        person, limit = self.person, self._ring.timeout_s
        if not self._ring.in_service:
            self.end("not_found", "unknown", "404")
            return
        taken = person.answers != "no_answer" and person.rings_s <= limit
        await anyio.sleep(person.rings_s if taken else limit)
        if not taken:
            self.end("timeout", "unknown", "487")
        elif person.answers == "busy":
            self.end("user_busy", "callee", "486")
        elif person.answers == "reject":
            self.end("call_rejected", "callee", "603")
        else:
            self.pick_up()

    async def _wait_for_us(self) -> None:
        with anyio.move_on_after(PATIENCE_S):
            await self.answered.wait()
            return
        self.end("timeout", "unknown", "487")

    async def _leave_sometime(self) -> None:
        stays_s = self.person.stays_s
        with anyio.move_on_after(stays_s):
            await self._handset.leaves.wait()
        self.hang_up()

    async def _stop_at_the_limit(self) -> None:
        await anyio.sleep(self._time_limit_s)
        self.end("time_limit", "unknown", "200")

    async def _wind_up(self) -> None:
        if self.stream is not None:
            self.stream.hang_up()
            with anyio.move_on_after(GOODBYE_S):
                await self.stream.done.wait()
        self.part()
        self.line.stop_announcements()
        for recording in list(self.line.recordings):
            self.save(recording)
        ended: dict[str, Any] = {
            "state": "hangup",
            "end_time": timestamp(self._exchange.now()),
            "call_quality_stats": self._quality(),
        }
        self.tell("call.hangup", **self._began(), **ended | self._hangup)

    def _quality(self) -> dict[str, Any] | None:
        if self.stream is None:
            return None
        sent, heard = str(self.stream.stats.frames_sent), str(self.stream.stats.frames_heard)
        return {
            "inbound": {
                "mos": "4.50",
                "jitter_max_variance": "0.00",
                "jitter_packet_count": sent,
                "packet_count": sent,
                "skip_packet_count": "0",
            },
            "outbound": {"packet_count": heard, "skip_packet_count": "0"},
        }

    # ----------------------------------------------------------------- what commands do to it

    def start_stream(self, order: StreamOrder) -> None:
        """Open a media stream."""
        assert self._tasks is not None
        exchange = self._exchange
        call = {
            "call_control_id": self.handle,
            "call_session_id": self.session_id,
            "user_id": exchange.user_id,
            "caller": self.caller,
            "callee": self.to,
            "client_state": self.client_state,
        }
        self.stream = MediaStream(
            order,
            self.line,
            call,
            exchange.clock,
            exchange.day,
            exchange.violations,
            self._tell_of_stream,
            big_endian=exchange.big_endian,
        )
        self._tasks.start_soon(self._carry, self.stream)

    async def _carry(self, stream: MediaStream) -> None:
        try:
            await stream.run(self._exchange.http, self._exchange.reach)
        finally:
            if self.alive:
                self.stream = None

    def _tell_of_stream(self, event_type: str, **fields: Any) -> None:
        if event_type == "streaming.started":
            self.streaming.set()
        self.tell(event_type, numbers=False, **fields)

    def announce(self, text: str) -> None:
        """A voice of the carrier's reads `text` to the person (a hum as long as that)."""
        self.announced.append(text)
        self.tell("call.speak.started", numbers=False)
        self.line.announce(hum(text), self._announced)

    def _announced(self) -> None:
        self.tell("call.speak.ended", numbers=False, status="completed" if self.alive else "call_hangup")

    def record(self, channels: str, longest_s: float = 0.0) -> None:
        """Record from now on; it is saved after `longest_s` (0 = never by itself), at the end, or by `save`."""
        assert self._tasks is not None
        recording = Recording(self.line.format, channels, self._exchange.now())
        self.line.recordings.append(recording)
        if longest_s:
            self._tasks.start_soon(self._save_after, recording, longest_s)

    async def _save_after(self, recording: Recording, seconds: float) -> None:
        await anyio.sleep(seconds)
        if recording in self.line.recordings:
            self.save(recording)

    def save(self, recording: Recording) -> None:
        """End a recording and tell where it is."""
        self.line.recordings.remove(recording)
        recording.ended_at = self._exchange.now()
        url = self._exchange.keep(recording)
        self.recordings.append(url)
        payload = self._payload(numbers=False) | {
            "channels": recording.channels,
            "recording_started_at": timestamp(recording.began_at),
            "recording_ended_at": timestamp(recording.ended_at),
            "recording_urls": {"wav": url},
            "public_recording_urls": {},
        }
        del payload["call_control_id"]
        self._post("call.recording.saved", payload)

    def join(self, other: Leg) -> None:
        """The two people hear each other from now on."""
        for one, two in ((self, other), (other, self)):
            one.joined_with = two
            one.tell("call.bridged")
        self.line.join(other.line)

    def part(self) -> None:
        """The two do not hear each other any more: the other one hangs up, unless it was told to stay."""
        other, self.joined_with = self.joined_with, None
        if other is not None:
            self.line.part()
            other.joined_with = None
            if not other.stays_when_parted:
                other.end("normal_clearing", "unknown", "200")

    # ----------------------------------------------------------------- telling

    def tell(self, event_type: str, *, numbers: bool = True, **fields: Any) -> None:
        """Send a webhook; `numbers`: with from and to."""
        self._post(event_type, self._payload(numbers) | fields)

    def _post(self, event_type: str, payload: dict[str, Any]) -> None:
        self._exchange.messenger.post(self._exchange.tasks, self._lane, self.route, event_type, payload)

    def _payload(self, numbers: bool) -> dict[str, Any]:
        ids = {
            "call_control_id": self.handle,
            "call_leg_id": self.call_id,
            "call_session_id": self.session_id,
            "connection_id": self._exchange.connection_id,
            "client_state": self.client_state,
        }
        return ids | ({"from": self.caller, "to": self.to} if numbers else {})

    def _began(self) -> Mapping[str, Any]:
        return {"start_time": timestamp(self.started_at), "custom_headers": [], "sip_headers": [], "tags": []}

    def _tell_of_ringing(self) -> None:
        offered = "PCMU,PCMA" if self.codec != "L16" else "L16,PCMU,PCMA"
        self.tell(
            "call.initiated",
            **self._began(),
            direction=self.direction,
            state=self.status,
            caller_id_name=self.caller,
            connection_codecs=offered,
            offered_codecs=offered,
            shaken_stir_attestation=None,
            shaken_stir_validated=False,
            call_screening_result=None,
        )
