"""Conversations for the dashboard's tests: the events that a call of some turns publishes, with plausible times.

It owns what is said and when; what is measured of it, kept and shown is the house's own work.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Literal

from patter.events import (
    AgentSaid,
    CallEnded,
    CallerPartial,
    CallerSaid,
    CallerSpeechStarted,
    CallerSpeechStopped,
    CallPlaced,
    CallStarted,
    EndReason,
    Event,
    FaultOccurred,
    Interrupted,
    LineMeasured,
    ReplyHeard,
    ReplyReached,
    ReplyStageName,
    ReplyStarted,
    ReplyText,
    ToolCalled,
    ToolReturned,
    UsageMeasured,
)

GREETING = "Thank you for calling Riverside Dental. How can I help you today?"
TALK = [
    ("What time do you open on Saturday morning?", "We are open from nine until one on Saturdays."),
    ("I would like to book an appointment for next Tuesday.", "Of course. On Tuesday I have half past nine or half past four."),
    ("Sorry, do you have anything after four o'clock?", "On Tuesday I have one time left, half past four. Shall I book it?"),
    ("Yes, that works for me.", "You are booked for Tuesday at half past four. Is there anything else I can do for you?"),
    ("How much is a cleaning?", "A cleaning costs ninety dollars. Most insurances pay for two of them a year."),
    ("And where can I park?", "The garage behind the house is free for patients."),
    ("Thank you, that is all.", "You are welcome. Goodbye!"),
]  # fmt: skip
STAGES: tuple[ReplyStageName, ...] = ("first_token", "first_sentence", "first_audio", "playing")


class Talk:
    """One call, event by event. `began` in seconds since the epoch; the same seed says and takes the same. `replies`: how many
    the call has had already."""

    def __init__(
        self, call_id: str, began: float, seed: int = 0, *, agent: str = "riverside-dental", replies: int = 0
    ) -> None:
        self.call_id, self.now, self.agent = call_id, began, agent
        self._random = random.Random(f"{call_id}{seed}")
        self._turn = 0
        self._reply = replies
        self._began = began

    def start(self, *, outbound: bool = False, caller: str = "", callee: str = "") -> Iterator[Event]:
        """Ringing and answer, then the greeting."""
        chance = self._random
        caller = caller or f"+1555{chance.randrange(10**6, 10**7)}"
        callee = callee or "+15550100"
        if outbound:
            caller, callee = callee, caller
            yield CallPlaced(
                call_id=self.call_id, at=self.now, caller=caller, callee=callee, agent=self.agent, telephony="twilio"
            )
            self.now += 6
        self._began = self.now
        yield CallStarted(
            call_id=self.call_id, at=self.now, caller=caller, callee=callee, agent=self.agent, telephony="twilio",
            direction="outbound" if outbound else "inbound", agent_version="3f9c1d20aa", provider_mode="pipeline",
            stt="deepgram", llm="openai", tts="elevenlabs", line="mulaw/8000",
        )  # fmt: skip
        yield from self._answer(GREETING, "greeting", self.now)

    def turn(self, said: str = "", reply: str = "", *, cut: bool = False, tool: bool = False) -> Iterator[Event]:
        """The caller says something and is answered; `cut`: interrupts the answer."""
        usual = TALK[self._turn % len(TALK)]
        said, reply = said or usual[0], reply or usual[1]
        self._turn += 1
        self.now += 0.6
        yield CallerSpeechStarted(call_id=self.call_id, at=self.now, began_at=self.now - 0.1)
        words = said.split()
        for end in range(2, len(words), 3):
            self.now += 0.7
            yield CallerPartial(call_id=self.call_id, at=self.now, text=" ".join(words[:end]))
        self.now += 0.7
        ended = self.now
        yield CallerSpeechStopped(call_id=self.call_id, at=self.now + 0.2, ended_at=ended)
        knows = ended + self._random.uniform(0.2, 0.5)
        self.now = knows + self._random.uniform(0.05, 0.2)
        yield CallerSaid(
            call_id=self.call_id, at=self.now, turn=self._turn, text=said, speech_ended_at=ended,
            recognition_at=knows, transcript_at=self.now,
        )  # fmt: skip
        yield UsageMeasured(
            call_id=self.call_id, at=self.now, turn=self._turn, stage="stt", provider="deepgram", model="nova-3",
            amounts={"audio_seconds": 0.7 * len(words) / 3},
        )  # fmt: skip
        if tool:
            tool_id = f"tool-{self._turn}"
            yield ToolCalled(
                call_id=self.call_id,
                at=self.now,
                turn=self._turn,
                tool_id=tool_id,
                name="find_slots",
                arguments='{"day": "tuesday"}',
            )
            self.now += 0.12
            yield ToolReturned(
                call_id=self.call_id, at=self.now, tool_id=tool_id, name="find_slots", ok=True, ms=120.0,
                output='["tuesday half past nine", "tuesday half past four"]',
            )  # fmt: skip
        yield from self._answer(reply, "answer", self.now, cut=cut)

    def _answer(
        self, text: str, kind: Literal["greeting", "answer"], asked: float, *, cut: bool = False
    ) -> Iterator[Event]:
        self._reply += 1
        name: dict[str, Any] = {"call_id": self.call_id, "reply_id": self._reply}
        yield ReplyStarted(**name, at=asked, turn=self._turn, kind=kind)
        at = asked
        for stage, least, most in zip(STAGES, (0.15, 0.02, 0.06, 0.02), (0.5, 0.15, 0.25, 0.06), strict=True):
            at += self._random.uniform(least, most)
            self.now = at
            yield ReplyReached(**name, at=at, stage=stage, reached_at=at)
            if stage == "first_token":
                for piece in _pieces(text):
                    yield ReplyText(**name, at=at, text=piece)
        yield UsageMeasured(
            call_id=self.call_id, at=self.now, turn=self._turn, stage="llm", provider="openai", model="gpt-4o-mini",
            amounts={"input_tokens": 420.0 + 60 * self._turn, "output_tokens": len(text) / 4},
        )  # fmt: skip
        yield UsageMeasured(
            call_id=self.call_id, at=self.now, turn=self._turn, stage="tts", provider="elevenlabs", model="eleven_flash_v2_5",
            amounts={"characters": float(len(text))},
        )  # fmt: skip
        words = text.split()
        heard = len(words) // 2 if cut else len(words)
        for end in range(3, heard, 4):
            self.now += 1.2
            yield ReplyHeard(**name, at=self.now, heard=" ".join(words[:end]), heard_ms=300.0 * end)
        self.now += 0.3
        got, lost = " ".join(words[:heard]), " ".join(words[heard:])
        if cut:
            yield Interrupted(
                **name,
                at=self.now,
                turn=self._turn,
                heard=got,
                dropped=lost,
                heard_ms=300.0 * heard,
                voice_began_at=self.now - 0.4,
            )
        yield AgentSaid(**name, at=self.now, turn=self._turn, text=got, interrupted=cut, dropped=lost, kind=kind)

    def fault(self) -> Event:
        """Something failed and the call went on."""
        return FaultOccurred(
            call_id=self.call_id, at=self.now, stage="tts", provider="elevenlabs",
            problem="the voice broke off in the middle of a reply", fix="The next provider speaks.",
        )  # fmt: skip

    def end(self, reason: EndReason = "caller_hung_up", detail: str = "") -> Iterator[Event]:
        """The line's figures, then the end."""
        lasted = self.now - self._began
        yield UsageMeasured(
            call_id=self.call_id,
            at=self.now,
            turn=0,
            stage="telephony",
            provider="twilio",
            model="trunk" if self.agent == "night-desk" else "inbound",
            amounts={"seconds": lasted},
        )
        yield LineMeasured(call_id=self.call_id, at=self.now, frames=int(50 * lasted), lost=3, jitter_ms=4.2)
        yield CallEnded(call_id=self.call_id, at=self.now, reason=reason, detail=detail, duration_s=round(lasted, 3))


def _pieces(text: str) -> list[str]:
    words = text.split(" ")
    return [" " * bool(start) + " ".join(words[start : start + 4]) for start in range(0, len(words), 4)]


def whole(talk: Talk, turns: int, reason: EndReason = "caller_hung_up") -> Iterator[Event]:
    """A call from its beginning to its end, with an interruption and a tool on its way."""
    yield from talk.start(outbound=turns % 3 == 0)
    for number in range(turns):
        yield from talk.turn(cut=number == 2, tool=number == 1)
    yield from talk.end(reason)
