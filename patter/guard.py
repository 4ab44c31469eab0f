"""Output guardrails: the last word on what may be spoken. Pure: text in, text or its replacement out.

It owns matching, including terms that are split across sentences; it refuses to know who speaks or what a call is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from patter.models import Guardrail

log = logging.getLogger(__name__)

_PUNCTUATION = " .,;:!?…—–-\"'”’)"


@dataclass(frozen=True, slots=True)
class _Rule:
    """One guardrail, made ready: terms in the folded spelling they are compared in."""

    name: str
    terms: tuple[str, ...]
    check: Callable[[str], Any] | None
    replacement: str


class Guards:
    """An agent's guardrails in order; the first that matches wins. Holds no state, so all calls may share it.

    Takes `Guardrail` values and the dicts of `Patter.guardrail()`. Raises TypeError for other things and ValueError for a
    guardrail without a name."""

    def __init__(self, guardrails: Iterable[Any] | None) -> None:
        self._rules = tuple(_rule(entry) for entry in guardrails or ())
        self._reach = max((len(term) for rule in self._rules for term in rule.terms), default=0)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def screen(self, spoken: str, piece: str) -> tuple[str, str | None]:
        """What to say instead of `piece` after `spoken`, and the guardrail that tripped (None: say `piece` itself).

        Blocked terms are case-insensitive substrings of the joined text, whatever white space or closing punctuation lies
        between its pieces; a term counts if any of it lies in `piece`, for what stands wholly in `spoken` is already out.
        Then `check(text)` gets the piece alone and, if that passes, the joined reply. A check that raises blocks the
        piece: a rule that cannot be asked must not let text through."""
        if not self._rules or not piece.strip():
            return piece, None
        before, new = _folded(spoken), _folded(piece)
        tail = before[-self._reach - 8 :] if self._reach else ""
        ends = (tail, tail.rstrip(_PUNCTUATION))  # a term that a sentence's end splits has that end inside
        joined = [end + gap + new for end in ends for gap in (" ", "")] if tail else [new]
        for rule in self._rules:
            if any(_reaches(text, term, len(text) - len(new)) for text in joined for term in rule.terms):
                return rule.replacement, rule.name
            if rule.check is not None and _trips(rule, spoken, piece):
                return rule.replacement, rule.name
        return piece, None


def _rule(entry: Any) -> _Rule:
    """A guardrail value or dict, checked."""
    if isinstance(entry, Guardrail):
        name, terms, replacement = str(entry.name), entry.blocked_terms, entry.replacement
        check: Any = entry.check
    elif isinstance(entry, Mapping):
        name, terms, check = str(entry.get("name") or ""), entry.get("blocked_terms"), entry.get("check")
        replacement = str(entry.get("replacement", Guardrail.replacement))
    else:
        raise TypeError(
            f"a guardrail must be a Guardrail or the dict of Patter.guardrail(), not {type(entry).__name__}"
        )
    if not name:
        raise ValueError("a guardrail needs a name: Patter.guardrail(name=..., blocked_terms=[...])")
    if isinstance(terms, str):
        raise TypeError(f"guardrail {name!r}: blocked_terms must be a list of words, not one string")
    if check is not None and not callable(check):
        raise TypeError(f"guardrail {name!r}: check must be a function of the text, not {type(check).__name__}")
    folded = tuple(term for term in (_folded(str(term)) for term in terms or ()) if term)
    return _Rule(name, folded, check, replacement)


def _folded(text: str) -> str:
    """Text in one spelling: case folded, every run of white space one blank."""
    return " ".join(text.casefold().split())


def _reaches(text: str, term: str, new_from: int) -> bool:
    """Whether `term` occurs in `text` with its end in the new part, which begins at `new_from`."""
    return text.find(term, max(0, new_from - len(term) + 1)) >= 0


def _trips(rule: _Rule, spoken: str, piece: str) -> bool:
    """Whether the rule's check objects; its failure counts as an objection."""
    assert rule.check is not None
    gap = "" if not spoken or spoken[-1:].isspace() or piece[:1].isspace() else " "
    try:
        return bool(rule.check(piece)) or (bool(spoken.strip()) and bool(rule.check(spoken + gap + piece)))
    except Exception:
        log.exception("a guardrail's check failed, its text is blocked", extra={"guardrail": rule.name})
        return True
