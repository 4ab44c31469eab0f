"""Who has the floor, as tables: the reply being made × the sound in the caller's ear, and one joint rule.

It owns the states, the moves between them and the verdict on what the caller does; it refuses to know time, audio or text.

House rules
1. A reply is *making* from its first sign of life until its last piece; *made* until the ear has all of it; then *idle*.
2. The ear is *quiet*, *sounding*, or *held*: the agent's sound was stopped because the caller may be taking the floor.
3. The caller's voice alone only holds the sound. Words, enough voice, a typed line or a whole turn take the floor.
4. Held sound goes on where it stopped when the voice had no words, or only acknowledged ("uh-huh").
5. Nothing of a reply that lost the floor may ever be heard: it is cut on both sides at once.
"""

from __future__ import annotations

from enum import Enum


class Reply(Enum):
    """The reply being made on the agent's side."""

    IDLE = "idle"  # nothing to say, or all of it heard
    MAKING = "making"  # more text or sound may come
    MADE = "made"  # complete, not yet heard to the end


class Ear(Enum):
    """The agent's sound in the caller's ear."""

    QUIET = "quiet"  # nothing sounds
    SOUNDING = "sounding"  # the agent is heard
    HELD = "held"  # stopped while the caller may be interrupting


class Move(Enum):
    """What happens to the reply or in the ear."""

    BEGIN = "begin"  # a reply begins
    COMPLETE = "complete"  # its last piece has come
    SOUND = "sound"  # its first sound is in the ear
    HOLD = "hold"  # its sound was stopped, not given up
    RESUME = "resume"  # the sound goes on
    HEARD = "heard"  # all of it has been heard
    CUT = "cut"  # it lost the floor


class Caller(Enum):
    """What the caller does."""

    VOICE = "voice"  # speaks for the minimum time
    WORDS = "words"  # says real words, or has spoken long enough
    NOTHING = "nothing"  # stopped without words, or only acknowledged
    TURN = "turn"  # has completed an utterance, typed a line or pressed keys


class Verdict(Enum):
    """What to do with the agent's reply."""

    NONE = "none"
    HOLD = "hold"
    RESUME = "resume"
    YIELD = "yield"


REPLY: dict[Reply, dict[Move, Reply]] = {
    Reply.IDLE: {Move.BEGIN: Reply.MAKING},
    Reply.MAKING: {Move.BEGIN: Reply.MAKING, Move.COMPLETE: Reply.MADE, Move.CUT: Reply.IDLE},
    Reply.MADE: {Move.BEGIN: Reply.MAKING, Move.HEARD: Reply.IDLE, Move.CUT: Reply.IDLE},
}

EAR: dict[Ear, dict[Move, Ear]] = {
    Ear.QUIET: {Move.SOUND: Ear.SOUNDING, Move.HOLD: Ear.HELD, Move.HEARD: Ear.QUIET, Move.CUT: Ear.QUIET},
    Ear.SOUNDING: {Move.SOUND: Ear.SOUNDING, Move.HOLD: Ear.HELD, Move.HEARD: Ear.QUIET, Move.CUT: Ear.QUIET},
    Ear.HELD: {Move.RESUME: Ear.QUIET, Move.CUT: Ear.QUIET},
}

FLOOR: dict[tuple[Ear, Caller], Verdict] = {
    (Ear.QUIET, Caller.VOICE): Verdict.HOLD,
    (Ear.QUIET, Caller.WORDS): Verdict.YIELD,
    (Ear.QUIET, Caller.NOTHING): Verdict.NONE,
    (Ear.QUIET, Caller.TURN): Verdict.YIELD,
    (Ear.SOUNDING, Caller.VOICE): Verdict.HOLD,
    (Ear.SOUNDING, Caller.WORDS): Verdict.YIELD,
    (Ear.SOUNDING, Caller.NOTHING): Verdict.NONE,
    (Ear.SOUNDING, Caller.TURN): Verdict.YIELD,
    (Ear.HELD, Caller.VOICE): Verdict.NONE,
    (Ear.HELD, Caller.WORDS): Verdict.YIELD,
    (Ear.HELD, Caller.NOTHING): Verdict.RESUME,
    (Ear.HELD, Caller.TURN): Verdict.YIELD,
}
"""The joint rule while a reply is making or made; with an idle reply the floor is the caller's and every verdict is NONE."""


class Floor:
    """The two machines side by side. A move that a table does not list leaves that machine where it is."""

    __slots__ = ("ear", "reply")

    def __init__(self) -> None:
        self.reply = Reply.IDLE
        self.ear = Ear.QUIET

    def move(self, move: Move) -> None:
        """Something happened to the reply or in the ear."""
        self.reply = REPLY[self.reply].get(move, self.reply)
        self.ear = EAR[self.ear].get(move, self.ear)

    def judge(self, caller: Caller) -> Verdict:
        """What the caller's doing means for the reply (does not move anything)."""
        return Verdict.NONE if self.reply is Reply.IDLE else FLOOR[self.ear, caller]

    @property
    def held(self) -> bool:
        """Whether sound must be kept back for now."""
        return self.ear is Ear.HELD
