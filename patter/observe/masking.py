"""What is not to be kept of people's words: digits and configured patterns become "•" before anything is written.

It owns which words of which facts are masked, and keeps every figure as it is; it refuses to know where facts are written. When
in doubt it masks more: a date of four digits is a number too, and a text that is still growing may be about to become one.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from patter.events import (
    AgentSaid,
    CallEnded,
    CallerAcknowledged,
    CallerPartial,
    CallerSaid,
    CallerTranscribed,
    CallStarted,
    DigitPressed,
    Event,
    FaultOccurred,
    GuidanceGiven,
    Interrupted,
    ReplyHeard,
    ReplyText,
    ToolCalled,
    ToolReturned,
    TransferFailed,
    TurnMeasured,
)
from patter.exceptions import SettingsError
from patter.models import Memory

log = logging.getLogger(__name__)

DOT = "•"
NUMBER = 4  # digits that make a number worth hiding
BETWEEN = 3  # separators that may stand between two digits of one number
PATTERN_S = 0.25  # a pattern that looks longer at one text will not find an end; the text is masked as a whole
PATIENCE = 3  # so often; then it is not asked again, and everything counts as matched
ROUNDS = 5  # of looking again at what masking has left
CUTS = 32  # interrupted texts of a call that are remembered: only the newest turn asks for them

_UNITS = "zero nought oh o one two three four five six seven eight nine".split()
_TENS = "twenty thirty forty fourty fifty sixty seventy eighty ninety".split()
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_DIGITS = (
    dict.fromkeys([*_UNITS, "double"], 1)
    | dict.fromkeys([*_TENS, *_TEENS, "hundred", "triple"], 2)
    | {"thousand": 3, "million": 6}
)
_TOKEN = re.compile(
    rf"\d|(?<![^\W\d_])(?:{'|'.join(sorted(_DIGITS, key=len, reverse=True))})(?![^\W\d_]|['’]clock)", re.I
)
_GAP = re.compile(rf"[\s\-‐‑‒–—_./,;:()\\+]{{0,{BETWEEN}}}")
_GAPS = re.compile(r"[\s\-‐‑‒–—_./,;:()\\+]*")
_KEYS = re.compile(r"\[DTMF:([^\]]*)\]?")
_WORD_AT_END = re.compile(r"[^\W\d_]*\Z")

Marks = bytearray
"""For each character of a text: 0 stays, 1 becomes a dot, 2 belongs to a word that becomes one dot as a whole (its length
would tell the digit that it says)."""


class Masking:
    """Masks the events of any calls, one after the other in their order. Raises SettingsError for a pattern that is none.

    Not thread-safe. Of texts that come in pieces or grow (drafts of replies, words so far) nothing is left that may become a
    match; with patterns no word of them is, as nobody knows what a pattern may still match. Whole texts say what was said."""

    def __init__(self, memory: Memory) -> None:
        self.digits = memory.mask_digits
        self._patterns = _compiled(memory.mask)
        self._calls: dict[str, _Call] = {}
        self._masks: dict[type[Event], Callable[[Any], Event]] = {
            CallStarted: lambda it: replace(it, custom_params=self._value(it.custom_params)),
            CallEnded: lambda it: replace(it, detail=self._whole(it.detail)),
            CallerPartial: lambda it: replace(it, text=self._growing(it.text)),
            CallerSaid: lambda it: replace(it, text=(self._growing if it.pending else self._whole)(it.text)),
            CallerTranscribed: lambda it: replace(it, text=self._whole(it.text)),
            CallerAcknowledged: lambda it: replace(it, text=self._whole(it.text)),
            DigitPressed: lambda it: replace(it, digit=DOT * len(it.digit) if self.digits else self._whole(it.digit)),
            ReplyText: self._piece,
            ReplyHeard: lambda it: replace(it, heard=self._growing(it.heard)),
            Interrupted: self._interrupted,
            AgentSaid: self._agent_said,
            ToolCalled: lambda it: replace(it, arguments=self._json(it.arguments)),
            ToolReturned: lambda it: replace(it, output=self._json(it.output)),
            TransferFailed: lambda it: replace(it, problem=self._whole(it.problem)),
            GuidanceGiven: lambda it: replace(it, text=self._whole(it.text)),
            FaultOccurred: lambda it: replace(it, problem=self._whole(it.problem), fix=self._whole(it.fix)),
            TurnMeasured: self._turn_measured,
        }

    @property
    def active(self) -> bool:
        """Whether anything is masked at all."""
        return self.digits or bool(self._patterns)

    @property
    def slow(self) -> bool:
        """Whether masking may take long: patterns belong into a thread."""
        return bool(self._patterns)

    def __call__(self, event: Event) -> Event:
        """The event as it may be written."""
        mask = self._masks.get(type(event))
        if mask is None or not self.active:
            return event
        masked = mask(event)
        if isinstance(event, CallEnded):
            self._calls.pop(event.call_id, None)
        return masked

    def text(self, text: str) -> str:
        """A whole text as it may be written."""
        return self._whole(text)

    # ------------------------------------------------------------------ facts whose texts hang together

    def _call(self, event: Event) -> _Call:
        return self._calls.setdefault(event.call_id, _Call())

    def _piece(self, event: ReplyText) -> Event:
        if self._patterns:
            return replace(event, text=_render(event.text, _all(event.text)))
        state = self._call(event).replies.setdefault(event.reply_id, _Tail())
        return replace(event, text=_render(event.text, state.marks(event.text)))

    def _interrupted(self, event: Interrupted) -> Event:
        heard, dropped = self._cut(event, event.heard, event.dropped)
        return replace(event, heard=heard, dropped=dropped)

    def _agent_said(self, event: AgentSaid) -> Event:
        text, dropped = self._cut(event, event.text, event.dropped)
        if event.call_id in self._calls:
            self._calls[event.call_id].replies.pop(event.reply_id, None)
        return replace(event, text=text, dropped=dropped)

    def _cut(self, event: Event, heard: str, dropped: str) -> tuple[str, str]:
        """A text that was cut in two, maybe in the middle of a match."""
        if not dropped:
            return self._whole(heard), dropped
        at = len(heard)
        near, far = self._marks(heard + dropped), self._marks(f"{heard} {dropped}")
        left = _union(near[:at], far[:at])
        right = _union(near[at:], far[at + 1 :])
        cuts = self._call(event).cuts
        cuts.pop(heard.strip(), None)
        cuts[heard.strip()] = left[len(heard) - len(heard.lstrip()) :]
        while len(cuts) > CUTS:
            del cuts[next(iter(cuts))]
        return _render(heard, left), _render(dropped, right)

    def _turn_measured(self, event: TurnMeasured) -> Event:
        said = event.agent_text
        if event.closed:
            marks = self._marks(said)
            for text, known in self._calls[event.call_id].cuts.items() if event.call_id in self._calls else ():
                if text and (at := said.find(text)) >= 0:
                    marks[at : at + len(text)] = _union(marks[at : at + len(text)], known[: len(text)])
            agent_text = _render(said, marks)
        else:
            agent_text = self._growing(said)
        return replace(event, user_text=self._whole(event.user_text), agent_text=agent_text)

    # ------------------------------------------------------------------ texts

    def _whole(self, text: str) -> str:
        return _render(text, self._marks(text)) if text else text

    def _growing(self, text: str) -> str:
        if self._patterns:
            return _render(text, _all(text))
        marks = _Tail().marks(text)
        return _render(text, marks)

    def _marks(self, text: str) -> Marks:
        marks = _numbers(text) if self.digits else bytearray(len(text))
        for pattern in self._patterns:
            marks = _union(marks, pattern.marks(text))
        for _ in range(ROUNDS if self._patterns else 0):  # what is left may match what was not there before
            left = "".join(DOT if mark else character for mark, character in zip(marks, text, strict=True))
            more = marks
            for pattern in self._patterns:
                more = _union(more, pattern.marks(left))
            if more == marks:
                return marks
            marks = more
        return marks if not self._patterns else _all(text)

    def _json(self, text: str) -> str:
        """JSON is masked value by value, so that no escape hides anything; what is no JSON is a text."""
        try:
            value = json.loads(text)
            masked = self._value(value)
            if masked != value:
                text = json.dumps(masked, ensure_ascii=False)
        except (ValueError, RecursionError):
            pass
        return self._whole(text)

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._whole(value)
        if isinstance(value, dict):
            return {self._whole(str(key)): self._value(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(each) for each in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            text = self._whole(str(value))
            return value if text == str(value) else text
        return value


# --------------------------------------------------------------------------- numbers


@dataclass(slots=True)
class _Run:
    """Digits and number words that stand together: where, how many digits they say, and which tokens."""

    start: int
    end: int
    tokens: list[tuple[int, int, str]]

    @property
    def digits(self) -> int:
        """How many digits it would be in figures, about."""
        words = [word for _, _, word in self.tokens]
        count = 0
        for word, after in zip(words, [*words[1:], ""], strict=True):
            short = (word in _TENS and after in _UNITS) or (word == "hundred" and after)
            count += (1 if word in _TENS else 0) if short else _DIGITS.get(word, 1)
        return count

    def mark(self, marks: Marks) -> None:
        """Mark its tokens."""
        for start, end, word in self.tokens:
            marks[start:end] = bytes([2 if word in _DIGITS else 1]) * (end - start)


def _runs(text: str) -> list[_Run]:
    runs: list[_Run] = []
    for match in _TOKEN.finditer(text):
        token = (match.start(), match.end(), match.group().lower())
        if runs and _GAP.fullmatch(text, runs[-1].end, token[0]):
            runs[-1].tokens.append(token)
            runs[-1].end = token[1]
        else:
            runs.append(_Run(token[0], token[1], [token]))
    return runs


def _numbers(text: str) -> Marks:
    """The marks of a whole text."""
    marks = _keys(text)
    for run in _runs(text):
        if run.digits >= NUMBER:
            run.mark(marks)
    return marks


def _keys(text: str) -> Marks:
    """Keys that were pressed, however few."""
    marks = bytearray(len(text))
    for match in _KEYS.finditer(text):
        for at in range(match.start(1), match.end(1)):
            if not text[at].isspace():
                marks[at] = 1
    return marks


@dataclass(slots=True)
class _Tail:
    """How a text that grows ends by now: in what may become a number (`open`), and in which letters."""

    open: bool = False
    letters: str = ""

    def marks(self, piece: str) -> Marks:
        """The marks of what comes next."""
        text, known = self.letters + piece, len(self.letters)
        marks, runs = _keys(text), _runs(text)
        word = _WORD_AT_END.search(text)
        letters = word.group() if word is not None else ""
        begun = bool(letters) and any(name.startswith(letters.lower()) for name in _DIGITS)
        ends = len(text) - len(letters) if begun else len(text)
        still_open = self.open and _GAPS.fullmatch(text, 0, ends) is not None
        for run in runs:
            at_start = self.open and _GAPS.fullmatch(text, 0, run.start) is not None
            at_end = run.end >= ends or _GAPS.fullmatch(text, run.end, ends) is not None
            still_open = still_open or at_end
            if at_start or at_end or run.digits >= NUMBER:
                run.mark(marks)
        if still_open and begun:
            marks[ends:] = bytes([2]) * len(letters)
        self.open, self.letters = still_open, letters[-2 * max(map(len, _DIGITS)) :]
        return marks[known:]


@dataclass(slots=True)
class _Call:
    """What is remembered of a call that goes on."""

    replies: dict[int, _Tail] = field(default_factory=dict)
    cuts: dict[str, Marks] = field(default_factory=dict)


# --------------------------------------------------------------------------- patterns


class _Pattern:
    """A configured pattern, which may take as long as it likes but gets only `PATTERN_S`."""

    def __init__(self, source: str) -> None:
        import regex  # type: ignore[import-untyped]  # only a home with patterns needs it

        try:
            self._pattern = regex.compile(source)
        except regex.error as error:
            raise SettingsError(f"memory.mask: {source!r} is no regular expression ({error})") from None
        self._misses = 0

    def marks(self, text: str) -> Marks:
        """The marks of all matches; of everything when the pattern finds no end."""
        if self._misses >= PATIENCE:
            return _all(text)
        marks = bytearray(len(text))
        try:
            for match in self._pattern.finditer(text, timeout=PATTERN_S, concurrent=True):
                if match.group().strip(DOT):
                    marks[match.start() : match.end()] = bytes([1]) * (match.end() - match.start())
        except TimeoutError:
            self._misses += 1
            log.warning("a masking pattern takes too long: texts are masked as a whole", extra={"times": self._misses})
            return _all(text)
        return marks


def _compiled(sources: tuple[str, ...]) -> list[_Pattern]:
    return [_Pattern(source) for source in sources]


# --------------------------------------------------------------------------- marks


def _all(text: str) -> Marks:
    """Every word becomes one dot."""
    return bytearray(0 if character.isspace() else 2 for character in text)


def _union(one: Marks, other: Marks) -> Marks:
    return bytearray(map(max, one, other)) if any(other) else one


def _render(text: str, marks: Marks) -> str:
    if not any(marks):
        return text
    pieces = []
    for mark, group in groupby(range(len(text)), marks.__getitem__):
        places = list(group)
        pieces.append(text[places[0] : places[-1] + 1] if mark == 0 else DOT * (len(places) if mark == 1 else 1))
    return "".join(pieces)
