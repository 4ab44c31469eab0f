"""The replies of an agent at the vendor: which sound and which words belong together, and where a reply ends.

It owns the vendor's event numbers and their meaning; it refuses to know the socket. The vendor tells no end of a reply, so
it is inferred: all its words were spoken, another reply began, or nothing came after its sound should have been heard.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from patter.audio.format import AudioChunk, AudioFormat
from patter.clock import Clock
from patter.ports import Screen
from patter.signals import (
    ConversationSignal,
    Guarded,
    ReplyAudio,
    ReplyEnded,
    ReplyKind,
    ReplyReached,
    ReplyStage,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
)

QUIET_S = 0.5  # after the sound should have been heard: a vendor that is still speaking is ahead of the ear
TAIL_S = 0.25  # after the last word: the silence behind it
SOUNDLESS_S = 5.0  # words whose sound has not come by then have none
UNSAID_S = 8.0  # what the agent was asked to say and has not begun by then, it will not say
STILL_HEARD_S = 2.0  # a telephone line is so much behind at most
LINE_S = 0.3  # and so much usually

Tell = Callable[[ConversationSignal], None]


@dataclass(slots=True)
class _Reply:
    reply_id: int
    kind: ReplyKind
    asked: str = ""  # what the agent was asked to say
    text: str = ""
    dead: bool = False  # cut: nothing of it is let through any more
    ended: bool = False
    whole: bool = False  # all of its words were spoken: what follows is silence
    plays_until: float = 0.0
    format: AudioFormat | None = None
    shown: int = 0  # words of the text told so far
    spoken: int = 0  # characters spoken so far, blanks not counted
    aligned: bool = False
    reached: set[ReplyStage] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Said:
    """Words that the agent says in reply `reply_id`; `asked` is what it was asked to say, or ""."""

    reply_id: int
    text: str
    asked: str

    @property
    def verbatim(self) -> bool:
        """Whether these are the words that were asked for."""
        one, other = ("".join(filter(str.isalnum, text.casefold())) for text in (self.asked, self.text))
        return one == other


class Replies:
    """The replies of one call. `screen` as in the brief; `replace` makes the agent say something else instead of a reply
    that a guardrail stopped; `unsaid` hears what the agent was asked to say and did not."""

    def __init__(
        self,
        clock: Clock,
        tell: Tell,
        screen: Screen,
        *,
        sound: bool,
        replace: Callable[[str, ReplyKind], None],
        unsaid: Callable[[str], None],
        ended: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._tell = tell
        self._screen = screen
        self._sound = sound
        self._replace = replace
        self._unsaid = unsaid
        self._ended = ended
        self._last_id = 0
        self._current: _Reply | None = None
        self._by_event: dict[int, _Reply] = {}
        self._asked: deque[_Reply] = deque()
        self._void_below = 0
        self._turned = False
        self._greeting = True
        self._deadline = self._fires_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.muted = False
        """Whatever the agent begins to say now is not for the caller (the stored greeting of a second conversation)."""

    @property
    def last_id(self) -> int:
        """The newest reply; 0 if there was none."""
        return self._last_id

    @property
    def busy_until(self) -> float:
        """Until when the caller hears what was sent so far, as far as is known; 0.0 if nothing is being said."""
        current = self._current
        if self._asked:
            return self._clock.now() + QUIET_S
        if current is None or current.dead:
            return 0.0
        heard = current.plays_until + LINE_S if current.plays_until else 0.0
        return heard if current.ended else max(heard, self._clock.now() + QUIET_S)

    def audible(self) -> bool:
        """Whether the caller should be hearing the agent now."""
        current = self._current
        return current is not None and not current.dead and current.plays_until > self._clock.now()

    # ------------------------------------------------------------------ from our side

    def ask(self, text: str, kind: ReplyKind) -> None:
        """The agent has been asked to say `text`: its next reply is that."""
        reply = self._new(kind)
        reply.asked = text
        self.muted = False
        self._asked.append(reply)
        self._wait(UNSAID_S)

    def cut(self, reply_id: int) -> bool:
        """Let nothing more of this reply through. Returns False if it was over already."""
        for reply in [*self._by_event.values(), *self._asked, *([self._current] if self._current else [])]:
            if reply.reply_id == reply_id and not reply.dead:
                reply.dead = True  # one that was asked for and has not begun keeps its place: it may still be said
                self._ended()
                return True
        return False

    def settle(self) -> None:
        """The caller speaks: a reply that must have been heard by now was not interrupted."""
        reply = self._current
        if reply is not None and 0.0 < reply.plays_until <= self._clock.now():
            self._end(reply)

    def turn(self) -> None:
        """The caller has had a turn: sound of another number is another reply."""
        self._turned, self._greeting, self.muted = True, False, False
        self._asked = deque(reply for reply in self._asked if not reply.dead)

    def restart(self, *, muted: bool) -> str:
        """Another conversation follows at the vendor, which numbers anew. Gives what the last one was asked to say and did
        not begin: it has to be asked for again."""
        self._end(self._current)
        self._by_event.clear()
        self._current, self._void_below, self._turned, self.muted = None, 0, False, muted
        asked = next((reply.asked for reply in self._asked if not reply.dead), "")
        if asked:
            self.muted = False
            self._wait(UNSAID_S)
        return asked

    def close(self) -> None:
        """Nothing more will come: what is being said is complete, what was asked for is not said."""
        self._end(self._current)
        while self._asked:
            self._drop_asked()
        self._stop()

    # ------------------------------------------------------------------ from the vendor

    def words(self, text: str, event_id: int | None) -> Said | None:
        """All words of a reply. Gives which reply it is and what of them is said, None if they are nobody's."""
        reply = self._of(event_id, words=True)
        if reply is None or reply.dead or reply.ended or not text:
            return None
        spoken, guardrail = self._screen(reply.text, text)
        if guardrail is not None:
            self._tripped(reply, guardrail, spoken)
            return None
        self._reach(reply, "first_token", "first_sentence")
        reply.text = f"{reply.text} {spoken}".strip()
        if not self._sound or (reply.format is not None and not reply.aligned):
            self._show_rest(reply)
        self._wait_for(reply)
        return Said(reply.reply_id, spoken, reply.asked)

    def sound(self, chunk: AudioChunk, spoken: str, event_id: int | None) -> None:
        """More sound of a reply; `spoken` are the characters it says, if they are known."""
        reply = self._of(event_id, words=False) if self._sound else None
        if reply is None or reply.dead or (reply.ended and reply.whole):
            return
        if reply.ended:  # it was given up too early: the rest is a reply of its own
            reply = self._begin(event_id)
        self._reach(reply, "first_token", "first_sentence", "first_audio")
        reply.format = chunk.format
        reply.plays_until = max(reply.plays_until, self._clock.now()) + chunk.ms / 1000
        self._tell(ReplyAudio(reply.reply_id, chunk, self._stretch(reply, spoken)))
        self._wait_for(reply)

    def complete(self, event_id: int | None) -> None:
        """The vendor says that all of a reply was sent."""
        reply = self._current if event_id is None else self._by_event.get(event_id)
        if reply is not None and reply is self._current:
            reply.whole = True
            self._wait(TAIL_S)

    def interrupted(self, event_id: int) -> None:
        """The vendor gave the floor to the caller: what it said before is void. Sound of the very number is so only if its
        reply had begun already: the answer to a typed turn has the number of the interruption that makes room for it."""
        now = self._clock.now()
        for reply in {id(reply): reply for number, reply in self._by_event.items() if number <= event_id}.values():
            heard = reply.ended and (self._asked or reply.plays_until + STILL_HEARD_S < now)
            if not reply.dead and not heard:  # asking for words interrupts too, but nothing that is still heard
                self._tell(ReplyWithdrawn(reply.reply_id, "caller", now))
            reply.dead = True
        self._void_below = max(self._void_below, event_id)
        self._ended()

    # ------------------------------------------------------------------ which reply

    def _of(self, event_id: int | None, *, words: bool) -> _Reply | None:
        known = self._current if event_id is None else self._by_event.get(event_id)
        if known is not None and not (event_id is None and (known.ended or known.dead)):
            return known
        if event_id is not None and event_id < self._void_below:
            return None
        if self.muted:
            self._void_below = max(self._void_below, (event_id or 0) + 1)
            return None
        current = self._current
        if current is None or current.ended or current.dead or self._turned or (words and current.text):
            return self._begin(event_id)
        if event_id is not None:  # more of its sound, or the words of sound that came before them
            self._by_event[event_id] = current
        return current

    def _begin(self, event_id: int | None) -> _Reply:
        self._end(self._current)
        reply = self._asked.popleft() if self._asked else self._new("greeting" if self._greeting else "answer")
        self._current, self._turned, self._greeting = reply, False, False
        if event_id is not None:
            self._by_event[event_id] = reply
        return reply

    def _new(self, kind: ReplyKind) -> _Reply:
        self._last_id += 1
        self._tell(ReplyStarted(self._last_id, kind, self._clock.now()))
        return _Reply(self._last_id, kind)

    def _tripped(self, reply: _Reply, guardrail: str, instead: str) -> None:
        sounded = "first_audio" in reply.reached
        reply.dead = True
        self._tell(Guarded(guardrail, reply.reply_id))
        if sounded:
            self._tell(ReplyWithdrawn(reply.reply_id, "guardrail", self._clock.now()))
        else:
            self._tell(ReplyEnded(reply.reply_id, self._clock.now()))
        if instead.strip() and not reply.asked:  # a replacement that trips again would go round in circles
            self._replace(instead, reply.kind)

    # ------------------------------------------------------------------ its words along its sound

    def _stretch(self, reply: _Reply, spoken: str) -> str:
        """The words that begin with this piece of sound; all of them with the first, where the vendor aligns nothing."""
        count = sum(not char.isspace() for char in spoken)
        reply.aligned = reply.aligned or bool(count)
        reply.spoken += count
        if not reply.text:
            return ""
        lengths = [len(word) for word in reply.text.split()]
        if not reply.aligned:
            return self._show(reply, len(lengths))
        reply.whole = reply.spoken >= sum(lengths)
        begun, so_far = 0, 0
        for length in lengths:
            if so_far >= reply.spoken:
                break
            so_far += length
            begun += 1
        return self._show(reply, begun)

    def _show(self, reply: _Reply, count: int) -> str:
        piece = " ".join(reply.text.split()[reply.shown : count])
        reply.shown = max(reply.shown, count)
        if piece:
            self._tell(ReplyText(reply.reply_id, piece, self._clock.now()))
        return piece

    def _show_rest(self, reply: _Reply) -> None:
        """Tell the words that no sound was told with. Where there was sound, it said them: they came late, or are aligned
        otherwise than they are written ("$5")."""
        rest = self._show(reply, len(reply.text.split()))
        if rest and reply.format is not None:
            self._tell(ReplyAudio(reply.reply_id, AudioChunk(b"", reply.format), rest))

    def _reach(self, reply: _Reply, *stages: ReplyStage) -> None:
        for stage in stages:
            if stage not in reply.reached:
                reply.reached.add(stage)
                self._tell(ReplyReached(reply.reply_id, stage, self._clock.now()))

    # ------------------------------------------------------------------ its end

    def _end(self, reply: _Reply | None) -> None:
        if reply is None or reply.ended:
            return
        reply.ended = True
        if not reply.dead:
            self._show_rest(reply)
            self._tell(ReplyEnded(reply.reply_id, self._clock.now()))
        self._ended()

    def _drop_asked(self) -> None:
        reply = self._asked.popleft()
        reply.ended = True
        if reply.dead:
            return
        self._tell(ReplyEnded(reply.reply_id, self._clock.now()))
        self._unsaid(reply.asked)

    def _wait_for(self, reply: _Reply) -> None:
        """Until when more of a reply may come."""
        if reply.whole:
            self._wait(TAIL_S)
        elif self._sound and not reply.plays_until:
            self._wait(SOUNDLESS_S)
        else:
            self._wait(max(0.0, reply.plays_until - self._clock.now()) + QUIET_S)

    def _wait(self, seconds: float) -> None:
        """Look again in so many seconds. A timer that rings before then finds the new deadline by itself."""
        now = self._clock.now()
        self._deadline = now + seconds
        if self._timer is not None and self._fires_at > self._deadline:
            self._stop()
        if self._timer is None:
            self._arm(seconds)

    def _arm(self, seconds: float) -> None:
        self._fires_at = self._clock.now() + seconds
        self._timer = self._clock.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        left = self._deadline - self._clock.now()
        if left > 0.001:
            self._arm(left)
        elif self._current is not None and not self._current.ended and not self._current.dead:
            self._end(self._current)
            if self._asked:
                self._wait(UNSAID_S)
        elif self._asked:
            self._drop_asked()
            self._ended()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
