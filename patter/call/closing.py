"""How a call comes to its end in words: after a goodbye has been heard, or after last words that nothing may cut.

It owns waiting for the ear; it refuses to know who wants the call to end and why. A goodbye may be taken back, because the
caller has more to say; last words may not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from patter.call.floor import FloorKeeper
from patter.clock import Clock
from patter.events import EndReason
from patter.ports import Conversation
from patter.signals import ReplyStarted

GOODBYE_LIMIT_S = 30.0  # a goodbye that has not been heard by then will not be
SILENCE_LIMIT_S = 10.0  # mailboxes and people hang up on a line that stays silent for longer

Finish = Callable[[EndReason, str], None]


@dataclass(frozen=True, slots=True)
class LastWords:
    """What is said before the call ends, to its last word.

    One of these is called, once: `heard` when its last word was played; `voiceless` with the reason when no voice says it;
    `overdue` when it has not been heard `limit_s` after it began. `verbatim`: no guardrail may change it. `silence_s`: without
    any sound of it for so long no voice says it."""

    text: str
    limit_s: float
    heard: Callable[[], None]
    voiceless: Callable[[str], None]
    overdue: Callable[[], None]
    verbatim: bool = False
    silence_s: float = SILENCE_LIMIT_S


class Closing:
    """The end of one call, as far as something is still to be heard before it."""

    def __init__(
        self, floor: FloorKeeper, conversation: Conversation, clock: Clock, finish: Finish, *, sound: bool
    ) -> None:
        self._floor = floor
        self._conversation = conversation
        self._clock = clock
        self._finish = finish
        self._sound = sound  # a line that shows text has no sound to wait for
        self._goodbye: tuple[EndReason, str] | None = None
        self._last: LastWords | None = None
        self._reply = 0  # the one that says the last words
        self._unbegun = 0  # says that were asked for and have not begun
        self._stale = 0  # those of them that were asked for before the last words
        self._sounded = False
        self._timer: asyncio.TimerHandle | None = None
        self.final = False
        """Last words are being said: nobody's words count any more."""
        self.muted = False
        """Somebody else speaks for the agent: it says only what it is given word for word."""

    @property
    def verbatim(self) -> bool:
        """What is said now must not be changed."""
        return self._last is not None and self._last.verbatim

    @property
    def leaving(self) -> bool:
        """The call ends as soon as a goodbye has been heard."""
        return self._goodbye is not None

    # ------------------------------------------------------------------ a goodbye

    def after_goodbye(self, reason: EndReason, detail: str, *, busy: bool) -> None:
        """End the call when the floor is idle; `busy`: something will still be said though it is idle now."""
        self._goodbye = (reason, detail)
        if self._floor.idle and not busy:
            self._finish(reason, detail)
        else:
            self._wait(GOODBYE_LIMIT_S, self._leave)

    def reconsidered(self) -> None:
        """The caller has more to say than goodbye."""
        self._goodbye = None

    def maybe_over(self) -> None:
        """Something was heard, or made, to its end."""
        if self._floor.idle:
            self._leave()

    def _leave(self) -> None:
        if self._goodbye is not None:
            self._finish(*self._goodbye)

    # ------------------------------------------------------------------ last words

    async def say(self, text: str) -> None:
        """Say something word for word that is not the end."""
        self._unbegun += 1
        await self._conversation.speak(text)

    async def say_goodbye(self, text: str, reason: EndReason, detail: str, silence_s: float = SILENCE_LIMIT_S) -> None:
        """Say `text` as last words, then end the call for `reason`, heard or not; nobody waits for it longer than `silence_s`."""
        leave = partial(self._finish, reason, detail)
        silence_s = min(silence_s, SILENCE_LIMIT_S)
        await self.say_last(LastWords(text, GOODBYE_LIMIT_S, leave, lambda why: leave(), leave, silence_s=silence_s))

    async def say_last(self, words: LastWords) -> None:
        """Stop what is being said and say this; from now on nothing else begins and nothing cuts it."""
        self.final, self._goodbye, self._last = True, None, words
        self._stale = self._unbegun
        await self._floor.give_up()
        self._floor.sealed = True
        self._wait(words.silence_s, partial(self._silent, words.silence_s))
        await self.say(words.text)

    def allows(self, signal: ReplyStarted, *, machine: bool) -> bool:
        """Whether this reply, which begins, may be said. A `machine` gets nothing but last words."""
        given = signal.kind == "say" and bool(self._unbegun)
        if given:
            self._unbegun -= 1
            if self._last is not None and not self._reply:
                if self._stale:
                    self._stale -= 1
                else:
                    self._reply = signal.reply_id
        if self.final:
            return self._last is not None and self._reply == signal.reply_id
        return not machine and (given or not self.muted)

    def sounding(self, reply_id: int) -> None:
        """The first sound of a reply is in the ear."""
        if self._last is not None and reply_id == self._reply and not self._sounded:
            self._sounded = True
            self._wait(self._last.limit_s, self._overdue)

    def heard(self, reply_id: int) -> None:
        """The ear has all of a reply."""
        words = self._last
        if words is None:
            self.maybe_over()
        elif reply_id == self._reply:
            if self._sounded or not self._sound:
                self._settle()
                words.heard()
            else:
                self.voice_failed("no sound was made of it")

    def voice_failed(self, why: str) -> None:
        """The agent's voice cannot go on: last words that were not heard to their end are not going to be."""
        words = self._last
        if words is not None:
            self._settle()
            words.voiceless(why)

    def close(self) -> None:
        """The call is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _silent(self, silence_s: float) -> None:
        if not self._sounded:
            self.voice_failed(f"nothing of it was heard within {silence_s:g} s")

    def _overdue(self) -> None:
        words = self._last
        if words is not None:
            self._settle()
            words.overdue()

    def _settle(self) -> None:
        self._last = None
        self._floor.sealed = False
        self.close()

    def _wait(self, seconds: float, action: Callable[[], None]) -> None:
        self.close()
        self._timer = self._clock.call_later(seconds, action)
