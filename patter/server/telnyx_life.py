"""The life of a Telnyx leg between its webhooks, as a table: what to do on each, whatever their order and however often.

It owns the stages of our calls, of transfers and of announcements, what a machine detection means and why a call was not taken;
it refuses to know HTTP, tasks and time.

House rules
1. A stage is entered once and never left backwards; what the table does not name changes nothing. So every deed on the
   way is done at most once, though webhooks come twice, late, at the same time and in any order.
2. A call that we answer is opened in two steps: `ANSWER` when it is offered, `STREAM` when the carrier says it is answered.
3. Every life ends in `OVER`, and exactly one deed on the way there tells the world, if there is anything to tell.
4. Until our media socket has come the carrier's word ends the call; from then on the session's does.
5. A call whose session is over is hung up at the carrier, unless the carrier says in time that it is over anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from patter.events import EndReason
from patter.ports import AnsweredBy


class Stage(Enum):
    """Where a leg is."""

    OFFERED = "offered"  # a call for us rings
    ANSWERING = "answering"  # we have told the carrier to answer it
    DIALLED = "dialled"  # a call of ours rings
    OPENING = "opening"  # answered; the carrier was told to open our media socket
    UP = "up"  # the socket is there and the session has the call
    CLOSING = "closing"  # the session is over, the carrier has not said so yet
    CONSULTED = "consulted"  # warm transfer: that person's telephone rings
    TOLD = "told"  # warm transfer: that person hears the summary
    JOINING = "joining"  # warm transfer: the carrier was told to join the two
    HANDED = "handed"  # cold transfer: the carrier calls that person
    ANNOUNCED = "announced"  # the carrier speaks to the caller
    JOINED = "joined"  # that person and the caller speak with each other
    OVER = "over"


class Fact(Enum):
    """What happened to a leg."""

    INITIATED = "initiated"
    ANSWERED = "answered"
    SOCKET = "socket"  # our media socket has come for it
    SPOKEN = "spoken"  # the carrier has said what it was told to say
    BRIDGED = "bridged"
    HUNG_UP = "hung_up"
    FAILED = "failed"  # the carrier refused a command, or could not open the stream
    CANCELED = "canceled"  # we give the call up before it is up; in a transfer: the caller is gone
    CLOSED = "closed"  # the session is over
    OVERDUE = "overdue"  # the stage has lasted longer than it can


class Deed(Enum):
    """What to do."""

    ANSWER = "answer"
    STREAM = "stream"  # let the carrier open the media socket
    END_SESSION = "end_session"  # the caller hung up
    UNTAKEN = "untaken"  # tell why an outbound call was not taken
    UNHEARD = "unheard"  # answered and hung up before any sound
    CANCEL = "cancel"  # hang up, and tell that the call was given up
    FAIL = "fail"  # hang up, and tell that the call could not be opened
    HANG_UP = "hang_up"
    SPEAK = "speak"  # the summary, to the person of a warm transfer
    BRIDGE = "bridge"
    DONE = "done"  # the transfer or the announcement has succeeded
    REFUSE = "refuse"  # it has failed


_TABLE: dict[Stage, dict[Fact, tuple[Stage, Deed | None]]] = {
    Stage.OFFERED: {
        Fact.INITIATED: (Stage.ANSWERING, Deed.ANSWER),
        Fact.HUNG_UP: (Stage.OVER, None),
        Fact.CANCELED: (Stage.OVER, Deed.CANCEL),
    },
    Stage.ANSWERING: {
        Fact.ANSWERED: (Stage.OPENING, Deed.STREAM),
        Fact.HUNG_UP: (Stage.OVER, Deed.UNHEARD),
        Fact.FAILED: (Stage.OVER, Deed.FAIL),
        Fact.OVERDUE: (Stage.OVER, Deed.FAIL),
        Fact.CANCELED: (Stage.OVER, Deed.CANCEL),
    },
    Stage.DIALLED: {
        Fact.ANSWERED: (Stage.OPENING, Deed.STREAM),
        Fact.HUNG_UP: (Stage.OVER, Deed.UNTAKEN),
        Fact.OVERDUE: (Stage.OVER, Deed.CANCEL),
        Fact.CANCELED: (Stage.OVER, Deed.CANCEL),
    },
    Stage.OPENING: {
        Fact.SOCKET: (Stage.UP, None),
        Fact.HUNG_UP: (Stage.OVER, Deed.UNHEARD),
        Fact.FAILED: (Stage.OVER, Deed.FAIL),
        Fact.OVERDUE: (Stage.OVER, Deed.FAIL),
        Fact.CANCELED: (Stage.OVER, Deed.CANCEL),
    },
    Stage.UP: {
        Fact.HUNG_UP: (Stage.OVER, Deed.END_SESSION),
        Fact.CLOSED: (Stage.CLOSING, None),
    },
    Stage.CLOSING: {
        Fact.HUNG_UP: (Stage.OVER, None),
        Fact.OVERDUE: (Stage.OVER, Deed.HANG_UP),
    },
    Stage.CONSULTED: {
        Fact.ANSWERED: (Stage.TOLD, Deed.SPEAK),
        Fact.HUNG_UP: (Stage.OVER, Deed.REFUSE),
        Fact.CANCELED: (Stage.OVER, Deed.REFUSE),
        Fact.OVERDUE: (Stage.OVER, Deed.REFUSE),
    },
    Stage.TOLD: {
        Fact.SPOKEN: (Stage.JOINING, Deed.BRIDGE),
        Fact.HUNG_UP: (Stage.OVER, Deed.REFUSE),
        Fact.CANCELED: (Stage.OVER, Deed.REFUSE),
        Fact.OVERDUE: (Stage.OVER, Deed.REFUSE),
    },
    Stage.JOINING: {
        Fact.BRIDGED: (Stage.JOINED, Deed.DONE),
        Fact.HUNG_UP: (Stage.OVER, Deed.REFUSE),
        Fact.CANCELED: (Stage.OVER, Deed.REFUSE),
        Fact.OVERDUE: (Stage.JOINED, Deed.DONE),  # the carrier took the order and nobody hung up: its word was lost
    },
    Stage.HANDED: {
        Fact.ANSWERED: (Stage.JOINED, Deed.DONE),
        Fact.BRIDGED: (Stage.JOINED, Deed.DONE),
        Fact.HUNG_UP: (Stage.OVER, Deed.REFUSE),
        Fact.CANCELED: (Stage.OVER, Deed.REFUSE),
        Fact.OVERDUE: (Stage.OVER, Deed.REFUSE),
    },
    Stage.ANNOUNCED: {
        Fact.SPOKEN: (Stage.OVER, Deed.DONE),
        Fact.CANCELED: (Stage.OVER, Deed.REFUSE),
        Fact.OVERDUE: (Stage.OVER, Deed.DONE),
    },
    Stage.JOINED: {Fact.HUNG_UP: (Stage.OVER, None)},
    Stage.OVER: {},
}


class Life:
    """One leg's way through the table, from the stage it begins in."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def told(self, fact: Fact) -> Deed | None:
        """What is to be done about it now; None: nothing."""
        self.stage, deed = _TABLE[self.stage].get(fact, (self.stage, None))
        return deed

    @property
    def over(self) -> bool:
        """Whether nothing will be done any more."""
        return self.stage is Stage.OVER


FACTS: dict[str, Fact] = {
    "call.initiated": Fact.INITIATED,
    "call.answered": Fact.ANSWERED,
    "call.bridged": Fact.BRIDGED,
    "call.hangup": Fact.HUNG_UP,
    "call.speak.ended": Fact.SPOKEN,
    "streaming.failed": Fact.FAILED,
}
"""What the carrier's events mean for the life of a leg; other events mean nothing for it."""

# --------------------------------------------------------------------------- who answered


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who answered; `ready`: a machine listens now (see `signals.MachineDetected`)."""

    answered_by: AnsweredBy
    ready: bool = True

    @property
    def weight(self) -> int:
        """A verdict stands until a weightier one comes; one of the same weight says nothing new."""
        if self.answered_by == "unknown":
            return 1
        return 2 if not self.ready else 3


_DETECTED: dict[str, Verdict] = {
    "human_residence": Verdict("human"),
    "human_business": Verdict("human"),
    "human": Verdict("human"),
    "machine": Verdict("machine", ready=False),
    "fax_detected": Verdict("fax"),
    "silence": Verdict("unknown"),
    "not_sure": Verdict("unknown"),
}
_DETECTION = ("call.machine.detection.ended", "call.machine.premium.detection.ended")
_GREETING = ("call.machine.greeting.ended", "call.machine.premium.greeting.ended")
_GREETINGS = ("beep_detected", "no_beep_detected", "ended", "prompt_ended", "not_sure")


def verdict_of(kind: str, result: str) -> Verdict | None:
    """What a machine detection's event says; None if it is none, or says what we do not know.

    The end of a greeting means a machine even without a verdict before it: one that beeps early gets no other event."""
    if kind in _DETECTION:
        return _DETECTED.get(result)
    if kind in _GREETING and result in _GREETINGS:
        return Verdict("machine")
    return None


class Verdicts:
    """What was said of who answered one call: never less than before."""

    def __init__(self) -> None:
        self._weight = 0

    def told(self, verdict: Verdict) -> bool:
        """Whether this says more than what was said before."""
        news = verdict.weight > self._weight
        self._weight = max(self._weight, verdict.weight)
        return news


# --------------------------------------------------------------------------- why a call was not taken

_BUSY_HERE = ("486", "600")
_DECLINED = "603"
_Untaken = Literal["busy", "no_answer", "canceled", "failed"]
_CAUSES: dict[str, tuple[_Untaken, str]] = {
    "user_busy": ("busy", "The number is busy."),
    "no_answer": ("no_answer", "Nobody answered."),
    "timeout": ("no_answer", "Nobody answered in time."),
    "originator_cancel": ("canceled", "The call was given up before anybody answered."),
    "not_found": ("failed", "The number does not exist or cannot be reached."),
}


def why_untaken(cause: str, sip_cause: str) -> tuple[EndReason, str]:
    """Why an outbound call ended before anybody answered, by the carrier's hangup_cause and SIP code, with a sentence."""
    if cause in _CAUSES:
        return _CAUSES[cause]
    if cause == "call_rejected" and sip_cause in _BUSY_HERE:
        return "busy", "The number is busy."
    if cause == "call_rejected" and sip_cause == _DECLINED:
        return "busy", "The call was declined."
    told = " ".join(part for part in (cause or "no cause", f"SIP {sip_cause}" if sip_cause else "") if part)
    if cause == "call_rejected":
        return "failed", f"The call was rejected ({told}): the carrier or the other side does not take it."
    return "failed", f"The carrier ended the call before anybody answered ({told})."


def why_over(cause: str) -> str:
    """A sentence on the end of a call that was up, for what is no plain goodbye."""
    if cause in ("", "normal_clearing"):
        return "The carrier reported the end of the call."
    return f"The carrier reported the end of the call ({cause})."
