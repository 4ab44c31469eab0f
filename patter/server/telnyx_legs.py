"""Telnyx' calls that are on their way, up or just over, and the strangers among its legs, by the carrier's ids and ours.

It owns the memory between webhooks, and its bounds; it refuses to know HTTP, commands and what is done about anything.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import anyio

from patter.agentfile import AgentFile
from patter.audio.format import ALAW_8K, MULAW_8K, PCM_16K, AudioFormat
from patter.clock import Clock
from patter.ports import CallInfo
from patter.server.phone_line import Placed
from patter.server.telnyx_control import TelnyxControl
from patter.server.telnyx_life import Deed, Fact, Life, Stage, Verdicts

LATE_S = 3_600.0  # webhooks are tried again for a minute; recordings are saved within minutes of a call's end
LEGS = 20_000  # legs that are over and still known

SOUNDS: Mapping[str, AudioFormat] = MappingProxyType({"PCMU": MULAW_8K, "PCMA": ALAW_8K, "L16": PCM_16K})
"""What is spoken on a leg, by the carrier's name for it."""

_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # it names the call's files: nothing else may be in it


@dataclass(slots=True, eq=False)
class Leg:
    """One call of ours. `call.call_id`, `handle` (its call_control_id) and `control` come when the carrier names it."""

    life: Life
    call: CallInfo
    file: AgentFile
    handle: str = ""
    placed: Placed | None = None
    control: TelnyxControl | None = None
    stream_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    verdicts: Verdicts = field(default_factory=Verdicts)
    recordings: set[str] = field(default_factory=set)
    told_of: bool = False
    """Whether history knows of it, if it came in."""
    moved: anyio.Event = field(default_factory=anyio.Event)
    """Set when its stage has changed; then a new one stands here."""

    @property
    def call_id(self) -> str:
        """Our name of the call: the carrier's id of the leg."""
        return self.call.call_id

    @property
    def stage(self) -> Stage:
        """Where it is."""
        return self.life.stage

    def told(self, fact: Fact) -> Deed | None:
        """What is to be done about it now."""
        before = self.life.stage
        deed = self.life.told(fact)
        if self.life.stage is not before:
            self.moved.set()
            self.moved = anyio.Event()
        return deed


class Legs:
    """The legs by the carrier's id and, for calls that we placed, by our token. What is over is forgotten later."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_id: dict[str, Leg] = {}
        self._by_token: dict[str, Leg] = {}
        self._past: OrderedDict[str, float] = OrderedDict()

    def find(self, leg_id: str) -> Leg | None:
        """The leg of this id, also for a while after its end."""
        return self._by_id.get(leg_id)

    def by_token(self, token: str) -> Leg | None:
        """The call that we placed with this token."""
        return self._by_token.get(token)

    def expect(self, token: str, leg: Leg) -> None:
        """A call is being placed; a webhook may name it before the answer to our request does."""
        self._by_token[token] = leg

    def give_up(self, token: str) -> None:
        """The carrier did not take the order: whatever comes with this token is a stranger."""
        self._by_token.pop(token, None)

    def name(self, leg: Leg, leg_id: str, handle: str) -> bool:
        """The carrier calls this leg so. False for names that cannot be, are another's, or come too late."""
        if leg.call_id or not handle or not _CALL_ID.fullmatch(leg_id):
            return False
        if leg_id in self._by_id or leg_id in self._past:
            return False
        leg.call, leg.handle = replace(leg.call, call_id=leg_id), handle
        self._by_id[leg_id] = leg
        return True

    def over(self, leg: Leg) -> None:
        """The leg is over: known for a while still."""
        self._leave(leg.call_id)

    def strange(self, leg_id: str) -> bool:
        """A leg that is not ours shows itself. True only the first time."""
        if leg_id in self._past:
            return False
        self._leave(leg_id)
        return True

    def _leave(self, leg_id: str) -> None:
        now = self._clock.now()
        self._past[leg_id] = now
        while len(self._past) > LEGS or next(iter(self._past.values())) < now - LATE_S:
            old, _ = self._past.popitem(last=False)
            leg = self._by_id.pop(old, None)
            if leg is not None and leg.placed is not None:
                self._by_token.pop(leg.placed.token, None)
