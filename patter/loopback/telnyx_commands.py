"""What Telnyx' call commands do to legs, and when they are refused.

It owns their preconditions and effects; it refuses to know HTTP and the shapes of parameters, which were checked before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from patter.loopback.telnyx_leg import Leg, Ring
from patter.loopback.telnyx_refusal import Refusal
from patter.loopback.telnyx_stream import StreamOrder

Fields = Mapping[str, Any]
Dial = Callable[[Fields, Ring, str, str | None], Leg]
"""Dials a number: fields of the command, how to ring, session id ("" = its own), client_state."""

_SIP_OF_REJECT = {
    "CALL_REJECTED": ("call_rejected", "603"),
    "USER_BUSY": ("user_busy", "486"),
    "NOT_FOUND": ("not_found", "404"),
    "TEMPORARILY_UNAVAILABLE": ("unspecified", "480"),
}
_UNANSWERED = frozenset({"answer", "reject", "hangup", "client_state_update", "record_start"})  # need no answered call


class Commands:
    """Does commands to legs. `legs`: all there ever were, by call_control_id."""

    def __init__(self, legs: Mapping[str, Leg], dial: Dial) -> None:
        self._legs = legs
        self._dial = dial

    def leg(self, call_control_id: str) -> Leg:
        """The leg of this id. Raises Refusal."""
        leg = self._legs.get(call_control_id)
        if leg is None:
            raise Refusal("90015", "no call has this call_control_id")
        return leg

    def do(self, leg: Leg, action: str, fields: Fields) -> dict[str, Any]:
        """Do one command; returns the `data` of the answer. Raises Refusal."""
        if not leg.alive:
            raise Refusal("90018", f"the call has ended ({leg.hangup_cause}); {action} comes too late")
        if not leg.answered.is_set() and action not in _UNANSWERED:
            raise Refusal("90034", f"{action} needs an answered call")
        doers: dict[str, Callable[[Leg, Fields], dict[str, Any] | None]] = {
            "answer": self._answer,
            "reject": self._reject,
            "hangup": self._hang_up,
            "transfer": self._transfer,
            "bridge": self._bridge,
            "speak": self._speak,
            "send_dtmf": self._send_dtmf,
            "record_start": self._record_start,
            "record_stop": self._record_stop,
            "streaming_start": self._streaming_start,
            "streaming_stop": self._streaming_stop,
            "client_state_update": lambda *_: None,
        }
        before = leg.client_state
        leg.client_state = fields.get("client_state", leg.client_state)
        try:
            more = doers[action](leg, fields)
        except Refusal:
            leg.client_state = before
            raise
        return {"result": "ok"} | (more or {})

    def dial(self, fields: Fields) -> Leg:
        """POST /v2/calls. Raises Refusal."""
        linked = self.leg(fields["link_to"]) if "link_to" in fields else None
        bridges = fields.get("bridge_on_answer", False)
        if linked is None and (bridges or fields.get("bridge_intent")):
            raise Refusal("10004", "bridge_on_answer and bridge_intent need link_to", "/link_to")
        if linked is not None and not linked.alive:
            raise Refusal("90018", "the call in link_to has ended", "/link_to")

        def answered() -> None:
            if "stream_url" in fields:
                leg.start_stream(StreamOrder.of(fields))
            if fields.get("record") == "record-from-answer":
                leg.record(fields.get("record_channels", "dual"))
            if bridges and linked is not None and linked.alive:
                linked.join(leg)

        leg = self._dial(
            fields,
            _ring(fields, answered),
            linked.session_id if linked is not None else "",
            fields.get("client_state"),
        )
        return leg

    # ----------------------------------------------------------------- before the answer

    def _answer(self, leg: Leg, fields: Fields) -> None:
        if leg.direction == "outgoing":
            raise Refusal("90102", "only incoming calls are answered")
        if leg.answered.is_set():
            raise Refusal("10015", "the call is answered already")
        leg.route.override(fields)
        leg.pick_up()
        if "stream_url" in fields:
            leg.start_stream(StreamOrder.of(fields))
        if fields.get("record") == "record-from-answer":
            leg.record(fields.get("record_channels", "dual"))

    def _reject(self, leg: Leg, fields: Fields) -> None:
        if leg.direction == "outgoing" or leg.answered.is_set():
            raise Refusal("10015", "only incoming calls that are not answered yet are rejected")
        cause, sip = _SIP_OF_REJECT[fields["cause"]]
        leg.end(cause, "callee", sip)

    def _hang_up(self, leg: Leg, _: Fields) -> None:
        ours = "callee" if leg.direction == "incoming" else "caller"
        if leg.answered.is_set():
            leg.end("normal_clearing", ours, "200")
        elif leg.direction == "incoming":
            leg.end("call_rejected", ours, "603")
        else:
            leg.end("originator_cancel", ours, "487")

    # ----------------------------------------------------------------- joining

    def _transfer(self, leg: Leg, fields: Fields) -> None:
        if leg.joined_with is not None:
            raise Refusal("10015", "the call is bridged already")

        def answered() -> None:
            if leg.alive:
                leg.join(target)
            else:
                target.end("normal_clearing", "unknown", "200")

        ring = _ring(fields, answered)
        order = {"from": leg.to if leg.direction == "incoming" else leg.caller} | dict(fields)
        target = self._dial(order, ring, leg.session_id, fields.get("target_leg_client_state"))
        leg.transferred_to = fields["to"]
        leg.stays_when_parted = fields.get("park_after_unbridge") == "self"

    def _bridge(self, leg: Leg, fields: Fields) -> None:
        other = self.leg(fields["call_control_id"])
        if other is leg:
            raise Refusal("10015", "a call cannot be bridged with itself", "/call_control_id")
        if not other.alive:
            raise Refusal("90018", "the call to bridge with has ended", "/call_control_id")
        if not other.answered.is_set():
            raise Refusal("90034", "the call to bridge with is not answered yet", "/call_control_id")
        if leg.joined_with is not None or other.joined_with is not None:
            raise Refusal("10015", "one of the calls is bridged already")
        leg.stays_when_parted = fields.get("park_after_unbridge") == "self"
        leg.join(other)

    # ----------------------------------------------------------------- sound

    def _speak(self, leg: Leg, fields: Fields) -> None:
        if "stop" in fields:
            leg.line.stop_announcements(current_only=fields["stop"] == "current")
        leg.announce(fields["payload"])

    def _send_dtmf(self, leg: Leg, fields: Fields) -> None:
        leg.digits_heard += fields["digits"].replace("w", "").replace("W", "")

    def _record_start(self, leg: Leg, fields: Fields) -> None:
        if not leg.answered.is_set():
            raise Refusal("90020", "there is no audio to record yet")
        if leg.line.recordings:
            raise Refusal("10015", "the call is being recorded already")
        leg.record(fields["channels"], float(fields.get("max_length", 0)))

    def _record_stop(self, leg: Leg, _: Fields) -> None:
        if not leg.line.recordings:
            raise Refusal("10015", "the call is not being recorded")
        leg.save(leg.line.recordings[0])

    def _streaming_start(self, leg: Leg, fields: Fields) -> None:
        if leg.stream is not None:
            raise Refusal("90045", "this call has a media stream already")
        leg.start_stream(StreamOrder.of(fields))

    def _streaming_stop(self, leg: Leg, fields: Fields) -> None:
        if leg.stream is None or fields.get("stream_id", leg.stream.stream_id) != leg.stream.stream_id:
            raise Refusal("90048", "there is no such media stream on this call")
        leg.stream.hang_up()


def _ring(fields: Fields, on_answered: Callable[[], None]) -> Ring:
    detection = fields.get("answering_machine_detection", "disabled")
    return Ring(fields.get("timeout_secs", 30), detection, on_answered=on_answered)
