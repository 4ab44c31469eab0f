"""Tells the bus those facts of a call that need no decision: how it began, what was used, what failed.

It owns their wording as events; it refuses to decide anything because of them.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Literal

from patter import events
from patter.bus import Bus
from patter.call.outfit import Outfit
from patter.models import Agent
from patter.ports import Abilities, CallInfo, Transport
from patter.signals import ConnectionUsed, Faulted, Guarded, MachineDetected, Used

log = logging.getLogger(__name__)


class Chronicle:
    """The plain facts of one call."""

    def __init__(self, call: CallInfo, abilities: Abilities, bus: Bus) -> None:
        self._call = call
        self._abilities = abilities
        self._bus = bus

    def began(self, agent: Agent, name: str, version: str, outfit: Outfit) -> None:
        """The call is up, with these parts."""
        call, plays = self._call, self._abilities.plays
        direction: Literal["inbound", "outbound", "test"] = "test"
        if call.direction in ("inbound", "outbound"):
            direction = "inbound" if call.direction == "inbound" else "outbound"
        self._bus.publish(
            events.CallStarted(
                call_id=call.call_id,
                caller=call.caller,
                callee=call.callee,
                direction=direction,
                agent=name or agent.name,
                agent_version=version,
                provider_mode=agent.provider,
                stt=outfit.stt,
                llm=outfit.llm,
                tts=outfit.tts,
                telephony=call.telephony,
                line=f"{plays.encoding}/{plays.rate}" if plays else "text",
                notes=outfit.notes,
                custom_params=call.custom_params,
            )
        )

    def pressed(self, digit: str) -> None:
        """The caller pressed a key."""
        self._bus.publish(events.DigitPressed(call_id=self._call.call_id, digit=digit))

    def machine_detected(self, signal: MachineDetected, turn: int, *, first: bool) -> None:
        """The carrier says who answered; it charges for that once."""
        self._bus.publish(
            events.MachineDetected(call_id=self._call.call_id, answered_by=signal.answered_by, ready=signal.ready)
        )
        if first:
            self.used(Used("telephony", self._call.telephony, "amd", {"calls": 1.0}), turn)

    def used(self, signal: Used, turn: int) -> None:
        """Something billable was used in this turn."""
        self._bus.publish(
            events.UsageMeasured(
                call_id=self._call.call_id,
                turn=turn,
                stage=signal.stage,
                provider=signal.provider,
                model=signal.model,
                amounts=signal.amounts,
            )
        )

    def connected(self, signal: ConnectionUsed, turn: int) -> None:
        """A stage reached its provider in this turn."""
        self._bus.publish(
            events.ConnectionUsed(
                call_id=self._call.call_id,
                turn=turn,
                stage=signal.stage,
                provider=signal.provider,
                reused=signal.reused,
                ms=signal.ms,
            )
        )

    def line_used(self, seconds: float, turn: int) -> None:
        """The time on the line, and on the media stream where there is one."""
        amounts = {"seconds": round(seconds, 3)}
        direction = "outbound" if self._call.direction == "outbound" else "inbound"
        self.used(Used("telephony", self._call.telephony, direction, amounts), turn)
        if self._abilities.plays is not None:
            self.used(Used("telephony", self._call.telephony, "media-stream", amounts), turn)

    def line_did(self, transport: Transport) -> None:
        """How well the caller's line did; nothing of one without sound. The end of a call may not depend on it."""
        try:
            line = transport.quality()
        except Exception:
            log.exception("the line did not tell its figures", extra={"call_id": self._call.call_id})
            return
        if line is not None:
            self._bus.publish(events.LineMeasured(call_id=self._call.call_id, **asdict(line)))

    def guarded(self, signal: Guarded) -> None:
        """A guardrail replaced text."""
        log.warning(
            "a guardrail replaced a reply", extra={"guardrail": signal.guardrail, "call_id": self._call.call_id}
        )
        self._bus.publish(
            events.GuardrailTripped(call_id=self._call.call_id, guardrail=signal.guardrail, reply_id=signal.reply_id)
        )

    def faulted(self, signal: Faulted) -> None:
        """A part failed."""
        self._bus.publish(
            events.FaultOccurred(
                call_id=self._call.call_id,
                stage=signal.stage,
                provider=signal.provider,
                problem=signal.problem,
                fix=signal.fix,
            )
        )
